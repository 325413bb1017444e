"""The manifest: a table with a row for each image, which says where it is and what is to be predicted of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import FramesSpec
from aifs_tune.data.frames.formats import SUFFIXES, format_of
from aifs_tune.data.images.folder import shown
from aifs_tune.data.tables import class_labels, finite_numbers, listed_names, read_frame
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


MIN_IMAGES = 10


@dataclass(frozen=True)
class Manifest:
    """What a manifest says, an entry of each sequence for each image.

    ``files`` of an image are its frames; ``indices`` say which image of a file, None for its only one. ``values`` has
    the shape (n, targets); ``labels``, ``groups`` and ``parts`` are None where there is no such column. ``where`` is
    what messages call it, ``lines`` what was left out.
    """

    source: Path
    where: str
    files: Sequence[tuple[Path, ...]]
    names: Sequence[str]
    indices: Sequence[int | None]
    values: NDArray[np.float64]
    labels: Sequence[str] | None
    groups: Sequence[str] | None
    parts: Sequence[str] | None
    lines: Sequence[str]

    def __len__(self) -> int:
        return len(self.files)


def name_of(file: Path) -> str:
    """What messages call a manifest."""
    return f"manifest {shown(str(file))}"


def load_manifest(spec: FramesSpec) -> Manifest:
    """Read the manifest of ``spec`` and check all but the images themselves.

    Raises
    ------
    DataError
        Naming the manifest, column or row, what was found and what is allowed.
    """
    if spec.manifest is None:
        raise DataError("data.frames.manifest: no value given; allowed: a CSV or Parquet file")
    where = name_of(spec.manifest)
    frame = read_frame(spec.manifest, where)
    if frame.empty:
        raise DataError(f"{where}: has no rows; allowed: a row for each image")
    wanted = [spec.label_column] if spec.label_column is not None else list(spec.targets)
    for column in (*spec.path, *wanted, *filter(None, (spec.index, spec.group, spec.part))):
        if column not in frame.columns:
            raise DataError(f"{where}: no column {column!r}; allowed: {listed_names(frame.columns)}")
    is_known = frame[wanted].notna().all(axis=1)
    lines = []
    if not is_known.all():
        lines.append(f"left out: {int((~is_known).sum())} rows without {' or '.join(wanted)}")
    frame = frame[is_known]
    if len(frame) < MIN_IMAGES:
        raise DataError(f"{where}: {len(frame)} rows with {', '.join(wanted)}; allowed: at least {MIN_IMAGES}")
    columns = [frame[column] for column in spec.path]
    rows = [tuple(_checked(entry, where, row) for entry in entries) for row, *entries in _numbered(frame, columns)]
    values = [finite_numbers(frame[name], where) for name in spec.targets]
    indices = [None] * len(frame) if spec.index is None else _indices(frame[spec.index], where)
    return Manifest(
        source=spec.manifest,
        where=where,
        files=[tuple(spec.manifest.parent / entry for entry in entries) for entries in rows],
        names=[_shown(entries, index) for entries, index in zip(rows, indices, strict=True)],
        indices=indices,
        values=np.stack(values, axis=1) if values else np.zeros((len(frame), 0)),
        labels=None
        if spec.label_column is None
        else class_labels(frame[spec.label_column], where, otherwise="data.frames.targets"),
        groups=None if spec.group is None else [str(entry) for entry in frame[spec.group]],
        parts=None if spec.part is None else [str(entry) for entry in frame[spec.part]],
        lines=lines,
    )


def _numbered(frame: pandas.DataFrame, columns: Sequence[pandas.Series[Any]]) -> Any:
    """Row numbers from 1, as below the header, with the entries of these columns."""
    return zip((int(row) + 1 for row in frame.index), *columns, strict=True)


def _checked(entry: Any, where: str, row: int) -> str:
    """A path as the manifest has it, if it leads to a file of a known kind below the manifest's folder."""
    if not isinstance(entry, str) or not entry.strip():
        raise DataError(f"{where}: row {row} has the path {entry!r}; allowed: the path of an image file")
    path = os.path.normpath(entry.strip())
    if os.path.isabs(path) or path.split(os.sep)[0] == os.pardir or "\0" in path:
        raise DataError(
            f"{where}: row {row} has the path {shown(entry)!r}, outside of the manifest's folder; allowed: a path "
            "relative to it and below it"
        )
    if format_of(path) is None:
        raise DataError(
            f"{where}: row {row} has the path {shown(entry)!r} of an unknown kind; allowed: {', '.join(SUFFIXES)}"
        )
    return path


def _indices(column: pandas.Series[Any], where: str) -> list[int | None]:
    numbers = finite_numbers(column, where)
    strange = np.flatnonzero((numbers < 0) | (numbers != np.floor(numbers)))
    if len(strange):
        row, entry = int(column.index[strange[0]]) + 1, float(numbers[strange[0]])
        raise DataError(f"{where}: {column.name} is {entry:g} in row {row}; allowed: whole numbers from 0")
    return [int(number) for number in numbers]


def _shown(entries: Sequence[str], index: int | None) -> str:
    name = " + ".join(shown(entry) for entry in entries)
    return name if index is None else f"{name} [{index}]"
