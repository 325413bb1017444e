"""Series that stand together in one file: a long table, a wide table, or arrays of an npz file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import SeriesSpec
from aifs_tune.data.columns import as_numbers
from aifs_tune.data.images.folder import shown
from aifs_tune.data.series.files import MIN_STEPS, Collection, Recording, column_numbers, time_in, times_of
from aifs_tune.data.table_files import NamelessError, read_table, suffix_of
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


_VALUES = ("x", "x_train", "data", "series", "values")
_LABELS = ("y", "y_train", "labels", "label", "target")
_MIN_WIDE = 8
"""Smallest number of values in a row of a wide table."""


def collection_in(file: Path, spec: SeriesSpec) -> Collection | None:
    """Read the series that stand together in ``file``; None if it seems to be a manifest.

    In a long table (``data.series.id``) each row is a step, in a wide one each row is a series: its class, then its
    values, as in the UCR archive. An npz file has ``X`` (n, steps) or (n, steps, columns) and ``y`` (n,).

    Raises
    ------
    DataError
        If the file cannot be read, or holds something else.
    """
    where = f"series {shown(str(file))}"
    if suffix_of(file) == ".npz":
        return _of_arrays(file, where)
    if suffix_of(file) in (".ts", ".arff"):
        raise DataError(
            f"{where}: {file.suffix} files are not read; allowed: the .tsv of the same archive, or a table that sktime "
            "or scipy.io.arff makes of it"
        )
    if spec.id is not None:
        return _of_long_table(read_table(file, where).frame, spec, file, where)
    frame, has_header = _wide_frame(file, where)
    return None if frame is None else _of_wide_table(frame, spec, file, where, has_header)


def _wide_frame(file: Path, where: str) -> tuple[pandas.DataFrame | None, bool]:
    """The table if it is wide, and whether it has column names; None if it is a manifest."""
    try:
        frame, has_header = read_table(file, where).frame, True
    except NamelessError:
        frame, has_header = read_table(file, where, header=False).frame, False
    is_wide = "path" not in frame.columns and len(frame.columns) > _MIN_WIDE
    numeric = sum(frame.iloc[:, i].dtype.kind in "biuf" for i in range(len(frame.columns)))
    return (frame if is_wide and numeric >= len(frame.columns) - 1 else None), has_header


def _of_wide_table(frame: pandas.DataFrame, spec: SeriesSpec, file: Path, where: str, has_header: bool) -> Collection:
    label = spec.label if has_header else str(frame.columns[0])
    if label not in frame.columns:
        raise DataError(
            f"{where}: no column {label!r} with the class of each series; found: "
            f"{', '.join(shown(str(name)) for name in frame.columns[:4])}, ...; name it in data.series.label"
        )
    values = np.stack([column_numbers(frame[name], where) for name in frame.columns if name != label], axis=1)
    recordings = [Recording(_without_tail(row)[:, None], None) for row in values]
    line = f"a wide table: each row is a series, {label} its class"
    return _checked(where, ("value",), recordings, _labels(frame[label].tolist()), file, [line])


def _of_long_table(frame: pandas.DataFrame, spec: SeriesSpec, file: Path, where: str) -> Collection:
    wanted = list(spec.targets) or [spec.label]
    for column in (str(spec.id), *wanted):
        if column not in frame.columns:
            there = ", ".join(shown(str(name)) for name in frame.columns[:12])
            raise DataError(f"{where}: no column {column!r}; allowed: {there}")
    time = spec.time if spec.time is not None else time_in(frame, spec.columns)
    aside = {spec.id, time, *wanted}
    names = spec.columns or tuple(
        str(name) for name in frame.columns if name not in aside and as_numbers(frame[name]) is not None
    )
    if not names:
        raise DataError(
            f"{where}: no column of numbers besides {', '.join(sorted(map(str, aside)))}; allowed: one or more"
        )
    recordings, entries = list[Recording](), list[list[Any]]()
    for key, rows in frame.groupby(spec.id, sort=False):
        at = f"{where}, {spec.id} {shown(str(key))}"
        values = np.stack([column_numbers(rows[name], at) for name in names], axis=1)
        recordings.append(Recording(values, None if time is None else times_of(rows[time], at, spec.time_format)))
        of_it = [rows[column].dropna().unique() for column in wanted]
        several = next((column for column, found in zip(wanted, of_it, strict=True) if len(found) != 1), None)
        if several is not None:
            raise DataError(f"{at}: {several} has several entries or none; allowed: one for each series")
        entries.append([found[0] for found in of_it])
    line = f"a long table: each row is a step, {spec.id} tells the series apart"
    if not spec.targets:
        return _checked(where, names, recordings, _labels([each[0] for each in entries]), file, [line])
    found = _checked(where, names, recordings, (), file, [line])
    numbers = np.array(entries, np.float64)
    return Collection(where, names, found.recordings, numbers=numbers, lines=found.lines, folder=file.parent)


def _of_arrays(file: Path, where: str) -> Collection:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays: Mapping[str, NDArray[Any]] = {name: np.asarray(archive[name]) for name in archive.files}
    except FileNotFoundError:
        raise DataError(f"{where}: there is no such file") from None
    except (OSError, ValueError, BadZipFile, EOFError) as error:
        raise DataError(f"{where}: cannot be read as NPZ ({error}); allowed: arrays of numbers") from error
    by_lower = {name.lower(): array for name, array in arrays.items()}
    x = next((by_lower[name] for name in _VALUES if name in by_lower), None)
    y = next((by_lower[name] for name in _LABELS if name in by_lower), None)
    shapes = ", ".join(f"{shown(name)} {array.shape}" for name, array in arrays.items())
    if x is None or y is None or x.ndim not in (2, 3) or y.ndim != 1 or len(x) != len(y) or x.dtype.kind not in "biuf":
        raise DataError(
            f"{where}: holds {shapes}; allowed: X (series, steps) or (series, steps, columns), and y (series,)"
        )
    values = x.astype(np.float64).reshape(len(x), x.shape[1], -1)
    names = ("value",) if values.shape[2] == 1 else tuple(f"value{i}" for i in range(values.shape[2]))
    lines = [f"arrays: {shapes}"]
    if "x_test" in by_lower:
        lines.append("left out: x_test; x_train is divided into training, validation and test sets")
    return _checked(where, names, [Recording(row, None) for row in values], _labels(y.tolist()), file, lines)


def _checked(
    where: str,
    names: Sequence[str],
    recordings: Sequence[Recording],
    labels: Sequence[str],
    file: Path,
    lines: list[str],
) -> Collection:
    short = [i for i, recording in enumerate(recordings) if len(recording.values) < MIN_STEPS]
    if short:
        raise DataError(f"{where}: series {short[0]} has fewer than {MIN_STEPS} steps; allowed: at least {MIN_STEPS}")
    return Collection(where, tuple(names), recordings, labels, lines=lines, folder=file.parent)


def _without_tail(row: NDArray[np.float64]) -> NDArray[np.float64]:
    """A row without the missing values at its end, which pad shorter series."""
    known = np.flatnonzero(~np.isnan(row))
    return row[: known[-1] + 1] if len(known) else row[:0]


def _labels(entries: Sequence[Any]) -> list[str]:
    return [str(int(entry)) if isinstance(entry, float) and entry.is_integer() else str(entry) for entry in entries]
