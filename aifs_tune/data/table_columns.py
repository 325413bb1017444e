"""Columns of a table as inputs: what each is taken for, what is left out, and findings that a scientist should see."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import TableSpec
from aifs_tune.data.columns import EntrySettings, Numbers, as_numbers, examples_text, what_else
from aifs_tune.data.images.folder import shown
from aifs_tune.data.split import Subsets
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
_MANY_DIGITS = 6
_CONSECUTIVE = 1.05
"""Span of shuffled row numbers as a multiple of the number of rows."""
_SAME = 0.9999


@dataclass
class ReadColumn:
    """A column, and what it is taken for.

    ``numbers`` are its numbers, or ``levels`` the entries of a column of text (n,); neither if it is left out, for the
    reason ``left_out``. ``notes`` say how entries were read, ``problems`` which of them are no numbers.
    """

    name: str
    taken_for: str
    n_missing: int
    numbers: NDArray[np.float64] | None = None
    levels: NDArray[Any] | None = None
    left_out: str | None = None
    notes: list[str] = field(default_factory=list)
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
        if len(known) == 0:
            self.left_out = "no value in the training set"
            return []
        centre, spread, median = float(known.mean()), float(known.std()), float(np.median(known))
        if not spread > 1e-12 * max(1.0, abs(centre)):
            self.left_out = "constant in the training set"
            return []
        filled = (np.where(np.isnan(self.numbers), median, self.numbers) - centre) / spread
        how = {"centre": centre, "scale": spread, "median": median, "missing": self.n_missing}
        return [(filled, how)]

    def to_json(self) -> dict[str, Any]:
        """Row of the table of columns: name, what it was taken for, range, missing entries and why it is left out."""
        known = None if self.numbers is None else self.numbers[~np.isnan(self.numbers)]
        low, high = (None, None) if known is None or not len(known) else (float(known.min()), float(known.max()))
        return {
            "column": shown(self.name),
            "taken_for": self.taken_for,
            "min": low,
            "max": high,
            "missing": self.n_missing,
            "left_out": self.left_out,
        }


def entry_settings(spec: TableSpec) -> EntrySettings:
    """Settings for reading the entries of a table."""
    return EntrySettings(spec.missing, spec.decimal, spec.below_limit)


def read_column(name: str, column: pandas.Series[Any], spec: TableSpec, where: str) -> ReadColumn:
    """Read a column, and decide what it is taken for.

    Raises
    ------
    DataError
        If it has entries below a limit, such as ``<0.05``, and ``below_limit`` is ``refuse``.
    """
    n_missing = int(column.isna().sum())
    if name in spec.leave_out:
        return ReadColumn(name, "not read", n_missing, left_out="as data.table.leave_out says")
    if column.dtype.kind == "O" and (other := what_else(column)) is not None:
        return ReadColumn(name, other, n_missing, left_out=f"holds {other}")
    found = as_numbers(column, entry_settings(spec))
    if found is None:
        return _of_text(name, column, spec)
    if found.below and spec.below_limit == "refuse":
        raise DataError(
            f"{where}: column {shown(name)} has {len(found.below)} entries below or above a limit "
            f"({examples_text(found.below)}); allowed: data.table.below_limit: half, limit or missing"
        )
    made = ReadColumn(name, found.kind, found.n_missing, numbers=found.values)
    made.notes += [f"column {made.shown}: {note}" for note in (*found.notes, *_dates_note(found))]
    if found.below:
        how = {"half": "half of the limit", "limit": "the limit"}.get(spec.below_limit, "missing")
        made.notes.append(
            f"column {made.shown}: {len(found.below)} entries such as {examples_text(found.below)}: {how}"
        )
    if found.strange:
        text = f"column {made.shown}: {len(found.strange)} entries are no numbers ({examples_text(found.strange)})"
        made.problems.append(text)
        made.notes.append(f"{text} and count as missing")
    if found.sentinel is not None:
        made.notes.append(
            f"warning: column {made.shown}: is {found.sentinel:g} a missing value? If so: "
            f"data.table.missing: [{found.sentinel:g}]"
        )
    if name not in spec.keep:
        made.left_out = _order_reason(name, column, found)
    return made


def _of_text(name: str, column: pandas.Series[Any], spec: TableSpec) -> ReadColumn:
    missing = {str(one) for one in spec.missing}
    entries = np.array([None if _is_gap(entry, missing) else str(entry) for entry in column], object)
    n_missing = int(sum(entry is None for entry in entries))
    levels = {entry for entry in entries if entry is not None}
    made = ReadColumn(name, "classes of text", n_missing, levels=entries)
    if not 2 <= len(levels) <= MAX_LEVELS:
        some = ", ".join(shown(entry[:30]) for entry in sorted(levels)[:2])
        such = f" such as {some}" if some else ""
        made.left_out = f"text with {len(levels)} distinct entries{such}"
    return made


def _is_gap(entry: object, missing: set[str]) -> bool:
    return entry is None or entry != entry or str(entry) in missing


def _dates_note(found: Numbers) -> list[str]:
    return {"dates": ["dates became days since 1970"], "durations": ["durations became seconds"]}.get(found.kind, [])


def _order_reason(name: str, column: pandas.Series[Any], found: Numbers) -> str | None:
    """Why a column of numbers is probably no measurement: it has no name, or numbers the rows."""
    if not name or name.startswith("Unnamed: "):
        return "which is often the number of the row; give it a name if it was measured"
    values = found.values
    if len(values) < _MIN_ROWS_OF_AN_ORDER or np.isnan(values).any():
        return None
    steps = np.diff(values)
    if (steps > 0).all() or (steps < 0).all():
        return "it rises or falls from row to row, like a row number or a time; data.table.keep uses it"
    is_whole = column.dtype.kind in "iu" or bool((values == np.floor(values)).all())
    if not is_whole or len(np.unique(values)) < len(values):
        return None
    if _IDENTIFIER.search(name) or _CAMEL_ID.search(name):
        return "a different whole number in each row, like an identifier; data.table.keep uses it"
    if float(np.ptp(values)) < _CONSECUTIVE * len(values) and len(values) >= 2 * _MIN_ROWS_OF_AN_ORDER:
        return "a different whole number in each row, like shuffled row numbers; data.table.keep uses it"
    return None


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
    """Class names that are easily confused: with and without capitals, or like a missing entry."""
    if labels is None:
        return []
    found, by_lower = [], defaultdict[str, set[str]](set)
    for label in sorted(set(labels)):
        by_lower[label.lower()].add(label)
    for names in by_lower.values():
        if len(names) > 1:
            found.append(f"the classes {', '.join(sorted(map(shown, names)))} differ in capitals alone")
    gaps = sorted({"NA", "N/A", "None", "nan", "null"} & set(labels))
    found += [
        f"{gap} is a class of {column.name}; if it means a missing one: data.table.missing: [{gap}]" for gap in gaps
    ]
    return found


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
    """Columns that alone give the target, which a copy of it does, or something measured after it."""
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
    if values is not None:
        if column.numbers is None:
            return False
        both = ~np.isnan(column.numbers)
        if both.sum() < 3 or np.std(column.numbers[both]) == 0 or np.std(values[both]) == 0:
            return False
        return bool(abs(np.corrcoef(column.numbers[both], values[both])[0, 1]) > _SAME)
    assert codes is not None
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
