"""How far the sampler leans on earlier studies."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from aifs_tune.sampling.curve_gp import Kernel, Points, Posterior, Prior
from aifs_tune.sampling.encoding import Encoding
from aifs_tune.sampling.inherited import Expert, Inherited, experts_of, standardised
from aifs_tune.sampling.leaning import DOUBT, TRUST, LeaningPlainPosterior, LeaningPosterior, lean
from aifs_tune.sampling.plain_gp import PlainPosterior, PlainPrior

COLUMNS = np.array([0, 1])


def truth(x):
    return np.sin(6 * x[:, 0]) - 2 * (x[:, 1] - 0.6) ** 2


class Says:
    """An expert that is a function."""

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


def posterior(expert, n=12):
    x, y = observed(n)
    points = Points(x, np.zeros(n), np.arange(n), y)
    return LeaningPosterior(Kernel(Prior.of(2).mean, COLUMNS), points, [expert], 0.0)


def test_the_weights_are_those_of_bayes_theorem():
    """Against the normal equations of the whole model, written out."""
    rng = np.random.default_rng(1)
    n = 8
    root = rng.normal(size=(n, n))
    covariance = root @ root.T + np.eye(n)
    expected = rng.normal(size=(1, n))
    y = 0.8 * expected[0] + 0.1 * rng.normal(size=n)
    found = lean(np.linalg.cholesky(covariance), y, expected)
    joint = covariance + DOUBT**2 * np.outer(expected[0], expected[0])
    weight = TRUST + DOUBT**2 * expected[0] @ np.linalg.solve(joint, y - TRUST * expected[0])
    assert found.weights == pytest.approx([weight])
    assert found.alpha == pytest.approx(np.linalg.solve(covariance, y - weight * expected[0]))


def test_an_expert_that_is_right_is_followed_where_nothing_was_measured():
    x = np.random.default_rng(5).random((200, 2))
    plain = posterior(Says(lambda x: 0 * x[:, 0] + 0.2), n=5)
    leaning = posterior(Says(truth), n=5)
    assert leaning.lean.weights[0] > 0.5

    def agreement(of):
        return np.corrcoef(of.mean(x, 0.0, np.full(200, -1)), truth(x))[0, 1]

    assert agreement(leaning) > max(0.95, agreement(plain))


@pytest.mark.parametrize("wrong", [lambda x: -truth(x), lambda x: np.cos(40 * x[:, 0] + 17 * x[:, 1])])
def test_what_misleads_counts_nothing_and_the_model_is_what_it_was(wrong):
    leaning = posterior(Says(wrong), n=40)
    assert leaning.lean.weights.tolist() == [0.0]
    cold = Posterior(leaning.kernel, leaning.points)
    x = np.random.default_rng(3).random((20, 2))
    nobody = np.full(20, -1)
    assert np.allclose(leaning.mean(x, 0.0, nobody), cold.mean(x, 0.0, nobody))
    for one, other in zip(leaning.gain(x, 0.0, nobody, x[0], -1), cold.gain(x, 0.0, nobody, x[0], -1), strict=True):
        assert np.allclose(one, other)


def test_of_two_experts_the_wrong_one_is_dropped_alone():
    x, y = observed(12)
    kernel = Kernel(Prior.of(2).mean, COLUMNS)
    points = Points(x, np.zeros(12), np.arange(12), y)
    found = LeaningPosterior(kernel, points, [Says(lambda x: -truth(x)), Says(truth)], 0.0).lean
    assert found.weights[0] == 0.0
    assert found.weights[1] > 0.3
    assert found.heard.tolist() == [1]


def test_what_is_only_awaited_changes_no_weight():
    leaning = posterior(Says(truth))
    x = np.vstack([leaning.points.x, [[0.5, 0.5]]])
    more = Points(x, np.zeros(13), np.arange(13), np.append(leaning.points.y, -3.0))
    assert leaning.awaiting(more).lean.weights.tolist() == leaning.lean.weights.tolist()


def test_without_epochs_the_gain_agrees_with_the_means():
    x, y = observed(10)
    leaning = LeaningPlainPosterior(PlainPrior.of(COLUMNS).mean, COLUMNS, x, y, [Says(truth)])
    at = np.random.default_rng(2).random((6, 2))
    mean, variance = leaning.mean_and_variance(at)
    assert leaning.mean(at) == pytest.approx(mean)
    gain, doubt = leaning.gain(at, at[0])
    assert gain == pytest.approx(mean - mean[0])
    assert doubt[0] == pytest.approx(0.0, abs=1e-9)
    cold = PlainPosterior(PlainPrior.of(COLUMNS).mean, COLUMNS, x, y)
    assert (variance >= cold.mean_and_variance(at)[1] - 1e-12).all(), "a weight that is not known adds doubt"


def test_an_expert_knows_only_of_parameters_that_varied():
    encoding = Encoding(
        {"x": FloatDistribution(0, 1), "kind": CategoricalDistribution(["a", "b"]), "new": FloatDistribution(0, 1)}
    )
    rng = np.random.default_rng(0)
    params = [{"x": float(x), "kind": str(rng.choice(["a", "b"]))} for x in rng.random(20)]
    merits = standardised([p["x"] + (p["kind"] == "b") for p in params])
    inherited = Inherited.from_json(Inherited("old", tuple(params), merits).to_json())
    expert = Expert(encoding, inherited)
    places = [encoding.place({"x": 0.5, "kind": kind, "new": new}) for kind in "ab" for new in (0.0, 1.0)]
    low, same, high, _ = expert(encoding.features(np.array(places)))
    assert low == pytest.approx(same)
    assert high > low + 0.5
    assert experts_of(encoding, [Inherited("few", tuple(params[:3]), merits[:3])]) == []
    assert experts_of(encoding, [Inherited("alike", ({"x": 0.5},) * 9, tuple(range(9)))]) == []
