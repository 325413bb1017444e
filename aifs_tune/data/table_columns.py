"""Columns of a table as inputs: what each is taken for, what is left out, and findings that a scientist should see."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import TableSpec
from aifs_tune.data.class_names import alike_classes
from aifs_tune.data.columns import (
    MISSING,
    EntrySettings,
    Numbers,
    Signs,
    as_numbers,
    column_row,
    examples_text,
    scale_of,
    units_in,
    what_else,
)
from aifs_tune.data.images.folder import shown
from aifs_tune.data.matrix import MOST_VARIABLE
from aifs_tune.data.split import Subsets
from aifs_tune.data.table_files import TableFile
from aifs_tune.data.table_layouts import NO_GENES
from aifs_tune.data.times import perhaps_clock, unread_times
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


MAX_LEVELS = 20
"""Largest number of distinct entries of a text column; columns with more, such as identifiers, are left out."""
_MIN_ROWS_OF_AN_ORDER = 10
_IDENTIFIER = re.compile(
    r"(^|[\W_])(id|ids|index|idx|no|nr|num|key|uuid|guid|row|rownum|serial|accession|objid|sourceid|sampleid|barcode)$",
    re.IGNORECASE,
)
_CAMEL_ID = re.compile(r"[a-z](ID|Id)$")
_NO_CLASS = frozenset(
    {
        "-9",
        "-99",
        "-999",
        "-9999",
        "-99999",
        "unknown",
        "unk",
        "unclassified",
        "not available",
        "undefined",
        "unbekannt",
    }
)
_TIME = re.compile(r"(^|[\W_])(?:t|(?i:time|date|datetime|timestamp|m?jd|[hb]jd|epoch|zeit|datum))$")
"""Names of columns that are times."""
_EVEN = 1e-3
"""Largest difference of even steps, as a share of the largest step."""
_MAX_UNITS = 5
_MANY_DIGITS = 6
_CONSECUTIVE = 1.05
_MIN_ROWS_OF_AN_ID, _LEAST_ID = 50, 1e5
"""Rows and smallest number from which different whole numbers may be identifiers, whatever their name."""
"""Span of shuffled row numbers as a multiple of the number of rows."""
_SAME = 0.9999
_SPELLED = {"%H%M%S": "HHMMSS", "%H%M": "HHMM"}
"""Forms of times of day as they are read out."""


@dataclass
class ReadColumn:
    """A column, and what it is taken for.

    ``numbers`` are its numbers, or ``levels`` the entries of a column of text (n,); neither if it is left out, for the
    reason ``left_out``. ``packed`` is the form of numbers that are dates. ``notes`` say how entries were read,
    ``warnings`` what they can also mean, and ``problems`` which of them are no numbers.
    """

    name: str
    taken_for: str
    n_missing: int
    numbers: NDArray[np.float64] | None = None
    levels: NDArray[Any] | None = None
    left_out: str | None = None
    signs: Signs | None = None
    packed: str | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def shown(self) -> str:
        """Name in messages."""
        return shown(self.name) if self.name else "without a name"

    def arrays(self, train: NDArray[np.int32]) -> list[tuple[NDArray[np.float64], dict[str, Any]]]:
        """Scaled inputs (n,) of the column, and how each was made; none, with a reason, without information."""
        if self.left_out is not None:
            return []
        if self.levels is not None:
            levels = sorted({str(entry) for entry in self.levels[train] if entry is not None})
            if len(levels) < 2:
                self.left_out = f"text with {len(levels)} distinct entries"
                return []
            entries = self.levels.astype(str)
            ones = [np.asarray(entries == level, np.float64) - 0.5 for level in levels]
            return [(one, {"level": level, "missing": self.n_missing}) for one, level in zip(ones, levels, strict=True)]
        assert self.numbers is not None
        known = self.numbers[train][~np.isnan(self.numbers[train])]
        centre, spread, self.left_out = scale_of(known)
        if self.left_out is not None:
            return []
        median = float(np.median(known))
        filled = (np.where(np.isnan(self.numbers), median, self.numbers) - centre) / spread
        how: dict[str, Any] = {"centre": centre, "scale": spread, "median": median, "missing": self.n_missing}
        if self.signs is not None:
            how |= {"decimal": self.signs.decimal}
        if self.packed is not None:
            how |= {"time_format": self.packed}
        return [(filled, how)]

    def to_json(self) -> dict[str, Any]:
        """Row of the table of columns: name, what it was taken for, range, missing entries and why it is left out."""
        known = None if self.numbers is None else self.numbers[~np.isnan(self.numbers)]
        ends = None if known is None or not len(known) else (float(known.min()), float(known.max()))
        return column_row(self.name, self.taken_for, ends=ends, missing=self.n_missing, left_out=self.left_out)


def entry_settings(spec: TableSpec, name: str, file: TableFile | None = None) -> EntrySettings:
    """Settings for reading the entries of a column of a table, which stands in a ``file`` with other columns."""
    by_column = spec.decimal if isinstance(spec.decimal, dict) else {}
    decimal: Literal["auto", ",", "."] = "auto"
    if name in by_column:
        decimal = by_column[name]
    elif not isinstance(spec.decimal, dict):
        decimal = spec.decimal
    is_time = isinstance(spec.time_format, dict) and name in spec.time_format
    time_format = spec.time_format.get(name) if isinstance(spec.time_format, dict) else spec.time_format
    found = EntrySettings(spec.missing, decimal, spec.thousands, spec.below_limit, time_format, is_time)
    return found if file is None else replace(found, others=file.decimal, separator=file.separator)


def read_column(
    name: str, column: pandas.Series[Any], spec: TableSpec, where: str, file: TableFile | None = None
) -> ReadColumn:
    """Read a column, and decide what it is taken for; the other columns of its ``file`` may tell its decimal sign.

    Raises
    ------
    DataError
        If it has entries below a limit, such as ``<0.05``, and ``below_limit`` is ``refuse``.
    """
    n_missing = int(column.isna().sum())
    if name in spec.leave_out:
        return ReadColumn(name, "not read", n_missing, left_out="as data.table.leave_out says")
    if name in NO_GENES and name not in spec.keep:
        return ReadColumn(
            name, "not read", n_missing, left_out="counts of reads without a gene; data.table.keep uses it"
        )
    if column.dtype.kind == "O" and (other := what_else(column)) is not None:
        return ReadColumn(name, other, n_missing, left_out=f"holds {other}")
    found = as_numbers(column, entry_settings(spec, name, file))
    if found is None:
        return _of_text(name, column, spec)
    if found.below and spec.below_limit == "refuse":
        raise DataError(
            f"{where}: column {shown(name)} has {len(found.below)} entries below or above a limit "
            f"({examples_text(found.below)}); allowed: data.table.below_limit: half, limit or missing"
        )
    made = ReadColumn(name, found.kind, found.n_missing, numbers=found.values, signs=found.signs, packed=found.packed)
    made.notes += [*found.notes, *_dates_note(found)]
    if found.below:
        how = {"half": "half of the limit", "limit": "the limit"}.get(spec.below_limit, "missing")
        made.notes.append(f"{len(found.below)} entries such as {examples_text(found.below)}: {how}")
    if found.strange:
        text = f"{len(found.strange)} entries are no {found.kind} ({examples_text(found.strange)})"
        made.problems.append(f"column {made.shown}: {text}")
        made.notes.append(f"{text} and count as missing")
    if (hint := thousands_hint(found)) is not None:
        made.taken_for = "numbers, or thousands?"
        made.notes.append(hint)
    made.warnings += [*warnings_of(found, made.shown), *_codes_warning(column, found, made.shown)]
    if name not in spec.keep:
        made.left_out, warning = _order_reason(name, column, found)
        made.warnings += [warning] if warning else []
    return made


def _codes_warning(column: pandas.Series[Any], found: Numbers, name: str) -> list[str]:
    """A warning of numbers that are written with zeros before them, as codes are."""
    if column.dtype.kind != "O" or found.kind != "numbers":
        return []
    texts = (entry for entry in column if isinstance(entry, str))
    code = next((entry for entry in texts if entry.isdigit() and entry.startswith("0") and len(entry) > 1), None)
    return [] if code is None else [f"{code!r} looks like a code; if it is no number: data.table.leave_out: [{name}]"]


def warnings_of(found: Numbers, name: str) -> list[str]:
    """What the entries of the column ``name`` can mean besides what they were read as."""
    made = []
    if found.doubt is not None:
        other = "." if found.signs is not None and found.signs.decimal == "," else ","
        made.append(f"{found.doubt}; if not: data.table.decimal: {{{name}: {other!r}}}")
    if found.perhaps_dates is not None:
        made.append(f'are its numbers dates? If so: data.table.time_format: {{{name}: "{found.perhaps_dates}"}}')
    if found.sentinel is not None:
        made.append(f"is {found.sentinel:g} a missing value? If so: data.table.missing: [{found.sentinel:g}]")
    return made


def thousands_hint(found: Numbers) -> str | None:
    """What to set if the points of all entries separate thousands; None if they cannot."""
    if found.signs is None or found.signs.perhaps_thousands is None:
        return None
    entry = found.signs.perhaps_thousands
    return f'if all entries, such as {entry!r}, have points between thousands: data.table.thousands: "."'


def ask_for_clocks(columns: Sequence[ReadColumn]) -> None:
    """Mark numbers such as 93015, which look like times of day; the settings say whether they are."""
    beside_dates = any(
        column.taken_for == "dates" or (column.left_out or "").startswith("dates such as") for column in columns
    )
    for column in columns:
        if column.taken_for != "numbers" or column.numbers is None:
            continue
        form = perhaps_clock(column.numbers, column.name, beside_dates=beside_dates)
        if form is not None:
            spelled = _SPELLED[form]
            column.taken_for = "numbers, or times of day?"
            column.warnings.append(
                f'looks like times of day {spelled}; if so: data.table.time_format: {{{column.shown}: "{form}"}}, '
                f"or data.table.leave_out: [{column.shown}]"
            )


def told(columns: Sequence[ReadColumn], *, most: int) -> list[str]:
    """Warnings on columns, entries that count as missing, then notes, at most ``most`` lines.

    What is the same of several columns is said once.
    """
    texts: dict[tuple[str, str], list[str]] = {}
    for kind in ("warnings", "notes"):
        for column in columns:
            for text in getattr(column, kind):
                texts.setdefault(("warning: " if kind == "warnings" else "", text), []).append(column.shown)
    ranked = sorted(texts.items(), key=lambda each: not each[0][0] and not each[0][1].endswith("count as missing"))
    lines = [f"{begin}{named(names)}: {text}" for (begin, text), names in ranked]
    return lines[:most] + ([f"and {len(lines) - most} more notes on columns"] if len(lines) > most else [])


def left_out_columns(columns: Sequence[ReadColumn], *, most: int) -> list[str]:
    """Columns that are left out and why, those first that a setting would read; one line for each reason."""
    reasons: dict[str, list[ReadColumn]] = {}
    for column in sorted(columns, key=lambda column: "; allowed: " not in (column.left_out or "")):
        if column.left_out is not None:
            reasons.setdefault(column.left_out.partition(" such as ")[0], []).append(column)
    lines = [f"{named([each.shown for each in alike])}, {alike[0].left_out}" for alike in reasons.values()]
    more = sum(map(len, list(reasons.values())[most:]))
    return lines[:most] + ([f"{more} more columns"] if more else [])


def named(names: Sequence[str], most: int = 3) -> str:
    """The first names of columns, and the number of the others."""
    if len(names) == 1:
        return f"column {names[0]}"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"columns {', '.join(names[:most])}{more}"


def _of_text(name: str, column: pandas.Series[Any], spec: TableSpec) -> ReadColumn:
    missing = {str(one) for one in spec.missing}
    entries = np.array([None if _is_gap(entry, missing) else str(entry) for entry in column], object)
    n_missing = int(sum(entry is None for entry in entries))
    levels = {entry for entry in entries if entry is not None}
    made = ReadColumn(name, "classes of text", n_missing, levels=entries)
    if (unread := _unread(column, levels)) is not None:
        made.taken_for, made.left_out = unread
    elif not 2 <= len(levels) <= MAX_LEVELS:
        some = ", ".join(shown(entry[:30]) for entry in sorted(levels)[:2])
        such = f" such as {some}" if some else ""
        made.left_out = f"text with {len(levels)} distinct entries{such}"
    return made


def _is_gap(entry: object, missing: set[str]) -> bool:
    return entry is None or entry != entry or str(entry) in missing


def _unread(column: pandas.Series[Any], levels: set[str]) -> tuple[str, str] | None:
    """What a column of text holds that could be read if its form was known, and why it is left out."""
    if (times := unread_times(column)) is not None:
        return "text", times.replace("time_format", "data.table.time_format")
    units = units_in([level for level in levels if level.lower() not in MISSING])
    if len(units) < 2 or len(units) > _MAX_UNITS:
        return None
    named = sorted("none" if unit is None else shown(unit) for unit in units)
    return "text", f"numbers with different units ({', '.join(named)}); allowed: one unit in all entries, or none"


def _dates_note(found: Numbers) -> list[str]:
    became = {"dates": "days since 1970", "durations": "seconds", "times of day": "hours"}
    return [f"{found.kind} became {became[found.kind]}"] if found.kind in became else []


def _order_reason(name: str, column: pandas.Series[Any], found: Numbers) -> tuple[str | None, str | None]:
    """Why a column of numbers is probably no measurement, and a warning if it may be one.

    It has no name, or numbers the rows. A column that rises in uneven steps may be one by which the table was sorted.
    """
    if not name or name.startswith("Unnamed: "):
        return "which is often the number of the row; give it a name if it was measured", None
    values = found.values
    if len(values) < _MIN_ROWS_OF_AN_ORDER or np.isnan(values).any():
        return None, None
    is_whole = column.dtype.kind in "iu" or bool((values == np.floor(values)).all())
    steps = np.diff(values)
    if (steps > 0).all() or (steps < 0).all():
        is_even = bool(np.ptp(steps) <= _EVEN * np.abs(steps).max())
        if is_whole or is_even or found.kind != "numbers" or _TIME.search(name):
            return "it rises or falls from row to row, like a row number or a time; data.table.keep uses it", None
        return None, (
            "it rises or falls from row to row in uneven steps; if it is a time or a number of the row: "
            f"data.table.leave_out: [{shown(name)}]"
        )
    if not is_whole or len(np.unique(values)) < len(values):
        return None, None
    if _IDENTIFIER.search(name) or _CAMEL_ID.search(name):
        return "a different whole number in each row, like an identifier; data.table.keep uses it", None
    if float(np.ptp(values)) < _CONSECUTIVE * len(values) and len(values) >= 2 * _MIN_ROWS_OF_AN_ORDER:
        return "a different whole number in each row, like shuffled row numbers; data.table.keep uses it", None
    if len(values) >= _MIN_ROWS_OF_AN_ID and float(values.min()) >= _LEAST_ID:
        text = "a large and different whole number in each row; if it is an identifier: data.table.leave_out: "
        return None, f"{text}[{shown(name)}]"
    return None, None


def contents_of(columns: Sequence[ReadColumn], n_rows: int) -> list[str]:
    """What identifies the content of each row: its inputs, numbers to six digits."""
    import pandas

    if not columns:
        return [str(row) for row in range(n_rows)]
    rounded = {
        str(i): column.levels if column.numbers is None else _rounded(column.numbers)
        for i, column in enumerate(columns)
    }
    hashed = pandas.util.hash_pandas_object(pandas.DataFrame(rounded), index=False)
    return [format(code, "x") for code in hashed]


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers to six significant digits."""
    size = np.abs(values)
    power = np.floor(np.log10(np.where(size > 0, size, 1.0), where=~np.isnan(size), out=np.zeros_like(size)))
    scale = 10.0 ** (_MANY_DIGITS - 1 - np.clip(power, -290, 290))
    scaled = values * scale
    return np.asarray(np.where(np.isfinite(scaled), np.rint(scaled) / scale, values) + 0.0)


