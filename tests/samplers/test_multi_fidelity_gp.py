"""The Gaussian process against brute force: differences for the gradient, plain inversion for the posterior."""

import numpy as np
import pytest

from aifs_tune.samplers.multi_fidelity_gp import JITTER, Kernel, Points, Posterior, Prior, fit, loss_and_gradient

COLUMNS = np.array([0, 1, 2, 2, 2])


def some_points(n=30, seed=0):
    rng = np.random.default_rng(seed)
    epochs = rng.integers(1, 50, n).astype(float)
    return Points(rng.random((n, 5)), np.log(epochs), rng.integers(0, 12, n), rng.standard_normal(n))


def some_theta(seed=0, spread=0.5):
    prior = Prior.of(3)
    return prior.mean + spread * np.random.default_rng(seed).standard_normal(len(prior.mean))


def covariance(theta, x, u, trial, other_x, other_u, other_trial):
    """The kernel as its formula is written, entry by entry, without noise."""
    scales = np.exp(theta[:3])[COLUMNS]
    scale_u, level, shape, common, offset = np.exp(theta[3:8])
    out = np.empty((len(x), len(other_x)))
    for i in range(len(x)):
        for j in range(len(other_x)):
            r = np.sqrt(5 * np.sum(((x[i] - other_x[j]) / scales) ** 2))
            m = (1 + r + r**2 / 3) * np.exp(-r)
            k = np.exp(-0.5 * ((u[i] - other_u[j]) / scale_u) ** 2)
            out[i, j] = m * (level + shape * k) + common * k + offset * (trial[i] == other_trial[j])
    return out


def observed_covariance(theta, points):
    cov = covariance(theta, points.x, points.u, points.trial, points.x, points.u, points.trial)
    return cov + (np.exp(theta[8]) + JITTER) * np.eye(len(points)) + np.diag(np.exp(theta[9] - 2 * points.u))


@pytest.mark.parametrize("seed", range(5))
def test_the_covariance_is_the_formula_s(seed):
    points, theta = some_points(12, seed), some_theta(seed)
    np.testing.assert_allclose(Kernel(theta, COLUMNS).within(points), observed_covariance(theta, points), atol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_the_negative_log_posterior(seed):
    points, theta, prior = some_points(20, seed), some_theta(seed), Prior.of(3)
    cov = observed_covariance(theta, points)
    log_det = np.linalg.slogdet(cov)[1]
    expected = 0.5 * points.y @ np.linalg.inv(cov) @ points.y + 0.5 * log_det
    expected += 0.5 * np.sum(((theta - prior.mean) / prior.sd) ** 2)
    assert loss_and_gradient(theta, COLUMNS, points, prior)[0] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_the_gradient_is_that_of_finite_differences(seed):
    points, theta, prior = some_points(40, seed), some_theta(seed), Prior.of(3)
    gradient = loss_and_gradient(theta, COLUMNS, points, prior)[1]
    for j, direction in enumerate(1e-5 * np.eye(len(theta))):
        above = loss_and_gradient(theta + direction, COLUMNS, points, prior)[0]
        below = loss_and_gradient(theta - direction, COLUMNS, points, prior)[0]
        assert gradient[j] == pytest.approx((above - below) / 2e-5, abs=1e-4), f"parameter {j}"


def test_fitting_finds_a_stationary_point_of_the_loss():
    points, prior = some_points(), Prior.of(3)
    theta = fit(points, COLUMNS, prior, prior.mean, iterations=500)
    assert (
        loss_and_gradient(theta, COLUMNS, points, prior)[0] < loss_and_gradient(prior.mean, COLUMNS, points, prior)[0]
    )
    assert np.abs(loss_and_gradient(theta, COLUMNS, points, prior)[1]).max() < 1e-2


@pytest.mark.parametrize("seed", range(5))
def test_the_posterior_is_that_of_direct_inversion(seed):
    points, theta = some_points(25, seed), some_theta(seed)
    rng = np.random.default_rng(seed + 100)
    x, u = rng.random((6, 5)), np.log(52.0)
    trial = np.array([-1, -2, int(points.trial[0]), -3, int(points.trial[5]), -4])  # negative: new ones, all different
    over, over_trial = points.x[7], int(points.trial[7])
    everyone = np.append(trial, over_trial)
    xs, us = np.vstack([x, over]), np.full(7, u)
    cross = covariance(theta, xs, us, everyone, points.x, points.u, points.trial)
    prior = covariance(theta, xs, us, everyone, xs, us, everyone)
    inverse = np.linalg.inv(observed_covariance(theta, points))
    mean, cov = cross @ inverse @ points.y, prior - cross @ inverse @ cross.T

    posterior = Posterior(Kernel(theta, COLUMNS), points)
    asked = np.where(trial < 0, -1, trial)
    np.testing.assert_allclose(posterior.mean(x, u, asked), mean[:-1], atol=1e-7)
    gain, variance = posterior.gain(x, u, asked, over, over_trial)
    np.testing.assert_allclose(gain, mean[:-1] - mean[-1], atol=1e-7)
    offset = np.exp(theta[7]) * (trial < 0)  # a new trial has no known offset
    expected = np.diag(cov)[:-1] + cov[-1, -1] - 2 * cov[:-1, -1] - offset
    np.testing.assert_allclose(variance, np.maximum(expected, 0), atol=1e-7)


def test_points_seen_twice_and_constant_values_are_no_obstacle():
    points = some_points(10)
    twice = Points(*(np.concatenate([a, a]) for a in (points.x, points.u, points.trial)), np.zeros(20))
    prior = Prior.of(3)
    theta = fit(twice, COLUMNS, prior, prior.mean)
    gain, variance = Posterior(Kernel(theta, COLUMNS), twice).gain(
        points.x, 3.0, np.full(10, -1), points.x[0], int(points.trial[0])
    )
    assert np.isfinite(gain).all()
    assert np.isfinite(variance).all()
    assert np.abs(gain).max() < 1e-6
