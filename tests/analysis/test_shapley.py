"""Estimated Shapley values beside exact ones, over all subsets of the columns."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
import pytest

from aifs_tune.analysis.shapley import shapley_values

ROWS = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
REFERENCE = np.full(5, 0.25, np.float32)
GROUPS = [[0], [1, 3], [2], [4]]


def answer(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.sin(3 * x[:, 0]) * x[:, 1] + x[:, 2] ** 2 * x[:, 3] - x[:, 0] * x[:, 2], np.float64)


def exact() -> np.ndarray:
    """The definition: mean gain of a group over all subsets of the others."""
    found, n = np.zeros((len(ROWS), len(GROUPS))), len(GROUPS)
    for group in range(n):
        others = [i for i in range(n) if i != group]
        for size in range(n):
            for subset in combinations(others, size):
                weight = factorial(size) * factorial(n - size - 1) / factorial(n)
                for members, sign in (((*subset, group), 1), (subset, -1)):
                    mixed = np.tile(REFERENCE, (len(ROWS), 1))
                    columns = [column for i in members for column in GROUPS[i]]
                    mixed[:, columns] = ROWS[:, columns]
                    found[:, group] += sign * weight * answer(mixed)
    return found


def test_many_orders_come_near_the_exact_values() -> None:
    found = shapley_values(answer, ROWS, REFERENCE, GROUPS, n_orders=400, seed=1)
    np.testing.assert_allclose(found, exact(), atol=0.06)
    assert found[:, 3] == pytest.approx(0), "a column that is not looked at"


@pytest.mark.parametrize("n_orders", [1, 7])
def test_they_add_up_for_any_number_of_orders(n_orders: int) -> None:
    found = shapley_values(answer, ROWS, REFERENCE, GROUPS, n_orders=n_orders, seed=0)
    np.testing.assert_allclose(found.sum(axis=1), answer(ROWS) - answer(REFERENCE[None]), atol=1e-6)
