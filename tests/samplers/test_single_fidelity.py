"""Model of trials without epochs: its numbers and its proposals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.study import StudyDirection
from scipy.optimize import check_grad
from scipy.stats import multivariate_normal

from aifs_tune.samplers.aifs import AifsSampler
from aifs_tune.samplers.encoding import Encoding
from aifs_tune.samplers.gp import (
    OutputWarp,
    SingleFidelityPosterior,
    SingleFidelityPrior,
    choose_warp,
    fit,
    loss_and_gradient,
    sample_theta,
)
from aifs_tune.samplers.single_fidelity import Measured, SingleFidelityModel, measured_in, propose_single_fidelity

RNG = np.random.default_rng(0)
X = RNG.random((12, 4))
Y = np.sin(5 * X[:, 0]) + X[:, 1] + 0.1 * RNG.standard_normal(12)
COLUMNS = np.array([0, 1, 2, 2])
PRIOR = SingleFidelityPrior.of(COLUMNS)


def covariance(theta, x, other):
    gap = (x[:, None] - other[None]) / np.exp(theta[:3])[COLUMNS]
    r = np.sqrt(5.0 * (gap**2).sum(-1))
    return np.exp(theta[3]) * (1 + r + r * r / 3) * np.exp(-r) + 1.0


def test_the_loss_is_that_of_the_formula_and_its_gradient_right():
    theta = PRIOR.mean + 0.3
    dense = covariance(theta, X, X) + (np.exp(theta[4]) + 1e-8) * np.eye(12)
    by_scipy = -multivariate_normal(np.zeros(12), dense).logpdf(Y) - 6 * np.log(2 * np.pi)
    off = (theta - PRIOR.mean) / PRIOR.sd
    assert loss_and_gradient(theta, COLUMNS, X, Y, PRIOR)[0] == pytest.approx(by_scipy + 0.5 * off @ off)
    error = check_grad(
        lambda t: loss_and_gradient(t, COLUMNS, X, Y, PRIOR)[0],
        lambda t: loss_and_gradient(t, COLUMNS, X, Y, PRIOR)[1],
        theta,
    )
    assert error < 1e-4


def test_means_variances_and_gains_are_those_of_the_formula():
    theta, new = PRIOR.mean, RNG.random((3, 4))
    posterior = SingleFidelityPosterior(theta, COLUMNS, X, Y)
    dense = covariance(theta, X, X) + (np.exp(theta[4]) + 1e-8) * np.eye(12)
    both = np.vstack([new, X[:1]])
    cross = covariance(theta, both, X)
    mean = cross @ np.linalg.solve(dense, Y)
    joint = covariance(theta, both, both) - cross @ np.linalg.solve(dense, cross.T)
    got = posterior.mean_and_variance(new)
    assert np.allclose(got[0], mean[:3])
    assert np.allclose(got[1], np.diag(joint)[:3])
    gain, variance = posterior.gain(new, X[0])
    assert np.allclose(gain, mean[:3] - mean[3])
    assert np.allclose(variance, np.diag(joint)[:3] + joint[3, 3] - 2 * joint[:3, 3])


def test_kernels_are_sampled_from_their_posterior():
    """With one observation nothing is learnt: the draws are spread as the prior is."""
    x, y = np.zeros((1, 4)), np.zeros(1)
    draws = np.array(sample_theta(COLUMNS, x, y, PRIOR, PRIOR.mean, 600, np.random.default_rng(1)))
    assert np.allclose(draws[:, :3].mean(0), PRIOR.mean[:3], atol=0.15)
    assert np.allclose(draws[:, :3].std(0), PRIOR.sd[:3], rtol=0.15)


def test_the_noise_is_found():
    x = np.random.default_rng(3).random((60, 4))
    y = 2 * x[:, 0] + 0.3 * np.random.default_rng(4).standard_normal(60)
    theta = fit(COLUMNS, x, (y - y.mean()) / y.std(), PRIOR)
    assert np.sqrt(np.exp(theta[-1])) * y.std() == pytest.approx(0.3, rel=0.3)


@pytest.mark.parametrize("values", [np.exp(2 * RNG.standard_normal(30)), RNG.random(30), -(RNG.random(30) ** 2)])
def test_the_warp_rises_and_is_undone(values):
    warp = OutputWarp.of(values)
    warped = warp(values)
    assert warped.mean() == pytest.approx(0.0, abs=1e-9)
    assert warped.std() == pytest.approx(1.0)
    kept = np.sort(values[values > warp.low])
    assert len(kept) >= 20
    assert np.all(np.diff(warp(kept)) > 0)
    assert np.allclose(warp.inverse(warp(kept)), kept)


@pytest.mark.parametrize(("shape", "is_log"), [(lambda x: -((x - 0.3) ** 2), False), (lambda x: np.exp(6 * x), True)])
def test_the_warp_is_that_under_which_values_are_predicted(shape, is_log):
    x = RNG.random((24, 2))
    columns = np.array([0, 1])
    values = shape(x[:, 0]) * (np.exp(2 * x[:, 1]) if is_log else 1.0) - (0.0 if is_log else (x[:, 1] - 0.6) ** 2)
    warp = choose_warp(columns, x, values, SingleFidelityPrior.of(columns))
    bend = float(warp.log_slope(values.min() + 1e-9) - warp.log_slope(values.max()))
    assert (bend > 1.0) == is_log


def test_the_slope_of_the_warp_is_its_derivative():
    values = RNG.random(30)
    warp = OutputWarp.of(values)
    at = np.array([0.5, 0.7, 0.9])
    slope = (warp(at + 1e-6) - warp(at - 1e-6)) / 2e-6
    np.testing.assert_allclose(np.log(slope), warp.log_slope(at), rtol=1e-5)


def test_a_smooth_problem_without_noise_is_solved_to_a_thousandth_of_its_range():
    space = {"x": FloatDistribution(-5, 5), "y": FloatDistribution(-5, 5)}
    study = optuna.create_study(sampler=AifsSampler(seed=3, space=space))
    for _ in range(20):
        trial = study.ask(space)
        study.tell(trial, (trial.params["x"] - 1) ** 2 + (trial.params["y"] + 2) ** 2)
    assert study.best_value < 0.05


def test_one_disaster_does_not_make_all_others_alike():
    values = np.append(np.linspace(0.0, 1.0, 20), -1e6)
    warped = OutputWarp.of(values)(values)
    assert warped[19] - warped[10] > 0.3


def test_values_that_are_all_equal_are_no_trouble():
    assert np.isfinite(OutputWarp.of(np.ones(5))(np.ones(5))).all()


SPACE = {"a": FloatDistribution(0, 1), "b": FloatDistribution(0, 1), "c": CategoricalDistribution(["x", "y", "z"])}


def measured(n=25, noise=0.05, running=0, seed=0):
    encoding, rng = Encoding(SPACE), np.random.default_rng(seed)
    unit_points = encoding.deactivated(rng.random((n, 3)))
    values = -((unit_points[:, 0] - 0.3) ** 2) - (unit_points[:, 1] - 0.7) ** 2 + noise * rng.standard_normal(n)
    nothing = np.empty((0, 3))
    return Measured(
        unit_points,
        values[:, None],
        np.arange(n),
        np.empty((n, 0)),
        encoding.deactivated(rng.random((running, 3))),
        nothing,
    )


def test_the_expected_gain_falls_as_more_is_known():
    encoding, rng = Encoding(SPACE), np.random.default_rng(0)
    gains = {8: 0.0, 60: 0.0}
    for n in gains:
        for seed in range(3):
            single_fidelity = SingleFidelityModel(encoding, measured(n, noise=0.005, seed=seed))
            gains[n] += single_fidelity.expected_gain(
                propose_single_fidelity(single_fidelity, encoding, rng)[:20]
            ).max()
    assert gains[60] < 0.5 * gains[8]


def test_the_gain_is_that_of_random_draws():
    encoding = Encoding(SPACE)
    single_fidelity = SingleFidelityModel(encoding, measured())
    rng, means = np.random.default_rng(6), []
    unit_point = propose_single_fidelity(single_fidelity, encoding, rng)[:1]
    here = single_fidelity.means[single_fidelity.best]
    for posterior in single_fidelity.posteriors:
        mean, variance = posterior.gain(encoding.features(unit_point), single_fidelity.x[single_fidelity.best])
        reached = single_fidelity.warp.inverse(here + mean + np.sqrt(variance) * rng.standard_normal(100_000))
        means.append(np.maximum(reached - single_fidelity.warp.inverse(here), 0).mean())
    assert single_fidelity.expected_gain(unit_point)[0] == pytest.approx(np.mean(means), rel=0.15, abs=1e-6)


def test_running_configurations_are_not_proposed_again():
    encoding = Encoding(SPACE)
    free = SingleFidelityModel(encoding, measured())
    first = propose_single_fidelity(free, encoding, np.random.default_rng(0))[0]
    now = measured()
    busy = SingleFidelityModel(
        encoding, Measured(now.unit_points, now.values, now.numbers, now.excess, first[None], now.failed), free
    )
    assert busy.posteriors is free.posteriors
    second = propose_single_fidelity(busy, encoding, np.random.default_rng(0))[0]
    assert np.abs(first - second).max() > 0.01


def test_an_ordered_choice_is_one_number():
    encoding = Encoding({"level": CategoricalDistribution(["low", "mid", "high"])}, ordered=["level"])
    unit_points = encoding.deactivated(np.array([[0.1], [0.5], [0.9]]))
    features = encoding.features(unit_points)
    assert features.shape == (3, 1)
    assert np.all(np.diff(features[:, 0]) > 0)
    assert [encoding.params(unit_point)["level"] for unit_point in unit_points] == ["low", "mid", "high"]


def test_ordered_choices_are_learnt_from_their_neighbours():
    levels = list(range(12))
    space = {"level": CategoricalDistribution(levels)}

    def n_until_found(ordered, seed):
        study = optuna.create_study(direction="maximize", sampler=AifsSampler(seed=seed, space=space, ordered=ordered))
        for n in range(12):
            trial = study.ask(space)
            if trial.params["level"] == 9:
                return n
            study.tell(trial, -abs(trial.params["level"] - 9))
        return 12

    assert sum(n_until_found(["level"], seed) for seed in range(6)) < sum(n_until_found([], seed) for seed in range(6))


def test_trials_are_read_with_what_they_exceed():
    study = optuna.create_study(direction="minimize")
    for i in range(4):
        trial = study.ask(SPACE)
        if i < 2:
            study._storage.set_trial_system_attr(trial._trial_id, "constraints:p <= 1", float(i) - 0.5)
        if i != 3:
            study.tell(trial, float(i))
    read = measured_in(study.get_trials(), Encoding(SPACE), [StudyDirection.MINIMIZE])
    assert np.array_equal(read.values[:, 0], [0.0, -1.0, -2.0])
    assert np.array_equal(read.excess[:2, 0], [-0.5, 0.5])
    assert np.isnan(read.excess[2, 0])
    assert len(read.running) == 1


@pytest.mark.parametrize("scale", [1e-300, 1e155, 1.7e308])
def test_values_of_any_size_are_searched_alike(scale):
    def loop(factor: float) -> tuple[list[float], float]:
        study = optuna.create_study(sampler=AifsSampler(seed=0), direction="maximize")
        study.optimize(lambda t: factor * (1 - 2 * abs(t.suggest_float("x", 0, 1) - 0.3)), n_trials=16)
        return [trial.params["x"] for trial in study.trials], study.best_params["x"]

    found, best = loop(scale)
    assert found[:10] == pytest.approx(loop(1.0)[0][:10])
    assert best == pytest.approx(0.3, abs=0.02)


def test_the_gain_of_values_near_the_largest_number_is_finite():
    encoding, one = Encoding(SPACE), measured()
    huge = replace(one, values=one.values / np.abs(one.values).max() * 1.7e308)
    model = SingleFidelityModel(encoding, huge)
    gain = model.expected_gain(encoding.spread(np.random.default_rng(0).random((40, 3))))
    assert np.isfinite(gain).all()
    assert np.isfinite(model.warp.inverse(model.means)).all()
