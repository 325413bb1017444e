"""Wide tables: a row for each series, whose steps are numbered columns; what stands beside them is never a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aifs_tune.config.data import DataSpec
from aifs_tune.data import PreparedExamples, prepare_series
from aifs_tune.errors import DataError

N, STEPS = 24, 12


def curves() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, STEPS)).round(3)


def wide(names: list[str] | None = None, values: np.ndarray | None = None) -> pd.DataFrame:
    columns = names or [f"t{i}" for i in range(STEPS)]
    frame = pd.DataFrame(curves() if values is None else values, columns=columns)
    frame.insert(0, "label", [("mira", "rr")[i % 2] for i in range(N)])
    return frame


def prepared(file: Path, **section: Any) -> PreparedExamples:
    return prepare_series(DataSpec(series={"path": file, **section}))


def of(tmp_path: Path, frame: pd.DataFrame, **section: Any) -> PreparedExamples:
    frame.to_csv(tmp_path / "wide.csv", index=False)
    return prepared(tmp_path / "wide.csv", **section)


def values_of(found: PreparedExamples) -> np.ndarray:
    channel = found.examples.facts["channels"][0]
    return found.examples.inputs[0][..., 0] * channel["scale"] + channel["centre"]


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("batch", [i % 3 for i in range(N)]),
        ("plate", [f"P{i % 4}" for i in range(N)]),
        ("id", list(range(1000, 1000 + N))),
        ("subject", [f"subject {i}" for i in range(N)]),
        ("", list(range(N))),
        ("age", [20.5 + i for i in range(N)]),
    ],
)
@pytest.mark.parametrize("steps", ["t{}", "{}", "step_{}", "X{}.0", "0.{:02d}", "t-{:02d}"])
def test_a_column_before_the_steps_is_no_step(name: str, entries: list[Any], steps: str, tmp_path: Path) -> None:
    frame = wide([steps.format(i) for i in range(STEPS)])
    frame.insert(0, name, entries)
    if steps.startswith("t-"):
        frame = frame[[name, "label", *sorted(frame.columns[2:], reverse=True)]]
        expected = curves()[:, ::-1]
    else:
        expected = curves()
    found = of(tmp_path, frame)
    assert found.examples.inputs[0].shape == (N, STEPS, 1)
    np.testing.assert_allclose(np.sort(values_of(found)), np.sort(expected), atol=1e-4)
    assert any(
        line.startswith(f"left out: column {name or 'without a name'}, unlike the steps") for line in found.lines
    )


def test_a_column_beside_the_steps_can_divide_the_series_or_be_a_step(tmp_path: Path) -> None:
    frame = wide()
    frame.insert(1, "batch", [i % 6 for i in range(N)])
    frame["set"] = ["train"] * 16 + ["val"] * 4 + ["test"] * 4
    grouped = of(tmp_path, frame, group="batch")
    for part in ("train", "val", "test"):
        of_part = {i % 6 for i in getattr(grouped.examples, part).tolist()}
        others = {
            i % 6 for other in {"train", "val", "test"} - {part} for i in getattr(grouped.examples, other).tolist()
        }
        assert not of_part & others
    assert of(tmp_path, frame, part="set").examples.test.tolist() == list(range(20, 24))
    chosen = of(tmp_path, frame, columns=["batch", "t0", "t1", "t2"])
    assert chosen.examples.inputs[0].shape == (N, 4, 1)
    assert "left out: columns t3, t4, t5 and 7 more, not in data.series.columns" in chosen.lines
    with pytest.raises(DataError, match=r"no column 't99' of data.series.columns"):
        of(tmp_path, frame, columns=["t0", "t99"])
    with pytest.raises(DataError, match=r"no column 'batches'; allowed for data.series.group: label, batch, t0"):
        of(tmp_path, frame, group="batches")


def test_steps_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    frame = wide()
    frame = frame[["label", *sorted(frame.columns[1:])]]  # t0, t1, t10, t11, t2, ...
    found = of(tmp_path, frame)
    np.testing.assert_allclose(values_of(found), curves(), atol=1e-4)
    assert "the steps are sorted by the numbers in their names" in found.lines


@pytest.mark.parametrize(
    "names",
    [
        ["0", "1", "2", "5", "10", "20", "30", "60", "90", "120", "180", "240"],
        [f"min {2**i}" for i in range(STEPS)],
        [f"2024-0{1 + i // 6}-{1 + 4 * (i % 6):02d}" for i in range(STEPS)],
    ],
)
def test_uneven_numbers_and_dates_in_names_are_times(names: list[str], tmp_path: Path) -> None:
    found = of(tmp_path, wide(names))
    assert [fact["role"] for fact in found.examples.facts["channels"]] == ["value", "step"]
    assert any(line.endswith("in the names of the steps are their times") for line in found.lines)


def test_columns_of_several_kinds_are_not_one_series(tmp_path: Path) -> None:
    both = np.concatenate([curves(), curves()], axis=1)
    for names in (
        [f"acc_{axis}_{i}" for axis in "xy" for i in range(STEPS)],
        [f"s{sensor}_{i}" for sensor in (1, 2) for i in range(STEPS)],
    ):
        with pytest.raises(DataError, match=r"has 2 kinds of steps \(.*allowed: one, named in data.series.columns"):
            of(tmp_path, wide(names, both))


def test_a_table_of_features_and_one_of_steps_are_no_wide_tables(tmp_path: Path) -> None:
    features = ["age", "height", "weight", "pulse", "sodium", "iron", "zinc", "copper", "lead", "tin", "gold", "silver"]
    with pytest.raises(DataError, match=r"are not numbered like steps of a series .*; or data.table, if they are no"):
        of(tmp_path, wide(features))
    recorded = wide([f"ch{i}" for i in range(STEPS)])
    recorded.insert(0, "time", np.arange(N) / 10)
    with pytest.raises(DataError, match=r"has a column of times, time, and numbered columns .*data.series.id"):
        of(tmp_path, recorded)


def test_numbers_in_text_and_missing_ones_are_read(tmp_path: Path) -> None:
    frame = wide()
    frame.loc[4, "t3"] = -99
    text = frame.map(lambda entry: f"{entry:.3f}".replace(".", ",") if isinstance(entry, float) else entry)
    text.loc[2, "t5"] = "NA"
    text.to_csv(tmp_path / "wide.csv", index=False, sep=";")
    found = prepared(tmp_path / "wide.csv", missing=[-99])
    expected = curves()
    expected[4, 3], expected[2, 5] = expected[4, 2], expected[2, 4]
    np.testing.assert_allclose(values_of(found), expected, atol=1e-4)
    assert "the steps: decimal commas" in found.lines
    text.loc[3, "t1"] = "broken"
    text.to_csv(tmp_path / "wide.csv", index=False, sep=";")
    found = prepared(tmp_path / "wide.csv", missing=[-99])
    assert len(found.examples.y_true) == N - 1
    assert any("value is 'broken' in row 2" in line for line in found.lines)


def test_a_long_table_can_be_divided_by_its_own_columns(tmp_path: Path) -> None:
    frame = wide().assign(star=range(N), field=[i % 6 for i in range(N)])
    long = frame.melt(["star", "label", "field"], value_name="flux", var_name="step").drop(columns="step")
    long = long.sort_values("star", kind="stable")
    found = of(tmp_path, long, id="star", group="field")
    fields = [{i % 6 for i in getattr(found.examples, part).tolist()} for part in ("train", "val", "test")]
    assert sum(map(len, fields)) == 6
    with pytest.raises(DataError, match=r"no column 'fields'; allowed: star, label, field, flux"):
        of(tmp_path, long, id="star", group="fields")
    with pytest.raises(DataError, match=r"each row has its own star; .*row is a series: without data.series.id"):
        of(tmp_path, frame, id="star")
