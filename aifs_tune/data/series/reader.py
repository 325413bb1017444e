"""Series from what stands in files: which columns are read, which rows are left out, and the times."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.hashing import digest_of
from aifs_tune.config.data import QualitySpec, SeriesSpec
from aifs_tune.data.columns import MISSING, EntrySettings, as_numbers, what_else
from aifs_tune.data.images.folder import shown
from aifs_tune.data.series.formats import Noted, RawSeries
from aifs_tune.data.times import (
    CLOCK_NAME,
    EXAMPLE,
    clock_seconds,
    packed_format,
    perhaps_clock,
    perhaps_packed,
    seconds_of,
    times_in,
    unread_times,
)
from aifs_tune.errors import DataError

if TYPE_CHECKING:
    import pandas


MIN_STEPS = 2
N_LOOKED_AT = 12
"""Series that are looked at to choose the columns."""
TIME_NAMES = ("time", "t", "hjd", "bjd", "mjd", "jd", "btjd", "bkjd", "date", "datetime", "timestamp", "obs_time")
"""Names of columns that are taken for times, in lower case."""
_FLAGS = ("SAP_QUALITY", "QUALITY")
"""Columns of quality flags in FITS tables of Kepler and TESS; 0 means good."""
_FLUXES = ("PDCSAP_FLUX", "KSPSAP_FLUX", "DET_FLUX", "SAP_FLUX")
"""Columns of fluxes in FITS tables of Kepler and TESS, the corrected ones first."""
_DATE_NAME = re.compile(r"date|day|datum|fecha", re.IGNORECASE)
_DAY_S = 86_400.0
_DAYLIGHT_SAVING_S = 3600
_FEW_SERIES = 5
_MOST_NAMED = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recording:
    """A series: ``values`` (steps, columns) with NaN for gaps, and ``times`` (steps,), not decreasing, or None."""

    values: Floats
    times: Floats | None

    @property
    def digest(self) -> str:
        """Digest of the content."""
        times = b"" if self.times is None else self.times.tobytes()
        return digest_of(self.values.tobytes() + b"|" + times)


@dataclass(frozen=True)
class UnusedColumn:
    """A column that is not read: what it was taken for, and why."""

    taken_for: str
    reason: str


@dataclass(frozen=True)
class SeriesReader:
    """Reads series that have the same columns; ``time`` is the column of times or None.

    ``clock`` is the column of times of day if ``time`` has dates alone. ``packed`` is the form of times such as
    20240330. ``units`` are those of the first file that was looked at, and ``left_out`` has its other columns.
    ``perhaps_clocks`` has the form of dates with times of day for columns of numbers that look like the latter.
    ``rising`` are columns that may be the time where none was found.
    ``as_gaps`` keeps rows with bad quality flags, without their values, so that each step stays one.
    """

    columns: tuple[str, ...]
    time: str | None
    spec: SeriesSpec = field(default_factory=SeriesSpec)
    units: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, UnusedColumn] = field(default_factory=dict)
    as_gaps: bool = False
    clock: str | None = None
    packed: str | None = None
    perhaps_clocks: Mapping[str, str] = field(default_factory=dict)
    rising: tuple[str, ...] = ()

    @classmethod
    def like(
        cls, raw: Sequence[RawSeries], spec: SeriesSpec, where: str, *, as_gaps: bool = False, aside: Sequence[str] = ()
    ) -> SeriesReader:
        """Make a reader for series such as ``raw``; ``aside`` names columns that are not of a series.

        By default it reads all columns of numbers in most of them, and a column called ``time`` as times.

        Raises
        ------
        DataError
            If there is no column of numbers.
        """
        names = list(dict.fromkeys(str(name) for each in raw for name in each.frame.columns if name not in aside))
        time = spec.time if spec.time is not None else _most(time_in(each.frame, spec.columns) for each in raw)
        time, clock = _with_clock(time, raw, spec)
        packed = None if spec.time_format is not None else _packed_in(raw, time)
        perhaps = {name: form for name, form in _clocks_of_numbers(raw).items() if name != clock}
        made = partial(
            cls,
            time=time,
            spec=spec,
            units=dict(raw[0].units),
            as_gaps=as_gaps,
            clock=clock,
            packed=packed,
            perhaps_clocks=perhaps,
        )
        if spec.columns:
            unasked = [name for name in names if name not in (*spec.columns, time, clock)]
            left_out = dict.fromkeys(unasked, UnusedColumn("not read", "not among data.series.columns"))
            return made(spec.columns, left_out=left_out)
        flags = _flags_of(raw[0], spec)
        left_out, found = {}, list[str]()
        for name in names:
            if name in (time, clock):
                continue
            why = UnusedColumn("quality flags", "they say which rows are used") if name == flags else _reason(name, raw)
            if why is None:
                found.append(name)
            else:
                left_out[name] = why
        if not found:
            some = [f"{shown(name)}: {why.reason}" for name, why in list(left_out.items())[:_MOST_NAMED]]
            text = "; ".join(some) + ("; ..." if len(left_out) > _MOST_NAMED else "") or "none"
            raise DataError(
                f"{where}: no column of numbers (columns other than the time: {text}); allowed: at least one"
            )
        flux = next((name for name in _FLUXES if name in found and raw[0].is_fits and _has_values(name, raw)), None)
        if flux is not None and time is not None:
            reason = f"{flux} is read; data.series.columns names others"
            left_out |= {name: UnusedColumn("numbers", reason) for name in found if name != flux}
            found = [flux]
        rising = [name for name in found if _rises(name, raw)] if time is None else []
        return made(tuple(found), left_out=left_out, rising=tuple(rising))

    def read(self, raw: RawSeries, where: str) -> tuple[Recording, Mapping[str, Noted]]:
        """Make a series of what stands in a file, and count what was noticed.

        Raises
        ------
        DataError
            If it is too short, lacks a column or has no value, or has text or decreasing times; the text begins with
            ``where``.
        """
        frame, notes = raw.frame, dict(raw.notes)
        for name in (*self.columns, *filter(None, (self.time, self.clock))):
            if name not in frame.columns:
                there = ", ".join(map(str, frame.columns[:12]))
                raise DataError(f"{where}: no column {name!r}; allowed: {there}")
        if self.time is not None and (unit := raw.units.get(self.time)) != self.units.get(self.time):
            raise DataError(
                f"{where}: {self.time} is in {unit or 'no unit'}, in the first file in "
                f"{self.units.get(self.time, 'no unit')}; allowed: one unit"
            )
        if len(frame) < MIN_STEPS:
            raise DataError(f"{where}: {len(frame)} step(s); allowed: at least {MIN_STEPS}")
        columns = [column_numbers(frame[name], where, self.spec, notes) for name in self.columns]
        for name, form in self.perhaps_clocks.items():
            if name in (*self.columns, self.time):
                notes[f"warning: {shown(name)} {_like_a_clock(form)}"] = Noted()
        for name in self.rising:
            text = f"warning: {shown(name)} rises from step to step in every series; if it is the time: "
            notes[f"{text}data.series.time: {shown(name)}"] = Noted()
        values = np.stack(columns, axis=1)
        is_used = self._is_good(raw, values, where, notes)
        times = None if self.time is None else self._times(frame, where, notes)
        if times is not None:
            is_used = _with_times(times, is_used, str(self.time), where, notes)
        rows = np.flatnonzero(is_used)
        if len(rows) < MIN_STEPS:
            raise DataError(f"{where}: {len(rows)} step(s) that can be used; allowed: at least {MIN_STEPS}")
        if times is not None:
            rows = self._in_order(times, rows, where, notes, is_text=frame[self.time].dtype.kind not in "biuf")
            times = times[rows]
        values = values[rows]
        if np.isnan(values).all():
            raise DataError(f"{where}: no value in {', '.join(map(shown, self.columns))}; allowed: numbers")
        return Recording(values, times), notes

    def _times(self, frame: pandas.DataFrame, where: str, notes: dict[str, Noted]) -> Floats:
        """The times (steps,) in the column of times, and that of times of day."""
        time_format, column = self.spec.time_format, frame[self.time]
        if self.packed is not None:
            notes[f"{shown(str(self.time))}: numbers such as {column.iloc[0]:.0f} are dates, {self.packed}"] = Noted()
        if self.clock is None:
            times = times_of(column, where, time_format or self.packed)
            form = None if time_format or self.packed else perhaps_packed(times, "time")
            if form is not None and column.dtype.kind in "iuf":
                text = f"warning: are the numbers of {shown(str(self.time))} dates? If so: "
                notes[f'{text}data.series.time_format: "{form}"'] = Noted()
            return times
        notes[f"the time is that of {shown(str(self.time))} and {shown(self.clock)} together"] = Noted()
        if time_format is not None and re.search("%[HI]", time_format):
            both = column.astype(str).str.strip() + " " + _clock_texts(frame[self.clock], time_format)
            is_known = column.notna() & frame[self.clock].notna()
            return times_of(both.where(is_known, None).rename(self.time), where, time_format)
        days, since = times_of(column, where, time_format or self.packed), clock_seconds(frame[self.clock])
        if since is None:
            raise DataError(
                f"{where}: {shown(self.clock)} holds other entries than times of day; allowed: such as 21:05"
            )
        return days + since

    def _is_good(self, raw: RawSeries, values: Floats, where: str, notes: dict[str, Noted]) -> NDArray[np.bool_]:
        """Rows (steps,) that are used by their quality flags; with ``as_gaps`` all, and bad ones lose their values."""
        is_used = np.ones(len(values), np.bool_)
        name = _flags_of(raw, self.spec)
        if name is None:
            return is_used
        if name not in raw.frame.columns:
            there = ", ".join(map(str, raw.frame.columns[:12]))
            raise DataError(f"{where}: no column {name!r} of quality flags; allowed: {there}")
        flags = as_numbers(raw.frame[name])
        if flags is None:
            raise DataError(f"{where}: {name} holds no numbers; allowed: quality flags")
        is_good = _good(flags.values, self.spec.quality or QualitySpec())
        if not is_good.all():
            what = "values" if self.as_gaps else "rows"
            notes[f"left out: {what} by their flags in {shown(name)}"] = Noted(int((~is_good).sum()))
        if self.as_gaps:
            values[~is_good] = np.nan
            return is_used
        return is_good

    def _in_order(
        self, times: Floats, rows: NDArray[np.int64], where: str, notes: dict[str, Noted], *, is_text: bool
    ) -> NDArray[np.int64]:
        """The rows in an order in which times do not decrease."""
        steps = np.diff(times[rows])
        falls = np.flatnonzero(steps < 0)
        if len(falls):
            row = int(rows[falls[0] + 1]) + 1
            if not self.spec.sort:
                allowed = "times that do not decrease, or data.series.sort: true"
                if (form := self.perhaps_clocks.get(str(self.time))) is not None:
                    raise DataError(f"{where}: {self.time} decreases in row {row}, and {_like_a_clock(form)}")
                if is_text and len(falls) == 1 and -_DAYLIGHT_SAVING_S <= steps[falls[0]] <= -_DAYLIGHT_SAVING_S / 2:
                    allowed = "UTC, or times with their offset; daylight saving time seems to end there"
                raise DataError(f"{where}: {self.time} decreases in row {row}; allowed: {allowed}")
            rows = rows[np.argsort(times[rows], kind="stable")]
            notes[f"rows were sorted by {self.time}; places where it decreased"] = Noted(len(falls), row)
        equal = np.flatnonzero(np.diff(times[rows]) == 0)
        if len(equal):
            row = int(rows[equal[0] + 1]) + 1
            notes[f"warning: rows with the same {self.time} as another one"] = Noted(len(equal), row)
        return rows


def _clock_texts(column: pandas.Series[Any], time_format: str) -> pandas.Series[Any]:
    """Times of day as text; numbers with the zeros that a form without signs, such as %H%M%S, begins with."""
    if (digits := _digits(column)) is None:
        return column.astype(str).str.strip()
    width = 6 if time_format.endswith("%H%M%S") else 4
    import pandas

    texts = ["" if np.isnan(each) else f"{int(each):0{width}d}" for each in digits]
    return pandas.Series(texts, index=column.index, dtype=object)


def _like_a_clock(form: str) -> str:
    """What numbers that look like times of day need to be read so."""
    return (
        f"looks like times of day {'HHMMSS' if form.endswith('%S') else 'HHMM'} beside the dates; if so: "
        f'data.series.time_format: "{form}"'
    )


def _with_times(
    times: Floats, is_used: NDArray[np.bool_], name: str, where: str, notes: dict[str, Noted]
) -> NDArray[np.bool_]:
    """Which of the used rows have a time; DataError if half of them have none."""
    is_there = np.isfinite(times)
    lacking = np.flatnonzero(is_used & ~is_there)
    if len(lacking) * 2 > is_used.sum():
        raise DataError(f"{where}: {name} is empty in {len(lacking)} of {int(is_used.sum())} rows; allowed: times")
    if len(lacking):
        notes[f"left out: rows without {shown(name)}"] = Noted(len(lacking), int(lacking[0]) + 1)
    return np.asarray(is_used & is_there)


def _good(flags: Floats, quality: QualitySpec) -> NDArray[np.bool_]:
    if quality.keep == "all":
        return np.ones(len(flags), np.bool_)
    if quality.bad_bits is not None:
        whole = np.nan_to_num(flags).astype(np.int64)
        return np.asarray((whole & quality.bad_bits) == 0)
    return np.isin(flags, quality.keep)


def _with_clock(time: str | None, raw: Sequence[RawSeries], spec: SeriesSpec) -> tuple[str | None, str | None]:
    """The column of times, and that of times of day that belongs to it: of dates and times of day, both are needed."""
    if time is None:
        return time, None
    first = raw[0].frame
    named = [str(name) for name in first.columns if CLOCK_NAME.search(str(name)) or _DATE_NAME.search(str(name))]
    clocks = [name for name in named if clock_seconds(first[name]) is not None]
    if not clocks and spec.time_format is not None and re.search(" %H%M(%S)?$", spec.time_format):
        digits = {name: _digits(first[name]) for name in named if CLOCK_NAME.search(name)}
        clocks = [name for name, each in digits.items() if each is not None and each.max(initial=0) < 240_000]
    days = [
        name
        for name in dict.fromkeys((time, *named))
        if name in first.columns and name not in clocks and _holds_days(first[name], spec)
    ]
    if not days:
        days = [name for name in named if name not in clocks and unread_times(first[name]) is not None]
    if not clocks or not days or time not in (*clocks, *days) or spec.time in clocks:
        return time, None
    return days[0], clocks[0]


def _clocks_of_numbers(raw: Sequence[RawSeries]) -> dict[str, str]:
    """The form of dates with times of day, for columns of numbers that look like these; none without dates."""
    first = raw[0].frame
    days = next((first[name] for name in first.columns if _holds_days(first[name], SeriesSpec())), None)
    if days is None:
        return {}
    entry = str(days.iloc[0])
    day, found = "%Y%m%d" if entry.isdigit() else "%d.%m.%Y" if "." in entry else "%Y-%m-%d", dict[str, str]()
    for name in map(str, first.columns):
        columns = [_digits(each.frame[name]) for each in raw if name in each.frame.columns]
        if all(column is not None for column in columns):
            values = np.concatenate([column for column in columns if column is not None])
            if (form := perhaps_clock(values, name, beside_dates=True)) is not None:
                found[name] = f"{day} {form}"
    return found


def _digits(column: pandas.Series[Any]) -> Floats | None:
    """Numbers of a column of numbers, or of whole ones as text, such as 093015; None if it holds others."""
    if column.dtype.kind in "iuf":
        return np.array(column, np.float64)
    known = column.dropna()
    if column.dtype.kind != "O" or not all(isinstance(entry, str) and entry.isdigit() for entry in known):
        return None
    return np.array([float(entry) if isinstance(entry, str) else np.nan for entry in column])


def _holds_days(column: pandas.Series[Any], spec: SeriesSpec) -> bool:
    """Whether a column has dates without a time of day."""
    form = spec.time_format
    if form is not None and re.search("%[HI]", form):
        return clock_seconds(column) is None and column.dtype.kind not in "f"
    found = times_in(column, form)
    if found is None and column.dtype.kind in "iuf":
        packed = packed_format(np.array(column, np.float64), "date")
        found = None if packed is None else times_in(column, packed)
    if column.dtype.kind == "M":
        return bool((seconds_of(column, None) % _DAY_S == 0).all())
    return found is not None and found.kind == "dates" and bool((np.nan_to_num(found.seconds) % _DAY_S == 0).all())


def _packed_in(raw: Sequence[RawSeries], time: str | None) -> str | None:
    """The form of times such as 20240330 that are numbers in all series."""
    columns = [each.frame[time] for each in raw if time in each.frame.columns]
    if not columns or any(column.dtype.kind not in "iuf" for column in columns):
        return None
    forms = {packed_format(np.array(column, np.float64), "time") for column in columns}
    return next(iter(forms)) if len(forms) == 1 else None


def _flags_of(raw: RawSeries, spec: SeriesSpec) -> str | None:
    """The column of quality flags: the one that is asked for, or of FITS the one with a usual name."""
    if spec.quality is not None and spec.quality.column is not None:
        return spec.quality.column
    if not raw.is_fits:
        return None
    named = {str(n).upper(): str(n) for n in raw.frame.columns if raw.frame[n].dtype.kind in "biuf"}
    return next((named[n] for n in _FLAGS if n in named), None)


def _reason(name: str, raw: Sequence[RawSeries]) -> UnusedColumn | None:
    """Why a column is no input: it is not in most series, holds no numbers, or counts steps or series."""
    there = [each.frame[name] for each in raw if name in each.frame.columns]
    if 2 * len(there) <= len(raw):
        return UnusedColumn("not read", f"in {len(there)} of {len(raw)} series that were looked at")
    if not name or name.startswith("Unnamed: "):
        return UnusedColumn("not read", "which is often the number of the row; give it a name if it was measured")
    found = [None if what_else(column) is not None else as_numbers(column) for column in there]
    numbers = [each.values for each in found if each is not None]
    if 2 * len(numbers) <= len(there):
        other = next((what for column in there if (what := what_else(column)) is not None), None)
        times = next((what for column in there if (what := unread_times(column)) is not None), None)
        if times is not None:
            reason = times.replace("time_format", "data.series.time_format")
            return UnusedColumn("text", f"{reason}; if it is the time: data.series.time: {shown(name)}")
        return UnusedColumn(other or "text", f"holds {other}" if other else "text")
    if all(each is None or each.kind in ("dates", "times of day") for each in found):
        return UnusedColumn("dates", f"dates that are not the time; if they are: data.series.time: {shown(name)}")
    if all(_counts(values) for values in numbers):
        return UnusedColumn("numbers", "it counts the steps; data.series.columns uses it")
    if len(numbers) < _FEW_SERIES or not all(_is_one_whole(values) for values in numbers):
        return None
    if len({float(values[0]) for values in numbers}) < len(numbers):
        return None
    return UnusedColumn("numbers", "one whole number for each series, like an identifier; data.series.columns uses it")


def _counts(values: Floats) -> bool:
    return len(values) > MIN_STEPS and bool((np.diff(values) == 1).all() and values[0] == np.floor(values[0]))


def _rises(name: str, raw: Sequence[RawSeries]) -> bool:
    """Whether a column has larger numbers in each step of all series that have it."""
    found = [as_numbers(each.frame[name]) for each in raw if name in each.frame.columns]
    return all(
        each is not None and len(each.values) > MIN_STEPS and bool((np.diff(each.values) > 0).all()) for each in found
    )


def _is_one_whole(values: Floats) -> bool:
    return len(values) > 0 and bool((values == values[0]).all() and values[0] == np.floor(values[0]))


def _has_values(name: str, raw: Sequence[RawSeries]) -> bool:
    return any(name in each.frame.columns and each.frame[name].notna().any() for each in raw)


def _most(names: Any) -> str | None:
    counted = Counter(names)
    return counted.most_common(1)[0][0] if counted else None


def is_time(name: str) -> bool:
    """Whether a column of this name is taken for times."""
    return name.lower() in TIME_NAMES


def time_in(frame: pandas.DataFrame, columns: Sequence[str]) -> str | None:
    """The column of times by its name; None if there is none."""
    named = {str(name).lower(): str(name) for name in reversed(frame.columns) if name not in columns}
    return next((named[name] for name in TIME_NAMES if name in named), None)


def column_numbers(column: pandas.Series[Any], where: str, spec: SeriesSpec, notes: dict[str, Noted]) -> Floats:
    """Return the column as numbers; missing and infinite entries become NaN.

    Raises
    ------
    DataError
        If an entry is neither a number nor missing; the text names its row.
    """
    found = as_numbers(column, EntrySettings(spec.missing, below_limit=spec.below_limit))
    name = shown(str(column.name))
    if found is None:
        row = next((row for row in range(len(column)) if as_numbers(column.iloc[[row]]) is None), 0)
        raise DataError(f"{where}: {name} is {column.iloc[row]!r} in row {row + 1}; allowed: numbers, or empty")
    if found.strange:
        row, entry = next(iter(found.strange.items()))
        raise DataError(
            f"{where}: {name} is {entry!r} in row {row + 1}; allowed: numbers, or empty, or "
            f"data.series.missing: [{entry}]"
        )
    if found.below and spec.below_limit == "refuse":
        row, entry = next(iter(found.below.items()))
        raise DataError(
            f"{where}: {name} is {entry!r} in row {row + 1}; allowed: numbers, or data.series.below_limit: missing, "
            "limit or half"
        )
    for note in found.notes:
        notes[f"column {name}: {note}"] = Noted()
    if found.below:
        text = f"column {name}: entries below or above a limit became {spec.below_limit}"
        notes[text] = Noted(len(found.below), min(found.below) + 1)
    if found.sentinel is not None:
        text = f"warning: column {name}: is {found.sentinel:g} a missing value? If so: data.series.missing: "
        notes[f"{text}[{found.sentinel:g}]"] = Noted(int((found.values == found.sentinel).sum()))
    return found.values


def times_of(column: pandas.Series[Any], where: str, time_format: str | None = None) -> Floats:
    """Return times: numbers as they are, dates in seconds, NaN where there is none.

    Dates are in ISO 8601, or day.month.year, or as ``time_format`` says.

    Raises
    ------
    DataError
        If an entry is neither; the text names its row.
    """
    if time_format is None:
        if column.dtype.kind in "biuf":
            return np.array(column, np.float64)
        numbers = as_numbers(column, mostly=1.0)
        if numbers is not None and numbers.kind == "numbers" and np.isfinite(numbers.values).any():
            return numbers.values
    times = seconds_of(column, time_format)
    is_empty = column.isna() | column.map(lambda entry: str(entry).strip().lower() in MISSING)
    strange = np.flatnonzero(~np.isfinite(times) & ~np.asarray(is_empty))
    if len(strange):
        entry = column.iloc[int(strange[0])]
        allowed = f"times as data.series.time_format says ({time_format})"
        if time_format is None:
            known = unread_times(column)
            allowed = f"numbers, ISO 8601 such as {EXAMPLE}, or their form in data.series.time_format, such as %d/%m/%Y"
            if known is not None:
                allowed = known.partition("; allowed: ")[2].replace("time_format", "data.series.time_format")
        raise DataError(f"{where}: {column.name} is {entry!r} in row {strange[0] + 1}; allowed: {allowed}")
    return times
