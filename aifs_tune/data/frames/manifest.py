"""Manifest of images: a table with the path and the targets of each image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import FramesSpec
from aifs_tune.data.columns import MISSING
from aifs_tune.data.frames.formats import SUFFIXES, format_of
from aifs_tune.data.image_files.unread import unread_advice
from aifs_tune.data.images.folder import shown
from aifs_tune.data.links import Links, check_below, check_links
from aifs_tune.data.table_files import read_table
from aifs_tune.data.tables import class_labels, listed_names, target_numbers
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


MIN_IMAGES = 10


@dataclass(frozen=True)
class Manifest:
    """Content of a manifest; each sequence has an entry for each image.

    ``files`` are the frames of an image, ``indices`` its index in a file with several images, else None. ``values``
    has the shape (n, targets). ``labels``, ``groups`` and ``subsets`` are None without such a column. ``where`` is the
    name in messages, and ``lines`` say what was left out.
    """

    source: Path
    where: str
    files: Sequence[tuple[Path, ...]]
    names: Sequence[str]
    indices: Sequence[int | None]
    values: NDArray[np.float64]
    labels: Sequence[str] | None
    groups: Sequence[str] | None
    subsets: Sequence[str] | None
    lines: Sequence[str]

    def __len__(self) -> int:
        return len(self.files)


def name_of(file: Path) -> str:
    """Return the name of a manifest in messages."""
    return f"manifest {shown(str(file))}"


def load_manifest(spec: FramesSpec, *, follow_links: bool = False) -> Manifest:
    """Read and check the manifest of ``spec``, without opening the images; ``follow_links`` is that of the data.

    Raises
    ------
    DataError
        If an entry is not allowed; the text names the manifest, the column or row, what was found and what is
        allowed.
    """
    if spec.manifest is None:
        raise DataError("data.frames.manifest: no value given; allowed: a CSV or Parquet file")
    where = name_of(spec.manifest)
    loaded = read_table(spec.manifest, where)
    frame = loaded.frame
    if frame.empty:
        raise DataError(f"{where}: has no rows; allowed: a row for each image")
    wanted = [*filter(None, (spec.label_column,)), *spec.targets]
    for column in (*spec.path, *wanted, *filter(None, (spec.index, spec.group, spec.part))):
        if column not in frame.columns:
            raise DataError(f"{where}: no column {column!r}; allowed: {listed_names(frame.columns)}")
    is_known = frame[wanted].notna().all(axis=1)
    numbers = frame[list(spec.targets)]
    is_known &= ~numbers.map(lambda entry: isinstance(entry, str) and entry.lower() in MISSING).any(axis=1)
    lines = list(loaded.notes)
    if not is_known.all():
        lines.append(f"left out: {int((~is_known).sum())} rows without {' or '.join(wanted)}")
    frame = frame[is_known]
    if len(frame) < MIN_IMAGES:
        raise DataError(f"{where}: {len(frame)} rows with {', '.join(wanted)}; allowed: at least {MIN_IMAGES}")
    folder = folder_of(spec, spec.manifest)
    columns, links = [frame[column] for column in spec.path], Links.of(folder, follow=follow_links)
    rows = [
        tuple(_checked(entry, spec, where, row, (folder, links)) for entry in entries)
        for row, *entries in _numbered(frame, columns)
    ]
    if spec.index is None and 2 * len(set(rows)) <= len(rows):
        raise DataError(
            f"{where}: {len(rows)} rows name {len(set(rows))} different files, such as {_shown(rows[0], None)}; "
            "allowed: one row for each file, or the column with the number of the image in its file: data.frames.index"
        )
    values = [target_numbers(frame[name], where) for name in spec.targets]
    indices = [None] * len(frame) if spec.index is None else _indices(frame[spec.index], where)
    return Manifest(
        source=spec.manifest,
        where=where,
        files=[tuple(folder / entry for entry in entries) for entries in rows],
        names=[_shown(entries, index) for entries, index in zip(rows, indices, strict=True)],
        indices=indices,
        values=np.stack(values, axis=1) if values else np.zeros((len(frame), 0)),
        labels=None
        if spec.label_column is None
        else class_labels(frame[spec.label_column], where, otherwise="data.frames.targets"),
        groups=None if spec.group is None else [str(entry) for entry in frame[spec.group]],
        subsets=None if spec.part is None else [str(entry) for entry in frame[spec.part]],
        lines=lines,
    )


def _numbered(frame: pandas.DataFrame, columns: Sequence[pandas.Series[Any]]) -> Any:
    """Yield row numbers, from 1 below the header, with the entries of these columns."""
    return zip((int(row) + 1 for row in frame.index), *columns, strict=True)


def folder_of(spec: FramesSpec, manifest: Path) -> Path:
    """Return the folder in which the entries of a manifest are paths."""
    return manifest.parent if spec.folder is None else manifest.parent / spec.folder


def with_suffix(entry: str, spec: FramesSpec) -> str:
    """Return the path of an entry, with the suffix of ``spec`` unless it ends so; back slashes count as slashes."""
    path = os.path.normpath(entry.strip().replace("\\", "/"))
    return path if spec.suffix is None or path.endswith(spec.suffix) else path + spec.suffix


def _checked(entry: Any, spec: FramesSpec, where: str, row: int, place: tuple[Path, Links]) -> str:
    """Return the path of an entry if it is below the folder of the files, also as a link, and its suffix is known."""
    if isinstance(entry, int) and spec.suffix is not None:
        entry = str(entry)
    if not isinstance(entry, str) or not entry.strip():
        raise DataError(f"{where}: row {row} has the path {entry!r}; allowed: the path of an image file")
    path = with_suffix(entry, spec)
    begin, (folder, links) = f"{where}: row {row} has the path {shown(entry)!r}", place
    check_below(path, begin, "the folder of the manifest" if spec.folder is None else "data.frames.folder")
    check_links(folder / path, links, begin)
    if format_of(path) is None:
        what = (
            f"the path {shown(path)!r} with an unknown suffix" if Path(path).suffix else f"{shown(path)!r}, no suffix"
        )
        advice = unread_advice(path) or (
            f"{', '.join(SUFFIXES)}" + ("" if spec.suffix else "; if the entries lack theirs: data.frames.suffix")
        )
        raise DataError(f"{where}: row {row} has {what}; allowed: {advice}")
    return path


def _indices(column: pandas.Series[Any], where: str) -> list[int | None]:
    numbers = target_numbers(column, where)
    strange = np.flatnonzero((numbers < 0) | (numbers != np.floor(numbers)))
    if len(strange):
        row, entry = int(column.index[strange[0]]) + 1, float(numbers[strange[0]])
        raise DataError(f"{where}: {column.name} is {entry:g} in row {row}; allowed: whole numbers from 0")
    return [int(number) for number in numbers]


def _shown(entries: Sequence[str], index: int | None) -> str:
    name = " + ".join(shown(entry) for entry in entries)
    return name if index is None else f"{name} [{index}]"
