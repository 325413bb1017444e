"""Reading of series from one file each, with a sub-folder for each class or a manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.hashing import digest_of
from aifs_tune.config.data import SeriesSpec
from aifs_tune.data.columns import as_numbers
from aifs_tune.data.file_table import name_below
from aifs_tune.data.images.folder import SUBSETS, shown
from aifs_tune.data.table_files import read_table, suffix_of
from aifs_tune.data.times import EXAMPLE, seconds_of
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


SUFFIXES = (".csv", ".tsv", ".txt", ".tab", ".dat", ".npz", ".parquet", ".pq")
"""Suffixes of files that can hold a series."""
MIN_STEPS = 2
_MOST_NAMED = 5
_TIMES = ("time", "t", "hjd", "bjd", "mjd", "jd", "btjd", "bkjd", "date", "datetime", "timestamp", "obs_time")
"""Names of columns that are taken for times, in lower case."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recording:
    """A series: ``values`` (steps, columns) with NaN for gaps, and ``times`` (steps,), not decreasing, or None."""

    values: Floats
    times: Floats | None

    @property
    def digest(self) -> str:
        """Digest of the content."""
        times = b"" if self.times is None else self.times.tobytes()
        return digest_of(self.values.tobytes() + b"|" + times)


@dataclass(frozen=True)
class SeriesReader:
    """Reads series that have the same columns; ``time`` is the column of times or None."""

    columns: tuple[str, ...]
    time: str | None
    time_format: str | None = None

    @classmethod
    def like(
        cls, file: Path, where: str, *, columns: Sequence[str], time: str | None, time_format: str | None = None
    ) -> tuple[SeriesReader, list[str]]:
        """Make a reader for the columns of ``file``, and return it with the text columns left out.

        By default it reads all columns of numbers, and a column called ``time`` as times.

        Raises
        ------
        DataError
            If the file cannot be read, lacks a column, or has no column of numbers.
        """
        frame = _read_steps(file, where)
        times = time if time is not None else time_in(frame, columns)
        if columns:
            return cls(tuple(columns), times, time_format), []
        others = [str(name) for name in frame.columns if name != times]
        found = [name for name in others if name and as_numbers(frame[name]) is not None]
        if not found:
            text = ", ".join(others) or "none"
            raise DataError(
                f"{where}: no column of numbers (columns other than the time: {text}); allowed: at least one"
            )
        return cls(tuple(found), times, time_format), [name for name in others if name not in found]

    def read(self, file: Path, where: str) -> Recording:
        """Read the series in ``file``.

        Raises
        ------
        DataError
            If it cannot be read, is too short, lacks a column, or has text or decreasing times; the text begins with
            ``where``.
        """
        frame = _read_steps(file, where)
        for name in (*self.columns, *filter(None, (self.time,))):
            if name not in frame.columns:
                there = ", ".join(map(str, frame.columns[:12]))
                raise DataError(f"{where}: no column {name!r}; allowed: {there}")
        values = np.stack([column_numbers(frame[name], where) for name in self.columns], axis=1)
        return Recording(values, None if self.time is None else times_of(frame[self.time], where, self.time_format))


