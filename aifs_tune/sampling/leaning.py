"""How far a model leans on experts: earlier studies whose word counts as far as the new results bear it out.

The values are y = sum_j b_j h_j(x) + f(x), f the Gaussian process as it is without experts, h_j what expert j expects
and b_j normal with mean :data:`TRUST` and standard deviation :data:`DOUBT`: explicit basis functions, equations 2.39 to
2.43 of Rasmussen & Williams, Gaussian Processes for Machine Learning (2006). An expert is heard while the results are
more probable with it than without it (the log of the ratio of the evidences, from their equation 2.43, is above 0) and
its weight is above 0; else it counts nothing and the model is what it would be without it. Earlier studies as weighted
experts: Feurer, Letham & Bakshy, Scalable Meta-Learning for Bayesian Optimization, arXiv 1802.02219.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from aifs_tune.sampling.curve_gp import Kernel, Points, Posterior
from aifs_tune.sampling.plain_gp import PlainPosterior

Array: TypeAlias = NDArray[np.float64]

TRUST, DOUBT = 0.7, 0.5
"""Mean and standard deviation of an expert's weight before there are results."""


class Expects(Protocol):
    """An expert, of an earlier ``study``."""

    study: str

    def __call__(self, x: Array) -> Array:
        """The merits (m,) that it expects of features ``x`` (m, c), mean 0 and variance about 1."""


@dataclass(frozen=True)
class Lean:
    """``weights`` (k,) of all experts, 0 for those that are not heard; ``heard`` (j,) are the indices of the others,
    ``alpha`` (n,) the inverse covariance times what they leave unexplained, ``solved`` (n, j) that times what they
    expect, ``covariance`` (j, j) that of their weights."""

    weights: Array
    heard: NDArray[np.int64]
    alpha: Array
    solved: Array
    covariance: Array

    def at(self, factor: Array, y: Array, expected: Array) -> Lean:
        """With these weights, where results were added that are only expected and say nothing of experts."""
        left = y - self.weights @ expected
        alpha, _ = lapack.dpotrs(factor, left, lower=1)
        return Lean(self.weights, self.heard, alpha, _solved(factor, expected)[:, self.heard], self.covariance)

    def contrast(self, expected: Array, cross: Array) -> tuple[Array, Array]:
        """What the experts add to the means and variances (m,) of how much each of m configurations exceeds the last
        one of ``expected`` (k, m + 1), whose covariances with what was observed are ``cross`` (m + 1, n)."""
        beyond = expected[:, :-1] - expected[:, -1:]
        left = beyond[self.heard] - self.solved.T @ (cross[:-1] - cross[-1]).T
        return self.weights @ beyond, np.asarray(np.einsum("jm,jl,lm->m", left, self.covariance, left), dtype=float)


def _solved(factor: Array, expected: Array) -> Array:
    solved, _ = lapack.dpotrs(factor, expected.T, lower=1)
    return np.asarray(solved).reshape(len(factor), len(expected))


def lean(factor: Array, y: Array, expected: Array) -> Lean:
    """How far to lean on experts that expect ``expected`` (k, n) where ``y`` (n,) was observed, whose covariance has
    the lower Cholesky ``factor`` (n, n)."""
    alpha, _ = lapack.dpotrs(factor, y, lower=1)
    solved = _solved(factor, expected)
    heard = [j for j in range(len(expected)) if _is_heard(solved[:, [j]], expected[[j]], y)]
    weights, covariance = _weights(solved[:, heard], expected[heard], y)
    while len(heard) and weights.min() <= 0.0:  # together, one may be what another one is too much
        del heard[int(np.argmin(weights))]
        weights, covariance = _weights(solved[:, heard], expected[heard], y)
    kept = np.array(heard, dtype=np.int64)
    full = np.zeros(len(expected))
    full[kept] = weights
    return Lean(full, kept, alpha - solved[:, kept] @ weights, solved[:, kept], covariance)


def _weights(solved: Array, expected: Array, y: Array) -> tuple[Array, Array]:
    """Means and covariance of the weights of some experts, given the results: equation 2.42 with a prior."""
    k = len(expected)
    if not k:
        return np.empty(0), np.empty((0, 0))
    precision = expected @ solved + np.eye(k) / DOUBT**2
    covariance = np.linalg.inv(0.5 * (precision + precision.T))
    return np.asarray(covariance @ (solved.T @ y + _trusts(k) / DOUBT**2)), np.asarray(covariance, dtype=float)


