"""Which file each prepared example came from, with the hash of its content and the part it is in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.images.folder import shown

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class FileTable:
    """Columns of equal length with a row for each example and file of it; an example of several frames has several
    rows, a table of many examples is in many.

    ``path`` is relative to the data folder, printable, and with ``/``; ``place`` says where in the file an example is,
    such as ``row 12``, None where it is the whole file; ``sha256`` is that of the file, hexadecimal, None of simulated
    data. ``part`` is train, val or test, None for what is in none, as a manifest is. ``example`` is the index into the
    prepared arrays, None for a file that is no example itself.
    """

    path: Sequence[str]
    place: Sequence[str | None]
    sha256: Sequence[str | None]
    part: Sequence[str | None]
    label: Sequence[str | None]
    group: Sequence[str | None]
    example: Sequence[int | None]

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON, by column."""
        return {field.name: list(getattr(self, field.name)) for field in fields(self)}

    def to_frame(self) -> pandas.DataFrame:
        """As a DataFrame: text, and ``example`` as Int64."""
        import pandas

        frame = pandas.DataFrame(self.to_json())
        return frame.astype({name: "string" for name in frame.columns if name != "example"} | {"example": "Int64"})


def file_table(
    origins: Sequence[tuple[Sequence[str], str | None]],
    hashes: Mapping[str, str | None],
    parts: Mapping[str, NDArray[np.int32]],
    *,
    labels: Sequence[str] | None = None,
    groups: Sequence[str | None] | None = None,
    lists: Sequence[str] = (),
) -> FileTable:
    """The table of examples in the order of the prepared arrays.

    ``origins`` (n,) are the paths of each example and its place in them; ``hashes`` has the SHA-256 of each path;
    ``lists`` are manifests, which are read and are no examples.
    """
    part_of: list[str | None] = [None] * len(origins)
    for part, rows in parts.items():
        for row in rows.tolist():
            part_of[row] = part
    rows_of = [(i, path) for i, (paths, _) in enumerate(origins) for path in paths]
    nothing = [None] * len(lists)
    return FileTable(
        path=[*lists, *(path for _, path in rows_of)],
        place=[*nothing, *(origins[i][1] for i, _ in rows_of)],
        sha256=[*(hashes.get(path) for path in lists), *(hashes.get(path) for _, path in rows_of)],
        part=[*nothing, *(part_of[i] for i, _ in rows_of)],
        label=[*nothing, *(None if labels is None else labels[i] for i, _ in rows_of)],
        group=[*nothing, *(None if groups is None else groups[i] for i, _ in rows_of)],
        example=[*nothing, *(i for i, _ in rows_of)],
    )


def sha256_of(file: Path) -> str:
    """Hexadecimal SHA-256 of a file's content, as ``sha256sum`` prints it."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def name_below(file: Path, folder: Path) -> str:
    """The path of ``file`` relative to ``folder``, printable and with ``/``."""
    return shown(os.path.relpath(file, folder).replace(os.sep, "/"))
