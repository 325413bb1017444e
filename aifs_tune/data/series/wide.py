"""Wide tables, in which each row is a series: which of their columns are its steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.config.data import SeriesSpec
from aifs_tune.data.columns import EntrySettings, as_numbers
from aifs_tune.data.images.folder import shown
from aifs_tune.data.series.files import MANIFEST_COLUMNS
from aifs_tune.data.series.reader import is_time
from aifs_tune.data.table_files import NamelessError, TableFile, read_table
from aifs_tune.data.times import times_in
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


_MIN_COLUMNS = 8
"""A table with more columns than these can be wide."""
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_UNEVEN = 0.01
_MOST_NAMED = 3


@dataclass(frozen=True)
class WideTable:
    """A table with a row for each series.

    ``values`` (series, steps) are numbers, or objects if some are text, and ``times`` (steps,) those in the names of
    the columns, None if they are even or there are none. ``label`` is the column of classes, which need not be there.
    ``lines`` say what was read.
    """

    frame: pandas.DataFrame
    values: NDArray[Any]
    times: Sequence[str] | None
    label: str
    lines: Sequence[str]


def read_wide(file: Path, spec: SeriesSpec, where: str, *, is_new: bool = False) -> WideTable | None:
    """Read a wide table; None if it seems to be a manifest. One that ``is_new`` may lack the class of each series.

    Its steps are the columns that ``spec`` names, or those whose names differ in their number alone, such as t0 and
    t1; without column names, all but the first.

    Raises
    ------
    DataError
        If it cannot be read, or which columns are the steps is not clear.
    """
    try:
        table, has_header = read_table(file, where, header=spec.header), spec.header
    except NamelessError:
        table, has_header = read_table(file, where, header=False), False
    frame = table.frame
    names = [str(name) for name in frame.columns]
    if "path" in names or not (len(names) > _MIN_COLUMNS or set(spec.columns) & set(names)):
        return None
    label = next(iter(spec.targets), spec.label)
    if not has_header and label not in names:
        label = names[0]
    aside = {label, *(column for name in MANIFEST_COLUMNS if (column := getattr(spec, name)) is not None)}
    rest = [name for name in names if name not in aside]
    steps = list(spec.columns) or (_numbered(rest, where) if has_header else _numeric(frame, rest))
    if len(steps) <= len(rest) / 2 and not spec.columns:
        if sum(frame[name].dtype.kind in "biuf" for name in rest) * 2 < len(rest):
            return None
        raise DataError(
            f"{where}: the columns {_some(rest)} are not numbered like steps of a series (t0, t1, ...); allowed: a row "
            "for each step, with data.series.id for the column that tells the series apart; the steps of a row in "
            "data.series.columns; or data.table, if they are no series"
        )
    _check(frame, steps, rest, label, where, has_header=has_header, is_new=is_new, spec=spec)
    order, times, told = _in_order(steps, spec) if has_header and not spec.columns else (steps, None, [])
    lines = [*table.notes, f"a wide table: each row is a series, {shown(label)} its class; {_span(order)}", *told]
    unused = [name for name in rest if name not in set(order)]
    if unused:
        why = "not in data.series.columns" if spec.columns else "text" if not has_header else "unlike the steps"
        lines.append(
            f"left out: {_columns(unused)}, {why}{'' if spec.columns else '; data.series.columns names steps'}"
        )
    values, notes = _values(table, order, spec)
    return WideTable(frame, values, times, label, [*lines, *notes])


def _numbered(names: Sequence[str], where: str) -> list[str]:
    """The largest set of names that differ in their numbers alone."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        if (kind := _NUMBER.sub("#", name.strip())) != name.strip():
            kinds.setdefault(kind, []).append(name)
    if not kinds:
        return []
    first, *others = sorted(kinds.values(), key=len, reverse=True)
    alike = [first, *(each for each in others if 2 * len(each) > len(first) and len(each) > 2)]
    alike = _by_channel(first) if len(alike) == 1 else alike
    if len(alike) > 1:
        some = "; ".join(f"{shown(each[0])}, {shown(each[1])}, ..." for each in alike[:_MOST_NAMED])
        raise DataError(
            f"{where}: has {len(alike)} kinds of steps ({some}); allowed: one, named in data.series.columns; or for "
            "several channels a row for each step, with data.series.id"
        )
    return first


