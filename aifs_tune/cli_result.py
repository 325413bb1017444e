"""How the commands show what a sweep came to, and what to type next."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console

from aifs_tune.cli_doors import print_json, say
from aifs_tune.errors import WorkError
from aifs_tune.trial import FINAL

if TYPE_CHECKING:
    from aifs_tune.storage import Storage


_PIPE_WIDTH = 240
"""Columns of a table that goes into a file or pipe, where nothing wraps it."""


def out() -> Console:
    """Where results go."""
    return Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)


def print_result(result: Any, as_json: bool, *, with_profile: bool = False) -> None:
    """The best of a finished sweep.

    Raises
    ------
    WorkError
        If no trial is complete.
    """
    from aifs_tune.answers import best_answer
    from aifs_tune.screens import best_screen, profile_screen

    study = result.study
    counts = study.counts()
    n_ended = sum(counts[state] for state in FINAL)
    if n_ended < study.n_asked:
        say(f"{n_ended} of {study.n_asked} trials have ended; continue with: {typed()} resume {study.name}")
    if not counts["complete"]:
        states = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
        raise WorkError(f"study {study.name}: no trial is complete ({states}); see: {typed()} trials {study.name}")
    answer = best_answer(study)
    if as_json:
        told = {"profile": result.profile.to_json()} if with_profile else {}
        print_json(answer | {"wall_s": round(result.wall_s, 3)} | told)
        return
    out().print(best_screen(answer))
    if with_profile:
        out().print(profile_screen(result.profile.to_json()))
    say(f"\nNext: {typed()} trials {study.name}{storage_option(study.storage)}")


def typed() -> str:
    """How this command is typed here: by its name where the shell finds it, else by its path."""
    return "aifs-tune" if shutil.which("aifs-tune") else os.path.relpath(sys.argv[0])


def next_command(command: str, *words: str) -> str:
    """A command as it is typed here."""
    return " ".join([typed(), command, *words])


def storage_option(storage: Storage) -> str:
    """What has to be typed to find it again; nothing where it is the default."""
    from aifs_tune.storage import given_url, is_at

    return "" if is_at(storage, given_url(None)) else f" --storage {storage.shown_url}"
