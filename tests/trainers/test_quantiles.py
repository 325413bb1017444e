"""Networks that predict the quantiles of a number."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_series import SMALL_CNN1D, slopes
from small_tables import planes

from aifs_tune.config.loading import parse_sweep
from aifs_tune.data.examples import ExampleSet, Target
from aifs_tune.errors import RequestError
from aifs_tune.trainers.factory import check_trainer
from aifs_tune.trainers.load import load_network
from aifs_tune.trainers.models.cnn1d import Cnn1dTrainer
from aifs_tune.trainers.models.mlp import MlpNetwork, MlpParams, MlpShape, MlpTrainer
from aifs_tune.trainers.network.metrics import measure_quantiles
from aifs_tune.trainers.predictions import (
    LEVELS,
    MEDIAN,
    point_predictions,
    quantile_metrics,
    read_predictions,
    value_metrics,
)

NORMAL = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
FLOW = Target("flow", "m3/s", 50.0, 4.0)
FAST = {"learning_rate": 0.02, "units": 16, "layers": 1, "dropout": 0.0, "batch_size": 64, "loss": "quantiles"}
FAST |= {"schedule": "cosine"}


def uneven(n: int = 1600) -> ExampleSet:
    """Numbers whose spread grows with the only column, from -1 to 1: flow = x + (0.7 + x / 2) noise."""
    random = np.random.default_rng(4)
    x = random.uniform(-1, 1, (n, 1)).astype(np.float32)
    y_true = (x + (0.7 + x / 2) * random.normal(size=(n, 1))).astype(np.float32)
    parts = np.split(np.arange(n, dtype=np.int32), [n // 2, n * 3 // 4])
    return ExampleSet((x,), y_true, (), (FLOW,), *parts, "uneven")


@pytest.fixture(scope="module")
def trained() -> Any:
    """A trainer of uneven numbers, and the metrics of its best epoch."""
    trainer = MlpTrainer(uneven(), FAST, metric="val_pinball", mode="min", epochs=25, threads=1)
    measured = [trainer.epoch() for _ in range(25)]
    return trainer, measured[(trainer.best_epoch or 0) - 1]


def test_quantiles_are_those_of_the_law_behind_the_data(trained: Any) -> None:
    trainer, best = trained
    assert tuple(best) == (*value_metrics(["flow"]), *quantile_metrics("flow"))
    x = np.array([[-0.8], [0.0], [0.8]], np.float32)
    spread = FLOW.scale * (0.7 + x / 2)
    law = FLOW.centre + FLOW.scale * x + spread * NORMAL
    assert (np.abs(trainer.predict(x) - law) < 0.5 * spread).all()
    assert best["val_coverage"] == pytest.approx(0.8, abs=0.06)
    exact = FLOW.scale * 0.7 / np.sqrt(np.pi)  # of a normal distribution, over x
    assert best["val_crps_flow"] == pytest.approx(exact, rel=0.2)


def test_metrics_are_those_of_its_predictions(trained: Any) -> None:
    trainer, best = trained
    examples = uneven()
    y_true = examples.y_true[examples.val] * FLOW.scale + FLOW.centre
    found = trainer.predict(examples.inputs[0][examples.val])
    low, high = found[:, 0], found[:, -1]
    assert best["val_width_flow"] == pytest.approx((high - low).mean(), rel=1e-4)
    assert best["val_coverage"] == pytest.approx(((low <= y_true[:, 0]) & (y_true[:, 0] <= high)).mean(), abs=2e-3)
    assert best["val_mae_flow"] == pytest.approx(np.abs(found[:, MEDIAN] - y_true[:, 0]).mean(), rel=1e-4)
    tested = trainer.evaluate("test")
    assert tested["test_crps_flow"] == pytest.approx(2 * tested["test_pinball"] * FLOW.scale, rel=1e-6)


def test_files_name_each_quantile_and_the_test_part_has_the_median(trained: Any, tmp_path: Path) -> None:
    trainer, _ = trained
    trainer.save_best(tmp_path)
    loaded = load_network(tmp_path)
    assert [target.name for target in loaded.targets] == [f"flow_q{10 * i}" for i in range(1, 10)]
    assert {(target.unit, target.scale) for target in loaded.targets} == {("m3/s", 4.0)}
    examples = uneven()
    found = loaded.predict(examples.inputs[0][examples.test])
    np.testing.assert_array_equal(found, trainer.predict(examples.inputs[0][examples.test]))
    assert (np.diff(found, axis=1) >= 0).all()
    trainer.save_predictions(tmp_path)
    kept = read_predictions(tmp_path)
    np.testing.assert_allclose(kept.y_pred[:, 0], found[:, MEDIAN], rtol=1e-5)
    assert kept.targets == ({"name": "flow", "unit": "m3/s"},)


def test_quantiles_never_cross_and_begin_as_a_normal_distribution() -> None:
    examples = planes(n_targets=1)
    network = MlpNetwork(MlpShape.of(MlpParams(units=5, layers=1, loss="quantiles"), examples), "float32")
    zeros = {name: np.zeros(size, np.float32) for name, size in network.sizes.items()}
    inputs = examples.inputs[0]

    def quantiles() -> NDArray[Any]:
        return np.array(network.outputs(inputs, lambda values: values, is_training=False))

    network.assign(zeros)
    np.testing.assert_allclose(quantiles(), np.tile(NORMAL, (len(inputs), 1)), atol=1e-5)
    random = np.random.default_rng(0)
    network.assign({name: random.normal(0, 5, size).astype(np.float32) for name, size in network.sizes.items()})
    assert (np.diff(quantiles(), axis=1) >= 0).all()
    assert np.ptp(quantiles()[:, MEDIAN]) > 1


def test_a_network_on_series_learns_quantiles() -> None:
    params = SMALL_CNN1D | {"loss": "quantiles"}
    trainer = Cnn1dTrainer(slopes(of_values=True), params, metric="val_crps_slope", mode="min", seed=1, threads=1)
    measured = [trainer.epoch() for _ in range(15)]
    assert (trainer.best_value or 1) < 0.6 * measured[0]["val_crps_slope"]
    found = trainer.predict(*slopes(of_values=True).inputs)
    assert np.corrcoef(found[:, MEDIAN], slopes(of_values=True).y_true[:, 0])[0, 1] > 0.7


def weighted_interval_score(y_true: NDArray[Any], quantiles: NDArray[Any]) -> float:
    """As Bracher et al. (2021) define it: scores of central intervals, and of the median."""
    n_intervals, total = MEDIAN, 0.5 * np.abs(y_true - quantiles[:, MEDIAN])
    for i in range(n_intervals):
        alpha, low, high = 2 * LEVELS[i], quantiles[:, i], quantiles[:, -1 - i]
        outside = np.clip(low - y_true, 0, None) + np.clip(y_true - high, 0, None)
        total = total + alpha / 2 * (high - low + 2 / alpha * outside)
    return float((total / (n_intervals + 0.5)).mean())


def test_the_score_is_the_weighted_interval_score_in_the_unit_of_the_target() -> None:
    random = np.random.default_rng(1)
    quantiles = np.sort(random.normal(size=(50, len(LEVELS))), axis=1).astype(np.float32)
    y_true = random.normal(size=(50, 1)).astype(np.float32)
    found = measure_quantiles(y_true, quantiles, FLOW)["crps_flow"]
    assert found == pytest.approx(4 * weighted_interval_score(y_true[:, 0], quantiles), rel=1e-6)
    alike = np.repeat(quantiles[:, :1], len(LEVELS), axis=1)
    certain = measure_quantiles(y_true, alike, FLOW)
    assert certain["crps_flow"] == pytest.approx(certain["mae_flow"], rel=1e-6), "of one value, the absolute error"


def test_the_score_is_near_that_of_the_whole_distribution() -> None:
    y_true = np.random.default_rng(2).normal(size=(4000, 1)).astype(np.float32)
    found = measure_quantiles(y_true, np.tile(NORMAL, (4000, 1)).astype(np.float32), FLOW)
    z, normal = y_true[:, 0].astype(float), NormalDist()
    density, below = (np.array([of(value) for value in z]) for of in (normal.pdf, normal.cdf))
    exact = (z * (2 * below - 1) + 2 * density - 1 / np.sqrt(np.pi)).mean()  # Gneiting et al. 2005
    assert 1 < found["crps_flow"] / (4 * exact) < 1.12, "above it, as the tails are left out"
    assert found["coverage"] == pytest.approx(0.8, abs=0.02)


def test_what_is_missing_or_not_finite_is_not_measured() -> None:
    quantiles = np.tile(NORMAL, (4, 1)).astype(np.float32)
    gaps = np.array([[0.0], [np.nan], [5.0], [np.nan]], np.float32)
    assert measure_quantiles(gaps, quantiles, FLOW) == measure_quantiles(gaps[::2], quantiles[::2], FLOW)
    quantiles[0, 0] = np.inf
    measured = measure_quantiles(gaps, quantiles, FLOW)
    assert all(np.isnan(measured[name]) for name in ("pinball", "coverage", "crps_flow", "width_flow"))


def test_the_point_prediction_of_quantiles_is_the_median() -> None:
    quantiles = np.arange(18, dtype=np.float32).reshape(2, 9)
    np.testing.assert_array_equal(point_predictions(quantiles, 1), [[4], [13]])
    np.testing.assert_array_equal(point_predictions(quantiles, 9), quantiles)


def test_what_quantiles_cannot_be_used_for_is_refused() -> None:
    with pytest.raises(RequestError, match="loss: quantiles is not allowed with 2 targets; allowed: mse, mae, huber"):
        MlpTrainer(planes(), FAST)
    with pytest.raises(RequestError, match="loss: 'mse' does not report val_pinball; allowed: quantiles"):
        MlpTrainer(uneven(), metric="val_pinball", mode="min")


@pytest.mark.parametrize(
    ("metric", "loss", "targets", "message"),
    [
        (
            "val_crps_a",
            "mse",
            1,
            "objective.metric: val_crps_a is one of quantiles; allowed: with space.loss: quantiles",
        ),
        (
            "val_pinball",
            {"type": "choice", "choices": ["mse", "quantiles"]},
            1,
            "objective.metric: val_pinball is one of quantiles; allowed: with space.loss: quantiles and no other loss",
        ),
        ("val_loss", "quantiles", 2, "space.loss: 'quantiles' is not allowed; allowed: one of mse, mae, huber"),
        ("val_crps_a", "quantiles", 1, None),
    ],
)
def test_a_sweep_is_refused_before_it_starts(metric: str, loss: Any, targets: int, message: str | None) -> None:
    sweep = {
        "name": "table",
        "trainer": "mlp",
        "data": {"table": {"file": "rows.csv", "targets": dict.fromkeys("ab"[:targets])}},
        "objective": {"metric": metric, "mode": "min"},
        "space": {"loss": loss},
    }
    if message is None:
        check_trainer(parse_sweep(sweep))
        return
    with pytest.raises(RequestError, match=re.escape(message)):
        check_trainer(parse_sweep(sweep))
