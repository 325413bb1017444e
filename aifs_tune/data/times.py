"""Dates and times of day in text: which form they have, and the numbers that they become."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas


_ISO = re.compile(r"\d{4}-(0[1-9]|1[0-2])(-\d{2}([T ]\d{2}:\d{2}.*)?)?")
_DOTTED = re.compile(r"(0?[1-9]|[12]\d|3[01])\.(0?[1-9]|1[0-2])\.\d{4}([ ,]+\d{1,2}:\d{2}(:\d{2})?)?")
_SLASHED = re.compile(r"(\d{1,2})([/-])(\d{1,2})\2(\d{4}|\d{2})( \d{1,2}:\d{2}(:\d{2})?)?")
_YEAR_FIRST = re.compile(r"\d{4}([/.])\d{1,2}\1\d{1,2}( \d{1,2}:\d{2}(:\d{2})?)?")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?")
_NAMED_MONTH = re.compile(
    r"\d{1,2}[ .-]+(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[ .-]+(\d{4}|\d{2})"
    r"( \d{1,2}:\d{2}(:\d{2})?)?",
    re.IGNORECASE,
)
_MONTH_FIRST = re.compile(
    r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[ .-]+\d{1,2}[ ,.-]+\d{4}( \d{1,2}:\d{2}(:\d{2})?)?",
    re.IGNORECASE,
)
_PACKED = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""Forms of whole numbers that are dates, by their digits."""
_PERHAPS_PACKED = {8: ("%d%m%Y", "%m%d%Y"), 7: ("%Y%j",), 6: ("%Y%m", "%y%m%d", "%d%m%y")}
"""Forms that are asked about, since other numbers have them too."""
_DATE_NAME = re.compile(r"date|datum|fecha|time|day|month|monat|period|yyyy|dob|birth|doy", re.IGNORECASE)
CLOCK_NAME = re.compile(r"time|clock|hour|uhr|zeit|hora|heure|hhmm|utc", re.IGNORECASE)
"""Names of columns that may be times of day."""
_FEWEST_MINUTES = 5
_WIDTHS = {"Y": 4, "y": 2, "m": 2, "d": 2, "j": 3, "H": 2, "M": 2, "S": 2}
"""Digits of the codes of a form that is written without signs between them."""
FOREVER_S = 2.2e11
"""Seconds since 1970 from which a date, in the year 8941, means that there is none, such as 9999-12-31."""
_FIRST_YEAR, _LAST_YEAR = 1800, 2100
_MIN_DISTINCT, _FEWEST_DISTINCT = 10, 3
_DATE_PARTS = re.compile(r"%[aAwdbBmyYjUWcxGuVDFs]")
EXAMPLE = "2024-03-30T21:05:00"
"""A time in ISO 8601, for messages."""


@dataclass(frozen=True)
class Times:
    """Times as ``seconds`` (n,): since 1970 in UTC, or of times of day since midnight; NaN where an entry is none."""

    seconds: NDArray[np.float64]
    kind: Literal["dates", "times of day"]
    note: str | None = None


def times_in(column: pandas.Series[Any], time_format: str | None) -> Times | None:
    """Return the times of a column of text; None if most of its entries are none.

    They are read in ISO 8601, as ``30.03.2024 21:05`` (day first), or as ``time_format`` says, in the codes of
    ``strptime``.
    """
    column = _as_text(column, time_format)
    if (of_day := _of_day(column)) is not None:
        return of_day
    texts = _texts(column)
    if not texts:
        return None
    if time_format is not None and (found := _with_format(column, time_format)) is not None:
        return found
    if _most(_ISO, texts):
        return Times(_seconds(column, "ISO8601"), "dates")
    if not _most(_DOTTED, texts):
        return None
    clock = "" if ":" not in texts[0] else " %H:%M" + ":%S" * (texts[0].count(":") > 1)
    plain = column.astype(object).map(lambda entry: re.sub(r"[ ,]+", " ", entry.strip()) if _is_text(entry) else None)
    seconds = _seconds(plain, f"%d.%m.%Y{clock}")
    if np.isnan(seconds).sum() > column.isna().sum() + 0.1 * len(texts):
        return None
    return Times(seconds, "dates", f"dates such as {texts[0]} are read as day.month.year")


def seconds_of(column: pandas.Series[Any], time_format: str | None) -> NDArray[np.float64]:
    """Return the times (n,) of a column in seconds since 1970 in UTC, NaN where an entry is none."""
    if column.dtype.kind == "M":
        return _seconds(column, None)
    column = _as_text(column, time_format)
    found = times_in(column, time_format)
    return _seconds(column, time_format or "ISO8601") if found is None else found.seconds


