"""What benchmarks/forecasts.py compares the quantiles of a network with."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aifs_tune.data.examples import Target
from aifs_tune.trainers.network.metrics import measure_quantiles
from aifs_tune.trainers.predictions import LEVELS, MEDIAN

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def forecasts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("forecasts")


def task(forecasts: Any, series: Any, *, season: int = 0, horizon: int = 3) -> Any:
    return forecasts.Task("made", np.asarray(series, float), "m", 6, horizon, season, 5)


@pytest.mark.parametrize("season", [0, 12])
def test_columns_end_a_horizon_before_the_value(forecasts: Any, season: int) -> None:
    made = task(forecasts, np.arange(200), season=season)
    examples = made.examples
    target = examples.targets[0]
    past = examples.inputs[0][:, :6] * target.scale + target.centre
    values = examples.y_true * target.scale + target.centre
    np.testing.assert_allclose(past, values - np.arange(8, 2, -1), atol=1e-3)
    assert examples.inputs[0].shape[1] == (8 if season else 6)
    assert values[examples.train].max() == pytest.approx(119, abs=1e-3)
    for before, after in (("train", "val"), ("val", "test")):
        made_at = values[getattr(examples, after)].min() - 3
        assert made_at >= values[getattr(examples, before)].max() - 1e-3, "what was learnt was known by then"
    series = forecasts.as_series(made).inputs[0]
    np.testing.assert_array_equal(series[:, :, 0], examples.inputs[0][:, :6])
    assert (series[:, 0, 1:] == series[:, -1, 1:]).all()


def test_a_season_is_foretold_by_the_season_before_it(forecasts: Any) -> None:
    series = np.tile(np.arange(12.0) ** 2, 20)
    made = task(forecasts, series, season=12)
    for deciles in (forecasts.repeated(made, 12), forecasts.climatology(made)):
        np.testing.assert_allclose(deciles, np.tile(made.truth[:, None], (1, 9)))


def test_persistence_covers_four_in_five_of_a_random_walk(forecasts: Any) -> None:
    series = np.cumsum(np.random.default_rng(0).normal(size=4000))
    made = task(forecasts, series, horizon=1)
    found = forecasts.measured(made, forecasts.repeated(made, 1), forecasts.climatology(made), 200)
    assert found["coverage"].low < 0.8 < found["coverage"].high
    assert found["crps"].value == pytest.approx(1 / np.sqrt(np.pi) * 1.09, rel=0.05)
    assert found["against"].high < 0, "climatology is worse"


def test_linear_quantiles_find_a_linear_law(forecasts: Any) -> None:
    random = np.random.default_rng(2)
    series = np.zeros(500)
    for i in range(1, 500):
        series[i] = 0.9 * series[i - 1] + random.normal()
    made = task(forecasts, series, horizon=1)
    errors = forecasts.linear_quantiles(made)[:, MEDIAN] - 0.9 * series[made.targets("test") - 1]
    assert np.abs(errors).mean() < 0.3


def test_the_score_is_that_of_the_trainers(forecasts: Any) -> None:
    random = np.random.default_rng(1)
    truth, deciles = random.normal(size=30), np.sort(random.normal(size=(30, len(LEVELS))), axis=1)
    told = measure_quantiles(truth[:, None], deciles, Target("x", None, 0.0, 1.0))
    assert forecasts.scores(truth, deciles).mean() == pytest.approx(told["crps_x"])
