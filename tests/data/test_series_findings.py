"""What is said of series before they are learnt from, and what one bad file or rare class does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from aifs_tune.cli.main import app
from aifs_tune.config.data import DataSpec
from aifs_tune.data import PreparedExamples, prepare_series
from aifs_tune.errors import DataError

N, STEPS = 40, 16
SWEEP = """
name: stars
trainer: rnn
data: {series: {}}
space: {learning_rate: {type: float, low: 0.001, high: 0.01, default: 0.001}}
"""


def curve(i: int, n: int = STEPS) -> pd.DataFrame:
    return pd.DataFrame({"time": np.arange(n) * 0.5, "mag": np.random.default_rng(i).normal(15, 1, n).round(5)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(N):
        file = tmp_path / "stars" / ("mira", "rr")[i % 2] / f"{i:02d}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        curve(i).to_csv(file, index=False)
    return tmp_path / "stars"


def prepared(
    path: Path, *, strict: bool = False, data: dict[str, Any] | None = None, **section: Any
) -> PreparedExamples:
    return prepare_series(DataSpec(series={"path": path, **section}, **data or {}), strict=strict)


def change(folder: Path, i: int, **columns: Any) -> None:
    curve(i).assign(**columns).to_csv(folder / ("mira", "rr")[i % 2] / f"{i:02d}.csv", index=False)


def test_files_that_are_left_out_are_counted_by_reason(folder: Path) -> None:
    for i in range(0, 14, 2):
        change(folder, i, mag=["bright" if j == i else "" for j in range(STEPS)])
    change(folder, 1, mag=np.nan)
    change(folder, 3, time=[0, 1, 2, 1, *range(4, STEPS)])
    found = prepared(folder)
    left_out = [line for line in found.lines if line.startswith("left out")]
    assert len(left_out) == 3
    assert left_out[0].startswith("left out: 7 of 40 series: mag is 'bright' in row 1; allowed: numbers")
    assert left_out[0].endswith("(mira/00.csv, mira/02.csv, ...)")
    assert "left out: 1 of 40 series: no value in mag; allowed: numbers (rr/01.csv)" in left_out
    allowed = "times that do not decrease, or data.series.sort: true"
    assert f"left out: 1 of 40 series: time decreases in row 4; allowed: {allowed} (rr/03.csv)" in left_out
    with pytest.raises(DataError, match=r"mira/00.csv: mag is 'bright' in row 1"):
        prepared(folder, strict=True)


def test_times_out_of_order_are_sorted_if_asked_and_repeated_ones_named(folder: Path) -> None:
    for i in range(N):
        change(folder, i, time=[0, 2, 1, *range(3, STEPS)])
    with pytest.raises(DataError, match=r"mira/00.csv: time decreases in row 3; .*\(40 of 40 series cannot be read\)"):
        prepared(folder)
    found = prepared(folder, sort=True)
    assert (
        "rows were sorted by time; places where it decreased: 40 (40 series, such as mira/00.csv row 3)" in found.lines
    )
    fact = found.examples.facts["channels"][0]
    values = found.examples.inputs[0][0, :, 0] * fact["scale"] + fact["centre"]
    np.testing.assert_allclose(values, curve(0)["mag"].iloc[[0, 2, 1, *range(3, STEPS)]], atol=1e-4)
    change(folder, 5, time=[0, 1, 2, 3, 3, 3, *range(6, STEPS)])
    text = "warning: rows with the same time as another one: 2 (1 series, such as rr/05.csv row 5)"
    assert text in prepared(folder, sort=True).lines


def test_the_end_of_daylight_saving_time_is_recognised(folder: Path) -> None:
    local = pd.date_range("2024-10-27 00:10", periods=STEPS, freq="30min", tz="Europe/Berlin").tz_localize(None)
    for i in range(N):
        change(folder, i, time=local.astype(str))
    with pytest.raises(DataError, match=r"time decreases in row 7; allowed: UTC, .*daylight saving time seems to end"):
        prepared(folder, sort=False)


def test_limits_and_numbers_that_mean_a_missing_one(folder: Path) -> None:
    for i in range(N):
        entries = curve(i)["mag"].astype(str).tolist()
        entries[5], entries[7] = ">14.5", "-99"
        entries[9] = "-99"
        change(folder, i, mag=entries)
    with pytest.raises(
        DataError, match=r"mag is '>14.5' in row 6; allowed: numbers, or data.series.below_limit: missing"
    ):
        prepared(folder)
    found = prepared(folder, below_limit="missing")
    asked = "warning: column mag: is -99 a missing value? If so: data.series.missing: [-99]: 80 (40 series"
    assert any(line.startswith(asked) for line in found.lines)
    row = next(
        each for each in prepared(folder, below_limit="missing", missing=[-99]).columns if each["column"] == "mag"
    )
    assert row["missing"] == 3 * N
    assert row["min"] > 10
    kept = next(
        each for each in prepared(folder, below_limit="limit", missing=[-99]).columns if each["column"] == "mag"
    )
    assert kept["missing"] == 2 * N


@pytest.mark.parametrize("n_rare", [1, 2])
def test_a_class_with_too_few_series_is_left_out(folder: Path, n_rare: int) -> None:
    (folder / "cv").mkdir()
    for i in range(n_rare):
        curve(100 + i).to_csv(folder / "cv" / f"{i}.csv", index=False)
    found = prepared(folder)
    assert found.examples.classes == ("mira", "rr")
    text = f"cv ({n_rare} different series)"
    assert f"warning: classes left out with too few series to be in every set: {text}" in found.lines
    assert len(found.files.path) == N
    with pytest.raises(DataError, match=rf"classes with too few series .*cv \({n_rare} different series\)"):
        prepared(folder, strict=True)


def test_an_empty_class_folder_is_left_out(folder: Path) -> None:
    (folder / "plots").mkdir()
    (folder / "plots" / "a.png").write_bytes(b"x")
    found = prepared(folder)
    assert "left out: the folder plots, which holds no series" in found.lines
    with pytest.raises(DataError, match="no series in plots; allowed: files named"):
        prepared(folder, strict=True)


def with_manifest(
    folder: Path, rows: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda rows: rows
) -> Path:
    """A manifest of the series, two of five for validation and test."""
    listed = [
        {"path": f"{('mira', 'rr')[i % 2]}/{i:02d}.csv", "label": ("mira", "rr")[i % 2],
         "part": "val" if i % 20 > 15 else "test" if i % 20 > 11 else "train"}
        for i in range(N)
    ]  # fmt: skip
    pd.DataFrame(rows(listed)).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.mark.parametrize("digits", [5, 3])
def test_nearly_equal_series_in_two_parts_and_with_two_classes_are_named(folder: Path, digits: int) -> None:
    change(folder, 16, mag=curve(2)["mag"].round(digits))
    change(folder, 17, mag=curve(2)["mag"])
    found = prepared(with_manifest(folder), part="part")
    warnings = [line for line in found.lines if line.startswith("warning")]
    assert warnings == [
        "warning: 2 series of the validation and test sets have the values of a training series, such as mira/16.csv "
        "and mira/02.csv",
        "warning: 3 series have the same values as a series of another class, such as mira/02.csv and rr/17.csv",
    ]
    with pytest.raises(DataError, match=r"2 series of the validation .*allowed with data.near_duplicates refuse: none"):
        prepared(folder, part="part", data={"near_duplicates": "refuse"})
    (folder / "manifest.csv").unlink()
    drawn = prepared(folder).examples
    of_two, of_sixteen = 1, 8  # positions of 02.csv and 16.csv in the folder mira
    for part in (drawn.train, drawn.val, drawn.test):
        assert (of_two in part) == (of_sixteen in part) == (N // 2 + 8 in part)


def test_series_that_differ_are_not_called_equal(folder: Path) -> None:
    change(folder, 16, mag=curve(2)["mag"] + 0.05)
    change(folder, 18, mag=curve(4)["mag"], time=np.arange(STEPS) * 0.7)
    found = prepared(with_manifest(folder), part="part")
    assert not [line for line in found.lines if line.startswith("warning") and "values" in line]


def test_a_file_listed_twice(folder: Path) -> None:
    def rows(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [*listed, listed[0], listed[1] | {"label": "mira"}]

    found = prepared(with_manifest(folder, rows))
    assert len(found.examples.y_true) == N - 1
    assert "1 rows list a file again; each is read once" in found.lines
    text = "rr/01.csv has several entries in label (rr, mira)"
    assert f"left out: 1 series listed with different entries: {text}" in found.lines
    with pytest.raises(DataError, match=r"rr/01.csv has several entries in label \(rr, mira\); allowed: one for each"):
        prepared(folder, strict=True)


def test_columns_that_count_steps_or_tell_series_apart_are_left_out(folder: Path) -> None:
    for i in range(N):
        change(folder, i, step=np.arange(STEPS) + 7, source=10_000 + 13 * i, band="V", exposure=30.0, error=0.1 * i)
    found = prepared(folder)
    reasons = {each["column"]: each["left_out"] for each in found.columns}
    assert reasons == {
        "time": None,
        "mag": None,
        "error": None,
        "step": "it counts the steps; data.series.columns uses it",
        "source": "one whole number for each series, like an identifier; data.series.columns uses it",
        "band": "text",
        "exposure": "constant in the training set",
    }
    used = {each["column"] for each in prepared(folder, columns=["mag", "step"]).columns if each["left_out"] is None}
    assert used == {"time", "mag", "step"}


def test_a_column_of_a_few_files_does_not_decide(folder: Path) -> None:
    change(folder, 0, dec=1.5)
    found = prepared(folder)
    assert len(found.examples.y_true) == N
    row = next(each for each in found.columns if each["column"] == "dec")
    assert row["left_out"].startswith("in 1 of ")


def test_lengths_and_time_steps_that_differ_a_lot(folder: Path) -> None:
    curve(3, 900).to_csv(folder / "rr" / "03.csv", index=False)
    change(folder, 6, time=np.arange(STEPS) * 43_200.0)
    warnings = [line for line in prepared(folder).lines if line.startswith("warning")]
    assert warnings == [
        "warning: the lengths of 1 series are far from the median of 16 steps, such as rr/03.csv with 900; all are "
        "padded to 900, or cut to data.series.length",
        "warning: the times of 1 series seem to be in another unit: the median step of mira/06.csv is 4.32e+04, that "
        "of most series 0.5",
    ]
    assert not [line for line in prepared(folder, length=16).lines if "the lengths of" in line]


def test_what_alone_gives_the_class(folder: Path) -> None:
    for i in range(N):
        frame = curve(i, 12 + 4 * (i % 2)).assign(redshift=0.1 + i % 2 + i / 1000)
        frame.to_csv(folder / ("mira", "rr")[i % 2] / f"{i:02d}.csv", index=False)
    lines = prepared(folder).lines
    for what in ("the number of steps", "column redshift, which has one value in each series,"):
        assert f"warning: {what} alone gives the class of every series; is that so in new data too?" in lines


def test_files_without_column_names(folder: Path) -> None:
    for i in range(N):
        curve(i).to_csv(folder / ("mira", "rr")[i % 2] / f"{i:02d}.csv", index=False, header=False)
    with pytest.raises(DataError, match=r"its first line holds numbers .*data.series.header: false for columns called"):
        prepared(folder)
    found = prepared(folder, header=False, time="column1")
    assert [each["column"] for each in found.columns] == ["column1", "column2"]


@pytest.mark.parametrize("n_columns", [1, 60])
def test_check_data_fits_on_a_screen_and_ends_with_the_columns(folder: Path, tmp_path: Path, n_columns: int) -> None:
    for i in range(N):
        random = np.random.default_rng(i)
        change(folder, i, **{f"c{j}": random.normal(size=STEPS) for j in range(n_columns)}, note="clear")
    for i in range(20, 32):
        (folder / "mira" / f"bad{i}.csv").write_text("time,mag\n0,1\n")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    done = CliRunner().invoke(
        app, ["check-data", str(tmp_path / "sweep.yaml"), "--data", str(folder)], env={"COLUMNS": "100"}
    )
    assert done.exit_code == 0, done.output
    lines = done.stdout.rstrip().splitlines()
    assert len(lines) <= 45
    assert lines[-1].startswith("fingerprint")
    shown = " ".join(done.stdout.split())
    assert "left out: 12 of 52 series: " in shown
    assert "(mira/bad20.csv, mira/bad21.csv, ...)" in shown
    assert "taken for" in shown


@pytest.mark.parametrize("name", ["Time (s)", "elapsed_ms"])
def test_a_column_that_rises_in_every_series_may_be_the_time(name: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(12):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        lines = [f"{0.5 * step + i},{value}" for step, value in enumerate(random.normal(size=20))]
        (tmp_path / "ab"[i % 2] / f"{i}.csv").write_text("\n".join([f"{name},flux", *lines]))
    found = prepare_series(DataSpec(series={"path": tmp_path}))
    asked = f"warning: {name} rises from step to step in every series; if it is the time: data.series.time: {name}"
    assert any(line.startswith(asked) for line in found.lines)
    found = prepare_series(DataSpec(series={"path": tmp_path, "time": name}))
    assert not any("from step to step" in line for line in found.lines)
    (tmp_path / "a" / "0.csv").write_text("\n".join([f"{name},flux", *(f"{(7 * i) % 20},{i % 3}" for i in range(20))]))
    assert not any("from step to step" in line for line in prepare_series(DataSpec(series={"path": tmp_path})).lines)