def unread_times(column: pandas.Series[Any]) -> str | None:
    """What dates or times of day in another form look like, and how to say their form; None if there are none."""
    texts = _texts(column)
    if not texts:
        return None
    asked = _asked_format(texts)
    if asked is None:
        return None
    what, allowed = asked
    return f"{what} such as {texts[0]!r}; allowed: ISO 8601 such as {EXAMPLE}, or {allowed}"


def _asked_format(texts: Sequence[str]) -> tuple[str, str] | None:
    clock = " %H:%M" + ":%S" * (texts[0].count(":") > 1) if ":" in texts[0] else ""
    if _most(_CLOCK, texts):
        return "times of day", f'time_format: "{clock.strip()}"'
    if _most(_YEAR_FIRST, texts):
        sign = texts[0][4]
        return "dates", f'time_format: "%Y{sign}%m{sign}%d{clock}"'
    if _most(_NAMED_MONTH, texts):
        return "dates", 'time_format, such as "%d %b %Y"'
    if _most(_MONTH_FIRST, texts):
        return "dates", 'time_format, such as "%b %d %Y"'
    if not _most(_SLASHED, texts) or _is_fraction(texts):
        return None
    found = [match for text in texts if (match := _SLASHED.fullmatch(text))]
    first, second = max(int(match[1]) for match in found), max(int(match[3]) for match in found)
    if first > 31 or second > 31 or (first > 12 and second > 12):
        return None
    sign, year = found[0][2], "%Y" if len(found[0][4]) == 4 else "%y"
    day_first, month_first = (f'"%{a}{sign}%{b}{sign}{year}{clock}"' for a, b in ("dm", "md"))
    if first > 12:
        return "dates", f"time_format: {day_first}"
    return "dates", f"time_format: {month_first}" + ("" if second > 12 else f" or {day_first}")


def _is_fraction(texts: Sequence[str]) -> bool:
    """Whether entries such as 12-10-20 differ too little in form from codes: no year of four digits, and hyphens."""
    return not any(re.search(r"\d{4}|/", text) for text in texts)


def _with_format(column: pandas.Series[Any], time_format: str) -> Times | None:
    texts = column.astype(object).map(lambda entry: str(entry).strip() if _is_known(entry) else None)
    seconds = _seconds(texts, time_format)
    n_known = sum(_is_known(entry) for entry in column)
    if np.isfinite(seconds).sum() < max(1.0, 0.9 * n_known):
        return None
    if _DATE_PARTS.search(time_format):
        return Times(seconds, "dates", f"read as {time_format}")
    return Times(seconds % 86_400, "times of day", f"read as {time_format}")


def _seconds(column: pandas.Series[Any], time_format: str | None) -> NDArray[np.float64]:
    import pandas

    try:
        dates = pandas.to_datetime(column, errors="coerce", utc=True, format=time_format)
    except ValueError:  # a code that strptime does not know
        return np.full(len(column), np.nan)
    found = since_1970(dates)
    found[found >= FOREVER_S] = np.nan
    return found


def since_1970(dates: pandas.Series[Any]) -> NDArray[np.float64]:
    """Dates in seconds since 1970 in UTC, NaN where there is none."""
    utc = dates if dates.dt.tz is None else dates.dt.tz_convert("UTC").dt.tz_localize(None)
    exact = utc.to_numpy("datetime64[us]")
    return np.where(np.isnat(exact), np.nan, exact.astype(np.int64) / 1e6)


def packed_format(values: NDArray[np.float64], name: str) -> str | None:
    """The form of numbers such as 20240330 that are dates; None if they are not.

    All must be days between 1800 and 2100, and either the name is that of a time or there are ten different ones.
    """
    known = np.unique(values[~np.isnan(values)])
    n_digits = _n_digits(known)
    if n_digits not in _PACKED or not (_DATE_NAME.search(name) or len(known) >= _MIN_DISTINCT):
        return None
    return _PACKED[n_digits] if _share_of_dates(known, _PACKED[n_digits]) == 1 else None


