"""Several objectives: hypervolume, its expected improvement, and the search with them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution

from aifs_tune.samplers.aifs import AifsSampler
from aifs_tune.samplers.encoding import Encoding
from aifs_tune.samplers.multi_objective import UndominatedSpace, non_dominated, reference_point, undominated_boxes
from aifs_tune.samplers.single_fidelity import MAX_TRIALS, measured_in

RNG = np.random.default_rng(0)


def dominated(values, below, reference):
    """Volume (k,) that ``values`` (n, m) dominate above a reference point, and below each of ``below`` (k, m), by
    inclusion and exclusion."""
    total = np.zeros(len(below))
    for size in range(1, len(values) + 1):
        for rows in combinations(values, size):
            corner = np.minimum(np.min(rows, axis=0), below)
            total += (-1) ** (size + 1) * np.prod(np.maximum(corner - reference, 0.0), axis=1)
    return total


@pytest.mark.parametrize("m", [2, 3, 4])
def test_the_boxes_are_the_space_that_no_value_dominates(m):
    values, reference, top = RNG.random((9, m)), np.zeros(m), 1.5
    lower, upper = undominated_boxes(values[non_dominated(values)], reference)
    inside = np.prod(np.minimum(upper, top) - lower, axis=1).sum()
    assert inside == pytest.approx(top**m - dominated(values, np.full((1, m), top), reference)[0])
    points = RNG.random((200, m)) * top
    n_boxes = np.sum(np.all((points[:, None] > lower) & (points[:, None] <= upper), axis=2), axis=1)
    is_dominated = np.any(np.all(values >= points[:, None], axis=2), axis=1)
    assert np.array_equal(n_boxes, ~is_dominated)


@pytest.mark.parametrize("m", [2, 3])
def test_the_expected_improvement_is_that_of_random_draws(m):
    values = RNG.random((6, m))
    reference = reference_point(values)
    mean, sd = RNG.random((5, m)) + 0.2, np.full((5, m), 0.3)
    found = UndominatedSpace.above(values, reference).expected_improvement(mean, sd)
    for i in range(5):
        drawn = mean[i] + sd[i] * RNG.standard_normal((20_000, m))
        gains = np.prod(np.maximum(drawn - reference, 0.0), axis=1) - dominated(values, drawn, reference)
        assert found[i] == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(len(gains)))


def test_equal_values_are_in_the_front_once():
    assert non_dominated(np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [1.0, 1.0]])).tolist() == [0, 1]


def trade_off(x: float, y: float) -> tuple[float, float]:
    """Two objectives whose best values are at (0, 0.5) and (1, 0.5)."""
    return x * x + (y - 0.5) ** 2, (x - 1) ** 2 + (y - 0.5) ** 2


def searched(sampler: optuna.samplers.BaseSampler, n: int) -> optuna.Study:
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(lambda t: trade_off(t.suggest_float("x", -2, 2), t.suggest_float("y", -2, 2)), n_trials=n)
    return study


def test_more_of_the_front_is_found_than_by_random_draws():
    def found(sampler) -> float:
        total, edge = 0.0, 1.5
        for one, other in sorted(trial.values for trial in searched(sampler, 24).trials):
            if one < 1.5 and other < edge:
                total, edge = total + (1.5 - one) * (edge - other), other
        return total

    ours = [found(AifsSampler(seed=seed)) for seed in range(3)]
    assert min(ours) > max(found(optuna.samplers.RandomSampler(seed=seed)) for seed in range(3))


def test_proposals_of_a_batch_differ_and_depend_on_the_seed_alone():
    def batch() -> list[dict[str, float]]:
        study = searched(AifsSampler(seed=1), 12)
        space = {"x": FloatDistribution(-2, 2), "y": FloatDistribution(-2, 2)}
        return [study.ask(space).params for _ in range(4)]

    first = batch()
    assert first == batch()
    points = np.array([[params["x"], params["y"]] for params in first])
    gaps = np.abs(points[:, None] - points[None]).max(2)[np.triu_indices(4, 1)]
    assert gaps.min() > 0.05


def test_of_very_many_trials_the_front_is_kept():
    study, space = optuna.create_study(directions=["maximize", "minimize"]), {"x": FloatDistribution(0, 1)}
    for i in range(MAX_TRIALS + 100):
        x = i / (MAX_TRIALS + 99)
        is_of_the_front = i % 40 == 0
        study.add_trial(
            optuna.create_trial(params={"x": x}, distributions=space, values=[x - (not is_of_the_front), x])
        )
    read = measured_in(study.get_trials(deepcopy=False), Encoding(space), study.directions)
    assert len(read.values) == MAX_TRIALS
    assert {40 * i for i in range(11) if 40 * i < MAX_TRIALS + 100} <= set(read.numbers.tolist())


def test_a_trial_without_all_values_is_not_read():
    study, space = optuna.create_study(directions=["maximize", "minimize"]), {"x": FloatDistribution(0, 1)}
    for values in ([0.1, 0.2], [float("inf"), 0.3]):
        study.add_trial(optuna.create_trial(params={"x": 0.5}, distributions=space, values=values))
    assert measured_in(study.get_trials(), Encoding(space), study.directions).values.tolist() == [[0.1, -0.2]]
