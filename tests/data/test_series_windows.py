"""Forecasts of one long series, simulated series, and sections that make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from pydantic import ValidationError

from aifs_tune.config.data import DataSpec, Forecast, SeriesSpec, SimulateSeries, SplitSpec
from aifs_tune.data import prepare_series
from aifs_tune.data.simulate.series import simulate_collection, simulate_long
from aifs_tune.errors import DataError


@pytest.fixture
def river(tmp_path: Path) -> Path:
    n = 300
    frame = pandas.DataFrame({"time": np.arange(n), "level": np.arange(n) + 0.5, "rain": np.arange(n) % 7})
    frame.to_csv(tmp_path / "river.csv", index=False)
    return tmp_path / "river.csv"


def windows(path: Path | None, split: SplitSpec | None = None, spec: dict[str, Any] | None = None, **asked: Any) -> Any:
    forecast = Forecast(**{"target": "level", "history": 10, "horizon": 3} | asked)
    series = SeriesSpec(path=path, forecast=forecast, **spec or {})
    return prepare_series(DataSpec(series=series, split=split or SplitSpec()))


def test_a_window_is_followed_by_its_target(river: Path) -> None:
    examples = windows(river, unit="m").examples
    values, lengths = examples.inputs
    level, target = examples.facts["channels"][0], examples.targets[0]
    assert (level["name"], target.name, target.unit) == ("level", "level", "m")
    seen = values[:, :, 0] * level["scale"] + level["centre"]
    np.testing.assert_allclose(np.diff(seen, axis=1), 1, atol=1e-4)
    targets = examples.y_true[:, 0] * target.scale + target.centre
    np.testing.assert_allclose(targets - seen[:, -1], 3, atol=1e-4)
    assert set(lengths) == {10}
    assert examples.facts["forecast"]["horizon"] == 3


@pytest.mark.parametrize("test", [0.2, 0.0])
@pytest.mark.parametrize("stride", [1, 4])
def test_no_step_is_in_two_subsets_and_subsets_follow_in_time(river: Path, test: float, stride: int) -> None:
    examples = windows(river, SplitSpec(test=test), stride=stride).examples
    level = examples.facts["channels"][0]
    first = np.round(examples.inputs[0][:, 0, 0] * level["scale"] + level["centre"] - 0.5).astype(int)
    ends = -1
    for part in ("train", "val", "test")[: 3 if test else 2]:
        starts = first[getattr(examples, part)]
        assert starts.min() > ends
        ends = int(starts.max()) + 9 + 3
    assert len(examples.test) == 0 or test
    assert len(examples.train) > 2 * len(examples.val)


def test_scaled_by_the_steps_of_the_training_set(river: Path) -> None:
    examples = windows(river).examples
    n_seen = int(examples.train.max()) + 10 + 3
    level = examples.facts["channels"][0]
    assert level["centre"] == pytest.approx((np.arange(n_seen) + 0.5).mean())


def test_unknown_targets_make_no_windows_and_the_naive_forecast_is_reported(river: Path) -> None:
    frame = pandas.read_csv(river)
    n = len(windows(river).examples.y_true)
    frame.loc[[50, 51], "level"] = np.nan
    frame.to_csv(river, index=False)
    found = windows(river)
    assert len(found.examples.y_true) == n - 2
    target = found.examples.targets[0]
    assert f"predicting the last known level has a val_loss of {(3 / target.scale) ** 2:.4g}" in found.lines[-1]


def test_the_target_need_not_be_seen(river: Path) -> None:
    examples = windows(river, spec={"columns": ("rain",)}).examples
    assert [channel["name"] for channel in examples.facts["channels"]] == ["rain"]
    assert examples.targets[0].name == "level"


@pytest.mark.parametrize(
    ("asked", "spec", "message"),
    [
        ({"target": "flow"}, {}, r"river.csv: no column 'flow'; allowed: time, level, rain"),
        ({"history": 280}, {}, r"300 steps leave 0 windows for train, with a history of 280"),
        ({"history": 100}, {}, r"300 steps leave 0 windows for"),
        ({}, {"time": "rain"}, r"rain decreases in row 8; allowed: times that do not decrease"),
        ({}, {"path": "nowhere.csv"}, r"nowhere.csv: there is no such file"),
        ({}, {"path": "."}, r"is a folder; allowed for a forecast: one CSV"),
    ],
)
def test_what_cannot_be_forecast_is_refused(
    river: Path, asked: dict[str, Any], spec: dict[str, Any], message: str
) -> None:
    spec = dict(spec)
    with pytest.raises(DataError, match=message):
        windows(spec.pop("path", river), None, spec, **asked)


@pytest.mark.parametrize("what", ["light_curves", "seismograms"])
def test_simulated_series_follow_from_their_seed_and_number(what: Any) -> None:
    few, many, other = (
        simulate_collection(SimulateSeries(what=what, series=n, steps=40, seed=seed))
        for n, seed in ((24, 1), (30, 1), (24, 2))
    )
    for a, b, c in zip(few.recordings, many.recordings, other.recordings, strict=False):
        np.testing.assert_array_equal(a.values, b.values)
        assert not np.array_equal(a.values, c.values)
        assert a.times is not None
        assert (np.diff(a.times) >= 0).all()
    assert len(set(few.labels)) == {"light_curves": 4, "seismograms": 3}[what]


def test_simulated_series_are_examples_at_once() -> None:
    curves = prepare_series(DataSpec(series=SeriesSpec(simulate=SimulateSeries(series=60, steps=40)))).examples
    roles = [channel["role"] for channel in curves.facts["channels"]]
    assert roles == ["value", "value", "step", "measured"]
    simulated = {"simulate": SimulateSeries(what="quasi_periodic", steps=400)}
    one, two = (windows(None, None, simulated, target="value").examples for _ in range(2))
    assert one.fingerprint == two.fingerprint
    assert one.inputs[0].shape[1:] == (10, 2)
    for wrong in ({"columns": ("value",)}, {"time": "time"}):
        with pytest.raises(DataError, match="is for files; allowed: absent"):
            windows(None, None, simulated | wrong, target="value")
    with pytest.raises(DataError, match="no column 'level'; allowed: value, driver"):
        windows(None, None, simulated)


def test_a_chaotic_series_follows_its_law() -> None:
    columns, long = simulate_long(SimulateSeries(what="mackey_glass", steps=2000, difficulty=0.0))
    values = long.values[:, 0]
    assert columns == ("value",)
    assert 0.2 < values.min() < 0.6 < 1.1 < values.max() < 1.5
    again, noisy = (
        simulate_long(SimulateSeries(what="mackey_glass", steps=2000, difficulty=difficulty))[1].values[:, 0]
        for difficulty in (0.0, 0.5)
    )
    assert np.array_equal(values, again)
    assert np.std(noisy - values) == pytest.approx(0.1 * values.std(), rel=0.1)
    spectrum = np.abs(np.fft.rfft(values - values.mean()))
    assert 2000 / np.argmax(spectrum) == pytest.approx(17, abs=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"forecast": {}, "group": "star"}, "group.*cannot be combined with forecast"),
        ({"forecast": {}, "scaling": "series"}, "scaling.*cannot be combined with forecast"),
        ({"part": "p", "order": "o"}, "order.*cannot be combined with part"),
        ({"simulate": {"what": "quasi_periodic"}}, "quasi_periodic needs forecast"),
        ({"simulate": {"what": "mackey_glass"}}, "allowed: quasi_periodic or mackey_glass with forecast"),
        ({"simulate": {}, "forecast": {}}, "light_curves cannot be combined with forecast"),
        ({"forecast": {"history": 1}}, "greater than or equal to 2"),
    ],
)
def test_a_section_that_asks_two_things_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SeriesSpec(**given)
