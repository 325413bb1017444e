"""Table of the data files of a study: their hashes, their subsets, and how they changed since.

The table is a Parquet file among the artifacts of the study, ``data/<digest>/files.parquet``. The study itself stores
only its name and hash, so a long table does not fill the database.
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
from aifs_tune.study.record import StudyRecord, record_of
from aifs_tune.study.study import Study

if TYPE_CHECKING:
    import pandas


FILES = "files"
"""Fact of a study: the entry with the table of its files, and the hashes of the entry."""
DATA_OF = "data_of"
"""Fact of a study: the name of the study whose data it uses, for example the study that it confirms."""
NEAR_DUPLICATES = "near_duplicates"
"""Fact of a study: images in different subsets that look alike, see
:class:`aifs_tune.data.images.near_duplicates.CrossSubsetDuplicates`."""
_NAME = "files.parquet"
_NAMED = 3


def study_files(study: Study) -> pandas.DataFrame:
    """Load the table of the data files of a study.

    Parameters
    ----------
    study : Study
        A study that a sweep has run.

    Returns
    -------
    pandas.DataFrame
        A row for each file of each example. Columns: ``path`` relative to the data folder; ``position`` in
        the file, such as ``row 12``, missing if the example is the whole file; ``sha256`` of the file; ``part``, the
        subset train, val or test; ``label``; ``group``; and ``example``, the index into the prepared arrays. A
        manifest has neither ``part`` nor ``example``.

    Raises
    ------
    NotFoundError
        If the study has no data files, or they were not recorded.
    DamagedError
        If the table was changed after it was stored.
    StorageError
        If an object store does not answer.

    Examples
    --------
    A sweep records the files. Here they are recorded without one:

    >>> import aifs_tune
    >>> from aifs_tune.artifacts import study_files
    >>> from aifs_tune.artifacts.data_files import match_files
    >>> from aifs_tune.config import DataSpec
    >>> from aifs_tune.data import prepare_table
    >>> from aifs_tune.study.record import record_of
    >>> space = {"x": {"type": "float", "low": 0, "high": 1}}
    >>> study = aifs_tune.open_study("cells", space=space, storage="sqlite:///lab.db")
    >>> prepared = prepare_table(DataSpec(table={"bundled": "breast_cancer"}))
    >>> match_files(record_of(study), prepared.examples.fingerprint, prepared.files)
    >>> files = study_files(study)
    >>> files[files["part"] == "test"].iloc[0][["path", "label"]].tolist()
    ['table breast_cancer', 'malignant']
    """
    import pandas

    holder = _holder(record_of(study))
    if holder is None:
        raise NotFoundError(f"study {study.name!r}: its data files are not recorded")
    stored: Mapping[str, Any] = holder.fact(FILES)
    folder = store_at(holder.artifacts).fetch(stored["entry"], cache_root().absolute())
    check_hashes(folder, stored["hashes"])
    return pandas.read_parquet(folder / _NAME)


def find_study_files(study: StudyRecord) -> pandas.DataFrame | None:
    """Load the table with :func:`study_files`; None if it was not recorded or was removed."""
    try:
        return study_files(study)
    except NotFoundError:
        return None


def _holder(study: StudyRecord) -> StudyRecord | None:
    """Return the study that has the table: this study, or the study whose data it uses."""
    if study.fact(FILES) is not None:
        return study
    name = study.fact(DATA_OF)
    other = None if name is None else find_study(study.storage, name)
    return other if other is not None and other.fact(FILES) is not None else None


def match_files(study: StudyRecord, fingerprint: str | None, files: FileTable) -> None:
    """Record the data and the files of a study, or check that they are unchanged.

    Raises
    ------
    ConflictError
        If the data differ from those recorded; the text says which files were added, removed, changed, renamed or
        moved.
    """
    try:
        study.match_data(fingerprint)
    except ConflictError as error:
        before = find_study_files(study)
        text = "it is not known which files changed" if before is None else str(changes(before, files.to_frame()))
        raise ConflictError(f"{error}\n  {text}") from None
    if _holder(study) is None:
        keep_files(study, files.to_frame())


def share_files(study: StudyRecord, other: StudyRecord) -> None:
    """Record that ``study`` uses the data of ``other``, so that later changes are detected."""
    if other.fingerprint is not None and study.fact(DATA_OF) is None:
        study.record_fact(DATA_OF, other.name)
        study.match_data(other.fingerprint)


def keep_files(study: StudyRecord, frame: pandas.DataFrame) -> None:
    """Store the table of the files of ``study``, with the columns of :func:`study_files`."""
    entry = f"data/{digest_of(frame.to_csv(index=False).encode())[:24]}"
    hashes = store_at(study.artifacts).put(entry, lambda folder: frame.to_parquet(folder / _NAME, index=False))
    study.record_fact(FILES, {"entry": entry, "hashes": hashes})


@dataclass(frozen=True)
class Changes:
    """Differences between two tables of files, by path.

    Renamed files are written ``OLD to NEW``; files moved to another subset are written ``PATH from SUBSET to SUBSET``.
    """

    added: Sequence[str]
    removed: Sequence[str]
    changed: Sequence[str]
    renamed: Sequence[str]
    moved: Sequence[str]

    def __str__(self) -> str:
        texts = [
            f"{len(paths)} {'file' if len(paths) == 1 else 'files'} {what} ({_first(paths)})"
            for what, paths in vars(self).items()
            if paths
        ]
        return "; ".join(texts) or "the files are the same, but they are read or split differently"


def changes(before: pandas.DataFrame, now: pandas.DataFrame) -> Changes:
    """Compare the files in two tables of :func:`study_files`."""
    old, new = (_by_path(frame) for frame in (before, now))
    removed = {path: old[path][0] for path in old if path not in new}
    added = {path: new[path][0] for path in new if path not in old}
    path_of = {sha256: path for path, sha256 in added.items() if sha256 is not None}
    renamed = {path: path_of.pop(sha256) for path, sha256 in removed.items() if sha256 in path_of}
    both = [path for path in old if path in new]
    return Changes(
        added=sorted(path for path in added if path not in renamed.values()),
        removed=sorted(path for path in removed if path not in renamed),
        changed=sorted(path for path in both if old[path][0] != new[path][0]),
        renamed=[f"{path} to {renamed[path]}" for path in sorted(renamed)],
        moved=[
            f"{path} from {old[path][1]} to {new[path][1]}"
            for path in sorted(both)
            if old[path][1] != new[path][1] and old[path][0] == new[path][0]
        ],
    )


def _by_path(frame: pandas.DataFrame) -> dict[str, tuple[str | None, str | None]]:
    """Return the hash of each file, and its subset if it has only one."""
    found: dict[str, tuple[str | None, str | None]] = {}
    columns = (frame[name].astype(object).where(frame[name].notna(), None) for name in ("path", "sha256", "part"))
    for path, sha256, subset in zip(*columns, strict=True):
        is_in_several = path in found and found[path][1] != subset
        found[path] = sha256, None if is_in_several else subset
    return found


def _first(paths: Sequence[str]) -> str:
    return ", ".join(paths[:_NAMED]) + (", ..." if len(paths) > _NAMED else "")
