"""Model of trials with several objectives, by expected hypervolume improvement.

The hypervolume of a set of values is the volume that they dominate above a reference point. Each objective has a
Gaussian process of its own (:mod:`aifs_tune.samplers.single_fidelity`), and the expected improvement is exact for
independent normal values: the space that no value dominates is divided into boxes, and the expectation of a box is a
product over objectives. Emmerich, Deutz & Klinkenberg, Hypervolume-based expected improvement, IEEE Congress on
Evolutionary Computation (2011). Where measurements are noisy, the values that count are the means of the model at the
measured configurations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from aifs_tune.samplers.encoding import Encoding
from aifs_tune.samplers.gp import SingleFidelityPosterior
from aifs_tune.samplers.single_fidelity import Measured, SingleFidelityModel, adjusted, dominated_by

Array: TypeAlias = NDArray[np.float64]

MARGIN = 0.1
"""Distance of the reference point below the worst values of the Pareto front, as a fraction of their range."""
MAX_BOXES = 600
"""Number of boxes that limits how much of a Pareto front is used; two objectives need one more box than it has
points."""
N_LEADERS = 12
"""Maximum number of configurations of the Pareto front whose neighbourhood is searched."""
TINY = 1e-300


class MultiObjectiveModel:
    """Model of at least two ``measured`` trials with several objectives."""

    def __init__(self, encoding: Encoding, measured: Measured, earlier: MultiObjectiveModel | None = None) -> None:
        self.encoding, self.measured = encoding, measured
        without_limits = replace(measured, excess=measured.excess[:, :0])
        self._models: list[SingleFidelityModel] = [
            SingleFidelityModel(
                encoding,
                without_limits if objective else measured,
                None if earlier is None else earlier._models[objective],
                objective=objective,
            )
            for objective in range(measured.values.shape[1])
        ]
        self._x = encoding.features(measured.unit_points)
        self._feasible = np.flatnonzero(self._models[0].keeps)

    @property
    def leaders(self) -> NDArray[np.int64]:
        """Indices of trials of the Pareto front of posterior means, spread evenly over it."""
        means = np.stack([model.means for model in self._models], axis=1)
        if not len(self._feasible):
            return self._models[0].leaders
        front = self._feasible[non_dominated(means[self._feasible])]
        return front[_spread(means[front], N_LEADERS)]

    def score(self, unit_points: Array) -> Array:
        """Compute log(expected hypervolume improvement times probability of feasibility) (m,) at ``unit_points``
        (m, d).

        While no trial is probably feasible, it is the log of that probability alone.
        """
        x = self.encoding.features(unit_points)
        chance = self._models[0].log_chance(x)
        if not len(self._feasible):
            return chance
        total = np.zeros(len(x))
        for posteriors, boxes in self._kernels:
            predicted = [each.mean_and_variance(x) for each in posteriors]
            mean, variance = (np.stack(kind, axis=1) for kind in zip(*predicted, strict=True))
            total += boxes.expected_improvement(mean, np.sqrt(variance))
        score = np.log(total / len(self._kernels) + TINY) + chance
        return adjusted(score, x, self.encoding, self.measured, self._x, self._models[0].posteriors[0].scales)

    @cached_property
    def _kernels(self) -> list[tuple[tuple[SingleFidelityPosterior, ...], UndominatedSpace]]:
        """For each kernel that was sampled, the posterior of each objective, and the space above the posterior means of
        measured and running trials."""
        known = np.concatenate([self._x, self.encoding.features(self.measured.running)])
        counts = np.append(self._feasible, np.arange(len(self._x), len(known)))
        found = []
        for posteriors in zip(*(model.pending_posteriors for model in self._models), strict=True):
            values = np.stack([each.mean(known) for each in posteriors], axis=1)
            found.append((posteriors, UndominatedSpace.above(values[counts], reference_point(values))))
        return found


def non_dominated(values: Array) -> NDArray[np.int64]:
    """Return the indices of the rows of ``values`` (n, m) that no other row exceeds; of equal rows, the first."""
    _, first = np.unique(values, axis=0, return_index=True)
    rows = np.sort(first)
    kept = values[rows]
    return np.asarray(rows[dominated_by(kept) == 0])


def _spread(front: Array, n: int) -> NDArray[np.int64]:
    """Return the indices of at most ``n`` rows of ``front`` (k, m), evenly in the order of the first objective."""
    order = np.argsort(front[:, 0], kind="stable")
    return np.asarray(order[np.unique(np.linspace(0, len(order) - 1, n).round().astype(int))])


def reference_point(values: Array) -> Array:
    """Return a point (m,) below the Pareto front of ``values`` (n, m), above which hypervolume counts.

    ``values`` are those of infeasible configurations too: the feasible ones that are known may be a small part of all.
    """
    front = values[non_dominated(values)]
    of = front if len(front) > 1 else values
    low, high = of.min(0), of.max(0)
    return np.asarray(low - MARGIN * np.maximum(high - low, 1e-3))


def undominated_boxes(front: Array, reference: Array) -> tuple[Array, Array]:
    """Divide the space above ``reference`` (m,) that no row of ``front`` (k, m) dominates into boxes.

    Returns
    -------
    lower, upper : numpy.ndarray
        Corners (b, m) of the boxes; upper ones may be infinite.
    """
    front = np.maximum(front, reference)
    if front.shape[1] == 1:
        low = np.max(front, axis=0, initial=float(reference[0]))
        return low[None], np.full((1, 1), np.inf)
    edges = np.unique(np.append(front[:, -1], reference[-1]))
    lower: list[Array] = []
    upper: list[Array] = []
    for low, high in zip(edges, np.append(edges[1:], np.inf), strict=True):
        inner = undominated_boxes(front[front[:, -1] >= high][:, :-1], reference[:-1])
        lower.append(np.hstack([inner[0], np.full((len(inner[0]), 1), low)]))
        upper.append(np.hstack([inner[1], np.full((len(inner[1]), 1), high)]))
    return np.concatenate(lower), np.concatenate(upper)


@dataclass(frozen=True)
class UndominatedSpace:
    """Boxes with corners ``lower`` and ``upper`` (b, m), in which a value improves the hypervolume."""

    lower: Array
    upper: Array

    @staticmethod
    def above(values: Array, reference: Array) -> UndominatedSpace:
        """Return the space above ``reference`` (m,) that no row of ``values`` (n, m), larger ones better, dominates."""
        front = values[non_dominated(values)]
        front = front[_spread(front, max(4, int(MAX_BOXES ** (1.0 / (values.shape[1] - 1)))))]
        return UndominatedSpace(*undominated_boxes(front, reference))

    def expected_improvement(self, mean: Array, sd: Array) -> Array:
        """Compute the expected hypervolume improvement (c,) of independent normal values with ``mean`` and ``sd``
        (c, m)."""
        volume = np.ones((len(mean), len(self.lower)))
        for j in range(mean.shape[1]):
            edges, at = np.unique(np.concatenate([self.lower[:, j], self.upper[:, j]]), return_inverse=True)
            above = _expected_excess(mean[:, j], sd[:, j], edges)
            volume *= np.maximum(above[:, at[: len(self.lower)]] - above[:, at[len(self.lower) :]], 0.0)
        return np.asarray(volume.sum(1))


def _expected_excess(mean: Array, sd: Array, edges: Array) -> Array:
    """Compute E[max(0, value - edge)] (c, e) for normal values with ``mean`` and ``sd`` (c,); 0 at infinity."""
    z = (mean[:, None] - np.where(np.isinf(edges), 0.0, edges)) / sd[:, None]
    density = np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
    return np.where(np.isinf(edges), 0.0, sd[:, None] * (density + z * ndtr(z)))