def label_findings(column: pandas.Series[Any], labels: Sequence[str] | None) -> list[str]:
    """Class names that are easily confused: with and without capitals or spaces, or like a missing entry."""
    if labels is None:
        return []
    gaps = [label for label in sorted(set(labels)) if label.lower() in MISSING | _NO_CLASS]
    asked = [
        f"{shown(gap)} is a class of {column.name}; if it means a missing one: data.table.missing: [{_in_yaml(gap)}]"
        for gap in gaps
    ]
    return [*alike_classes(labels), *asked]


def _in_yaml(entry: str) -> str:
    return entry if re.fullmatch(r"-\d+|\w[\w/ ]*", entry) and entry.lower() != "null" else f'"{entry}"'


def row_findings(
    contents: Sequence[str], targets: Sequence[str], subsets: Subsets, labels: Sequence[str] | None
) -> list[str]:
    """Rows with equal inputs: in several sets, or with different classes."""
    found = [text] if (text := crossing_text(contents, subsets)) is not None else []
    if labels is not None:
        seen = defaultdict[str, set[str]](set)
        for content, target in zip(contents, targets, strict=True):
            seen[content].add(target)
        n = sum(len(seen[content]) > 1 for content in contents)
        if n:
            found.append(f"{n} rows have the same inputs as another row of another class")
    return found