def read_columns(file: Path, where: str) -> pandas.DataFrame:
    """Read the columns of a CSV, Parquet or NPZ file; a two-dimensional NPZ array gives ``NAME0``, ``NAME1``, ...

    Raises
    ------
    DataError
        If it cannot be read; the text begins with ``where``.
    """
    if suffix_of(file) != ".npz":
        return read_table(file, where).frame
    import pandas

    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
    except FileNotFoundError:
        raise DataError(f"{where}: there is no such file; allowed: a CSV, Parquet or NPZ file") from None
    except (OSError, ValueError, BadZipFile, EOFError) as error:
        raise DataError(f"{where}: cannot be read as NPZ ({error}); allowed: arrays of numbers") from error
    columns: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        if array.ndim not in (1, 2):
            raise DataError(f"{where}: {name} has shape {array.shape}; allowed: (steps,) or (steps, columns)")
        columns |= {name: array} if array.ndim == 1 else {f"{name}{i}": column for i, column in enumerate(array.T)}
    lengths = {name: len(array) for name, array in columns.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise DataError(f"{where}: arrays of different lengths ({text}); allowed: one length")
    return pandas.DataFrame(columns)


def _read_steps(file: Path, where: str) -> pandas.DataFrame:
    frame = read_columns(file, where)
    if len(frame) < MIN_STEPS:
        raise DataError(f"{where}: {len(frame)} step(s); allowed: at least {MIN_STEPS}")
    return frame


def time_in(frame: pandas.DataFrame, columns: Sequence[str]) -> str | None:
    """The column of times by its name; None if there is none."""
    named = {str(name).lower(): str(name) for name in reversed(frame.columns) if name not in columns}
    return next((named[name] for name in _TIMES if name in named), None)


def column_numbers(column: pandas.Series[Any], where: str) -> Floats:
    """Return the column as numbers; missing and infinite entries become NaN."""
    found = as_numbers(column)
    if found is not None and not found.strange and not found.below:
        return found.values
    strange = [] if found is None else [*found.strange, *found.below]
    alone = (
        row for row in range(len(column)) if as_numbers(column.iloc[[row]]) is None and column.iloc[row] is not None
    )
    row = min(strange) if strange else next(alone, 0)
    raise DataError(f"{where}: {column.name} is {column.iloc[row]!r} in row {row + 1}; allowed: numbers, or empty")


def times_of(column: pandas.Series[Any], where: str, time_format: str | None = None) -> Floats:
    """Return times: numbers as they are, dates in seconds."""
    if column.dtype.kind in "biuf" and time_format is None:
        times = np.array(column, np.float64)
    else:
        times = seconds_of(column, time_format)
    strange = np.flatnonzero(~np.isfinite(times))
    if len(strange):
        entry = column.iloc[int(strange[0])]
        allowed = f"times as data.series.time_format says ({time_format})"
        if time_format is None:
            allowed = f"numbers, ISO 8601 such as {EXAMPLE}, or their form in data.series.time_format, such as %d/%m/%Y"
        raise DataError(f"{where}: {column.name} is {entry!r} in row {strange[0] + 1}; allowed: {allowed}")
    falls = np.flatnonzero(np.diff(times) < 0)
    if len(falls):
        row = int(falls[0]) + 2
        raise DataError(f"{where}: {column.name} decreases in row {row}; allowed: times that do not decrease")
    return times


MANIFEST = "manifest.csv"
_PATH = "path"
_MANIFEST_COLUMNS = ("group", "part", "order")


@dataclass(frozen=True)
class Collection:
    """Series with their targets: ``labels``, or ``numbers`` (n, targets); the other one is empty.

    ``manifest_columns`` has the columns of the manifest that control the split: ``group``, ``part`` and ``order``.
    ``files`` are the files of the series below ``folder``; ``manifest`` is None without a manifest.
    """

    where: str
    columns: tuple[str, ...]
    recordings: Sequence[Recording]
    labels: Sequence[str] = ()
    numbers: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    manifest_columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    lines: Sequence[str] = ()
    files: Sequence[Path] = ()
    folder: Path = Path()
    manifest: Path | None = None


def load_collection(path: Path, spec: SeriesSpec, *, strict: bool = False) -> Collection:
    """Read all series of a folder or a manifest.

    Raises
    ------
    DataError
        If a file or an entry is not allowed; the text names the file and the column, what was found and what is
        allowed.
    """
    where = f"series {shown(str(path))}"
    if not path.exists():
        raise DataError(f"{where}: there is no such folder or file; allowed: a folder of series, or a manifest")
    if path.is_file():
        from aifs_tune.data.series.tables import collection_in

        return collection_in(path, spec) or _of_manifest(path, spec, strict=strict)
    if (path / MANIFEST).is_file():
        return _of_manifest(path / MANIFEST, spec, strict=strict)
    return _of_folders(path, spec, where, strict=strict)


def _of_folders(folder: Path, spec: SeriesSpec, where: str, *, strict: bool) -> Collection:
    check_no_manifest(spec, where)
    classes = sorted(sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith("."))
    if classes and {sub.name.lower() for sub in classes} <= {*SUBSETS, "valid", "validation"}:
        raise DataError(
            f"{where}: has folders named like subsets; allowed: a folder for each class, or a {MANIFEST} with a column "
            "of subsets"
        )
    files = {sub.name: sorted(f for f in sub.iterdir() if _holds_a_series(f)) for sub in classes}
    empty = next((name for name, found in files.items() if not found), None)
    if empty is not None:
        raise DataError(f"{where}: no series in {shown(empty)}; allowed: files named {', '.join(SUFFIXES)}")
    if len(files) < 2:
        raise DataError(
            f"{where}: {len(files)} class folder(s) and no {MANIFEST}; allowed: 2 class folders or more, or a manifest"
        )
    pairs = [(file, name) for name, found in files.items() for file in found]
    columns, kept, lines = _read([file for file, _ in pairs], spec, strict=strict)
    others = [file for sub in classes for file in sorted(sub.iterdir()) if not _holds_a_series(file)]
    others = [file for file in others if file.is_file() and not file.name.startswith(".")]
    if others:
        lines.append(f"left out: {len(others)} files of other kinds, such as {shown(name_below(others[0], folder))}")
    labels, read = [pairs[i][1] for i in kept], [pairs[i][0] for i in kept]
    return Collection(where, columns, list(kept.values()), labels, lines=lines, files=read, folder=folder)


def check_no_manifest(spec: SeriesSpec, where: str) -> None:
    """Raise DataError if ``spec`` names a column of a manifest, since there is none."""
    asked = {name: column for name in _MANIFEST_COLUMNS if (column := getattr(spec, name)) is not None}
    if spec.targets:
        asked["targets"] = next(iter(spec.targets))
    for name, column in asked.items():
        raise DataError(f"{where}: {name} ({column}) is a column of a manifest; allowed: a {MANIFEST} in the folder")


def check_simulated(spec: SeriesSpec, where: str) -> None:
    """Raise DataError if ``spec`` names columns of files, since the series are simulated."""
    check_no_manifest(spec, where)
    for name, given in (("columns", spec.columns), ("time", spec.time)):
        if given:
            raise DataError(f"{where}: {name} is for files; allowed: absent, or with data.series.path")


def _holds_a_series(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and suffix_of(file) in SUFFIXES


def _of_manifest(file: Path, spec: SeriesSpec, *, strict: bool) -> Collection:
    where = f"manifest {shown(str(file))}"
    frame = read_table(file, where).frame
    manifest_columns = {name: column for name in _MANIFEST_COLUMNS if (column := getattr(spec, name)) is not None}
    wanted = list(spec.targets) or [spec.label]
    for column in (_PATH, *wanted, *manifest_columns.values()):
        if column not in frame.columns:
            hint = "; if each row is a step of a series, name the column of the series: data.series.id"
            raise DataError(
                f"{where}: no column {column!r}; allowed: {', '.join(map(shown, frame.columns[:12]))}"
                f"{hint if column == _PATH else ''}"
            )
    is_known = frame[wanted].notna().all(axis=1)
    lines = [] if is_known.all() else [f"left out: {int((~is_known).sum())} series without {' or '.join(wanted)}"]
    frame = frame[is_known].reset_index(drop=True)
    if frame.empty:
        raise DataError(f"{where}: no row with {' and '.join(wanted)}; allowed: one for each series")
    for column in (_PATH, *manifest_columns.values()):
        if not frame[column].notna().all():
            row = int(np.flatnonzero(frame[column].isna())[0]) + 1
            raise DataError(f"{where}: {column} is empty in row {row}; allowed: an entry for each series")
    files = [file.parent / str(path) for path in frame[_PATH]]
    columns, kept, more = _read(files, spec, strict=strict)
    frame, files = frame.iloc[list(kept)].reset_index(drop=True), [files[i] for i in kept]
    found = Collection(
        where, columns, list(kept.values()), lines=[*lines, *more], files=files, folder=file.parent, manifest=file
    )
    entries = {name: frame[column].tolist() for name, column in manifest_columns.items()}
    if spec.targets:
        numbers = np.stack([_targets(frame[column], where) for column in spec.targets], axis=1)
        return replace(found, numbers=numbers, manifest_columns=entries)
    labels = [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in frame[spec.label]]
    return replace(found, labels=labels, manifest_columns=entries)


def _read(
    files: Sequence[Path], spec: SeriesSpec, *, strict: bool
) -> tuple[tuple[str, ...], dict[int, Recording], list[str]]:
    """Columns, and the series of each file that can be read by its position; the others are named in the lines.

    Raises
    ------
    DataError
        If more than half of the files cannot be read, or one with ``strict``; with the error of the first.
    """
    names = [f"series {shown(str(file))}" for file in files]
    reader: SeriesReader | None = None
    kept: dict[int, Recording] = {}
    dropped, problems = list[str](), list[DataError]()
    for i, (file, name) in enumerate(zip(files, names, strict=True)):
        try:
            if reader is None:
                reader, dropped = SeriesReader.like(
                    file, name, columns=spec.columns, time=spec.time, time_format=spec.time_format
                )
            kept[i] = reader.read(file, name)
        except DataError as error:
            problems.append(error)
    if problems and (strict or reader is None or len(problems) > len(files) / 2):
        raise problems[0]
    assert reader is not None
    lines = [f"left out: column {shown(name) or 'without a name'}, text or no name" for name in dropped]
    lines += [f"left out: {error}" for error in problems[:_MOST_NAMED]]
    if len(problems) > _MOST_NAMED:
        lines.append(f"left out: {len(problems) - _MOST_NAMED} more of {len(files)} files")
    return reader.columns, kept, lines


def _targets(column: pandas.Series[Any], where: str) -> Floats:
    import pandas

    numbers = np.array(pandas.to_numeric(column, errors="coerce"), np.float64)
    strange = np.flatnonzero(~np.isfinite(numbers))
    if len(strange):
        entry = column.iloc[int(strange[0])]
        raise DataError(f"{where}: {column.name} is {entry!r} in row {strange[0] + 1}; allowed: finite numbers")
    return numbers
