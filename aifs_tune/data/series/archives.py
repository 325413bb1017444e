"""Files of the UCR and UEA archives: ``.ts`` of aeon and sktime, ``.arff`` of Weka, and their train and test files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.arff import attribute_of, fields_of
from aifs_tune.data.images.folder import shown
from aifs_tune.data.table_files import TEXT, suffix_of
from aifs_tune.errors import DataError

_PREFERRED = (".ts", ".tsv", ".arff", ".txt", ".csv", ".npz", ".npy")
_PART = re.compile(r"(?P<name>.*?)[_-]?(?P<part>train|test|val|valid|validation)", re.IGNORECASE)
_MISSING = ("?", "", "nan")


@dataclass(frozen=True)
class Case:
    """A series of an archive: ``values`` (steps, dimensions), ``times`` as text, and its class or number."""

    values: NDArray[np.float64]
    times: Sequence[str] | None
    target: str | None


@dataclass(frozen=True)
class Archive:
    """Cases of a file; ``has_numbers`` says that targets are numbers, not classes."""

    cases: Sequence[Case]
    has_numbers: bool = False


def archive_in(folder: Path) -> list[tuple[Path, str]] | None:
    """The train and test files in a folder, with their parts, such as ``Coffee_TRAIN.ts``; None if there are none."""
    found = defaultdict[tuple[int, str], dict[str, Path]](dict)
    for file in sorted(folder.iterdir()):
        suffix = suffix_of(file)
        named = _PART.fullmatch(file.name.removesuffix("".join(file.suffixes[-2:])) or "") or _PART.fullmatch(file.stem)
        if suffix in _PREFERRED and named is not None and file.is_file():
            base = named["name"].lower()
            part = "val" if named["part"].lower().startswith("val") else named["part"].lower()
            if suffix == ".npy" and base not in ("x", "data", "series", "values"):
                continue
            found[_PREFERRED.index(suffix), base].setdefault(part, file)
    several = [(key, parts) for key, parts in found.items() if {"train", "test"} <= set(parts)]
    if not several:
        return None
    _, parts = min(several, key=lambda each: (each[0][0], len(each[0][1]), each[0][1]))
    return [(parts[part], part) for part in ("train", "val", "test") if part in parts]


def read_archive(file: Path, where: str, label: str) -> Archive:
    """Read a ``.ts`` or ``.arff`` file; ``label`` names the class of the latter, if it is not the last attribute.

    Raises
    ------
    DataError
        If it has another form; the text names the line.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error.strerror})") from None
    return _ts(lines, where) if suffix_of(file) == ".ts" else _arff(lines, where, label)


def _ts(lines: Sequence[str], where: str) -> Archive:
    header: dict[str, list[str]] = {}
    cases: list[Case] = []
    is_data = False
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith(("#", "%")):
            continue
        if not is_data:
            if not text.startswith("@"):
                raise DataError(f"{where}: line {number} is {shown(text[:30])!r}; allowed above @data: lines with @")
            word, *rest = text.split()
            is_data = word.lower() == "@data"
            header[word.lower()] = rest
            continue
        cases.append(_ts_case(text, header, where, number))
    if not is_data:
        raise DataError(f"{where}: has no line @data; allowed: a .ts file of aeon or sktime")
    return Archive(cases, _is_true(header, "@targetlabel"))


def _is_true(header: dict[str, list[str]], word: str) -> bool:
    return header.get(word, ["false"])[:1] != [] and header.get(word, ["false"])[0].lower() == "true"


def _ts_case(text: str, header: dict[str, list[str]], where: str, number: int) -> Case:
    has_target = _is_true(header, "@classlabel") or _is_true(header, "@targetlabel")
    has_times = _is_true(header, "@timestamps")
    fields = re.split(r":(?![^()]*\))", text)
    target = fields.pop().strip() if has_target else None
    times: list[str] | None = None
    dimensions = []
    for each in fields:
        if has_times:
            pairs = [pair.rpartition(",") for pair in re.findall(r"\(([^()]*)\)", each)]
            own = [time.strip() for time, _, _ in pairs]
            if times is not None and own != times:
                raise DataError(f"{where}: line {number} has dimensions at other times; allowed: the same times")
            times = own
            entries = [value for _, _, value in pairs]
        else:
            entries = each.split(",")
        dimensions.append(_numbers(entries, where, number))
    return Case(_beside(dimensions, where, number), times, target)


def _numbers(entries: Sequence[str], where: str, line: int) -> NDArray[np.float64]:
    try:
        return np.array([np.nan if (e := entry.strip()).lower() in _MISSING else float(e) for entry in entries])
    except ValueError as error:
        raise DataError(f"{where}: line {line}: {shown(str(error))}; allowed: numbers and ?") from None


def _beside(dimensions: Sequence[NDArray[np.float64]], where: str, line: int) -> NDArray[np.float64]:
    """Dimensions as columns; shorter ones are missing at the end."""
    if not dimensions:
        raise DataError(f"{where}: line {line} holds no series; allowed: dimensions separated by :")
    values = np.full((max(map(len, dimensions)), len(dimensions)), np.nan)
    for i, one in enumerate(dimensions):
        values[: len(one), i] = one
    return values


def _arff(lines: Sequence[str], where: str, label: str) -> Archive:
    names: list[str] = []
    begins, has_numbers, is_inside = None, False, False
    for number, line in enumerate(lines):
        text = line.strip()
        if text.lower().startswith("@end"):
            is_inside = False
        elif text.lower().startswith("@attribute"):
            attribute = attribute_of(text, where, number + 1)
            if not is_inside:
                names.append(attribute.name)
                has_numbers = attribute.is_numeric
            is_inside = is_inside or attribute.type.lower().startswith("relational")
        elif text.lower().startswith("@data"):
            begins = number + 1
            break
    if begins is None or len(names) < 2:
        raise DataError(f"{where}: has no @data with attributes above; allowed: an .arff file of the UCR archive")
    at = names.index(label) if label in names else len(names) - 1
    cases = []
    for number, line in enumerate(lines[begins:], begins + 1):
        if (text := line.strip()) and not text.startswith("%"):
            cases.append(_arff_case(text, at, len(names), where, number))
    return Archive(cases, has_numbers and not _repeats([case.target for case in cases]))


def _arff_case(text: str, at: int, n_fields: int, where: str, line: int) -> Case:
    if text.startswith("{"):
        raise DataError(f"{where}: line {line} is a sparse row; allowed: all values of a row")
    if n_fields == 2 and text[0] in "'\"" and text.count(text[0]) >= 2:
        inside, _, rest = text[1:].partition(text[0])
        dimensions = [
            _numbers(each.split(","), where, line) for each in inside.replace("\\n", "\n").split("\n") if each
        ]
        return Case(_beside(dimensions, where, line), None, fields_of(rest.strip(" ,"), where, line)[-1])
    fields = fields_of(text, where, line)
    if len(fields) != n_fields:
        raise DataError(f"{where}: line {line} has {len(fields)} values; allowed: {n_fields}, one for each attribute")
    target = fields.pop(at)
    return Case(_numbers([entry or "" for entry in fields], where, line)[:, None], None, target)


def _repeats(targets: Sequence[str | None]) -> bool:
    return len(set(targets)) <= max(2, len(targets) // 5)


TABLES = (*TEXT, ".npz", ".npy", ".ts", ".arff")
"""Suffixes of files that can hold many series."""
