"""Series that stand together in one file: a long table, a wide table, arrays, or a file of the UCR and UEA archives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import SeriesSpec
from aifs_tune.data.images.folder import shown
from aifs_tune.data.matrix import classes_of_one_hot, one_hot_note
from aifs_tune.data.series.archives import Archive, Case, read_archive
from aifs_tune.data.series.files import (
    MANIFEST_COLUMNS,
    Collection,
    Source,
    check_no_manifest,
    columns_lines,
    label_texts,
    read_sources,
)
from aifs_tune.data.series.formats import ARCHIVES, RawSeries, load_npy, load_npz, read_raw
from aifs_tune.data.series.wide import WideTable, read_wide
from aifs_tune.data.table_files import PARQUET, TEXT, TableFile, read_table, suffix_of
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


_VALUES = ("x", "data", "series", "values")
_LABELS = ("y", "labels", "label", "target")
_PARTS = ("train", "val", "valid", "test")


@dataclass(frozen=True)
class Together:
    """Series of one file. ``entries`` (n,) are their classes, or rows of numbers; empty if the file has none.

    ``manifest_columns`` has the columns that control the split, ``aside`` names those of a long table that are no
    measurements.
    """

    layout: str
    raw: Sequence[Callable[[], RawSeries]]
    names: Sequence[str]
    entries: Sequence[Any] = ()
    has_numbers: bool = False
    lines: Sequence[str] = ()
    parts: Sequence[str] = ()
    aside: Sequence[str] = field(default_factory=tuple)
    manifest_columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def collection_in(
    files: Sequence[tuple[Path, str | None]], spec: SeriesSpec, where: str, *, strict: bool
) -> Collection | None:
    """Read the series that stand together in files, each with its part or None; None if they seem to be a manifest.

    In a long table (``data.series.id``) each row is a step, in a wide one each row is a series: its class, then its
    values, as in the UCR archive. An npz file has ``X`` (n, steps) or (n, steps, columns) and ``y`` (n,).

    Raises
    ------
    DataError
        If a file cannot be read, or holds something else.
    """
    found: list[tuple[Path, str | None, Together]] = []
    for file, part in files:
        together = together_in(file, spec, f"series {shown(str(file))}")
        if together is None:
            return None
        found.append((file, part, together))
    first = found[0][2]
    if any(not each.entries for _, _, each in found):
        raise DataError(f"{where}: its series have no classes; allowed: a class for each series{_missing_hint(first)}")
    if first.layout not in ("long", "wide"):
        check_no_manifest(spec.model_copy(update={"targets": {}}), where)
    has_numbers = _has_numbers(first, spec, where)
    sources, entries, parts, origins = list[Source](), list[Any](), list[str](), list[tuple[Path, str]]()
    for file, part, each in found:
        for load, name, entry in zip(each.raw, each.names, each.entries, strict=True):
            label = f"{shown(file.name)} {name}" if len(found) > 1 else name
            sources.append(Source(label, f"series {shown(str(file))}, {name}", _alone(load)))
            entries.append(entry)
            origins.append((file, name))
        parts += each.parts or ([part] * len(each.raw) if part is not None else [])
    own = spec.model_copy(update={"columns": ()}) if first.layout == "wide" else spec  # there they name the steps
    read = read_sources(sources, own, strict=strict, aside=first.aside)
    beside = {name: [e for _, _, each in found for e in each.manifest_columns[name]] for name in first.manifest_columns}
    kept = [entries[i] for i in read.sources]
    about = columns_lines(read.reader) if first.layout == "long" else []
    made = Collection(
        where,
        read.reader.columns,
        read.recordings,
        names=[sources[i].name for i in read.sources],
        parts=[parts[i] for i in read.sources] if parts else (),
        lines=[*dict.fromkeys(line for _, _, each in found for line in each.lines), *about, *read.lines],
        files=[origins[i][0] for i in read.sources],
        positions=[origins[i][1] for i in read.sources],
        folder=files[0][0].parent,
        reader=read.reader,
        layout=first.layout,
        manifest_columns={name: [column[i] for i in read.sources] for name, column in beside.items()},
    )
    if not has_numbers:
        return replace(made, labels=label_texts(kept))
    try:
        numbers = np.array(kept, np.float64).reshape(len(kept), -1)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: a number to predict is none ({error}); allowed: numbers") from None
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers).all(axis=1))[0])
        raise DataError(f"{where}: {made.names[row]} has no number to predict; allowed: finite numbers")
    return replace(made, numbers=numbers)


def _alone(load: Callable[[], RawSeries]) -> Callable[[], Sequence[RawSeries]]:
    return lambda: [load()]


def _missing_hint(found: Together) -> str:
    if found.layout == "array":
        return " in a file y.npy beside it"
    return ", or data.series.forecast for a single long one" if found.layout == "archive" else ""


def _has_numbers(found: Together, spec: SeriesSpec, where: str) -> bool:
    """Whether numbers are predicted; DataError if the file and the sweep file do not agree."""
    if found.has_numbers and not spec.targets:
        raise DataError(
            f"{where}: has a number to predict for each series; allowed: data.series.targets: {{NAME: UNIT}}, "
            "with a name for it, and null without a unit"
        )
    if found.layout != "long" and len(spec.targets) > 1:
        raise DataError(f"{where}: has one number for each series; allowed: one name in data.series.targets")
    return bool(spec.targets)


def new_series(file: Path, spec: SeriesSpec, layout: str, where: str) -> list[RawSeries]:
    """The series of a file to predict, whose classes are not needed; ``layout`` is that of the training data.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    suffix = suffix_of(file)
    if layout == "long" and spec.id is not None and suffix in (*TEXT, *PARQUET):
        frame = read_table(file, where).frame
        if spec.id not in frame.columns:
            raise DataError(f"{where}: no column {spec.id!r}; allowed: {', '.join(map(shown, frame.columns[:12]))}")
        grouped = frame.groupby(spec.id, sort=False)
        return [RawSeries(rows.reset_index(drop=True), f"{spec.id} {shown(str(key))}") for key, rows in grouped]
    is_table = layout == "wide" and suffix in (*TEXT, *PARQUET)
    is_arrays = layout in ("arrays", "array") and suffix in (".npz", ".npy")
    if not (is_table or is_arrays or suffix in ARCHIVES):
        return read_raw(file, where, header=spec.header, hdu=spec.hdu)
    found = together_in(file, spec, where, is_new=True)
    if found is None:
        raise DataError(f"{where}: is no wide table; allowed: a row for each series, as in the training data")
    return [replace(load(), name=name) for load, name in zip(found.raw, found.names, strict=True)]


