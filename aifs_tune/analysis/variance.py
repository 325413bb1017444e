"""Functional ANOVA of a regression tree: what part of its variance over the unit cube each parameter explains.

Hutter, Hoos and Leyton-Brown, ICML 2014 (proceedings.mlr.press/v32/hutter14.html). A tree is constant in boxes, the
leaves. With f the tree less its mean, v_l its value and w_lk the width of leaf l along k, the variance of the marginal
over all but the parameters U is

    sum_lm  v_l v_m prod_{k in U} |I_lk and I_mk|  prod_{k not in U} w_lk w_mk

which is exact, and takes no walk through the tree for each point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aifs_tune.analysis.scores import Array

_NARROWEST = 1e-12


@dataclass(frozen=True, eq=False)
class Leaves:
    """A tree as boxes: ``low`` and ``high`` (m, d) in the unit cube, ``values`` (m,)."""

    low: Array
    high: Array
    values: Array

    @property
    def widths(self) -> Array:
        """Of each box along each parameter (m, d)."""
        return np.maximum(self.high - self.low, _NARROWEST)

    def marginal(self, first: int, second: int, grid: tuple[Array, Array]) -> Array:
        """The tree's mean over all parameters but two, at a grid of these: (n_first, n_second)."""
        inside = [
            (points[:, None] > self.low[:, axis]) & (points[:, None] <= self.high[:, axis])
            for axis, points in zip((first, second), grid, strict=True)
        ]
        others = np.delete(self.widths, [first, second], axis=1).prod(axis=1)
        return np.asarray((inside[0] * (self.values * others)) @ inside[1].T.astype(float))


@dataclass(frozen=True, eq=False)
class Shares:
    """Parts of a tree's variance: ``alone`` (d,) by one parameter, ``total`` (d,) that would be gone without it,
    ``pairs`` (d, d), symmetric with zeros on the diagonal, by two together and neither alone."""

    alone: Array
    total: Array
    pairs: Array


def leaves_of(tree: Any, n_parameters: int) -> Leaves:
    """The leaves of scikit-learn's ``tree_``, which was fitted to points of the unit cube (n, ``n_parameters``)."""
    low = np.zeros((tree.node_count, n_parameters))
    high = np.ones((tree.node_count, n_parameters))
    for node in range(tree.node_count):  # parents stand before their children
        axis, threshold = tree.feature[node], tree.threshold[node]
        if axis < 0:
            continue
        for child in (tree.children_left[node], tree.children_right[node]):
            low[child], high[child] = low[node], high[node]
        high[tree.children_left[node], axis] = threshold
        low[tree.children_right[node], axis] = threshold
    ends = tree.feature < 0
    low[low == 0.0] = -_NARROWEST  # a point at 0 is in the first box
    return Leaves(low[ends], high[ends], tree.value[ends, 0, 0].astype(float))


def shares_of(leaves: Leaves) -> Shares | None:
    """What explains the variance of a tree; None if it has none."""
    widths = leaves.widths
    volume = widths.prod(axis=1)
    centred = leaves.values - np.average(leaves.values, weights=volume)
    variance = float(np.sum(centred**2 * volume))
    d = widths.shape[1]
    if variance <= 0.0:
        return None
    alone, total, pairs = np.zeros(d), np.zeros(d), np.zeros((d, d))
    split = [k for k in range(d) if np.ptp(leaves.low[:, k]) > 0]
    ratios = np.stack([_ratio(leaves.low[:, k], leaves.high[:, k], widths[:, k]) for k in split])
    base = np.outer(centred * volume, centred * volume)
    alone[split] = np.einsum("lm,klm->k", base, ratios)
    # no BLAS: its threads wait for each other on a machine whose cores train
    both = np.einsum("jlm,klm->jk", ratios * base, ratios) - alone[split, None] - alone[split]
    np.fill_diagonal(both, 0.0)
    pairs[np.ix_(split, split)] = both
    total[split] = variance - _products_but_one(base, ratios)
    return Shares(*(np.clip(part / variance, 0.0, 1.0) for part in (alone, total, pairs)))


def _ratio(low: Array, high: Array, widths: Array) -> Array:
    """The overlap of every two boxes along a parameter, over the product of their widths: (m, m)."""
    overlap = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    return np.asarray(np.maximum(overlap, 0.0) / np.outer(widths, widths))


def _products_but_one(base: Array, ratios: Array) -> Array:
    """For each of ``ratios`` (k, m, m), the sum of ``base`` times all others."""
    after = [np.ones_like(base)]
    for ratio in ratios[:0:-1]:
        after.append(after[-1] * ratio)
    found, before = [], base
    for ratio in ratios:
        found.append(float(np.sum(before * after.pop())))
        before = before * ratio
    return np.array(found)
