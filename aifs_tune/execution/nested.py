"""Sweeps inside trials of other sweeps: they write through the storage that the outer sweep has open."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aifs_tune.errors import InterruptedSweepError, RequestError
from aifs_tune.storage.storage import Storage


class _Running(threading.local):
    """The sweeps that run in this thread, the outermost first."""

    def __init__(self) -> None:
        self.sweeps: list[tuple[Storage, str]] = []


_RUNNING = _Running()
_DRIVERS: set[Path] = set()
"""Folders with the artifacts of the storages to which the driver of this worker writes."""


def works_for(artifacts: Path | str) -> None:
    """Note that this process runs trials of a study with these artifacts, which another process stores."""
    if isinstance(artifacts, Path):
        _DRIVERS.add(artifacts.parent)


def sweep_storage(url: str | None, *, create: bool = False) -> Storage:
    """Open the storage for a sweep; in a trial of another sweep, the object with which that one writes to it.

    The outer sweep holds the lock, so a second object would wait for it until it gives up.

    Raises
    ------
    RequestError
        If the outer sweep writes to it in another process.
    """
    opened = Storage(url, create=create)
    if opened.url.startswith("sqlite") and opened.artifacts in _DRIVERS:
        raise RequestError(
            f"storage: {opened.shown} is being written by the sweep that runs this trial, in another process; allowed "
            "here: another storage, such as storage='sqlite:////tmp/inner.db'; or an outer sweep without workers"
        )
    outer = next((storage for storage, _ in _RUNNING.sweeps if storage.url == opened.url), None)
    if outer is None:
        return opened
    opened.close()
    return outer


def runs_in_a_trial() -> bool:
    """Whether this thread runs a trial of a sweep."""
    return bool(_RUNNING.sweeps)


@contextmanager
def running_sweep(storage: Storage, name: str) -> Iterator[None]:
    """Note that a sweep of the study ``name`` runs in this thread; an interrupt in a trial ends the outer sweep too.

    Raises
    ------
    RequestError
        If it is the study of the trial in which the sweep begins.
    """
    if any(outer is storage and its_name == name for outer, its_name in _RUNNING.sweeps):
        raise RequestError(
            f"study {name} is that of the sweep in whose trial this one begins; allowed: another name for the study"
        )
    is_nested = bool(_RUNNING.sweeps)
    _RUNNING.sweeps.append((storage, name))
    try:
        yield
    except InterruptedSweepError:
        if is_nested:
            raise KeyboardInterrupt from None
        raise
    finally:
        _RUNNING.sweeps.pop()
