"""A random forest of a study's results, for what depends on what, and how sure that is.

Configurations are points of the unit cube, one coordinate a parameter: along its range (its logarithm where that is
log), a choice by its place in the list. A parameter that is inactive is put in the middle.

How sure a share is: the forest is fitted again to random halves of the trials. The spread of an estimate over halves,
drawn without replacement, is that of the estimate from all trials (the delete-half jackknife; Shao and Wu, Annals of
Statistics 17, 1989, eq. 2.3). A forest of few trials gives the strong parameters too much. So an interval goes on, as
far again, in the direction in which the estimate moved from halves to all.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from aifs_tune.analysis.scores import Array
from aifs_tune.analysis.variance import Leaves, Shares, leaves_of, shares_of

FEWEST = 8
"""Trials, below which halves of them say nothing."""
N_TREES = 64
N_HALVES = 40
_TREES_OF_A_HALF = 16
_LEAF_SIZES = (1, 2, 4, 8)
_MOST_LEAVES = 128
_NORMAL_95 = 1.96


@dataclass(frozen=True, eq=False)
class ShareEstimate:
    """Shares with the ends of their 95 % intervals, all of one shape."""

    value: Array
    low: Array
    high: Array


@dataclass(frozen=True, eq=False)
class Forest:
    """Fitted to ``unit_points`` (n, d) in the unit cube and ``values`` (n,), which are not all equal.

    ``explained`` is what part of the variance of trials that a tree has not seen it foretells (R², out of bag); at or
    below 0 it foretells nothing, and its shares mean nothing.
    """

    unit_points: Array
    values: Array
    trees: tuple[Leaves, ...]
    explained: float
    leaf_size: int
    seed: int

    @cached_property
    def _full(self) -> Shares | None:
        return _mean_shares(self.trees)

    @cached_property
    def _halves(self) -> list[Shares]:
        rng = np.random.default_rng(self.seed)
        n, found = len(self.values), []
        for _ in range(N_HALVES):
            chosen = rng.permutation(n)[: n // 2]
            if np.ptp(self.values[chosen]) == 0:
                continue
            size = max(1, self.leaf_size // 2)
            seed = int(rng.integers(2**31))
            trees = _fitted(self.unit_points[chosen], self.values[chosen], _TREES_OF_A_HALF, size, seed)[0]
            shares = _mean_shares(trees)
            if shares is not None:
                found.append(shares)
        return found

    def importances(self, part: str) -> ShareEstimate:
        """What :class:`~aifs_tune.analysis.variance.Shares` calls ``part``, with intervals."""
        assert self._full is not None, "values that differ make trees that vary"
        value = getattr(self._full, part)
        if len(self._halves) < 2:
            return ShareEstimate(value, np.zeros_like(value), np.ones_like(value))
        halves = np.array([getattr(half, part) for half in self._halves])
        wide, moved = _NORMAL_95 * halves.std(axis=0, ddof=1), value - halves.mean(axis=0)
        low, high = value - wide + np.minimum(moved, 0.0), value + wide + np.maximum(moved, 0.0)
        return ShareEstimate(value, np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0))

    def surface(self, first: int, second: int, grid: tuple[Array, Array]) -> tuple[Array, Array]:
        """The mean over all parameters but two, at a grid of these, and its standard deviation over the trees."""
        found = np.stack([tree.marginal(first, second, grid) for tree in self.trees])
        return found.mean(axis=0), found.std(axis=0)


def fit_forest(unit_points: Array, values: Array, seed: int) -> Forest:
    """A forest whose leaves are as large as foretells unseen trials best: the more noise, the larger."""
    best: Forest | None = None
    for size in _sizes(len(values)):
        trees, explained = _fitted(unit_points, values, N_TREES, size, seed)
        if best is None or explained > best.explained:
            best = Forest(unit_points, values, trees, explained, size, seed)
    assert best is not None
    return best


def out_of_bag_predictions(unit_points: Array, values: Array, seed: int) -> Array:
    """Of each trial, what trees foretell that have not seen it (n,), by a forest that is as :func:`fit_forest` makes
    it."""
    forests = [_grown(unit_points, values, N_TREES, size, seed) for size in _sizes(len(values))]
    found = np.array(max(forests, key=lambda forest: float(forest.oob_score_)).oob_prediction_, dtype=float)
    return np.where(np.isfinite(found), found, values.mean())


def _sizes(n: int) -> list[int]:
    return [size for size in _LEAF_SIZES if size == 1 or 4 * size <= n]


def _fitted(
    unit_points: Array, values: Array, n_trees: int, leaf_size: int, seed: int
) -> tuple[tuple[Leaves, ...], float]:
    forest = _grown(unit_points, values, n_trees, leaf_size, seed)
    trees = tuple(leaves_of(each.tree_, unit_points.shape[1]) for each in forest.estimators_)
    return trees, float(forest.oob_score_)


def _grown(unit_points: Array, values: Array, n_trees: int, leaf_size: int, seed: int) -> Any:
    """scikit-learn's forest."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        n_trees,
        min_samples_leaf=leaf_size,
        max_leaf_nodes=_MOST_LEAVES if len(values) > _MOST_LEAVES else None,
        oob_score=True,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some trials are in every tree, where there are few
        return forest.fit(unit_points, values)


def _mean_shares(trees: tuple[Leaves, ...]) -> Shares | None:
    found = [shares for shares in map(shares_of, trees) if shares is not None]
    if not found:
        return None
    return Shares(*(np.mean([getattr(each, part) for each in found], axis=0) for part in ("alone", "total", "pairs")))
