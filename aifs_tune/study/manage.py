"""Delete, rename and copy studies."""

from __future__ import annotations

import shutil
from pathlib import Path

from aifs_tune._util.object_store import open_filesystem, translated_store_errors
from aifs_tune.config.trusted_code import remember
from aifs_tune.errors import ConflictError, StorageError
from aifs_tune.storage.projects import check_project, check_study_name, split_name
from aifs_tune.storage.storage import Storage
from aifs_tune.study.document import copied_study, study_document
from aifs_tune.study.index import get_study, study_names
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.study import Study

FOLLOW_UPS = ("-confirm", "-noise", "-final")
"""Ends of the names of studies that belong to another one."""


def delete_study(name: str, storage: str | None = None) -> None:
    """Delete a study with all its trials, checkpoints, weights and logs. It cannot be undone.

    Parameters
    ----------
    name
        Name of the study; ``PROJECT/NAME`` for a study in another project than ``default``.
    storage : str, optional
        URL of the storage. Default: as of :func:`aifs_tune.load_study`.

    Raises
    ------
    NotFoundError
        If there is no such storage or study.
    ConflictError
        If a sweep runs the study.
    StorageError
        If its files cannot be removed; the study itself is deleted then.

    Examples
    --------
    >>> _ = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
    >>> aifs_tune.delete_study("furnace")
    """
    study = get_study(Storage(storage), name)
    check_not_running(study)
    files = study.artifacts
    study.delete_record()
    remove_files(files)


def rename_study(name: str, new_name: str, storage: str | None = None) -> Study:
    """Give a study another name. Its files stay where they are.

    Studies that belong to it, such as its confirmations, keep their names, as do mentions of it in other studies.

    Parameters
    ----------
    name
        Name of the study; ``PROJECT/NAME`` for a study in another project than ``default``.
    new_name
        New name, in the same form.
    storage : str, optional
        URL of the storage. Default: as of :func:`aifs_tune.load_study`.

    Returns
    -------
    Study
        The study under its new name.

    Raises
    ------
    NotFoundError
        If there is no such storage or study.
    RequestError
        If the new name is not allowed.
    ConflictError
        If the storage has a study with the new name, or a sweep runs the study.

    Examples
    --------
    >>> _ = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
    >>> aifs_tune.rename_study("furnace", "furnace-2026").name
    'furnace-2026'
    """
    opened = Storage(storage)
    study = get_study(opened, name)
    check_not_running(study)

    def rename() -> None:
        _check_free(opened, new_name)
        opened.rdb.rename_study(study.id, new_name)

    remember(opened.shown, new_name, study.spec)
    study.transact(rename)
    return get_study(Storage(storage), new_name).as_study()


def copy_study(name: str, new_name: str, storage: str | None = None) -> Study:
    """Copy a study with all its trials, checkpoints, weights and logs under another name.

    Trials that were running wait in the copy.

    Parameters
    ----------
    name
        Name of the study; ``PROJECT/NAME`` for a study in another project than ``default``.
    new_name
        Name of the copy, in the same form.
    storage : str, optional
        URL of the storage. Default: as of :func:`aifs_tune.load_study`.

    Returns
    -------
    Study
        The copy.

    Raises
    ------
    NotFoundError
        If there is no such storage or study.
    RequestError
        If the new name is not allowed.
    ConflictError
        If the storage has a study with the new name, or a sweep runs the study.

    Examples
    --------
    >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
    >>> _ = study.attach({"heat": 900.0}, 0.5)
    >>> aifs_tune.copy_study("furnace", "trial-run").best.value
    0.5
    """
    opened = Storage(storage)
    study = get_study(opened, name)
    check_not_running(study)
    _check_free(opened, new_name)
    remember(opened.shown, new_name, study.spec)
    copy = copied_study(opened, new_name, study_document(study))
    for trial in copy.all_trials():
        if trial.state == "running":
            copy.requeue(trial.number)
    _copy_files(study.artifacts, copy.artifacts)
    return copy.as_study()


def follow_ups(study: StudyRecord) -> list[str]:
    """Return the names of the studies that belong to ``study``: its confirmations, its noise, its final models."""
    return [name for name in study_names(study.storage) if name.startswith(tuple(study.name + s for s in FOLLOW_UPS))]


def check_not_running(study: StudyRecord) -> None:
    """Raise :class:`ConflictError` if a sweep, or another process that writes, holds the study."""
    holder = study.storage.lock(study.name).holder()
    if holder is not None:
        raise ConflictError(f"study {study.name!r}: {holder} runs it; stop it first with: aifs-tune stop {study.name}")


def _check_free(storage: Storage, name: str) -> None:
    project, short = split_name(name)
    check_project(project)
    check_study_name(short)
    if name in study_names(storage):
        raise ConflictError(f"{storage.shown} has a study {name!r} already; choose another name")


def remove_files(files: Path | str) -> None:
    """Remove the folder with the files of a study that was deleted; :class:`StorageError` if that fails."""
    try:
        if isinstance(files, Path):
            if files.exists():
                shutil.rmtree(files)
            return
        with translated_store_errors("artifacts", files, "a folder", refused=StorageError, failed=StorageError):
            filesystem, path = open_filesystem(files)
            if filesystem.exists(path):
                filesystem.rm(path, recursive=True)
    except (OSError, StorageError) as error:
        raise StorageError(f"the study is deleted, but its files are not: {files} ({error})") from error


def _copy_files(files: Path | str, into: Path | str) -> None:
    try:
        if isinstance(files, Path) and isinstance(into, Path):
            if files.exists():
                shutil.copytree(files, into)
            return
        with translated_store_errors("artifacts", str(files), "a folder", refused=StorageError, failed=StorageError):
            filesystem, path = open_filesystem(str(files))
            if filesystem.exists(path):
                filesystem.copy(path, open_filesystem(str(into))[1], recursive=True)
    except (OSError, StorageError) as error:
        raise StorageError(f"the study is copied, but its files are not: {files} ({error})") from error