def _by_channel(names: Sequence[str]) -> list[list[str]]:
    """Names such as x1_0 and x2_0 by the number that counts channels; one set if they do not count two things."""
    numbers = [_NUMBER.findall(name) for name in names]
    if not re.search("[A-Za-z]", names[0]) or len(numbers[0]) != 2:
        return [list(names)]
    firsts, seconds = (sorted({pair[i] for pair in numbers}) for i in range(2))
    if min(len(firsts), len(seconds)) < 2 or len(firsts) * len(seconds) != len(names):
        return [list(names)]
    at = 0 if len(firsts) <= len(seconds) else 1
    return [
        [name for name, pair in zip(names, numbers, strict=True) if pair[at] == one] for one in (firsts, seconds)[at]
    ]


def _numeric(frame: pandas.DataFrame, names: Sequence[str]) -> list[str]:
    return [name for name in names if as_numbers(frame[name]) is not None]


def _check(
    frame: pandas.DataFrame,
    steps: Sequence[str],
    rest: Sequence[str],
    label: str,
    where: str,
    *,
    has_header: bool,
    is_new: bool,
    spec: SeriesSpec,
) -> None:
    names = [str(name) for name in frame.columns]
    missing = next((name for name in steps if name not in names), None)
    if missing is not None:
        raise DataError(f"{where}: no column {missing!r} of data.series.columns; found: {_some(names)}")
    time = next((name for name in rest if is_time(name) and name not in steps), None)
    if time is not None and not spec.columns:
        raise DataError(
            f"{where}: has a column of times, {shown(time)}, and numbered columns ({_some(steps)}); allowed: for a row "
            "for each step, data.series.id; for a row for each series, its steps in data.series.columns"
        )
    if label not in names and not is_new:
        hint = "" if has_header else ", or data.series.header: true"
        raise DataError(
            f"{where}: no column {label!r} with the class of each series; found: {_some(names, 4)}; name it in "
            f"data.series.label{hint}"
        )


def _in_order(steps: Sequence[str], spec: SeriesSpec) -> tuple[list[str], list[str] | None, list[str]]:
    """The steps by the numbers in their names, their times if these are uneven or dates, and what is to be said."""
    import pandas

    dates = times_in(pandas.Series(list(steps), dtype=object), spec.time_format)
    found = [_NUMBER.findall(name) for name in steps]
    if dates is not None:
        numbers = dates.seconds.tolist()
    elif all(len(each) == 1 for each in found):
        numbers = [float(each[0]) for each in found]
    else:
        return list(steps), None, []
    places = sorted(range(len(steps)), key=numbers.__getitem__)
    order, rising = [steps[i] for i in places], [numbers[i] for i in places]
    lines = [] if places == sorted(places) else ["the steps are sorted by the numbers in their names"]
    between = np.diff(rising)
    is_even = bool((np.abs(between - np.median(between)) <= _UNEVEN * np.median(between)).all())
    if is_even and dates is None:
        return order, None, lines
    what = "dates" if dates is not None else "uneven numbers"
    lines.append(f"the {what} in the names of the steps are their times")
    return order, [name if dates is not None else _NUMBER.findall(name)[0] for name in order], lines


def _values(table: TableFile, steps: Sequence[str], spec: SeriesSpec) -> tuple[NDArray[Any], list[str]]:
    """The values (series, steps), with text where an entry is no number, and how text was read."""
    import pandas

    frame = table.frame[list(steps)]
    if all(dtype.kind in "biuf" for dtype in frame.dtypes):
        return frame.to_numpy(np.float64), []
    entries = frame.to_numpy(object).ravel()
    settings = EntrySettings(
        spec.missing, below_limit=spec.below_limit, others=table.decimal, separator=table.separator
    )
    found = as_numbers(pandas.Series(entries, dtype=object), settings)
    if found is None or found.kind != "numbers":
        return frame.to_numpy(object), []
    refused = {**found.strange, **(found.below if spec.below_limit == "refuse" else {})}
    values = found.values.astype(object) if refused else found.values
    for place, entry in refused.items():
        values[place] = entry
    notes = [f"the steps: {note}" for note in found.notes]
    notes += [f"warning: the steps: {found.doubt}"] if found.doubt is not None else []
    return values.reshape(frame.shape), notes


def _span(steps: Sequence[str]) -> str:
    return f"{len(steps)} steps, {shown(steps[0])} to {shown(steps[-1])}"


def _columns(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    some = ", ".join(shown(name) or "without a name" for name in names[:_MOST_NAMED])
    return f"column{'s' * (len(names) > 1)} {some}{more}"


def _some(names: Sequence[str], most: int = _MOST_NAMED) -> str:
    return ", ".join(map(shown, names[:most])) + (", ..." if len(names) > most else "")