def perhaps_packed(values: NDArray[np.float64], name: str) -> str | None:
    """The form in which most numbers of a column with the name of a time are dates; None if there is none."""
    known = np.unique(values[~np.isnan(values)])
    if not _DATE_NAME.search(name) or len(known) < _FEWEST_DISTINCT:
        return None
    n_digits = _n_digits(known[[len(known) // 2]])
    forms = (*((_PACKED[n_digits],) if n_digits in _PACKED else ()), *_PERHAPS_PACKED.get(n_digits, ()))
    return next((form for form in forms if _share_of_dates(known, form) >= 0.9), None)


def perhaps_clock(values: NDArray[np.float64], name: str, *, beside_dates: bool) -> str | None:
    """The form in which all numbers of a column are times of day, such as 93015; None if there is none.

    The name must be that of a time, or the column stand beside dates, since other whole numbers have this form too.
    """
    known = np.unique(values[~np.isnan(values)])
    is_named = CLOCK_NAME.search(name) is not None
    if len(known) < _MIN_DISTINCT or not (is_named or beside_dates) or (known != np.floor(known)).any() or known[0] < 0:
        return None
    form, hours, clock = ("%H%M%S", 10_000, known) if known[-1] >= 10_000 else ("%H%M", 100, known * 100)
    minutes, seconds = clock // 100 % 100, clock % 100
    is_clock = clock[-1] < 240_000 and known[-1] >= hours and minutes.max() < 60 and seconds.max() < 60
    is_spread = len(np.unique(minutes)) >= _FEWEST_MINUTES
    return form if is_clock and is_spread and (is_named or form == "%H%M%S") else None


def _n_digits(known: NDArray[np.float64]) -> int:
    """Number of digits of whole numbers, 0 if they are none or of several lengths."""
    if not len(known) or known[0] < 1 or not (known == np.floor(known)).all() or known[-1] >= 10**15:
        return 0
    first, last = len(str(int(known[0]))), len(str(int(known[-1])))
    return first if first == last else 0


def _share_of_dates(known: NDArray[np.float64], form: str) -> float:
    import pandas

    is_whole = (known == np.floor(known)) & (known > 0) & (known < 10**15)
    texts = [f"{int(number):0{8 if form.endswith('%Y') else 6}d}" for number in known[is_whole]]
    years = pandas.to_datetime(pandas.Series(texts, dtype=object), format=form, errors="coerce").dt.year
    return float(((years >= _FIRST_YEAR) & (years < _LAST_YEAR)).sum() / len(known))


def _as_text(column: pandas.Series[Any], time_format: str | None) -> pandas.Series[Any]:
    """Numbers, and dates that are objects of Python, as text; numbers with the zeros that a form begins with."""
    if column.dtype.kind in "iuf":
        codes = re.findall(r"%(.)", time_format or "")
        n_digits = sum(_WIDTHS.get(code, 0) for code in codes) if f"%{'%'.join(codes)}" == time_format else 0

        def text(number: Any) -> str | None:
            if number is None or number != number:
                return None
            return str(int(number)).zfill(n_digits) if number == np.floor(number) else str(number)

        return column.astype(object).map(text)
    if column.dtype.kind != "O" or not column.map(lambda entry: isinstance(entry, date)).any():
        return column
    return column.map(lambda entry: entry.isoformat() if isinstance(entry, date) and entry == entry else entry)


def _of_day(column: pandas.Series[Any]) -> Times | None:
    """Times of day that are objects of Python; None if there are others."""
    known = column.dropna()
    if column.dtype.kind != "O" or known.empty or not known.map(lambda entry: isinstance(entry, time)).all():
        return None

    def seconds(entry: Any) -> float:
        if not isinstance(entry, time):
            return np.nan
        return entry.hour * 3600 + entry.minute * 60 + entry.second + entry.microsecond / 1e6

    return Times(np.array(column.map(seconds), np.float64), "times of day")


def clock_seconds(column: pandas.Series[Any]) -> NDArray[np.float64] | None:
    """Seconds since midnight (n,) of a column of times of day such as 21:05; None if it is none."""
    if (of_day := _of_day(column)) is not None:
        return of_day.seconds
    texts = _texts(column)
    if not texts or not all(_CLOCK.fullmatch(text) for text in texts):
        return None
    parts = [[float(part) for part in str(entry).split(":")] if _is_text(entry) else None for entry in column]
    return np.array(
        [np.nan if each is None else sum(x * 60.0 ** (2 - i) for i, x in enumerate(each)) for each in parts]
    )


def _texts(column: pandas.Series[Any]) -> list[str]:
    """Different entries that are not missing, those with a digit at the beginning first; none if one is no text."""
    known = column.dropna()
    if not known.map(_is_text).all():
        return []
    entries = [entry for entry in known.unique() if entry != ""]
    return sorted((entry.strip() for entry in entries), key=lambda text: not text[:1].isdigit())


def _most(pattern: re.Pattern[str], texts: Sequence[str]) -> bool:
    """Whether nine of ten entries have a form, the first among them."""
    n = sum(pattern.fullmatch(text) is not None for text in texts)
    return n >= 0.9 * len(texts) and pattern.fullmatch(texts[0]) is not None


def _is_text(entry: object) -> bool:
    return isinstance(entry, str)


def _is_known(entry: object) -> bool:
    return entry is not None and entry == entry
