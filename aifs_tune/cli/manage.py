"""Commands that note, copy, rename and delete studies."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aifs_tune._util.formatting import counted
from aifs_tune.cli.options import StorageOption, StudyArgument, echo_stderr, open_local_study
from aifs_tune.cli.target import find_target_study
from aifs_tune.errors import RequestError

NewNameArgument = Annotated[str, typer.Argument(metavar="NEW-NAME", help="Name that the study gets.")]


def note(
    study: StudyArgument,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="The note; an empty text removes it. Default: print the notes.")
    ] = None,
    trial: Annotated[
        int | None, typer.Option(min=0, metavar="TRIAL", help="Number of a trial. Default: the note is of the study.")
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Note something of a study or of one of its trials; status, trials and report show it."""
    opened = find_target_study(study, storage)
    if text is not None:
        opened.set_note(text, trial)
        return
    if trial is None and (of_study := opened.note) is not None:
        typer.echo(of_study)
    for number, each in opened.trial_notes.items():
        if trial in (None, number):
            typer.echo(f"trial {number}: {each}")


def copy(study: StudyArgument, new_name: NewNameArgument, storage: StorageOption = None) -> None:
    """Copy a study under another name, with all its trials and their files."""
    from aifs_tune.study.manage import copy_study

    made = copy_study(study, new_name, storage)
    echo_stderr(f"copied {counted(len(made.all_trials()), 'trial')} to {new_name}")


def rename(study: StudyArgument, new_name: NewNameArgument, storage: StorageOption = None) -> None:
    """Give a study another name."""
    from aifs_tune.study.manage import follow_ups, rename_study

    left = follow_ups(open_local_study(study, storage))
    rename_study(study, new_name, storage)
    if left:
        echo_stderr(f"these studies belong to it and keep their names: {', '.join(left)}")


def delete(
    study: StudyArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    storage: StorageOption = None,
) -> None:
    """Delete a study with all its trials, checkpoints, weights and logs. It cannot be undone."""
    from aifs_tune.study.manage import check_not_running, delete_study, follow_ups

    opened = open_local_study(study, storage)
    check_not_running(opened)
    what = f"study {study} with {counted(len(opened.all_trials()), 'trial')} and the files in {opened.artifacts}"
    left = follow_ups(opened)
    if not yes:
        if not sys.stdin.isatty():
            raise RequestError(f"delete: {what} would be deleted for good; to do so, add --yes")
        if not typer.confirm(f"Delete {what}? It cannot be undone.", err=True):
            raise RequestError("delete: nothing was deleted")
    delete_study(study, storage)
    echo_stderr(f"deleted {what}")
    if left:
        echo_stderr(f"these studies belong to it and are still there: {', '.join(left)}")
