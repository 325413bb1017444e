"""Weights of source models in a study with a warm start."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from aifs_tune.samplers.encoding import Encoding
from aifs_tune.samplers.gp import SingleFidelityPosterior, SingleFidelityPrior
from aifs_tune.samplers.multi_fidelity_gp import Kernel, Points, Posterior, Prior
from aifs_tune.samplers.transfer import (
    WEIGHT_MEAN,
    WEIGHT_SD,
    GPSourceModel,
    SingleFidelityTransferPosterior,
    SourceTask,
    TransferPosterior,
    fit_transfer_weights,
    source_models_of,
    standardised,
)

COLUMNS = np.array([0, 1])


def truth(x):
    return np.sin(6 * x[:, 0]) - 2 * (x[:, 1] - 0.6) ** 2


class Says:
    """Source model that is a function."""

    study = "earlier"

    def __init__(self, function):
        self._function = function

    def __call__(self, x):
        y = self._function(x)
        return (y - 0.2) / 0.8


def observed(n, seed=0):
    x = np.random.default_rng(seed).random((n, 2))
    y = truth(x)
    return x, (y - y.mean()) / y.std()


def posterior(source_model, n=12):
    x, y = observed(n)
    points = Points(x, np.zeros(n), np.arange(n), y)
    return TransferPosterior(Kernel(Prior.of(2).mean, COLUMNS), points, [source_model], 0.0)


def test_the_weights_are_those_of_bayes_theorem():
    """Against the normal equations of the whole model, written out."""
    rng = np.random.default_rng(1)
    n = 8
    root = rng.normal(size=(n, n))
    covariance = root @ root.T + np.eye(n)
    expected = rng.normal(size=(1, n))
    y = 0.8 * expected[0] + 0.1 * rng.normal(size=n)
    found = fit_transfer_weights(np.linalg.cholesky(covariance), y, expected)
    joint = covariance + WEIGHT_SD**2 * np.outer(expected[0], expected[0])
    weight = WEIGHT_MEAN + WEIGHT_SD**2 * expected[0] @ np.linalg.solve(joint, y - WEIGHT_MEAN * expected[0])
    assert found.weights == pytest.approx([weight])
    assert found.alpha == pytest.approx(np.linalg.solve(covariance, y - weight * expected[0]))


def test_a_correct_source_model_is_followed_where_nothing_was_measured():
    x = np.random.default_rng(5).random((200, 2))
    plain = posterior(Says(lambda x: 0 * x[:, 0] + 0.2), n=5)
    transfer = posterior(Says(truth), n=5)
    assert transfer.transfer.weights[0] > 0.5

    def agreement(of):
        return np.corrcoef(of.mean(x, 0.0, np.full(200, -1)), truth(x))[0, 1]

    assert agreement(transfer) > max(0.95, agreement(plain))


@pytest.mark.parametrize("wrong", [lambda x: -truth(x), lambda x: np.cos(40 * x[:, 0] + 17 * x[:, 1])])
def test_a_misleading_source_model_has_weight_0_and_changes_nothing(wrong):
    transfer = posterior(Says(wrong), n=40)
    assert transfer.transfer.weights.tolist() == [0.0]
    cold = Posterior(transfer.kernel, transfer.points)
    x = np.random.default_rng(3).random((20, 2))
    nobody = np.full(20, -1)
    assert np.allclose(transfer.mean(x, 0.0, nobody), cold.mean(x, 0.0, nobody))
    for one, other in zip(transfer.gain(x, 0.0, nobody, x[0], -1), cold.gain(x, 0.0, nobody, x[0], -1), strict=True):
        assert np.allclose(one, other)


def test_only_the_wrong_one_of_two_source_models_is_dropped():
    x, y = observed(12)
    kernel = Kernel(Prior.of(2).mean, COLUMNS)
    points = Points(x, np.zeros(12), np.arange(12), y)
    found = TransferPosterior(kernel, points, [Says(lambda x: -truth(x)), Says(truth)], 0.0).transfer
    assert found.weights[0] == 0.0
    assert found.weights[1] > 0.3
    assert found.used.tolist() == [1]


def test_pending_trials_change_no_weight():
    transfer = posterior(Says(truth))
    x = np.vstack([transfer.points.x, [[0.5, 0.5]]])
    more = Points(x, np.zeros(13), np.arange(13), np.append(transfer.points.y, -3.0))
    assert transfer.condition_on_observations(more).transfer.weights.tolist() == transfer.transfer.weights.tolist()


def test_without_epochs_the_gain_agrees_with_the_means():
    x, y = observed(10)
    transfer = SingleFidelityTransferPosterior(SingleFidelityPrior.of(COLUMNS).mean, COLUMNS, x, y, [Says(truth)])
    at = np.random.default_rng(2).random((6, 2))
    mean, variance = transfer.mean_and_variance(at)
    assert transfer.mean(at) == pytest.approx(mean)
    gain, doubt = transfer.gain(at, at[0])
    assert gain == pytest.approx(mean - mean[0])
    assert doubt[0] == pytest.approx(0.0, abs=1e-9)
    cold = SingleFidelityPosterior(SingleFidelityPrior.of(COLUMNS).mean, COLUMNS, x, y)
    assert (variance >= cold.mean_and_variance(at)[1] - 1e-12).all(), "a weight that is not known adds doubt"


def test_a_source_model_uses_only_parameters_that_varied():
    encoding = Encoding(
        {"x": FloatDistribution(0, 1), "kind": CategoricalDistribution(["a", "b"]), "new": FloatDistribution(0, 1)}
    )
    rng = np.random.default_rng(0)
    params = [{"x": float(x), "kind": str(rng.choice(["a", "b"]))} for x in rng.random(20)]
    posterior_means = standardised([p["x"] + (p["kind"] == "b") for p in params])
    source_task = SourceTask.from_json(SourceTask("old", tuple(params), posterior_means).to_json())
    source_model = GPSourceModel(encoding, source_task)
    unit_points = [encoding.unit_point({"x": 0.5, "kind": kind, "new": new}) for kind in "ab" for new in (0.0, 1.0)]
    low, same, high, _ = source_model(encoding.features(np.array(unit_points)))
    assert low == pytest.approx(same)
    assert high > low + 0.5
    assert source_models_of(encoding, [SourceTask("few", tuple(params[:3]), posterior_means[:3])]) == []
    assert source_models_of(encoding, [SourceTask("alike", ({"x": 0.5},) * 9, tuple(range(9)))]) == []
