"""Entries, rows and classes of tables that can mean two things: each is read right, or said in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from aifs_tune.config.data import DataSpec, SeriesSpec, TableSpec
from aifs_tune.data import PreparedExamples, prepare_series, prepare_table
from aifs_tune.data.columns import EntrySettings, as_numbers
from aifs_tune.data.new_files import Preparation
from aifs_tune.errors import DataError

N = 60
RANDOM = np.random.default_rng(0)
X = [f"{value:.4f}" for value in RANDOM.normal(size=N)]
Y = ["uv"[i % 2] for i in range(N)]


def written(folder: Path, columns: dict[str, Sequence[Any]], separator: str = ",", tail: str = "") -> Path:
    """A file with a row for each entry; entries with the separator are quoted."""
    rows = [columns.keys(), *zip(*columns.values(), strict=True)]
    quoted = [[f'"{entry}"' if separator in str(entry) else str(entry) for entry in row] for row in rows]
    (folder / "t.csv").write_text("\n".join(separator.join(row) for row in quoted) + tail)
    return folder / "t.csv"


def prepared(file: Path, *, strict: bool = False, **section: Any) -> PreparedExamples:
    return prepare_table(DataSpec(table=TableSpec(file=file, **({"target": "y"} | section))), strict=strict)


def row_of(found: PreparedExamples, column: str) -> Any:
    return next(row for row in found.columns if row["column"] == column)


def thousands(sign: str) -> list[str]:
    return [f"{1 + i % 9}{sign}{100 + i * 13 % 900}" for i in range(N)]


def test_points_beside_decimal_commas_separate_thousands_and_it_is_said(tmp_path: Path) -> None:
    comma = [text.replace(".", ",") for text in X]
    file = written(tmp_path, {"x": comma, "mass": thousands("."), "y": Y}, ";")
    found = prepared(file)
    assert (row_of(found, "mass")["min"], row_of(found, "mass")["max"]) == (1100, 9789)
    (line,) = [line for line in found.lines if "column mass" in line]
    assert line == (
        "warning: column mass: the points of '1.100', '2.113' are read as signs between thousands, as other columns "
        "have decimal commas; if not: data.table.decimal: {mass: '.'}"
    )
    told = prepared(file, decimal={"mass": "."})
    assert 1 < row_of(told, "mass")["min"] < row_of(told, "mass")["max"] < 10
    assert not [line for line in told.lines if "column mass" in line]
    assert row_of(told, "x")["max"] < 5


def test_points_that_may_separate_thousands_are_asked_about(tmp_path: Path) -> None:
    file = written(tmp_path, {"x": range(N), "mass": thousands("."), "y": Y}, ";")
    assert any(
        "column mass: the points of '1.100', '2.113' are read as decimal points; if not" in line
        for line in prepared(file).lines
    )
    for section in ({"decimal": ","}, {"thousands": "."}):
        found = prepared(file, **section)
        assert row_of(found, "mass")["max"] == 9789
        assert not any("column mass" in line for line in found.lines)
    plain = written(tmp_path, {"x": X, "mass": [f"{i % 9}.{i * 13 % 900:03d}" for i in range(N)], "y": Y})
    assert not any("column mass" in line for line in prepared(plain).lines), "nothing says decimal comma"


@pytest.mark.parametrize("separator", [",", "\t", " "])
@pytest.mark.parametrize("whole", [False, True])
def test_points_of_all_entries_that_may_separate_thousands_are_named_in_the_table_of_columns(
    separator: str, whole: bool, tmp_path: Path
) -> None:
    entries = [text if i % 2 or not whole else str(i % 7 + 500) for i, text in enumerate(thousands("."))]
    file = written(tmp_path, {"n": [i * 7 % 11 for i in range(N)], "mass": entries, "y": Y}, separator)
    found = prepared(file)
    first = next(entry for entry in entries if "." in entry)
    assert row_of(found, "mass")["taken_for"] == "numbers, or thousands?"
    assert row_of(found, "mass")["min"] < 10
    hint = f"column mass: if all entries, such as '{first}', have points between thousands: data.table.thousands: "
    assert f'{hint}"."' in found.lines
    for section in ({"thousands": "."}, {"decimal": {"mass": ","}}):
        row = row_of(told := prepared(file, **section), "mass")
        assert (row["taken_for"], row["max"]) == ("numbers", 9789 if not whole else row["max"])
        assert row["max"] > 1000
        assert not any("column mass" in line for line in told.lines)


@pytest.mark.parametrize(
    ("others", "entries"),
    [
        ([f"{i * 7 % 11}.5" for i in range(N)], thousands(".")),
        (range(N), [f"{i % 9}.{i * 13 % 900:03d}" for i in range(N)]),
        (range(N), [f"{1 + i % 9}.{i % 9}0" for i in range(N)]),
        (range(N), [f"{1 + i % 9}.000" for i in range(N)]),
        (range(N), ["1.037", "2.541", "4.125"] * (N // 3)),
    ],
)
def test_points_that_are_decimal_points_are_not_asked_about(others: Any, entries: list[str], tmp_path: Path) -> None:
    found = prepared(written(tmp_path, {"x": others, "mass": entries, "y": Y}))
    assert row_of(found, "mass")["taken_for"] == "numbers"
    assert not any("thousands" in line for line in found.lines)


def test_commas_beside_decimal_points_separate_thousands(tmp_path: Path) -> None:
    found = prepared(written(tmp_path, {"x": X, "mass": thousands(","), "y": Y}))
    assert row_of(found, "mass")["max"] == 9789
    assert any(
        "the commas of '1,100', '2,113' are read as signs between thousands, as other" in line for line in found.lines
    )
    alone = prepared(written(tmp_path, {"n": [i * 7 % 11 for i in range(N)], "mass": thousands(","), "y": Y}))
    assert row_of(alone, "mass")["max"] == 9789, "separated by commas"
    assert any(line.startswith("warning: column mass: the commas of") for line in alone.lines)
    assert prepared(tmp_path / "t.csv", thousands="none", decimal=",").columns[1]["max"] == 9.789
    tab = prepared(written(tmp_path, {"x": X, "mass": thousands(","), "y": Y}, "\t"))
    assert row_of(tab, "mass")["max"] == 9789


@pytest.mark.parametrize(
    ("entries", "settings", "expected"),
    [
        (["1.234,5", "1.234"], {}, [1234.5, 1234]),
        (["1.234.567", "1.037"], {}, [1234567, 1037]),
        (["0,123", "0,456"], {"separator": ","}, [0.123, 0.456]),
        (["0.037", "0.120"], {"others": ","}, [0.037, 0.120]),
        (["1.037", "12.5"], {"others": ","}, [1.037, 12.5]),
        (["1,037", "2,541"], {"others": ","}, [1.037, 2.541]),
        (["1.037", "2.541"], {"others": "."}, [1.037, 2.541]),
        (["1,037", "2.541"], {}, [1037, 2.541]),
    ],
)
def test_the_signs_of_numbers(entries: list[str], settings: dict[str, Any], expected: list[float]) -> None:
    found = as_numbers(pd.Series(entries, dtype=object), EntrySettings(**settings))
    assert found is not None
    assert found.values.tolist() == expected


def test_new_rows_have_the_decimal_sign_of_the_training_rows(tmp_path: Path) -> None:
    comma = [text.replace(".", ",") for text in X]
    file = written(tmp_path, {"x": comma, "mass": thousands("."), "y": Y}, ";")
    data = DataSpec(table=TableSpec(file=file, target="y"))
    examples = prepare_table(data).examples
    (tmp_path / "new.csv").write_text(
        "x;mass\n" + "\n".join(f"{a};{b}" for a, b in zip(comma[:2], thousands(".")[:2], strict=True))
    )
    (new,) = Preparation("table", data, examples.facts).batches([tmp_path / "new.csv"])
    np.testing.assert_array_equal(new.inputs[0], examples.inputs[0][:2])


def test_equal_signs_are_refused() -> None:
    with pytest.raises(ValidationError, match="is the decimal sign too"):
        TableSpec(decimal=",", thousands=",")


@pytest.mark.parametrize(
    ("tail", "words"),
    [("\nTotal,33.2,\nMean:,2.2,u\n", "Total, Mean:"), ("\nSumme,4.5,v\n", "Summe"), ("\nØ,1,v", None)],
)
def test_rows_that_sum_up_are_left_out(tail: str, words: str | None, tmp_path: Path) -> None:
    found = prepared(written(tmp_path, {"sample": [f"s{i}" for i in range(N)], "x": X, "y": Y}, tail=tail))
    lines = [line for line in found.lines if "sum up others" in line]
    n = 0 if words is None else words.count(",") + 1
    assert lines == ([] if words is None else [f"left out: {n} rows at the end that sum up others ({words})"])
    assert len(found.examples.y_true) == N + (words is None)


def test_a_class_of_such_a_name_is_kept(tmp_path: Path) -> None:
    kinds = [["mean", "total"][i % 2] for i in range(N)]
    found = prepared(written(tmp_path, {"kind": kinds, "x": X, "y": Y}))
    assert len(found.examples.y_true) == N


def test_rows_are_counted_by_reason_in_one_line(tmp_path: Path) -> None:
    classes = ["rare", "", "", *Y[3:]]
    found = prepared(written(tmp_path, {"sample": range(N), "x": X, "y": classes}, tail="\nTotal,3,\n"))
    assert (
        "left out: 4 rows: 1 at the end that sum up others (Total), 2 without y, 1 of classes that are too rare"
        in found.lines
    )


@pytest.mark.parametrize("entry", ["-9", "-9999", "?", "unknown", "n/a", "Missing"])
def test_a_class_that_seems_to_be_missing_is_asked_about(entry: str, tmp_path: Path) -> None:
    file = written(tmp_path, {"x": X, "y": [entry if i % 3 == 2 else str(i % 3) for i in range(N)]})
    found = prepared(file)
    assert entry in found.examples.classes, "nothing is guessed"
    (line,) = [line for line in found.lines if "is a class of y" in line]
    assert line.startswith(f"warning: {entry} is a class of y; if it means a missing one: data.table.missing: [")
    number = int(entry) if entry.startswith("-") else entry
    assert prepared(file, missing=[number]).examples.classes == ("0", "1")


def test_a_class_that_is_too_rare_is_left_out_and_named_after_its_likely_cause(tmp_path: Path) -> None:
    file = written(tmp_path, {"x": X, "y": ["U ", *["u v"] * 2, "u-v", *Y[4:]]})
    found = prepared(file)
    assert found.examples.classes == ("u", "v")
    warnings = [line for line in found.lines if line.startswith("warning: ")]
    assert warnings == [
        "warning: the classes U, u differ in capitals alone",
        "warning: the classes u v, u-v differ in capitals, spaces or hyphens alone",
        "warning: left out: class U has 1 different rows; allowed: at least 3, one for each subset",
        "warning: left out: class u v has 2 different rows; allowed: at least 3, one for each subset",
        "warning: left out: class u-v has 1 different rows; allowed: at least 3, one for each subset",
    ]
    with pytest.raises(DataError, match=r"class U has 1 .*differ in capitals alone.*allowed when strict: none"):
        prepared(file, strict=True)


def test_a_class_that_a_part_lacks_is_left_out(tmp_path: Path) -> None:
    part = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
    file = written(tmp_path, {"x": X, "part": part, "y": ["w", "w", *Y[2:]]})
    found = prepared(file, part="part")
    assert found.examples.classes == ("u", "v")
    assert "warning: left out: class w has no row in val" in found.lines
    assert len(found.examples.train) == 38


def dates(form: str) -> list[str]:
    days = pd.date_range("2024-03-01 20:05", periods=20, freq="29h").strftime(form)
    return [days[i * 7 % 20] for i in range(N)]


@pytest.mark.parametrize(
    ("form", "note"),
    [
        ("%Y-%m-%d", None),
        ("%Y-%m-%dT%H:%M:%S", None),
        ("%d.%m.%Y", "are read as day.month.year"),
        ("%d.%m.%Y %H:%M", "are read as day.month.year"),
    ],
)
def test_dates_with_few_different_entries_are_dates(form: str, note: str | None, tmp_path: Path) -> None:
    found = prepared(written(tmp_path, {"x": X, "day": dates(form), "y": Y}))
    assert row_of(found, "day")["taken_for"] == "dates"
    first = (pd.Timestamp("2024-03-01") - pd.Timestamp(0)).days
    assert first <= row_of(found, "day")["min"] < first + 1
    assert note is None or any(note in line for line in found.lines)


@pytest.mark.parametrize(
    ("form", "what", "advice"),
    [
        ("%m/%d/%Y", "dates", "%m/%d/%Y"),
        ("%d/%m/%Y %H:%M", "dates", "%d/%m/%Y %H:%M"),
        ("%Y/%m/%d", "dates", "%Y/%m/%d"),
        ("%H:%M", "times of day", "%H:%M"),
    ],
)
def test_times_in_another_form_are_named_with_the_setting_that_reads_them(
    form: str, what: str, advice: str, tmp_path: Path
) -> None:
    file = written(tmp_path, {"x": X, "when": dates(form), "y": Y})
    reason = str(row_of(prepared(file), "when")["left_out"])
    assert reason.startswith(f"{what} such as ")
    assert f'ISO 8601 such as 2024-03-30T21:05:00, or data.table.time_format: "{advice}"' in reason
    found = prepared(file, time_format=advice)
    assert (row_of(found, "when")["taken_for"], row_of(found, "when")["left_out"]) == (what, None)
    low, high = row_of(found, "when")["min"], row_of(found, "when")["max"]
    assert (0 <= low < high < 24) if what == "times of day" else (19_700 < low < high < 19_900)
    data = DataSpec(table=TableSpec(file=file, target="y", time_format=advice))
    (new,) = Preparation("table", data, found.examples.facts).batches([file])
    np.testing.assert_array_equal(new.inputs[0], found.examples.inputs[0])


@pytest.mark.parametrize(("form", "advice"), [("%b-%d-%Y", "%b %d %Y"), ("%d %b %Y", "%d %b %Y")])
def test_months_with_a_name_are_named(form: str, advice: str, tmp_path: Path) -> None:
    file = written(tmp_path, {"x": X, "when": dates(form), "y": Y})
    assert f'or data.table.time_format, such as "{advice}"' in str(row_of(prepared(file), "when")["left_out"])
    assert row_of(prepared(file, time_format=form), "when")["taken_for"] == "dates"


def test_classes_that_are_numbers_do_not_differ_in_hyphens_alone(tmp_path: Path) -> None:
    found = prepared(written(tmp_path, {"x": X, "y": [1 - 2 * (i % 2) for i in range(N)]}))
    assert found.examples.classes == ("-1", "1")
    assert not any("differ in" in line for line in found.lines)


def test_times_may_be_numbers_and_some_entries_none(tmp_path: Path) -> None:
    file = written(tmp_path, {"x": X, "day": dates("%Y%m%d"), "y": Y})
    found = prepared(file, time_format={"day": "%Y%m%d"})
    assert row_of(found, "day")["taken_for"] == "dates"
    assert row_of(prepared(file), "day")["taken_for"] == "dates", "all of its numbers are days"
    days = ["soon", *dates("%Y-%m-%d")[1:]]
    odd = prepared(written(tmp_path, {"x": X, "day": days, "y": Y}))
    assert any(
        "column day: 1 entries are no dates ('soon' in row 1) and count as missing" in line for line in odd.lines
    )


@pytest.mark.parametrize("form", ["no codes", "%Q", "%%"])
def test_a_form_of_times_that_is_none_is_refused(form: str) -> None:
    for section in (TableSpec, SeriesSpec):
        with pytest.raises(ValidationError, match="codes of strptime"):
            section(time_format=form)


@pytest.mark.parametrize("form", ["%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M"])
def test_series_have_times_in_other_forms(form: str, tmp_path: Path) -> None:
    when = pd.date_range("2024-03-01", periods=12, freq="7h").strftime(form)
    for label in "ab":
        (tmp_path / "s" / label).mkdir(parents=True)
        for i in range(6):
            frame = pd.DataFrame({"time": when, "flux": np.random.default_rng(i).normal(size=12)})
            frame.to_csv(tmp_path / "s" / label / f"{i}.csv", index=False)
    if "/" in form:
        with pytest.raises(
            DataError, match=r"'03/01/2024 00:00' in row 1; allowed: .*ISO 8601.*data.series.time_format"
        ):
            prepare_series(DataSpec(series={"path": tmp_path / "s"}))
    found = prepare_series(DataSpec(series={"path": tmp_path / "s", "time_format": form}))
    assert len(found.examples.y_true) == 12
    for label in "ab":
        for file in (tmp_path / "s" / label).iterdir():
            frame = pd.read_csv(file)
            frame.assign(time=pd.date_range("2024-03-01", periods=12, freq="7h")).to_csv(file, index=False)
    iso = prepare_series(DataSpec(series={"path": tmp_path / "s"}))
    for made, expected in zip(found.examples.inputs, iso.examples.inputs, strict=True):
        np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize(("unit", "space"), [("mm", " "), ("mm", ""), ("mg/l", " "), ("°C", "")])
def test_a_unit_in_each_entry_is_left_out(unit: str, space: str, tmp_path: Path) -> None:
    found = prepared(written(tmp_path, {"x": X, "size": [f"{text}{space}{unit}" for text in X], "y": Y}))
    assert row_of(found, "size")["max"] == max(map(float, X))
    assert f"column size: the unit {unit} is left out" in found.lines


def test_different_units_are_named_and_codes_are_text(tmp_path: Path) -> None:
    sizes = [f"{i % 9} {'mm' if i % 2 else 'cm'}" for i in range(N)]
    found = prepared(written(tmp_path, {"x": X, "size": sizes, "seat": [f"{i % 9}A" for i in range(N)], "y": Y}))
    assert "numbers with different units (cm, mm); allowed: one unit" in str(row_of(found, "size")["left_out"])
    assert row_of(found, "seat")["taken_for"] == "classes of text"


ORDERS: dict[str, Callable[[], Any]] = {
    "row numbers": lambda: range(N),
    "identifiers with gaps": lambda: np.cumsum(1 + RANDOM.integers(0, 5, N)),
    "even steps": lambda: [f"{0.5 * i:.1f}" for i in range(N)],
}


@pytest.mark.parametrize("kind", ORDERS)
def test_columns_that_number_the_rows_are_left_out(kind: str, tmp_path: Path) -> None:
    found = prepared(written(tmp_path, {"x": X, "first": list(ORDERS[kind]()), "y": Y}))
    assert "it rises or falls from row to row" in str(row_of(found, "first")["left_out"])


@pytest.mark.parametrize(("name", "is_used"), [("T", True), ("pressure", True), ("t", False), ("mjd", False)])
def test_a_table_that_is_sorted_by_a_measurement_keeps_it_with_a_warning(
    name: str, is_used: bool, tmp_path: Path
) -> None:
    values = np.sort(np.random.default_rng(3).uniform(20, 90, N)).round(3)
    found = prepared(written(tmp_path, {"x": X, name: values.tolist(), "y": Y}))
    assert (row_of(found, name)["left_out"] is None) is is_used
    text = f"warning: column {name}: it rises or falls from row to row in uneven steps; if it is a time or a number"
    assert any(line.startswith(text) for line in found.lines) is is_used


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    file = written(tmp_path, {"x": X, "z": X[::-1], "w": X, "y": Y})
    found = prepared(file, columns=["z"])
    assert [column["name"] for column in found.examples.facts["columns"]] == ["z"]
    assert row_of(found, "x")["left_out"] == "not in data.table.columns"
    with pytest.raises(DataError, match="no column 'q'; allowed: x, z, w, y"):
        prepared(file, columns=["q"])
    with pytest.raises(DataError, match=r"data.table.columns is 2; allowed for a table whose columns are of different"):
        prepared(file, columns=2)


@pytest.mark.parametrize("marker", [99.999, -777.0, 88.88, 9999.0])
def test_a_marker_of_one_digit_far_outside_is_asked_about(tmp_path: Path, marker: float) -> None:
    values = [12 + i / 40 for i in range(60)]
    values[5] = values[20] = values[33] = marker
    rows = "\n".join(f"{v},{'ab'[i % 2]},{(i * 7919) % 61}" for i, v in enumerate(values))
    (tmp_path / "t.csv").write_text(f"mag,y,z\n{rows}\n")
    lines = prepare_table(DataSpec(table={"file": tmp_path / "t.csv", "target": "y"})).lines
    assert any(f"column mag: is {marker:g} a missing value?" in line for line in lines)


def test_large_different_whole_numbers_are_asked_about(tmp_path: Path) -> None:
    rows = "\n".join(f"{1_000_000 + (i * 7919) % 99_991},{'ab'[i % 2]},{(i * 31) % 17}" for i in range(60))
    (tmp_path / "t.csv").write_text(f"MRN,y,z\n{rows}\n")
    lines = prepare_table(DataSpec(table={"file": tmp_path / "t.csv", "target": "y"})).lines
    assert any("MRN" in line and "if it is an identifier: data.table.leave_out: [MRN]" in line for line in lines)


def test_names_that_are_numbers_are_asked_about(tmp_path: Path) -> None:
    rows = "\n".join(f"{(i * 37) % 11 / 7},{(i * 53) % 13 / 3},{'ab'[i % 2]}" for i in range(60))
    (tmp_path / "t.csv").write_text(f"1.42,-0.32,ctl\n{rows}\n")
    lines = prepare_table(DataSpec(table={"file": tmp_path / "t.csv", "target": "ctl"})).lines
    assert any("numbers are column names (1.42" in line for line in lines)


def test_codes_keep_their_zeros_as_classes_and_are_asked_about_as_inputs(tmp_path: Path) -> None:
    codes = [["001", "007", "100"][i % 3] for i in range(N)]
    found = prepared(written(tmp_path, {"x": X, "y": codes}))
    assert found.examples.classes == ("001", "007", "100")
    found = prepared(written(tmp_path, {"x": X, "site": codes, "y": Y}))
    asked = "warning: column site: '001' looks like a code; if it is no number: data.table.leave_out: [site]"
    assert asked in found.lines
    assert (row_of(found, "site")["taken_for"], row_of(found, "site")["max"]) == ("numbers", 100)
    plain = prepared(written(tmp_path, {"x": X, "site": [["0", "7", "10"][i % 3] for i in range(N)], "y": Y}))
    assert not any("looks like a code" in line for line in plain.lines)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["1'234.5", "2'000'000"], [1234.5, 2e6]),
        (["1\u2019234", "12"], [1234, 12]),
        (["5'11", "6'2"], None),
        (["5'110'", "6'2"], None),
    ],
)
def test_apostrophes_separate_thousands_and_nothing_else(entries: list[str], expected: list[float] | None) -> None:
    found = as_numbers(pd.Series(entries, dtype=object))
    assert (None if found is None else found.values.tolist()) == expected


def test_dashes_of_other_programs_mean_a_missing_number(tmp_path: Path) -> None:
    gaps = ["'--", "\u2014", "\u2013"]
    found = prepared(
        written(tmp_path, {"x": X, "z": [gaps[i // 3 % 3] if i % 3 == 0 else X[i] for i in range(N)], "y": Y})
    )
    assert (row_of(found, "z")["taken_for"], row_of(found, "z")["missing"]) == ("numbers", N // 3)


@pytest.mark.parametrize("size", [1e-19, 1e-200, 1e200])
def test_numbers_of_any_size_are_learnt_from(size: float, tmp_path: Path) -> None:
    plain = prepared(written(tmp_path, {"x": X, "y": Y}))
    found = prepared(written(tmp_path, {"x": [repr(float(text) * size) for text in X], "y": Y}))
    np.testing.assert_allclose(found.examples.inputs[0], plain.examples.inputs[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (["3"] * N, "constant in the training set"),
        ([str(2**62 + 1024 * (i % 3)) for i in range(N)], "varying by less than 1e-12 of its size in the training set"),
    ],
)
def test_numbers_that_cannot_be_scaled_are_left_out(entries: list[str], reason: str, tmp_path: Path) -> None:
    found = prepared(written(tmp_path, {"x": X, "z": entries, "y": Y}))
    assert row_of(found, "z")["left_out"] == reason
    assert found.examples.inputs[0].shape[1] == 1


def test_targets_of_any_size_are_scaled(tmp_path: Path) -> None:
    found = prepared(written(tmp_path, {"x": X, "y": [f"{1 + i % 7}e200" for i in range(N)]}), predict="values")
    assert float(found.examples.y_true.std()) == pytest.approx(1, abs=0.3)


def test_columns_behind_an_empty_one_are_asked_about(tmp_path: Path) -> None:
    lines = [f"{X[i]},{Y[i]},,{i if i < 5 else ''},{i if i < 5 else ''}" for i in range(N)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y,,p,q", *lines]))
    asked = "warning: p, q stand behind an empty column without a name: are they another table? Then leave them out"
    assert asked in prepared(tmp_path / "t.csv").lines
    (tmp_path / "t.csv").write_text("\n".join(["x,y,", *(f"{x},{y}," for x, y in zip(X, Y, strict=True))]))
    assert not any("another table" in line for line in prepared(tmp_path / "t.csv").lines)


@pytest.mark.parametrize(
    ("content", "command"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        ("/annex/objects/SHA256E-s12345--4d7a.csv\n", "datalad get, or git annex get"),
    ],
)
def test_pointers_to_files_that_are_elsewhere_name_the_command(content: str, command: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError, match=f"is a pointer to the file, which is not on this machine; get it: {command}"):
        prepared(tmp_path / "t.csv")