def crossing_text(contents: Sequence[str], subsets: Subsets) -> str | None:
    """How many rows of the validation and test sets are in the training set too; None if none is."""
    train = {contents[row] for row in subsets["train"].tolist()}
    n = sum(contents[row] in train for part in ("val", "test") for row in subsets[part].tolist())
    return f"{n} rows of the validation and test sets have the inputs of a training row" if n else None


def leak_findings(
    columns: Sequence[ReadColumn],
    labels: Sequence[str] | None,
    values: NDArray[np.float64] | None,
    *,
    n_rows: int,
) -> list[str]:
    """Columns that alone give a target, which a copy of it does, or something measured after it.

    ``values`` are numbers to predict, shape (n, targets).
    """
    if n_rows < 3 * _MIN_ROWS_OF_AN_ORDER:
        return []
    codes = None if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1]
    names = [column.shown for column in columns if _gives(column, codes, values)]
    if not names:
        return []
    some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    verb = "gives" if len(names) == 1 else "each give"
    return [f"{some} alone {verb} the target of every row; if that was not known before: data.table.leave_out"]


def _gives(column: ReadColumn, codes: NDArray[Any] | None, values: NDArray[np.float64] | None) -> bool:
    numbers = column.numbers
    if numbers is not None and values is not None and any(_is_same(numbers, target) for target in values.T):
        return True
    if codes is None:
        return False
    if column.levels is not None:
        seen = defaultdict[Any, set[int]](set)
        for level, code in zip(column.levels.tolist(), codes.tolist(), strict=True):
            seen[level].add(code)
        return all(len(each) == 1 for each in seen.values()) and len(seen) <= 2 * (int(codes.max()) + 1)
    assert column.numbers is not None
    if np.isnan(column.numbers).any():
        return False
    order = np.argsort(column.numbers, kind="stable")
    sorted_codes, sorted_values = codes[order], column.numbers[order]
    changes = np.flatnonzero(np.diff(sorted_codes))
    if len(changes) > int(codes.max()):
        return False
    return bool((sorted_values[changes] < sorted_values[changes + 1]).all())


