import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from scipy.integrate import trapezoid

from aifs_tune.samplers.aifs import AifsSampler
from aifs_tune.samplers.encoding import Encoding
from aifs_tune.samplers.prior import BETA, UNIFORM_SHARE, UserPrior

SPACE = {
    "a": FloatDistribution(1e-4, 1.0, log=True),
    "c": CategoricalDistribution(["x", "y"]),
    "d": FloatDistribution(0, 1),
}
ENCODING = Encoding(SPACE)
USER_PRIOR = UserPrior(ENCODING, {"a": 1e-1, "c": "y"})


def test_the_prior_is_a_density_with_its_peak_at_the_value():
    z = np.linspace(0, 1, 4001)
    unit_points = np.stack([z, np.full(4001, 0.75), np.full(4001, 0.5)], axis=1)
    density = np.exp(UserPrior(ENCODING, {"a": 1e-1}).log_density(unit_points))
    assert z[density.argmax()] == pytest.approx(ENCODING.axes[0].unit_point(1e-1), abs=1e-3)
    assert trapezoid(density, z) == pytest.approx(1, abs=1e-3)
    assert density.min() >= UNIFORM_SHARE


def test_the_choice_of_the_prior_is_preferred_and_inactive_parameters_do_not_count():
    x, y, none = USER_PRIOR.log_density(np.array([[0.75, 0.25, 0.1], [0.75, 0.75, 0.1], [0.75, np.nan, 0.1]]))
    assert y - x == pytest.approx(np.log(2 - UNIFORM_SHARE) - np.log(UNIFORM_SHARE))
    assert x < none < y


def test_transformed_points_lie_around_the_prior_and_leave_other_parameters_alone():
    unit_points = np.random.default_rng(0).random((2000, 3))
    transformed = USER_PRIOR.transformed(unit_points)
    assert np.median(transformed[:, 0]) == pytest.approx(ENCODING.axes[0].unit_point(1e-1), abs=0.03)
    assert transformed.min() >= 0
    assert transformed.max() <= 1
    assert set(transformed[:, 1]) == {0.75}
    np.testing.assert_array_equal(transformed[:, 2], unit_points[:, 2])


def test_results_outweigh_the_prior():
    unit_points = np.array([[0.75, 0.75, 0.5]])
    full, faded = (USER_PRIOR.weighted(np.zeros(1), unit_points, n)[0] for n in (int(BETA), 100 * int(BETA)))
    assert full == pytest.approx(USER_PRIOR.log_density(unit_points)[0])
    assert faded == pytest.approx(full / 100)


@pytest.mark.parametrize(("user_prior", "better"), [({"a": 0.1, "d": 0.3}, True), ({"a": 2e-4, "d": 0.95}, False)])
def test_a_good_prior_helps_at_once_and_a_wrong_one_is_overcome(user_prior, better):
    """Best at a = 0.1, d = 0.3."""

    def values_of(n, **options):
        """Of three studies with so many trials, one row each."""
        found = np.empty((3, n))
        for seed in range(3):
            study = optuna.create_study(direction="maximize", sampler=AifsSampler(seed=seed, space=SPACE, **options))
            for i in range(n):
                trial = study.ask(SPACE)
                off = (np.log10(trial.params["a"]) + 1) ** 2 / 16 + (trial.params["d"] - 0.3) ** 2
                found[seed, i] = -off - 0.1 * (trial.params["c"] == "x")
                study.tell(trial, found[seed, i])
        return found

    if better:
        assert values_of(6, user_prior=user_prior).mean() > values_of(6).mean() + 0.03
    else:
        assert values_of(35, user_prior=user_prior).max(axis=1).mean() > -0.01
