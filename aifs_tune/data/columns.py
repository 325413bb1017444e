"""What a column of a table holds: numbers, dates, text or something else, and which entries do not fit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.images.folder import shown

if TYPE_CHECKING:
    import pandas


MISSING = frozenset(
    {"", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", "--", "?", ".", "n.a.", "n.d.", "nd", "missing"}
)
"""Texts, in lower case, that mean a missing number."""
_SENTINELS = (-99999.0, -9999.0, -999.0, -99.0, 999.0, 9999.0, 99999.0, 1e20, -1e20, 1e30)
"""Numbers that instruments write for a missing one; they are asked about, never replaced unasked."""
_MOSTLY = 0.9
"""Share of the entries that must be numbers for a column of numbers."""
_PLAIN = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_COMMA = re.compile(r"[-+]?(\d{1,3}(\.\d{3})+|\d+),\d+([eE][-+]?\d+)?")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
_PERCENT = re.compile(r"(.*\d)\s*%")
_BELOW = re.compile(r"[<>\u2264\u2265]\s*=?\s*(.+)")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?")
_SPACES = str.maketrans({"\u2212": "-", "\u2009": None, "\u202f": None, "\u00a0": None, "'": None})
_DAY = 86_400.0


@dataclass(frozen=True)
class EntrySettings:
    """Settings for reading entries; see :class:`aifs_tune.config.data.TableSpec`."""

    missing: Sequence[float | str] = ()
    decimal: Literal["auto", ".", ","] = "auto"
    below_limit: Literal["refuse", "half", "limit", "missing"] = "refuse"


@dataclass(frozen=True)
class Numbers:
    """A column of numbers.

    ``values`` (n,) are NaN where there is none. ``strange`` has the rows, from 0, and entries that are neither numbers
    nor known to mean a missing one, ``below`` those below or above a limit, such as ``<0.05``. ``sentinel`` is a number
    that seems to mean a missing one. ``notes`` say how the entries were read.
    """

    values: NDArray[np.float64]
    kind: Literal["numbers", "dates", "durations"] = "numbers"
    strange: Mapping[int, str] = field(default_factory=dict)
    below: Mapping[int, str] = field(default_factory=dict)
    sentinel: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_missing(self) -> int:
        """Number of entries without a number."""
        return int(np.isnan(self.values).sum())


def as_numbers(
    column: pandas.Series[Any], settings: EntrySettings | None = None, *, mostly: float = _MOSTLY
) -> Numbers | None:
    """Return the column as numbers; None if it holds text or anything else.

    Dates become days since 1970, durations seconds. Text counts as numbers if the share ``mostly`` of the entries is.
    """
    given, kind = settings or EntrySettings(), column.dtype.kind
    if kind == "M":
        return Numbers(_days(column), "dates")
    if kind == "m":
        return Numbers(column.dt.total_seconds().to_numpy(np.float64, na_value=np.nan), "durations")
    if kind in "biuf":
        values = column.to_numpy(np.float64, na_value=np.nan).copy()
        return _finished(values, given, {}, {}, ())
    return None if what_else(column) is not None else _of_text(column, given, mostly)


def what_else(column: pandas.Series[Any]) -> str | None:
    """Name what an object column holds if it is neither text nor numbers; None if it is."""
    known = column.dropna()
    first = known.iloc[0] if len(known) else None
    if isinstance(first, bytes):
        return "bytes"
    if isinstance(first, complex):
        return "complex numbers"
    return "arrays or lists" if isinstance(first, list | tuple | set | dict | np.ndarray) else None


def _of_text(column: pandas.Series[Any], settings: EntrySettings, mostly: float) -> Numbers | None:
    import pandas

    codes, entries = pandas.factorize(column.astype(object))
    texts = [str(entry).translate(_SPACES).strip() for entry in entries]
    if (dates := _dates(column, texts)) is not None:
        return dates
    decimal, notes = _decimal_of(texts, settings.decimal)
    own_missing = {str(one) for one in settings.missing}
    parsed = [_parsed(entry, text, decimal, own_missing) for entry, text in zip(entries, texts, strict=True)]
    signs = [text.endswith("%") for text, found in zip(texts, parsed, strict=True) if isinstance(found, float)]
    if any(signs):
        some = "" if all(signs) else "; only a part of the entries has one"
        notes.append(f"per cent signs are left out{some}")
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    fits = [
        not isinstance(found, str) or bool(_BELOW.fullmatch(text)) for found, text in zip(parsed, texts, strict=True)
    ]
    known = [found is not None for found in parsed]
    n_known = int(counts[known].sum())
    if n_known and counts[np.array(fits) & np.array(known)].sum() < mostly * n_known:
        return None
    numbers = [found if isinstance(found, float) else math.nan for found in parsed]
    strange, below = dict[int, str](), dict[int, str]()
    for code, (entry, text, found) in enumerate(zip(entries, texts, parsed, strict=True)):
        if not isinstance(found, str):
            continue
        rows = np.flatnonzero(codes == code).tolist()
        limit = _limit_of(text, decimal)
        if limit is None:
            strange |= dict.fromkeys(rows, str(entry))
            continue
        below |= dict.fromkeys(rows, str(entry))
        numbers[code] = {"half": limit / 2, "limit": limit}.get(settings.below_limit, math.nan)
    values = np.array([*numbers, math.nan])[codes]  # a missing entry has the code -1
    return _finished(values, settings, strange, below, tuple(notes))


def _finished(
    values: NDArray[np.float64],
    settings: EntrySettings,
    strange: Mapping[int, str],
    below: Mapping[int, str],
    notes: tuple[str, ...],
) -> Numbers:
    for one in settings.missing:
        if isinstance(one, int | float):
            values[values == one] = np.nan
    n_infinite = int(np.isinf(values).sum())
    if n_infinite:
        notes = (*notes, f"{n_infinite} infinite entries count as missing")
        values[np.isinf(values)] = np.nan
    return Numbers(
        values, "numbers", dict(sorted(strange.items())), dict(sorted(below.items())), _sentinel(values), notes
    )


def _sentinel(values: NDArray[np.float64]) -> float | None:
    """A number that probably means a missing one: it is repeated, and far outside of all others."""
    known = values[~np.isnan(values)]
    if len(known) < 10:
        return None
    for number in _SENTINELS:
        is_it = known == number
        others = known[~is_it]
        if is_it.sum() < 2 or len(others) < 5:
            continue
        low, high = float(others.min()), float(others.max())
        if number < low - (high - low) or number > high + (high - low):
            return number
    return None


def _days(column: pandas.Series[Any]) -> NDArray[np.float64]:
    import pandas

    dates = column.dt.tz_convert("UTC").dt.tz_localize(None) if column.dt.tz is not None else column
    since = (dates - pandas.Timestamp(0)) / pandas.Timedelta(days=1)
    return np.array(since, np.float64)


def _dates(column: pandas.Series[Any], texts: Sequence[str]) -> Numbers | None:
    """The column as dates if all of its entries are ISO dates."""
    known = [text for text in texts if text.lower() not in MISSING]
    if not known or not all(_DATE.fullmatch(text) for text in known):
        return None
    import pandas

    dates = pandas.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
    return Numbers(_days(dates), "dates")


def _decimal_of(texts: Sequence[str], asked: Literal["auto", ".", ","]) -> tuple[str, list[str]]:
    """The decimal sign of a column, and how that was told."""
    if asked != "auto":
        return asked, []
    with_comma = [text for text in texts if "," in text and text.translate(str.maketrans("", "", "<>\u2264\u2265= %"))]
    plain = [re.sub(r"^[<>\u2264\u2265=\s]+|\s*%$", "", text) for text in with_comma]
    if not plain:
        return ".", []
    are_thousands = all(_THOUSANDS.fullmatch(text) for text in plain)
    has_point = any("." in text and "," not in text and _PLAIN.fullmatch(text) for text in texts)
    is_clear = has_point or any("." in text or text.count(",") > 1 for text in plain)
    if are_thousands and is_clear:
        return ".", ["commas separate thousands"]
    if not has_point and all(_COMMA.fullmatch(text) for text in plain):
        return ",", ["commas are read as decimal commas" if are_thousands else "decimal commas"]
    return ".", ["commas separate thousands"] if are_thousands else []


def _parsed(entry: object, text: str, decimal: str, missing: set[str]) -> float | str | None:
    """The number of an entry, None if it is missing, or the text that is no number."""
    if text.lower() in MISSING or str(entry) in missing or text in missing:
        return None
    if isinstance(entry, bool | np.bool_):
        return float(entry)
    if isinstance(entry, int | float | np.number | Decimal):
        return float(entry)
    number = _number(text, decimal)
    if number is None and (percent := _PERCENT.fullmatch(text)):
        number = _number(percent[1], decimal)
    return text if number is None else number


def _number(text: str, decimal: str) -> float | None:
    if decimal == "," and _COMMA.fullmatch(text):
        return float(text.replace(".", "").replace(",", "."))
    if decimal == "." and _THOUSANDS.fullmatch(text):
        return float(text.replace(",", ""))
    if _PLAIN.fullmatch(text):
        return float(text)
    return {"inf": math.inf, "-inf": -math.inf, "infinity": math.inf, "-infinity": -math.inf}.get(text.lower())


def _limit_of(text: str, decimal: str) -> float | None:
    found = _BELOW.fullmatch(text)
    return None if found is None else _number(found[1].strip(), decimal)


def examples_text(entries: Mapping[int, str], *, most: int = 2) -> str:
    """The first entries as text, with the rows, which count from 1."""
    first = list(entries.items())[:most]
    return ", ".join(f"{shown(text)!r} in row {row + 1}" for row, text in first)
