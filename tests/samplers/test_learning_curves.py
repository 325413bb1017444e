import numpy as np
import pytest

from aifs_tune.samplers.learning_curves import LearningCurve, points_of, smoothed, warped


def a_curve(trial, values, epochs=None):
    epochs = np.arange(1, len(values) + 1) if epochs is None else np.array(epochs)
    return LearningCurve(trial, np.full(2, trial / 1000), epochs, np.array(values, dtype=float))


@pytest.mark.parametrize(
    ("n", "expected"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (20, [1, 2, 4, 8, 16, 20])]
)
def test_epochs_at_powers_of_two_and_the_last_stand_for_a_curve(n, expected):
    curve = a_curve(0, np.arange(n))
    assert curve.epochs[curve.picked].tolist() == expected


def test_epochs_with_gaps_are_taken_as_they_are():
    curve = a_curve(0, [1, 2, 3], epochs=[3, 10, 52])
    assert curve.epochs[curve.picked].tolist() == [3, 10, 52]


def test_a_trial_stands_where_the_median_of_its_last_epochs_is():
    values = np.array([1.0, 2, 9, 4, 5, 6, 7, 0, 9, 10])
    expected = [1, 2, 5.5, 6.5, 5, 5, 5.5, 5.5, 6, 7]
    assert smoothed(np.arange(1, 11), values).tolist() == expected
    assert smoothed(np.array([3, 10, 52]), np.array([1.0, 5, 2])).tolist() == [1, 5, 2], "gaps: nothing is recent"


def test_one_outlying_epoch_has_no_lasting_effect():
    curve = np.full(20, 0.5)
    curve[6] = 0.9
    assert smoothed(np.arange(1, 21), curve)[11:].tolist() == [0.5] * 9


def test_values_keep_their_order_and_ties_and_are_standardised():
    values = np.array([5.0, 1.0, 5.0, 8.0, -300.0])
    y = warped(values, values)
    assert y[0] == y[2]
    assert np.argsort(y, kind="stable").tolist() == [4, 1, 0, 2, 3]
    assert (y.mean(), y.std()) == pytest.approx((0, 1))


def test_scale_and_offset_of_the_objective_do_not_matter():
    values = np.random.default_rng(0).exponential(size=100)
    np.testing.assert_allclose(warped(values, values[:50]), warped(7 - 3e5 + 1e5 * values, 7 - 3e5 + 1e5 * values[:50]))


def test_what_is_far_below_counts_as_equally_bad_however_many_there_are():
    early, late = np.linspace(5, 10, 200), np.array([45.0, 50, 53, 55, 57])
    y = warped(np.concatenate([early, late]), np.concatenate([early[:20], late]))
    assert y[199] - y[0] < 0.1 * (y[-1] - y[-5]), "5 to 10 is nothing where 57 was reached"


def test_one_absurd_value_does_not_flatten_the_others():
    y = warped(np.array([1.0, 0.9, 0.8, 0.5, -1e12]), np.array([1.0, 0.9, 0.8, 0.5, -1e12]))
    assert (np.diff(y[:4]) < -0.2).all()


def test_equal_values_are_no_obstacle():
    assert warped(np.full(5, 3.0), np.full(5, 3.0)).tolist() == [0.0] * 5
    assert np.isfinite(warped(np.array([1.0, 1, 1, 1, 0]), np.array([1.0, 1, 1, 1, 0]))).all()


def test_few_points_are_all_there():
    points = points_of([a_curve(3, [0.1, 0.5, 0.4, 0.9]), a_curve(8, [0.2])])
    assert points.trial.tolist() == [3, 3, 3, 8]
    np.testing.assert_allclose(points.u, np.log([1, 2, 4, 1]))
    assert points.y.argsort().tolist() == [0, 3, 1, 2]  # 0.1, 0.2, 0.5, 0.9


def test_of_too_many_the_best_and_an_even_sample_of_the_others_are_kept():
    rng = np.random.default_rng(0)
    curves = [a_curve(i, np.sort(rng.random(6)) + i / 100) for i in range(400)]
    points = points_of(curves, max_points=90, keep=0)
    assert len(points) == 90
    kept = set(points.trial.tolist())
    assert np.sum(points.trial == 0) == len(curves[0].picked), "the trial in question is there with all its points"
    assert len(kept & set(range(360, 400))) >= 35
    assert len(kept & set(range(200))) >= 5
