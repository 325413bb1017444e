"""What a column of a table holds: numbers, dates, text or something else, and which entries do not fit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.images.folder import shown
from aifs_tune.data.times import FOREVER_S, Times, packed_format, perhaps_packed, since_1970, times_in

if TYPE_CHECKING:
    import pandas


MISSING = frozenset(
    {"", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", "--", "?", ".", "n.a.", "n.d.", "nd", "missing"}
    | {"'-", "'--", "\u2013", "\u2014"}
)
"""Texts, in lower case, that mean a missing number."""
_ONE_DIGIT = re.compile(r"(7{2,}|8{2,}|9{2,})(\.(7+|8+|9+))?")
_SENTINELS = (-99999.0, -9999.0, -999.0, -99.0, 999.0, 9999.0, 99999.0, 1e20, -1e20, 1e30)
"""Numbers that instruments write for a missing one; they are asked about, never replaced unasked."""
_LEAST_SPREAD = 1e-12
"""Smallest standard deviation, as a share of the largest number, that is no rounding error."""
_MOSTLY = 0.9
"""Share of the entries that must be numbers for a column of numbers."""
_PLAIN = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_COMMA = re.compile(r"[-+]?(\d{1,3}(\.\d{3})+|\d+),\d+([eE][-+]?\d+)?")
_COMMA_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_POINT_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+(,\d+)?")
_NUMERIC = re.compile(r"[-+]?[\d.,]*\d[\d.,]*([eE][-+]?\d+)?")
_PERCENT = re.compile(r"(.*\d)\s*%")
_BELOW = re.compile(r"[<>\u2264\u2265]\s*=?\s*(.+)")
_WITH_UNIT = re.compile(r"([-+]?[\d.,]*\d[\d.,]*(?:[eE][-+]?\d+)?)(\s*)([^\W\d_]\S*|\u00b0\S*)")
_UNITS = frozenset(
    re.findall(
        r"\S+",
        """nm um \u00b5m \u03bcm mm cm dm km ng ug \u00b5g \u03bcg mg kg ns us \u00b5s ms min hr yr days years mV kV
        mA kA Hz kHz MHz GHz Pa hPa kPa MPa GPa bar mbar ml mL \u00b5l \u00b5L ul uL nM uM \u00b5M mM mol mmol kJ eV keV
        MeV GeV kW mW MW ppm ppb px deg arcsec mag K \u00b0C \u00b0F \u00b0 \u00c5 m/s km/s mg/l mg/L g/l g/L
        ng/ml ng/mL g/mol kJ/mol kcal/mol""",
    )
)
"""Units that are known without a space before them, where 12A and 7B may be codes."""
_FEWEST_MARKED = 5
"""Different entries such as 1.037 from which they are no chance."""
_SPACES = str.maketrans({"\u2212": "-", "\u2009": None, "\u202f": None, "\u00a0": None})
_APOSTROPHES = re.compile(r"(?<=\d)['\u2019](?=\d{3}(?!\d))")
"""Between thousands, as in 1'234, and not between feet and inches, as in 5'11."""
_DAY = 86_400.0


Sign = Literal[",", "."]


@dataclass(frozen=True)
class EntrySettings:
    """Settings for reading entries; see :class:`aifs_tune.config.data.TableSpec`.

    ``is_time`` says that numbers such as 20240330 are times in ``time_format``. ``others`` is the decimal sign of the
    other columns of the file, empty if it is not known, and ``separator`` that of its columns. Without
    ``reads_packed`` numbers such as 20240330 are dates only where ``is_time`` says so.
    """

    missing: Sequence[float | str] = ()
    decimal: Literal["auto", ",", "."] = "auto"
    thousands: Literal["auto", ",", ".", "none"] = "auto"
    below_limit: Literal["refuse", "half", "limit", "missing"] = "refuse"
    time_format: str | None = None
    is_time: bool = False
    others: Literal["", ",", "."] = ""
    separator: str = ""
    reads_packed: bool = True


@dataclass(frozen=True)
class Signs:
    """Decimal sign of a column and the sign between its thousands, None for none.

    ``note`` says how they were told, ``doubt`` what else the entries can mean. ``perhaps_thousands`` is an entry such
    as 1.037 of a column in which every point may separate thousands.
    """

    decimal: Sign = "."
    thousands: Sign | None = ","
    note: str | None = None
    doubt: str | None = None
    perhaps_thousands: str | None = None


@dataclass(frozen=True)
class Numbers:
    """A column of numbers.

    ``values`` (n,) are NaN where there is none. ``strange`` has the rows, from 0, and entries that are neither numbers
    nor known to mean a missing one, ``below`` those below or above a limit, such as ``<0.05``. ``sentinel`` is a number
    that seems to mean a missing one. ``notes`` say how the entries were read, ``doubt`` what else they can mean, and
    ``signs`` are those of numbers in text. ``packed`` is the form in which numbers were
    read as dates, ``perhaps_dates`` one in which they can be.
    """

    values: NDArray[np.float64]
    kind: Literal["numbers", "dates", "durations", "times of day"] = "numbers"
    strange: Mapping[int, str] = field(default_factory=dict)
    below: Mapping[int, str] = field(default_factory=dict)
    sentinel: float | None = None
    notes: tuple[str, ...] = ()
    doubt: str | None = None
    signs: Signs | None = None
    packed: str | None = None
    perhaps_dates: str | None = None

    @property
    def n_missing(self) -> int:
        """Number of entries without a number."""
        return int(np.isnan(self.values).sum())


def column_row(
    name: str,
    taken_for: str,
    *,
    unit: str | None = None,
    ends: tuple[float, float] | None = None,
    missing: int = 0,
    of: int | None = None,
    left_out: str | None = None,
) -> dict[str, Any]:
    """Row of the table of columns, bands or channels of data, with its range, missing entries and why it is left out.

    ``of`` is the number of entries in all, where the share of missing ones is of interest.
    """
    low, high = ends or (None, None)
    row = {"column": shown(name), "taken_for": taken_for, "unit": unit, "min": low, "max": high, "missing": missing}
    return row | ({} if of is None else {"of": of}) | {"left_out": left_out}


def scale_of(known: NDArray[np.float64]) -> tuple[float, float, str | None]:
    """Mean and standard deviation of numbers (n,) of any size, and why they cannot be scaled by them, or None."""
    if len(known) == 0:
        return 0.0, 0.0, "no value in the training set"
    largest = float(np.abs(known).max())
    with np.errstate(over="ignore", invalid="ignore"):
        centre, spread = float(known.mean()), float(known.std())
    if largest > 0 and not (math.isfinite(centre) and 0 < spread < math.inf):  # its square is no float
        centre, spread = float((known / largest).mean()) * largest, float((known / largest).std()) * largest
    if not spread > _LEAST_SPREAD * largest:
        is_constant = bool((known == known[0]).all())
        reason = "constant" if is_constant else f"varying by less than {_LEAST_SPREAD:g} of its size"
        return centre, spread, f"{reason} in the training set"
    return centre, spread, None


def as_numbers(
    column: pandas.Series[Any], settings: EntrySettings | None = None, *, mostly: float = _MOSTLY
) -> Numbers | None:
    """Return the column as numbers; None if it holds text or anything else.

    Dates become days since 1970, also numbers such as 20240330; times of day hours, durations seconds. Text counts as
    numbers if the share ``mostly`` of the entries is.
    """
    given = settings or EntrySettings()
    found = _as_numbers(column, given, mostly)
    if not given.reads_packed or found is None or found.kind != "numbers" or found.strange or found.below:
        return found
    import pandas

    name = str(column.name)
    form = packed_format(found.values, name)
    if form is not None and (times := times_in(pandas.Series(found.values), form)) is not None:
        note = f"numbers such as {found.values[~np.isnan(found.values)][0]:.0f} are read as dates, {form}"
        return replace(of_times(times, {}), notes=(*found.notes, note), packed=form)
    form = perhaps_packed(found.values, name)
    return found if form is None else replace(found, perhaps_dates=form)


def _as_numbers(column: pandas.Series[Any], given: EntrySettings, mostly: float) -> Numbers | None:
    kind = column.dtype.kind
    if kind == "M":
        return _of_dates(column)
    if kind == "m":
        return Numbers(column.dt.total_seconds().to_numpy(np.float64, na_value=np.nan), "durations")
    if kind in "iuf" and given.is_time and (found := times_in(column, given.time_format)) is not None:
        known = np.asarray(column.notna() & ~column.isin([one for one in given.missing if not isinstance(one, str)]))
        rows = np.flatnonzero(np.isnan(found.seconds) & known).tolist()
        return of_times(found, {row: str(column.iloc[row]) for row in rows})
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
    texts = [_APOSTROPHES.sub("", str(entry).translate(_SPACES)).strip() for entry in entries]
    own_missing = {str(one) for one in settings.missing}
    if (found := _as_times(column, codes, list(entries), own_missing, settings)) is not None:
        return found
    known = [not _is_missing(entry, text, own_missing) for entry, text in zip(entries, texts, strict=True)]
    unit = common_unit([text for text, is_known in zip(texts, known, strict=True) if is_known])
    if unit:
        texts = [
            text.removesuffix(unit).strip() if is_known else text for text, is_known in zip(texts, known, strict=True)
        ]
    signs = signs_of(texts, settings)
    parsed = [
        _parsed(entry, text, signs) if is_known else None
        for entry, text, is_known in zip(entries, texts, known, strict=True)
    ]
    notes = [signs.note] if signs.note else []
    if unit:
        notes.append(f"the unit {unit} is left out")
    per_cent = [text.endswith("%") for text, found in zip(texts, parsed, strict=True) if isinstance(found, float)]
    if any(per_cent):
        some = "" if all(per_cent) else "; only a part of the entries has one"
        notes.append(f"per cent signs are left out{some}")
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    fits = [not isinstance(each, str) or bool(_BELOW.fullmatch(text)) for each, text in zip(parsed, texts, strict=True)]
    n_known = int(counts[known].sum())
    if n_known and counts[np.array(fits) & np.array(known)].sum() < mostly * n_known:
        return None
    numbers = [each if isinstance(each, float) else math.nan for each in parsed]
    strange, below = dict[int, str](), dict[int, str]()
    for code, (entry, text, each) in enumerate(zip(entries, texts, parsed, strict=True)):
        if not isinstance(each, str):
            continue
        rows = np.flatnonzero(codes == code).tolist()
        limit = _limit_of(text, signs)
        if limit is None:
            strange |= dict.fromkeys(rows, str(entry))
            continue
        below |= dict.fromkeys(rows, str(entry))
        numbers[code] = {"half": limit / 2, "limit": limit}.get(settings.below_limit, math.nan)
    values = np.array([*numbers, math.nan])[codes]  # a missing entry has the code -1
    found = _finished(values, settings, strange, below, tuple(notes))
    return replace(found, doubt=signs.doubt, signs=signs)


def _as_times(
    column: pandas.Series[Any],
    codes: NDArray[np.intp],
    entries: Sequence[Any],
    missing: set[str],
    settings: EntrySettings,
) -> Numbers | None:
    """The column as dates or times of day, if most of its entries are."""
    is_known = [not _is_missing(entry, str(entry).strip(), missing) for entry in entries]
    known = np.array([*is_known, False])[codes]
    found = times_in(column.where(known), settings.time_format)
    if found is None:
        return None
    strange = {int(row): str(column.iloc[row]) for row in np.flatnonzero(known & np.isnan(found.seconds))}
    return of_times(found, strange)


def of_times(found: Times, strange: Mapping[int, str]) -> Numbers:
    """Times as numbers: dates in days since 1970, times of day in hours."""
    values = found.seconds / (_DAY if found.kind == "dates" else 3600.0)
    return Numbers(values, found.kind, strange, notes=() if found.note is None else (found.note,))


def common_unit(texts: Sequence[str]) -> str | None:
    """The unit that stands behind the number in each entry; None if there is none, or not in each."""
    units = units_in(texts)
    return next(iter(units)) if len(units) == 1 and None not in units else None


def units_in(texts: Sequence[str]) -> set[str | None]:
    """The units behind numbers, None for a number without one; empty if an entry is neither."""
    found = set[str | None]()
    for text in texts:
        match = _WITH_UNIT.fullmatch(text)
        if match is not None and (match[2] or match[3] in _UNITS):
            found.add(match[3])
        elif _NUMERIC.fullmatch(text):
            found.add(None)
        else:
            return set()
    return found


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
    for number in (*_SENTINELS, *(end for end in (float(known.min()), float(known.max())) if _is_marker(end))):
        is_it = known == number
        others = known[~is_it]
        if is_it.sum() < 2 or len(others) < 5:
            continue
        low, high = float(others.min()), float(others.max())
        if number < low - (high - low) or number > high + (high - low):
            return number
    return None


def _is_marker(number: float) -> bool:
    """Whether a number is written with one digit alone, such as 99.999 or -777."""
    return _ONE_DIGIT.fullmatch(f"{abs(number):.10g}") is not None


def _of_dates(column: pandas.Series[Any]) -> Numbers:
    seconds = since_1970(column)
    is_forever = seconds >= FOREVER_S
    note = f"{int(is_forever.sum())} dates from the year 9000 on, such as 9999-12-31, count as missing"
    seconds[is_forever] = np.nan
    return Numbers(seconds / _DAY, "dates", notes=(note,) if is_forever.any() else ())


def decimal_sign(texts: Sequence[str]) -> Literal["", ",", ".", "both"]:
    """The decimal sign of numbers in text; ``both`` if all can be read in two ways, as 1.037, empty if unknown."""
    plain = [text for text in map(_without_marks, texts) if _NUMERIC.fullmatch(text)]
    has_comma = any(text.count(".") > 1 or ("," in text and not _COMMA_THOUSANDS.fullmatch(text)) for text in plain)
    has_point = any(text.count(",") > 1 or ("." in text and not _POINT_THOUSANDS.fullmatch(text)) for text in plain)
    if has_comma != has_point:
        return "," if has_comma else "."
    marked = [text for text in plain if "," in text or "." in text]
    return "both" if marked and not has_comma else ""


def signs_of(texts: Sequence[str], settings: EntrySettings) -> Signs:
    """The decimal sign of a column and the sign between thousands, as set, or as its entries and its file tell."""
    other: dict[str, Sign] = {",": ".", ".": ","}
    decimal = settings.decimal
    if decimal == "auto" and settings.thousands in other:
        decimal = other[settings.thousands]
    if decimal != "auto":
        return Signs(decimal, None if settings.thousands == "none" else other[decimal])
    plain = [text for text in map(_without_marks, texts) if _NUMERIC.fullmatch(text)]
    commas, points = [t for t in plain if "," in t], [t for t in plain if "." in t and "," not in t]
    sign = decimal_sign(texts)
    if sign == ",":
        some = "decimal commas" if commas else "points separate thousands"
        also = ", and points separate thousands" if commas and points else ""
        return Signs(",", ".", some + also)
    if sign != "both" or (commas and points):
        return Signs(note="commas separate thousands" if commas and sign else None)
    return _of_doubtful(list(dict.fromkeys(commas or points)), "," if commas else ".", settings)


def _of_doubtful(marked: Sequence[str], mark: Sign, settings: EntrySettings) -> Signs:
    """How entries such as 1,037 and 1.037, which may be decimals or thousands, are read."""
    others, separator = settings.others, settings.separator
    if mark == "." and (others == "." or (not others and (separator != ";" or len(marked) < 2))):
        return Signs(perhaps_thousands=None if others or len(marked) < _FEWEST_MARKED else marked[0])
    by_separator: Sign = "," if mark == "," and separator != "," else "."
    decimal: Sign = others or by_separator
    name, some = {",": "commas", ".": "points"}, ", ".join(map(repr, marked[:2]))
    how = f"decimal {name[mark]}" if decimal == mark else "signs between thousands"
    why = f", as other columns have decimal {name[others]}" if others else ""
    text = f"the {name[mark]} of {some} are read as {how}{why}"
    is_sure = mark == "," and others != ""
    return Signs(decimal, "." if decimal == "," else ",", text if is_sure else None, None if is_sure else text)


def _without_marks(text: str) -> str:
    """A number without a sign for a limit or per cent."""
    return re.sub(r"^[<>\u2264\u2265=\s]+|\s*%$", "", text)


def _is_missing(entry: object, text: str, missing: set[str]) -> bool:
    return text.lower() in MISSING or str(entry) in missing or text in missing


def _parsed(entry: object, text: str, signs: Signs) -> float | str:
    """The number of an entry, or the text that is no number."""
    if isinstance(entry, bool | np.bool_ | int | float | np.number | Decimal):
        return float(entry)
    number = _number(text, signs)
    if number is None and (percent := _PERCENT.fullmatch(text)):
        number = _number(percent[1], signs)
    return text if number is None else number


def _number(text: str, signs: Signs) -> float | None:
    pattern = _COMMA_THOUSANDS if signs.thousands == "," else _POINT_THOUSANDS
    if signs.thousands is not None and pattern.fullmatch(text):
        text = text.replace(signs.thousands, "")
        return float(text.replace(signs.decimal, "."))
    if signs.decimal == "," and _COMMA.fullmatch(text):
        return float(text.replace(".", "").replace(",", "."))
    if _PLAIN.fullmatch(text):
        return float(text)
    return {"inf": math.inf, "-inf": -math.inf, "infinity": math.inf, "-infinity": -math.inf}.get(text.lower())


def _limit_of(text: str, signs: Signs) -> float | None:
    found = _BELOW.fullmatch(text)
    return None if found is None else _number(found[1].strip(), signs)


def examples_text(entries: Mapping[int, str], *, most: int = 2) -> str:
    """The first entries as text, with the rows, which count from 1."""
    first = list(entries.items())[:most]
    return ", ".join(f"{shown(text)!r} in row {row + 1}" for row, text in first)
