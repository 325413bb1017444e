"""Descriptors of choices that are read from CSV files."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aifs_tune._util.scalars import Scalar, brief, is_same, show
from aifs_tune.errors import SweepFileError

MAX_FILE_BYTES = 16 * 1024 * 1024
"""Largest CSV file; a library of 10,000 molecules with 100 numbers each has 8 MB."""


def read_descriptors(space: Mapping[str, Any], source: str = "sweep", *, reads_files: bool = True) -> dict[str, Any]:
    """Return ``space`` with the numbers of each CSV file that a ``descriptors`` key names.

    The first column of a file has the choices, its first row the names of the descriptors. Rows of other choices are
    not used.

    Raises
    ------
    SweepFileError
        If a file cannot be read, lacks a choice or has two rows of one, or holds something that is not a number; or if
        one is named although ``reads_files`` is false, for the sweep file of a bundle.
    """
    read: dict[str, Any] = {}
    for name, entry in space.items():
        if isinstance(entry, Mapping) and isinstance(entry.get("descriptors"), str | Path):
            try:
                if not reads_files:
                    text = f"{brief(str(entry['descriptors']))} is a file, and this sweep file is part of a bundle"
                    raise _Problem(text, "the numbers themselves, as an exported bundle has them")
                entry = {**entry, "descriptors": _of_choices(entry.get("choices"), Path(entry["descriptors"]))}
            except _Problem as error:
                raise SweepFileError(
                    str(error), source=source, key=f"space.{name}.descriptors", allowed=error.allowed
                ) from None
        read[name] = entry
    return read


_SEPARATORS = {";": "semicolons", "\t": "tabs"}


class _Problem(Exception):
    def __init__(self, text: str, allowed: str) -> None:
        super().__init__(text)
        self.allowed = allowed


def _of_choices(choices: Any, file: Path) -> dict[str, list[float]]:
    header, *rows = _rows(file)
    names = [name.strip() for name in header[1:]]
    if not names or not all(names) or len(set(names)) < len(names):
        other = next((f", separated by {word}?" for sign, word in _SEPARATORS.items() if sign in "".join(header)), "")
        text = f"the first row of {file} is {brief(', '.join(header))}{other}"
        raise _Problem(text, "a name for the column of choices and a different name for each descriptor")
    found: dict[str, list[float]] = {name: [] for name in names}
    for choice in choices if isinstance(choices, Sequence) else ():
        matching = [row for row in rows if row and _is_choice(row[0], choice)]
        if len(matching) != 1:
            text = f"{file} has {len(matching) or 'no'} row{'s' if len(matching) > 1 else ''} for {brief(choice)}"
            raise _Problem(text, "one row for each choice, with the choice in the first column")
        if len(matching[0]) != len(header):
            text = f"row {brief(choice)} of {file} has {len(matching[0])} cells and the first row {len(header)}"
            raise _Problem(text, "as many cells in each row")
        for name, cell in zip(names, matching[0][1:], strict=True):
            value = _number(cell)
            if value is None:
                text = f"{brief(cell)} in column {name}, row {brief(choice)}, of {file} is not a number"
                raise _Problem(text, "numbers in all columns but the first, such as 6.4; leave out other columns")
            found[name].append(value)
    return found


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _is_choice(cell: str, choice: Scalar) -> bool:
    text = cell.strip()
    if isinstance(choice, int | float) and not isinstance(choice, bool):
        value = _number(text)
        return value is not None and is_same(value, float(choice))
    return text == choice if isinstance(choice, str) else text.lower() == show(choice)


def _rows(file: Path) -> list[list[str]]:
    allowed = "a CSV file in UTF-8, with the choices in its first column and names in its first row"
    try:
        if not file.exists():
            raise _Problem(f"there is no file {file}" + ("" if file.is_absolute() else f" in {Path.cwd()}"), allowed)
        if not file.is_file():
            raise _Problem(f"{file} is not a file", allowed)
        if file.stat().st_size > MAX_FILE_BYTES:
            raise _Problem(f"{file} has {file.stat().st_size:,} bytes", f"at most {MAX_FILE_BYTES:,} bytes")
        rows = list(csv.reader(file.read_text(encoding="utf-8-sig").splitlines(), strict=True))
    except OSError as error:
        raise _Problem(f"{file} cannot be read ({error.strerror})", allowed) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise _Problem(f"{file} is not a CSV file in UTF-8 ({error})", allowed) from None
    if not rows:
        raise _Problem(f"{file} is empty", allowed)
    return rows