def _is_heard(solved: Array, expected: Array, y: Array) -> bool:
    """Whether ``y`` is more probable with this expert than without, and its weight above 0."""
    weight, variance = (float(found.item()) for found in _weights(solved, expected, y))
    gain = 0.5 * np.log(variance / DOUBT**2) + 0.5 * (weight**2 / variance - TRUST**2 / DOUBT**2)
    return weight > 0.0 and gain > 0.0


def _trusts(k: int) -> Array:
    """Several experts share what one would be trusted with."""
    return np.full(k, TRUST / k)


class LeaningPosterior(Posterior):
    """As :class:`~aifs_tune.sampling.curve_gp.Posterior`, leaning on ``experts`` on the last epoch, at log ``end``.

    What they expect there counts at another epoch as far as the kernel says that levels carry over.
    """

    def __init__(
        self, kernel: Kernel, points: Points, experts: Sequence[Expects], end: float, known: Lean | None = None
    ) -> None:
        super().__init__(kernel, points)
        self._experts, self._end = experts, end
        expected = self._expected(points.x, points.u)
        self.lean = (
            lean(self._factor, points.y, expected) if known is None else known.at(self._factor, points.y, expected)
        )
        self._alpha = self.lean.alpha

    def awaiting(self, points: Points) -> LeaningPosterior:
        return LeaningPosterior(self.kernel, points, self._experts, self._end, self.lean)

    def mean(self, x: Array, u: float, trial: NDArray[np.int64]) -> Array:
        return np.asarray(super().mean(x, u, trial) + self.lean.weights @ self._expected(x, np.array([u])))

    def gain(self, x: Array, u: float, trial: NDArray[np.int64], over: Array, over_trial: int) -> tuple[Array, Array]:
        mean, variance = super().gain(x, u, trial, over, over_trial)
        if not len(self.lean.heard):
            return mean, variance
        both = np.vstack([x, over[None]])
        expected = self._expected(both, np.array([u]))
        cross = self._cross(both, u, np.append(trial, np.array([over_trial])))
        more, doubt = self.lean.contrast(expected, cross)
        return mean + more, variance + doubt

    def _expected(self, x: Array, u: Array) -> Array:
        kernel = self.kernel
        carried = kernel.level + kernel.shape * kernel.course(u, np.array([self._end]))[:, 0]
        expected = np.array([expert(x) for expert in self._experts])
        return np.asarray(expected * (carried / (kernel.level + kernel.shape)), dtype=float)


class LeaningPlainPosterior(PlainPosterior):
    """As :class:`~aifs_tune.sampling.plain_gp.PlainPosterior`, leaning on ``experts``."""

    def __init__(
        self,
        theta: Array,
        columns: NDArray[np.int64],
        x: Array,
        y: Array,
        experts: Sequence[Expects],
        known: Lean | None = None,
    ) -> None:
        super().__init__(theta, columns, x, y)
        self._experts = experts
        expected = self._expected(x)
        self.lean = lean(self._factor, y, expected) if known is None else known.at(self._factor, y, expected)
        self._alpha = self.lean.alpha

    def awaiting(self, x: Array, y: Array) -> LeaningPlainPosterior:
        return LeaningPlainPosterior(self.theta, self._columns, x, y, self._experts, self.lean)

    def mean(self, x: Array) -> Array:
        return np.asarray(super().mean(x) + self.lean.weights @ self._expected(x))

    def mean_and_variance(self, x: Array) -> tuple[Array, Array]:
        mean, variance = super().mean_and_variance(x)
        expected = self._expected(x)
        left = expected[self.lean.heard] - self.lean.solved.T @ self._cross(x).T
        return mean + self.lean.weights @ expected, variance + np.einsum(
            "jm,jl,lm->m", left, self.lean.covariance, left
        )

    def gain(self, x: Array, over: Array) -> tuple[Array, Array]:
        mean, variance = super().gain(x, over)
        both = np.vstack([x, over[None]])
        more, doubt = self.lean.contrast(self._expected(both), self._cross(both))
        return mean + more, variance + doubt

    def _expected(self, x: Array) -> Array:
        return np.array([expert(x) for expert in self._experts])
