"""Table of the files of prepared examples, with content hashes and subsets."""

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
    """Columns of equal length, with a row for each file of each example.

    An example of several frames has several rows, and a file of many examples is in many rows. ``path`` is relative
    to the data folder, printable, with ``/``. ``position`` is the position in the file, such as ``row 12``; None if the
    example is the whole file. ``sha256`` is the hexadecimal hash of the file; None for simulated data. ``part`` is
    the subset: train, val or test; None for examples in no subset and for a manifest. ``example`` is the index into
    the prepared arrays; None for a manifest.
    """

    path: Sequence[str]
    position: Sequence[str | None]
    sha256: Sequence[str | None]
    part: Sequence[str | None]
    label: Sequence[str | None]
    group: Sequence[str | None]
    example: Sequence[int | None]

    def to_json(self) -> dict[str, Any]:
        """Return the columns as JSON values."""
        return {field.name: list(getattr(self, field.name)) for field in fields(self)}

    def to_frame(self) -> pandas.DataFrame:
        """Return a DataFrame with text columns and ``example`` as Int64."""
        import pandas

        frame = pandas.DataFrame(self.to_json())
        return frame.astype({name: "string" for name in frame.columns if name != "example"} | {"example": "Int64"})


def file_table(
    origins: Sequence[tuple[Sequence[str], str | None]],
    hashes: Mapping[str, str | None],
    subsets: Mapping[str, NDArray[np.int32]],
    *,
    labels: Sequence[str] | None = None,
    groups: Sequence[str | None] | None = None,
    lists: Sequence[str] = (),
) -> FileTable:
    """Make the table of files for examples in the order of the prepared arrays.

    ``origins`` (n,) has the paths of each example and its position in them, ``hashes`` the SHA-256 of each path, and
    ``lists`` the manifests, which are not examples.
    """
    subset_of: list[str | None] = [None] * len(origins)
    for subset, rows in subsets.items():
        for row in rows.tolist():
            subset_of[row] = subset
    rows_of = [(i, path) for i, (paths, _) in enumerate(origins) for path in paths]
    nothing = [None] * len(lists)
    return FileTable(
        path=[*lists, *(path for _, path in rows_of)],
        position=[*nothing, *(origins[i][1] for i, _ in rows_of)],
        sha256=[*(hashes.get(path) for path in lists), *(hashes.get(path) for _, path in rows_of)],
        part=[*nothing, *(subset_of[i] for i, _ in rows_of)],
        label=[*nothing, *(None if labels is None else labels[i] for i, _ in rows_of)],
        group=[*nothing, *(None if groups is None else groups[i] for i, _ in rows_of)],
        example=[*nothing, *(i for i, _ in rows_of)],
    )


def sha256_of(file: Path) -> str:
    """Return the hexadecimal SHA-256 of the content of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def name_below(file: Path, folder: Path) -> str:
    """Return the path of ``file`` relative to ``folder``, printable and with ``/``."""
    return shown(os.path.relpath(file, folder).replace(os.sep, "/"))
