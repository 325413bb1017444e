"""The files that a study learnt from: their hashes, the subset that each is in, and what became of them since.

The table is a Parquet file among the study's artifacts, ``data/<digest>/files.parquet``, named by its content; the
study itself has its name and hash alone, so that many files do not fill the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aifs_tune._util.cache import cache_root
from aifs_tune._util.hashing import check_hashes, digest_of
from aifs_tune.artifacts.stores import store_at
from aifs_tune.data.file_table import FileTable
from aifs_tune.errors import ConflictError, NotFoundError
from aifs_tune.study.index import find_study
from aifs_tune.study.record import StudyRecord

if TYPE_CHECKING:
    import pandas


FILES = "files"
"""Fact of a study: where the table of its files is, and its hash."""
DATA_OF = "data_of"
"""Fact of a study: the name of the one whose data it is about, such as that whose trials it confirms."""
NEAR_DUPLICATES = "near_duplicates"
"""Fact of a study: which images look alike in different subsets, see
:class:`aifs_tune.data.images.near_duplicates.CrossSubsetDuplicates`."""
_NAME = "files.parquet"
_NAMED = 3


def study_files(study: StudyRecord) -> pandas.DataFrame:
    """A row for each example and file of it: ``path`` relative to the data folder, ``place`` in the file (``row 12``;
    missing where the example is the whole file), ``sha256`` of the file, ``subset`` (train, val, test), ``label``,
    ``group``, and ``example``, the index into the prepared arrays. A manifest has neither subset nor example.

    Raises
    ------
    NotFoundError
        If the study has no data of its own, or began before this was kept; DamagedError if the table is not what was
        stored; StorageError if an object store does not answer.
    """
    import pandas

    holder = _holder(study)
    if holder is None:
        raise NotFoundError(f"study {study.name!r}: the files that it learnt from are not recorded")
    told: Mapping[str, Any] = holder.fact(FILES)
    folder = store_at(holder.artifacts).fetched(told["entry"], cache_root().absolute())
    check_hashes(folder, told["hashes"])
    return pandas.read_parquet(folder / _NAME)


def find_study_files(study: StudyRecord) -> pandas.DataFrame | None:
    """:func:`study_files`; None if they are not recorded, or the artifacts were removed."""
    try:
        return study_files(study)
    except NotFoundError:
        return None


def _holder(study: StudyRecord) -> StudyRecord | None:
    """The study that has the table: this one, or the one whose data it is about."""
    if study.fact(FILES) is not None:
        return study
    name = study.fact(DATA_OF)
    other = None if name is None else find_study(study.storage, name)
    return other if other is not None and other.fact(FILES) is not None else None


def match_files(study: StudyRecord, fingerprint: str | None, files: FileTable) -> None:
    """Record what data the study is about, and its files.

    Raises
    ------
    ConflictError
        If it was other data before; says which files were added, removed, changed, renamed or moved.
    """
    try:
        study.match_data(fingerprint)
    except ConflictError as error:
        before = find_study_files(study)
        found = "which files changed is not known" if before is None else str(changes(before, files.to_frame()))
        raise ConflictError(f"{error}\n  {found}") from None
    if _holder(study) is None:
        keep_files(study, files.to_frame())


def share_files(study: StudyRecord, other: StudyRecord) -> None:
    """Record that ``study`` is about the data of ``other``, so that a change in between is noticed."""
    if other.fingerprint is not None and study.fact(DATA_OF) is None:
        study.record_fact(DATA_OF, other.name)
        study.match_data(other.fingerprint)


def keep_files(study: StudyRecord, frame: pandas.DataFrame) -> None:
    """Record a table as that of the files of ``study``; the columns are those of :func:`study_files`."""
    entry = f"data/{digest_of(frame.to_csv(index=False).encode())[:24]}"
    hashes = store_at(study.artifacts).put(entry, lambda folder: frame.to_parquet(folder / _NAME, index=False))
    study.record_fact(FILES, {"entry": entry, "hashes": hashes})


@dataclass(frozen=True)
class Changes:
    """What differs between two tables of files, by path; those renamed are written ``OLD to NEW``, those moved to
    another subset ``PATH from PART to PART``."""

    added: Sequence[str]
    removed: Sequence[str]
    changed: Sequence[str]
    renamed: Sequence[str]
    moved: Sequence[str]

    def __str__(self) -> str:
        told = [
            f"{len(paths)} {'file' if len(paths) == 1 else 'files'} {what} ({_first(paths)})"
            for what, paths in vars(self).items()
            if paths
        ]
        return "; ".join(told) or "the files are the same, but they are read or divided in another way"


def changes(before: pandas.DataFrame, now: pandas.DataFrame) -> Changes:
    """What became of the files of one table of :func:`study_files` in another one."""
    old, new = (_by_path(frame) for frame in (before, now))
    gone = {path: old[path][0] for path in old if path not in new}
    come = {path: new[path][0] for path in new if path not in old}
    at = {sha256: path for path, sha256 in come.items() if sha256 is not None}
    renamed = {path: at.pop(sha256) for path, sha256 in gone.items() if sha256 in at}
    both = [path for path in old if path in new]
    return Changes(
        added=sorted(path for path in come if path not in renamed.values()),
        removed=sorted(path for path in gone if path not in renamed),
        changed=sorted(path for path in both if old[path][0] != new[path][0]),
        renamed=[f"{path} to {renamed[path]}" for path in sorted(renamed)],
        moved=[
            f"{path} from {old[path][1]} to {new[path][1]}"
            for path in sorted(both)
            if old[path][1] != new[path][1] and old[path][0] == new[path][0]
        ],
    )


def _by_path(frame: pandas.DataFrame) -> dict[str, tuple[str | None, str | None]]:
    """The hash of each file, and its subset where it has one alone."""
    found: dict[str, tuple[str | None, str | None]] = {}
    columns = (frame[name].astype(object).where(frame[name].notna(), None) for name in ("path", "sha256", "part"))
    for path, sha256, subset in zip(*columns, strict=True):
        is_in_several = path in found and found[path][1] != subset
        found[path] = sha256, None if is_in_several else subset
    return found


def _first(paths: Sequence[str]) -> str:
    return ", ".join(paths[:_NAMED]) + (", ..." if len(paths) > _NAMED else "")