def together_in(file: Path, spec: SeriesSpec, where: str, *, is_new: bool = False) -> Together | None:
    """The series of a file with many of them; None if it seems to be a manifest, or to hold one series.

    A wide table that ``is_new`` may have column names and no column of classes.

    Raises
    ------
    DataError
        If it cannot be read, or holds something else.
    """
    suffix = suffix_of(file)
    if suffix == ".npz":
        return _of_npz(file, spec, where)
    if suffix == ".npy":
        return _of_npy(file, spec, where)
    if suffix in ARCHIVES:
        return _of_archive(read_archive(file, where, spec.label), file)
    if suffix not in (*TEXT, *PARQUET):
        raise DataError(f"{where}: holds one series; allowed: a folder of such files for each class, or a manifest")
    if spec.id is not None:
        return _of_long_table(read_table(file, where, header=spec.header), spec, where)
    wide = read_wide(file, spec, where, is_new=is_new)
    return None if wide is None else _of_wide_table(wide, spec, where)


def _of_wide_table(found: WideTable, spec: SeriesSpec, where: str) -> Together:
    names = [f"row {number}" for number in range(1, len(found.frame) + 1)]
    entries = found.frame[found.label].tolist() if found.label in found.frame.columns else ()
    beside = _beside(spec, where, {column: found.frame[column].tolist() for column in found.frame.columns})
    raw = [_row(row, found.times) for row in found.values]
    return Together("wide", raw, names, entries, lines=found.lines, manifest_columns=beside)


