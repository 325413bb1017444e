"""Dates as numbers such as 20240330, and date and time of day in two columns, in tables and series."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aifs_tune.config.data import DataSpec, SeriesSpec
from aifs_tune.data import PreparedExamples, prepare_series, prepare_table
from aifs_tune.data.new_files import Preparation
from aifs_tune.data.series.formats import read_raw
from aifs_tune.data.series.reader import SeriesReader
from aifs_tune.errors import DataError

N, STEPS = 60, 40
DAYS = pd.Series(pd.date_range("2019-11-05", periods=N, freq="9D")[np.random.default_rng(1).permutation(N)])
SINCE_1970 = (DAYS - pd.Timestamp(0)) / pd.Timedelta(days=1)


def table(tmp_path: Path, suffix: str = "csv", time_format: Any = None, **columns: Any) -> PreparedExamples:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=N).round(3), "y": ["a", "b"] * (N // 2), **columns})
    file = tmp_path / f"t.{suffix}"
    if suffix == "xlsx":
        book = pytest.importorskip("openpyxl").Workbook()
        for row in [list(frame.columns), *frame.to_numpy(object).tolist()]:
            book.active.append(row)
        book.save(file)
    else:
        {"csv": frame.to_csv, "parquet": frame.to_parquet}[suffix](file, index=False)
    return prepare_table(DataSpec(table={"file": file, "target": "y", "time_format": time_format}))


def row_of(found: PreparedExamples, column: str) -> Any:
    return next(each for each in found.columns if each["column"] == column)


@pytest.mark.parametrize("name", ["visit_date", "DOB", "q7"])
@pytest.mark.parametrize("form", ["%Y%m%d", "%Y%m%d%H%M"])
@pytest.mark.parametrize("missing", [False, True])
def test_numbers_that_are_dates(name: str, form: str, missing: bool, tmp_path: Path) -> None:
    entries = DAYS.dt.strftime(form).astype(object)
    expected = SINCE_1970.copy()
    if missing:
        entries[::7], expected[::7] = None, np.nan
    found = table(tmp_path, **{name: entries})
    row = row_of(found, name)
    assert (row["taken_for"], row["min"], row["max"]) == ("dates", expected.min(), expected.max())
    assert row["missing"] == expected.isna().sum()
    assert f"column {name}: numbers such as {entries.dropna().iloc[0]} are read as dates, {form}" in found.lines


@pytest.mark.parametrize(
    ("name", "form"), [("month", "%Y%m"), ("date", "%Y%j"), ("birth", "%d%m%Y"), ("sample_date", "%y%m%d")]
)
def test_numbers_that_can_be_dates_are_asked_about(name: str, form: str, tmp_path: Path) -> None:
    days = pd.Series(pd.date_range("2014-01-11", periods=N, freq="37D")[np.random.default_rng(1).permutation(N)])
    entries = days.dt.strftime(form).astype(int)
    found = table(tmp_path, **{name: entries})
    assert row_of(found, name)["taken_for"] == "numbers"
    asked = f'warning: column {name}: are its numbers dates? If so: data.table.time_format: {{{name}: "{form}"}}'
    assert asked in found.lines
    row = row_of(table(tmp_path, time_format={name: form}, **{name: entries}), name)
    assert (row["taken_for"], row["missing"]) == ("dates", 0)


def test_other_numbers_stay_numbers(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    columns = {
        "counts": random.integers(10**7, 9 * 10**7, N),
        "code": random.choice([20240330, 20240401, 20240502], N),  # a few codes may be chance
        "time": random.integers(1, 1000, N),
        "jd": 2459000 + random.integers(0, 999, N),
    }
    found = table(tmp_path, **columns)
    assert {row_of(found, name)["taken_for"] for name in columns} == {"numbers"}
    assert not any("dates?" in line for line in found.lines)


CLOCKS = pd.Series([(i * 7919 % 86400) for i in range(N)])
HHMMSS = CLOCKS // 3600 * 10_000 + CLOCKS % 3600 // 60 * 100 + CLOCKS % 60


@pytest.mark.parametrize(
    ("name", "entries", "form", "spelled"),
    [("obs", HHMMSS, "%H%M%S", "HHMMSS"), ("time", HHMMSS // 100, "%H%M", "HHMM")],
)
def test_numbers_that_look_like_times_of_day_beside_dates_are_asked_about(
    name: str, entries: pd.Series, form: str, spelled: str, tmp_path: Path
) -> None:
    found = table(tmp_path, day=DAYS.dt.strftime("%Y-%m-%d"), **{name: entries})
    assert (row_of(found, name)["taken_for"], row_of(found, name)["max"]) == (
        "numbers, or times of day?",
        entries.max(),
    )
    asked = f'if so: data.table.time_format: {{{name}: "{form}"}}, or data.table.leave_out: [{name}]'
    assert f"warning: column {name}: looks like times of day {spelled}; {asked}" in found.lines
    row = row_of(table(tmp_path, day=DAYS.dt.strftime("%Y-%m-%d"), time_format={name: form}, **{name: entries}), name)
    assert row["taken_for"] == "times of day"
    assert row["max"] == pytest.approx(CLOCKS.max() / 3600, abs=1 / 60)


def test_numbers_beside_dates_that_are_no_times_of_day_are_not_asked_about(tmp_path: Path) -> None:
    columns = {
        "price": 10_000 * np.arange(1, N + 1),
        "depth": HHMMSS // 100,
        "time": np.arange(N) % 50,
        "code": np.random.default_rng(3).integers(10**4, 235_959, N),
    }
    found = table(tmp_path, day=DAYS.dt.strftime("%Y-%m-%d"), **columns)
    assert not any("times of day" in line for line in found.lines)
    assert not any("times of day" in line for line in table(tmp_path, obs=HHMMSS).lines), "no dates, and no name"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_dates_that_mean_never_are_missing(suffix: str, tmp_path: Path) -> None:
    days = DAYS.astype("datetime64[us]").copy()
    days[::11] = pd.Timestamp("9999-12-31").as_unit("us")
    row = row_of(found := table(tmp_path, suffix, end=days), "end")
    assert (row["taken_for"], row["missing"]) == ("dates", 6)
    assert any("9999-12-31" in line and "missing" in line for line in found.lines)


@pytest.mark.parametrize("suffix", ["parquet", "xlsx"])
def test_dates_and_times_that_are_objects(suffix: str, tmp_path: Path) -> None:
    clock = [datetime.time(i % 24, 7 * i % 60) for i in range(N)]
    found = table(tmp_path, suffix, day=DAYS.dt.date, clock=clock)
    assert row_of(found, "day")["taken_for"] == "dates"
    assert row_of(found, "day")["min"] == SINCE_1970.min()
    assert row_of(found, "clock")["taken_for"] == "times of day"
    assert row_of(found, "clock")["max"] == pytest.approx(max(t.hour + t.minute / 60 for t in clock))


def test_new_rows_are_read_in_the_form_of_training(tmp_path: Path) -> None:
    entries = DAYS.dt.strftime("%Y%m%d").astype(int)
    found = table(tmp_path, q7=entries)
    section = {"file": tmp_path / "t.csv", "target": "y"}
    new = tmp_path / "new.csv"
    pd.read_csv(tmp_path / "t.csv").head(2).to_csv(new, index=False)
    (batch,) = Preparation("table", DataSpec(table=section), found.examples.facts).batches([new])
    np.testing.assert_allclose(batch.inputs[0], found.examples.inputs[0][:2])


HOURS = pd.Series(pd.date_range("2020-01-31 20:00", periods=STEPS, freq="37min"))


def series(tmp_path: Path, suffix: str = "csv", settings: dict[str, Any] | None = None, **columns: Any) -> Any:
    random = np.random.default_rng(0)
    for i in range(12):
        folder = tmp_path / "s" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        frame = pd.DataFrame({**columns, "flux": random.normal(size=STEPS).round(3)})
        file = folder / f"{i}.{suffix}"
        frame.to_csv(file, index=False) if suffix == "csv" else frame.to_parquet(file)
    return prepare_series(DataSpec(series={"path": tmp_path / "s", **(settings or {})}))


def roles(found: PreparedExamples) -> list[str]:
    return [fact["role"] for fact in found.examples.facts["channels"]]


@pytest.mark.parametrize("name", ["date", "t", "TIME"])
def test_times_of_a_series_as_numbers_that_are_dates(name: str, tmp_path: Path) -> None:
    days = pd.Series(pd.date_range("2020-01-25", periods=STEPS, freq="D"))
    found = series(tmp_path, **{name: days.dt.strftime("%Y%m%d").astype(int)})
    assert roles(found) == ["value"], "days are even, which the numbers are not"
    assert any(f"{name}: numbers such as 20200125 are dates, %Y%m%d" in line for line in found.lines)
    assert row_of(found, name)["min"] == 18286 * 86400


def test_times_of_a_series_that_can_be_months_are_asked_about(tmp_path: Path) -> None:
    months = pd.Series(pd.date_range("2012-01", periods=STEPS, freq="MS")).dt.strftime("%Y%m")
    found = series(tmp_path, date=months)
    assert any('are the numbers of date dates? If so: data.series.time_format: "%Y%m"' in line for line in found.lines)
    assert row_of(series(tmp_path, settings={"time_format": "%Y%m"}, date=months), "date")["min"] == 15340 * 86400


@pytest.mark.parametrize(
    ("names", "day", "clock", "time_format"),
    [
        (("date", "time"), "%Y-%m-%d", "%H:%M:%S", None),
        (("Datum", "Uhrzeit"), "%d.%m.%Y", "%H:%M", None),
        (("day", "clock"), "%Y%m%d", "%H:%M", None),
        (("Date", "Time"), "%m/%d/%Y", "%H:%M", "%m/%d/%Y"),
        (("date", "time"), "%m/%d/%Y", "%H:%M", "%m/%d/%Y %H:%M"),
    ],
)
def test_date_and_time_of_day_in_two_columns_are_one_time(
    names: tuple[str, str], day: str, clock: str, time_format: str | None, tmp_path: Path
) -> None:
    columns = dict(zip(names, (HOURS.dt.strftime(day), HOURS.dt.strftime(clock)), strict=True))
    settings = {"time_format": time_format, "time": None if names[1].lower() == "time" else names[0]}
    found = series(tmp_path, settings=settings, **columns)
    assert roles(found) == ["value"], "the steps are even"
    assert any(line.startswith(f"the time is that of {names[0]} and {names[1]} together") for line in found.lines)
    row = row_of(found, names[0])
    assert row["max"] - row["min"] == (STEPS - 1) * 37 * 60


@pytest.mark.parametrize("has_zeros", [False, True])
@pytest.mark.parametrize(("day", "clock"), [("%Y-%m-%d", "%H%M%S"), ("%d.%m.%Y", "%H%M"), ("%Y%m%d", "%H%M%S")])
def test_times_of_day_that_are_numbers_beside_dates_are_asked_about(
    day: str, clock: str, has_zeros: bool, tmp_path: Path
) -> None:
    clocks = HOURS.dt.strftime(clock)
    columns = {"date": HOURS.dt.strftime(day), "time": clocks if has_zeros else clocks.astype(int)}
    asked = f'looks like times of day .* beside the dates; if so: data.series.time_format: "{day} {clock}"'
    with pytest.raises(DataError, match=f"time decreases in row [0-9]+, and {asked}"):
        series(tmp_path, **columns)
    found = series(tmp_path, settings={"time": "date"}, **columns)
    assert any(re.match(f"warning: time {asked}", line) for line in found.lines)
    assert row_of(found, "time")["taken_for"] == "numbers, or times of day?"
    found = series(tmp_path, settings={"time_format": f"{day} {clock}"}, **columns)
    assert roles(found) == ["value"], "the steps are even"
    row = row_of(found, "date")
    assert row["max"] - row["min"] == (STEPS - 1) * 37 * 60
    new = pd.DataFrame({**columns, "value": np.arange(STEPS) % 2}).head(3)
    new.to_csv(tmp_path / "new.csv", index=False)
    read, _ = SeriesReader.like(
        raw := read_raw(tmp_path / "new.csv", "new"), SeriesSpec(time_format=f"{day} {clock}"), "new"
    ).read(raw[0], "new")
    assert np.diff(read.times).tolist() == [37 * 60] * 2, "few rows suffice"


def test_date_and_time_that_are_objects_are_one_time(tmp_path: Path) -> None:
    found = series(tmp_path, "parquet", date=HOURS.dt.date, time=HOURS.dt.time)
    assert roles(found) == ["value"]


def test_dates_in_another_form_beside_times_of_day_name_the_remedy(tmp_path: Path) -> None:
    columns = {"date": HOURS.dt.strftime("%m/%d/%Y"), "time": HOURS.dt.strftime("%H:%M")}
    with pytest.raises(DataError, match=r"date is '01/31/2020' in row 1; .*data.series.time_format: \"%m/%d/%Y\""):
        series(tmp_path, **columns)


def test_times_of_day_alone_name_the_remedy(tmp_path: Path) -> None:
    day = pd.Series(pd.date_range("2020-01-31 02:00", periods=STEPS, freq="7min")).dt.strftime("%H:%M:%S")
    with pytest.raises(DataError, match=r"time is '02:00:00' in row 1; .*data.series.time_format: \"%H:%M:%S\""):
        series(tmp_path, time=day)
    assert roles(series(tmp_path, settings={"time_format": "%H:%M:%S"}, time=day)) == ["value"]
