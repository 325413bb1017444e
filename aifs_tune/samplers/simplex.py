"""Mixtures in the unit cube: projection of amounts to a total, and an even spread over them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

N_GRID = 1025
"""Number of points at which the distribution of a sum is tabulated."""


class Simplex:
    """Components ``columns`` (k,) of unit points, from ``low`` to ``low + width`` (k,), that sum to ``total``."""

    def __init__(self, columns: list[int], low: Array, width: Array, total: float) -> None:
        self.columns, self._low, self._width, self._total = columns, low, width, total
        self._sums = _sums(width)

    def project_to_total(self, unit_points: Array) -> Array:
        """Move ``unit_points`` (m, d) to the nearest amounts that have the total.

        See :func:`aifs_tune.space.mixtures.project_to_total`.
        """
        given = unit_points[:, self.columns] * self._width
        goal = self._total - self._low.sum()
        below, above = (
            np.full((len(unit_points), 1), -self._width.max() * 2),
            np.full((len(unit_points), 1), self._width.max() * 2),
        )
        for _ in range(60):
            middle = 0.5 * (below + above)
            short = np.clip(given + middle, 0.0, self._width).sum(1, keepdims=True) < goal
            below, above = np.where(short, middle, below), np.where(short, above, middle)
        out = unit_points.copy()
        out[:, self.columns] = np.clip(given + above, 0.0, self._width) / self._width
        return out

    def spread(self, unit_points: Array) -> Array:
        """Map evenly spread ``unit_points`` (m, d) to points that are evenly spread over all amounts with the total.

        Each amount follows its distribution given the amounts before it. The last one is the remainder.
        """
        out, left = unit_points.copy(), np.full(len(unit_points), self._total - self._low.sum())
        for i, column in enumerate(self.columns[:-1]):
            at, cumulative = self._sums[i + 1]  # of the sum of the following components
            most = np.interp(left, at, cumulative)
            least = np.interp(left - self._width[i], at, cumulative)
            following = np.interp(most - unit_points[:, column] * (most - least), cumulative, at)
            amount = np.clip(left - following, 0.0, self._width[i])
            out[:, column], left = amount / self._width[i], left - amount
        out[:, self.columns[-1]] = left / self._width[-1]
        return self.project_to_total(out)


def _sums(width: Array) -> list[tuple[Array, Array]]:
    """Tabulate, for each component, the distribution function of the sum of it and the following components.

    Components are uniform from 0 to their width.
    """
    sums: list[tuple[Array, Array]] = [(np.array([0.0, width[-1]]), np.array([0.0, 1.0]))]
    for own in width[-2::-1]:
        at, cumulative = sums[0]
        grid = np.linspace(0.0, at[-1] + own, N_GRID)
        density = (np.interp(grid, at, cumulative) - np.interp(grid - own, at, cumulative)) / own
        summed = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
        rising = summed / summed[-1] + np.linspace(
            0.0, 1e-9, N_GRID
        )  # strictly increasing, so that its tails can be inverted
        sums.insert(0, (grid, rising / rising[-1]))
    return sums