def _beside(spec: SeriesSpec, where: str, entries: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """The columns that control the split, with an entry for each series."""
    found = dict[str, Sequence[Any]]()
    for name in MANIFEST_COLUMNS:
        column = getattr(spec, name)
        if column is None:
            continue
        if column not in entries:
            there = ", ".join(shown(str(each)) for each in list(entries)[:12])
            raise DataError(f"{where}: no column {column!r}; allowed for data.series.{name}: {there}")
        row = next((i for i, entry in enumerate(entries[column]) if entry is None or entry != entry), None)
        if row is not None:
            raise DataError(f"{where}: {column} is empty for series {row + 1}; allowed: an entry for each series")
        found[name] = entries[column]
    return found


def _of_long_table(table: TableFile, spec: SeriesSpec, where: str) -> Together:
    frame, wanted = table.frame, list(spec.targets) or [spec.label]
    split_by = [column for name in MANIFEST_COLUMNS if (column := getattr(spec, name)) is not None]
    for column in (str(spec.id), *wanted, *split_by):
        if column not in frame.columns:
            there = ", ".join(shown(str(name)) for name in frame.columns[:12])
            raise DataError(f"{where}: no column {column!r}; allowed: {there}")
    if len(frame) > 1 and not frame[spec.id].duplicated().any():
        raise DataError(
            f"{where}: each row has its own {spec.id}; allowed: several rows, its steps, for each series; if each row "
            "is a series: without data.series.id"
        )
    n_without = int(frame[spec.id].isna().sum())
    raw, names, entries = list[Callable[[], RawSeries]](), list[str](), list[Any]()
    beside: dict[str, list[Any]] = {column: [] for column in split_by}
    for key, rows in frame.groupby(spec.id, sort=False):
        name = f"{spec.id} {shown(str(key))}"
        of_it = [rows[column].dropna().unique() for column in (*wanted, *split_by)]
        several = next((c for c, found in zip((*wanted, *split_by), of_it, strict=True) if len(found) != 1), None)
        own = rows.reset_index(drop=True)
        raw.append(_frame(own) if several is None else _refused(f"{where}, {name}", several))
        names.append(name)
        firsts = [found[0] if len(found) else None for found in of_it]
        entries.append(firsts[: len(wanted)])
        for column, entry in zip(split_by, firsts[len(wanted) :], strict=True):
            beside[column].append("" if entry is None else entry)  # such a series is refused
    lines = [*table.notes, f"a long table: each row is a step, {spec.id} tells the series apart"]
    if n_without:
        lines.append(f"left out: {n_without} rows without {spec.id}")
    aside = (str(spec.id), *wanted, *split_by)
    flat = entries if spec.targets else [each[0] for each in entries]
    columns = _beside(spec, where, beside)
    return Together("long", raw, names, flat, lines=lines, aside=aside, manifest_columns=columns)


def _frame(frame: pandas.DataFrame) -> Callable[[], RawSeries]:
    return lambda: RawSeries(frame)


def _refused(where: str, column: str) -> Callable[[], RawSeries]:
    def refuse() -> RawSeries:
        raise DataError(f"{where}: {column} has several entries or none; allowed: one for each series")

    return refuse


def _row(values: NDArray[Any], times: Sequence[str] | None = None) -> Callable[[], RawSeries]:
    """A series of values (steps,) or (steps, columns); missing ones at its end pad shorter series."""

    def load() -> RawSeries:
        import pandas

        both = values[:, None] if values.ndim == 1 else values
        known = np.flatnonzero(~pandas.isna(both).all(axis=1))
        n_steps = int(known[-1]) + 1 if len(known) else 0
        names = ["value"] if both.shape[1] == 1 else [f"value{i}" for i in range(both.shape[1])]
        frame = pandas.DataFrame(both[:n_steps], columns=names).infer_objects()
        if times is not None:
            frame.insert(0, "time", list(times[:n_steps]))
            frame["time"] = frame["time"].map(_as_number)
        return RawSeries(frame)

    return load


def _as_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _of_archive(found: Archive, file: Path) -> Together:
    raw = [_case(case) for case in found.cases]
    names = [f"series {number}" for number in range(1, len(raw) + 1)]
    targets = [case.target for case in found.cases]
    n_dimensions = max((case.values.shape[1] for case in found.cases), default=0)
    lines = [f"{suffix_of(file)} of the UCR and UEA archives: {n_dimensions} dimension(s)"]
    known = targets if all(target is not None for target in targets) else ()
    return Together("archive", raw, names, known, found.has_numbers, lines)


def _case(case: Case) -> Callable[[], RawSeries]:
    return _row(case.values, case.times)


def _of_npy(file: Path, spec: SeriesSpec, where: str) -> Together:
    x = load_npy(file, where)
    beside = [file.with_name(file.name.replace(file.stem, stem)) for stem in _stems_of_labels(file.stem)]
    y_file = next((each for each in beside if each.is_file()), None)
    y = None if y_file is None else load_npy(y_file, f"series {shown(str(y_file))}")
    arrays = {file.stem: x} if y is None or y_file is None else {file.stem: x, y_file.stem: y}
    return replace(_stacked(x, y, spec, where, _shapes(arrays)), layout="array")


def _stems_of_labels(stem: str) -> list[str]:
    for values in _VALUES:
        if stem.lower() == values or stem.lower().startswith(f"{values}_"):
            return [f"{label}{stem[len(values) :]}" for label in (*_LABELS, "Y")]
    return list(_LABELS)


def _of_npz(file: Path, spec: SeriesSpec, where: str) -> Together:
    arrays = load_npz(file, where)
    by_lower = {name.lower(): array for name, array in arrays.items()}
    x, y = _first(by_lower, _VALUES), _first(by_lower, _LABELS)
    if x is not None or _first(by_lower, [f"{name}_train" for name in _VALUES]) is None:
        return replace(_stacked(x, y, spec, where, _shapes(arrays)), layout="arrays")
    made = []
    for part in _PARTS:
        x = _first(by_lower, [f"{name}_{part}" for name in _VALUES])
        y = _first(by_lower, [f"{name}_{part}" for name in _LABELS])
        if x is not None:
            each = _stacked(x, y, spec, where, _shapes(arrays))
            names = [f"{part} {name}" for name in each.names]
            made.append(replace(each, names=names, parts=["val" if part == "valid" else part] * len(names)))
    parts = [part for each in made for part in each.parts] if len(made) > 1 else ()
    return Together(
        "arrays",
        [load for each in made for load in each.raw],
        [name for each in made for name in each.names],
        [entry for each in made for entry in each.entries],
        lines=list(dict.fromkeys(line for each in made for line in each.lines)),
        parts=parts,
    )


def _first(arrays: Mapping[str, NDArray[Any]], names: Sequence[str]) -> NDArray[Any] | None:
    return next((arrays[name] for name in names if name in arrays), None)


def _shapes(arrays: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"{shown(name)} {array.shape}" for name, array in arrays.items())


def _stacked(x: NDArray[Any] | None, y: NDArray[Any] | None, spec: SeriesSpec, where: str, shapes: str) -> Together:
    if y is not None and y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    lines = [f"arrays: {shapes}"]
    if y is not None and not spec.targets and (classes := classes_of_one_hot(y)) is not None:
        lines.append(one_hot_note(y))
        y = classes
    is_fit = x is not None and x.ndim in (2, 3) and x.dtype.kind in "biuf"
    if not is_fit or (y is not None and (y.ndim != 1 or x is None or len(x) != len(y))):
        raise DataError(
            f"{where}: holds {shapes}; allowed: X (series, steps) or (series, steps, columns), and y (series,)"
        )
    assert x is not None
    raw = [_row(np.asarray(each, np.float64)) for each in x]
    names = [f"series {number}" for number in range(1, len(raw) + 1)]
    return Together("arrays", raw, names, () if y is None else y.tolist(), lines=lines)
