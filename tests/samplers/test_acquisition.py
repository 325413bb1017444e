import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.integrate import quad

from aifs_tune.samplers.acquisition import (
    N_NEAR,
    N_UNIFORM,
    candidates,
    chance_of_success,
    log_expected_improvement,
    log_h,
)
from aifs_tune.samplers.encoding import Encoding


@pytest.mark.parametrize("z", [-8.0, -3.0, -1.0001, -0.9999, -0.5, 0.0, 1.0, 6.0])
def test_log_h_is_the_logarithm_of_the_expected_excess(z):
    density = lambda t: np.exp(-0.5 * (t - z) ** 2) / np.sqrt(2 * np.pi)  # noqa: E731
    excess = quad(lambda t: t * density(t), 0, max(z, 0) + 12, epsabs=0, epsrel=1e-11, limit=200)[0]
    assert log_h(np.array([z]))[0] == pytest.approx(np.log(excess), abs=1e-7)


def test_log_h_stays_finite_and_rises_however_small_the_chance():
    z = -np.logspace(8, -2, 400)
    values = log_h(z)
    assert np.isfinite(values).all()
    assert (np.diff(values) > 0).all()


def test_more_is_expected_of_a_higher_mean_and_of_a_wider_spread():
    value = log_expected_improvement(np.array([-1.0, -0.5, -1.0]), np.array([0.5, 0.5, 2.0]))
    assert value[0] < value[1]
    assert value[0] < value[2]
    assert np.isfinite(log_expected_improvement(np.array([-3.0, 0.0]), np.zeros(2))).all()


def test_candidates_are_allowed_values_and_many_are_near_the_best():
    encoding = Encoding(
        {
            "a": FloatDistribution(0, 1),
            "b": IntDistribution(1, 4),
            "c": CategoricalDistribution(["x", "y"]),
            "d": FloatDistribution(0, 1),
        },
        {"d": {"c": ["y"]}},
    )
    best = np.stack(
        [encoding.unit_point({"a": 0.9, "b": 4, "c": "y", "d": 0.1}), encoding.unit_point({"a": 0.2, "b": 1, "c": "x"})]
    )
    unit_points = candidates(encoding, best, np.random.default_rng(0))
    assert unit_points.shape == (N_UNIFORM + 2 * N_NEAR, 4)
    for unit_point in unit_points:
        params = encoding.params(unit_point)
        assert ("d" in params) == (params["c"] == "y")
        assert params["b"] in (1, 2, 3, 4)
        assert 0 <= params["a"] <= 1
    near = unit_points[N_UNIFORM : N_UNIFORM + N_NEAR]
    assert np.median(np.abs(near[:, 0] - 0.9)) < 0.1
    assert {encoding.params(unit_point)["c"] for unit_point in near} == {"x", "y"}


def test_what_lies_among_failures_is_unlikely_to_succeed():
    failed, succeeded = np.full((6, 1), 0.95), np.linspace(0, 0.6, 6)[:, None]
    chance = chance_of_success(np.array([[0.95], [0.1]]), failed, succeeded, np.ones(1))
    assert chance[0] < 0.4
    assert chance[1] > 0.85
    assert chance_of_success(np.array([[0.3]]), failed[:0], succeeded, np.ones(1)) == pytest.approx(1)