def _is_same(numbers: NDArray[np.float64], target: NDArray[np.float64]) -> bool:
    """Whether two columns (n,) are the same but for their units."""
    both = ~np.isnan(numbers) & ~np.isnan(target)
    pairs = [(each[both], *scale_of(each[both])) for each in (numbers, target)]
    if both.sum() < 3 or any(problem is not None for *_, problem in pairs):
        return False
    one, other = ((known - centre) / spread for known, centre, spread, _ in pairs)
    return bool(abs(np.mean(one * other)) > _SAME)


def matrix_columns(
    table: TableFile, spec: TableSpec, train: NDArray[np.int32], where: str
) -> tuple[list[ReadColumn], list[str]]:
    """Columns of the matrix that are learnt from, chosen by the training rows alone, and lines that say which.

    Raises
    ------
    DataError
        If they are more than fit in memory.
    """
    matrix, lines = table.matrix, list[str]()
    if matrix is None:
        return [], lines
    position = {name: i for i, name in enumerate(matrix.names)}
    wished = spec.columns if spec.columns is not None else MOST_VARIABLE if matrix.is_sparse else None
    if matrix.is_log:
        lines.append("counts became log(1 + 10,000 count / sum of the row); data.table.counts: raw keeps them")
    allowed = np.array([name not in spec.leave_out for name in matrix.names])
    if isinstance(wished, int) and wished < int(allowed.sum()):
        places = np.flatnonzero(allowed)
        part = replace(matrix, values=matrix.values[:, places])
        chosen = places[part.most_variable(wished, train)].tolist()
        default = "" if spec.columns is not None else "; data.table.columns: NUMBER, or names"
        lines.append(
            f"learnt from: the {wished} of {len(matrix.names)} columns that vary most in the training rows{default}"
        )
    elif isinstance(wished, tuple):
        chosen = [position[name] for name in wished if name in position]
        lines.append(f"learnt from: {len(chosen)} of {len(matrix.names)} columns, those of data.table.columns")
    else:
        chosen = np.flatnonzero(allowed).tolist()
    values = matrix.dense(chosen, where)
    columns = []
    for place, column in zip(chosen, values.T, strict=True):
        numbers = column.astype(np.float64)
        columns.append(ReadColumn(matrix.names[place], "numbers", int(np.isnan(numbers).sum()), numbers=numbers))
    return columns, lines
