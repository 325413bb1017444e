"""Columns that count, and the graph between them, where both are known: simulated regulators and what they drive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aifs_tune.analysis.column_graph import column_graph, partial_correlations
from aifs_tune.analysis.column_selection import (
    Selection,
    chosen_by_chance,
    correlated_groups,
    permutation_importances,
    selected_inputs,
    shuffled,
    stable_inputs,
    values_within_classes,
)
from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import WorkError

DRIVES = {(0, 1): 0.8, (0, 2): -0.7, (1, 3): 0.9, (4, 5): 0.6}
"""Strength with which the first gene drives the second."""
N_GENES = 7


def expression(n: int, seed: int = 0) -> np.ndarray:
    """Linear expression of genes, each driven by regulators before it and by noise of variance 1; (n, genes)."""
    values = np.random.default_rng(seed).normal(size=(n, N_GENES))
    for (regulator, gene), strength in sorted(DRIVES.items(), key=lambda drive: drive[0][1]):
        values[:, gene] += strength * values[:, regulator]
    return values


def true_precision() -> np.ndarray:
    """Inverse covariance of :func:`expression`: (I - B)^T (I - B) of the structural equations x = B x + noise."""
    drives = np.zeros((N_GENES, N_GENES))
    for (regulator, gene), strength in DRIVES.items():
        drives[gene, regulator] = strength
    return (np.eye(N_GENES) - drives).T @ (np.eye(N_GENES) - drives)


def halves(n: int) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.permutation(n)[: n // 2] for _ in range(6)]


def examples(n: int = 120, n_columns: int = 40, *, seed: int = 0) -> ExampleSet:
    """Two classes; column 0 differs between them, column 1 is nearly the same, column 2 differs on its own."""
    random = np.random.default_rng(seed)
    y_true = (np.arange(n) % 2).astype(np.int32)
    values = random.normal(size=(n, n_columns))
    values[:, 0] += 2 * y_true
    values[:, 1] = values[:, 0] + 0.1 * random.normal(size=n)
    values[:, 2] += 2 * y_true
    rows = np.arange(n, dtype=np.int32)
    return ExampleSet((values.astype(np.float32),), y_true, ("a", "b"), (), rows, rows[:0], rows[:0], "")


def splits(whole: ExampleSet) -> list[ExampleSet]:
    return [replace(whole, train=rows.astype(np.int32)) for rows in halves(len(whole.y_true))]


def test_the_graph_is_that_of_the_regulation_and_agrees_with_an_inverse_covariance() -> None:
    values = expression(1500)
    graph = column_graph(values * [1, 10, 1, 1, 5, 1, 100], "abcdefg", subsets=halves(1500), folds=5, seed=0)
    stable = {(edge.first, edge.second) for edge in graph.edges if edge.frequency == 1}
    strong = {(e.first, e.second) for e in graph.edges if abs(e.partial_correlation) > 0.1}
    assert strong == {("abcdefg"[i], "abcdefg"[j]) for i, j in DRIVES}
    assert strong <= stable
    inverse = partial_correlations(np.linalg.inv(np.cov(values.T)))
    np.testing.assert_allclose(graph.partial_correlations, inverse, atol=0.06)
    np.testing.assert_allclose(inverse, partial_correlations(true_precision()), atol=0.05)
    np.testing.assert_allclose(graph.correlations, np.corrcoef(values.T), atol=1e-9)
    through_b = graph.correlations[0, 3], graph.partial_correlations[0, 3]
    assert abs(through_b[0]) > 0.4, "a and d go together"
    assert abs(through_b[1]) < 0.05, "but only through b"


def test_a_graph_of_one_column_has_no_edge_and_of_impossible_columns_is_refused() -> None:
    assert column_graph(expression(50)[:, :1], ["a"], subsets=halves(50), folds=2, seed=0).edges == ()
    constant = np.zeros((50, 3))
    with pytest.raises(WorkError, match="graph: 3 columns of 50 rows have no sparse inverse covariance"):
        column_graph(constant, "abc", subsets=halves(50), folds=2, seed=0)


def test_columns_that_predict_are_selected_each_time_and_copies_share_a_group() -> None:
    whole = examples()
    values = values_within_classes(whole, np.arange(120))
    selected = selected_inputs(splits(whole), 4)
    groups = stable_inputs(values, selected, correlated=0.7)
    assert [set(group.places) for group in groups[:2]] == [{0, 1}, {2}], "2 differs as 0 does, but is no copy"
    assert [group.frequency for group in groups[:2]] == [1.0, 1.0]
    assert all(group.frequency < 0.8 for group in groups[2:])
    assert sum(group.frequency * (len(group.places) == 1) for group in groups[1:]) == pytest.approx(2, abs=1e-9)


def test_copies_that_replace_each_other_are_chosen_as_a_group() -> None:
    values = examples().inputs[0]
    selected = [np.array([i % 2, 5 + i]) for i in range(6)]
    first = stable_inputs(values, selected, correlated=0.7)[0]
    assert (set(first.places), first.frequencies, first.frequency) == ({0, 1}, (0.5, 0.5), 1.0)


def test_all_pairs_of_a_group_are_correlated() -> None:
    random = np.random.default_rng(0)
    steps = np.cumsum(random.normal(size=(400, 8)), axis=1).astype(np.float32)
    groups = correlated_groups(steps, at_least=0.8)
    assert sorted(np.concatenate(groups).tolist()) == list(range(8))
    assert max(map(len, groups)) > 1
    for group in groups:
        assert np.abs(np.corrcoef(steps[:, group].T)).min() >= 0.8 - 1e-6
    assert len(correlated_groups(steps, at_least=1.0)) == 8


def test_chance_chooses_fewer_groups_than_are_there() -> None:
    whole = examples()
    values, selection = values_within_classes(whole, np.arange(120)), Selection(4, 0.7, 0.8)
    given = {"rows": np.arange(120), "units": np.arange(120), "shuffles": 10, "seed": 0}
    by_chance = chosen_by_chance(selection, splits(whole), values, **given)
    assert by_chance == chosen_by_chance(selection, splits(whole), values, **given)
    assert by_chance < 1.5
    everything = Selection(40, 0.7, 0.8)
    assert chosen_by_chance(everything, splits(whole), values, **given) == 39, "all are selected, two as a group"


def test_targets_are_shuffled_among_units_if_they_are_equal_within() -> None:
    random = np.random.default_rng(0)
    units = np.repeat(np.arange(10), 3)
    same = (units % 2).astype(np.int32)
    mixed = same[shuffled(same, units, random)]
    assert (mixed != same).any()
    assert all(len(set(mixed[units == unit].tolist())) == 1 for unit in range(10))
    different = np.arange(30)
    order = shuffled(different, units, random)
    assert sorted(order.tolist()) == list(range(30))
    assert (units[order] == units).all()


def test_the_importance_of_a_group_is_that_of_all_its_columns() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(2000, 4)).astype(np.float32)
    rows[:, 1] = rows[:, 0]
    answers = rows[:, :1].astype(np.float64)

    def predict(given: np.ndarray) -> np.ndarray:
        return given[:, :2].mean(axis=1, keepdims=True).astype(np.float64)

    groups = [[0], [0, 1], [2, 3]]
    grown = permutation_importances(predict, rows, answers, groups, n_permutations=5, seed=0)
    # Of a permuted column x' of variance 1, (x - x')**2 has the mean 2; half of it moves the prediction by a quarter.
    np.testing.assert_allclose(grown, [0.5, 2.0, 0.0], atol=0.1)
