"""The lines of ARFF files of Weka and OpenML: attributes, and rows with quotes of both kinds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from aifs_tune.data.images.folder import shown
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


_QUOTED = r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\""
_ATTRIBUTE = re.compile(rf"@attribute\s+(?:{_QUOTED}|([^\s{{]+))\s*(.+)", re.IGNORECASE)
_FIELD = re.compile(rf"\s*(?:{_QUOTED}|([^,'\"]*?))\s*(,|$)")
_NUMERIC = ("numeric", "real", "integer")


class Attribute(NamedTuple):
    """Name of an attribute, and its type as it is written, such as ``numeric`` or ``{a, b}``."""

    name: str
    type: str

    @property
    def is_numeric(self) -> bool:
        """Whether its entries are numbers."""
        return self.type.lower().startswith(_NUMERIC)


def attribute_of(line: str, where: str, number: int) -> Attribute:
    """Return the attribute that a line declares; raise DataError, which names the line, if it has another form."""
    found = _ATTRIBUTE.fullmatch(line.strip())
    if found is None:
        raise DataError(f"{where}: line {number} is {shown(line[:40])!r}; allowed: @attribute NAME TYPE")
    return Attribute(_unquoted(found[1], found[2], found[3]), found[4].strip())


def fields_of(line: str, where: str, number: int) -> list[str | None]:
    """Return the entries of a row, or of the braces of a nominal type; None for a missing one, which is ``?``.

    Raises
    ------
    DataError
        If a quote does not end, or text stands beside quotes; the text names the line.
    """
    entries, place, ends = list[str | None](), 0, False
    while not ends:
        found = _FIELD.match(line, place)
        if found is None:
            raise DataError(f"{where}: line {number} has quotes that do not end: {shown(line[place : place + 40])!r}")
        is_missing = found[3] is not None and found[3] in ("?", "")
        entries.append(None if is_missing else _unquoted(found[1], found[2], found[3]))
        place, ends = found.end(), found[4] == ""
    return entries


def _unquoted(single: str | None, double: str | None, bare: str | None) -> str:
    quoted = single if single is not None else double
    return (bare or "").strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted).strip()


def frame_of(text: str, where: str) -> pandas.DataFrame:
    """Return the rows of an ARFF file as a table: numbers, and for all other types text.

    Raises
    ------
    DataError
        If it has another form; the text names the line.
    """
    import pandas

    lines = text.splitlines()
    attributes, classes, rows = list[Attribute](), list[list[str | None]](), list[list[str | None]]()
    is_data = False
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("%"):
            continue
        if is_data:
            rows.append(_row(line, attributes, classes, where, number))
        elif line.lower().startswith("@attribute"):
            attributes.append(found := attribute_of(line, where, number))
            classes.append(fields_of(found.type.strip("{} \t"), where, number) if found.type[:1] == "{" else [])
        is_data = is_data or line.lower().startswith("@data")
    if not is_data:
        raise DataError(f"{where}: cannot be read (it has no line @data); allowed: an ARFF file")
    columns = {}
    for i, attribute in enumerate(attributes):
        if attribute.name in columns:
            raise DataError(f"{where}: attribute {attribute.name!r} is duplicated; allowed: distinct names")
        entries = [row[i] for row in rows]
        columns[attribute.name] = pandas.to_numeric(pandas.Series(entries)) if attribute.is_numeric else entries
    return pandas.DataFrame(columns)


def _row(
    line: str, attributes: Sequence[Attribute], classes: Sequence[Sequence[str | None]], where: str, number: int
) -> list[str | None]:
    if line.startswith("{"):
        raise DataError(f"{where}: line {number} is a sparse row; allowed: all values of a row")
    entries = fields_of(line, where, number)
    if len(entries) != len(attributes):
        raise DataError(
            f"{where}: line {number} has {len(entries)} values; allowed: {len(attributes)}, one for each attribute"
        )
    for entry, attribute, allowed in zip(entries, attributes, classes, strict=True):
        if allowed and entry is not None and entry not in allowed:
            some = ", ".join(shown(each or "?") for each in allowed[:5])
            raise DataError(f"{where}: line {number}: {attribute.name} is {shown(entry)!r}; allowed: {some}")
    return entries
