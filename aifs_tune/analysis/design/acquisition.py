"""Choice of a batch of experiments: expected improvement under limits, one after the other with believed results.

The expected improvement is that of Jones et al. (1998, eq. 15), times the probability that all limits hold (Gardner et
al. 2014), which counts alone until something measured holds them. Each chosen experiment is believed to give what is
predicted (the kriging believer of Ginsbourger et al. 2010): its uncertainty, and that of experiments that are
correlated with it, shrinks, so the next one is another. Several objectives are drawn into one by random weights, new
ones for each experiment of a batch (augmented Chebyshev function of ParEGO, Knowles 2006, eq. 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aifs_tune.analysis.design.calibration import Calibration
from aifs_tune.analysis.design.goals import Goals

Floats = NDArray[np.float64]

_N_DRAWS = 128
_AUGMENTED = 0.05
"""Share of the weighted sum in the augmented Chebyshev function."""


class Posterior:
    """Joint normal posterior of the targets at candidates.

    The covariance of a target between two candidates is ``factor`` times that of the models' predictions there, plus
    ``residual ** 2`` times a Gaussian kernel of their distance: errors that the models have in common are alike nearby.

    Parameters
    ----------
    predicted
        Predictions of the models, shape (models, n, targets).
    inputs
        Scaled inputs of the candidates, shape (n, columns).
    calibrations
        That of each target.
    length
        Standard deviation of the kernel, in units of the scaled inputs.
    """

    def __init__(self, predicted: Floats, inputs: Floats, calibrations: Sequence[Calibration], length: float) -> None:
        self.mean = predicted.mean(axis=0)
        factors = np.array([each.factor for each in calibrations])
        self._deviations = (predicted - self.mean) * np.sqrt(factors / (len(predicted) - 1))
        self._residuals = np.array([each.residual**2 for each in calibrations])
        self._inputs, self._length = inputs, length
        self._variance = (self._deviations**2).sum(axis=0) + self._residuals
        self._known: list[Floats] = []

    @property
    def sd(self) -> Floats:
        """Standard deviations, shape (n, targets)."""
        return np.asarray(np.sqrt(np.maximum(self._variance, 0.0)))

    def condition(self, chosen: int) -> None:
        """Take the targets of one candidate as known, by a step of a pivoted Cholesky factorisation."""
        square = ((self._inputs - self._inputs[chosen]) ** 2).sum(axis=1)
        near = np.exp(-square / (2 * self._length**2))
        covariance = np.einsum("mnt,mt->nt", self._deviations, self._deviations[:, chosen])
        covariance += near[:, None] * self._residuals
        for column in self._known:
            covariance -= column * column[chosen]
        pivot = np.maximum(self._variance[chosen], 1e-12 * (self._residuals + 1e-300))
        self._known.append(covariance / np.sqrt(pivot))
        self._variance = self._variance - self._known[-1] ** 2


@dataclass(frozen=True)
class Measured:
    """Measured targets, shape (rows, targets), NaN where one is missing."""

    values: Floats

    def feasible(self, goals: Goals, targets: Sequence[str]) -> Floats:
        """Objectives (rows, objectives), times their signs, of rows that hold all limits."""
        known = self.values[:, [targets.index(each.target) for each in goals.objectives]]
        holds = ~np.isnan(known).any(axis=1)
        for limit in goals.limits:
            values = self.values[:, targets.index(limit.target)]
            holds &= limit.sign * (values - limit.bound) >= 0
        return np.asarray(known[holds] * [each.sign for each in goals.objectives])


class Acquisition:
    """Value of candidates for one batch.

    Parameters
    ----------
    goals
        Objectives and limits.
    targets
        Names of all targets, in the order of the predictions.
    measured
        What was measured.
    random
        Source of the random weights of several objectives.
    """

    def __init__(self, goals: Goals, targets: Sequence[str], measured: Measured, random: np.random.Generator) -> None:
        self._goals, self._targets, self._random = goals, list(targets), random
        self._at = [self._targets.index(each.target) for each in goals.objectives]
        self._signs = np.array([each.sign for each in goals.objectives], np.float64)
        self._best = measured.feasible(goals, self._targets)
        known = measured.values[:, self._at] * self._signs
        self._low, self._high = np.nanmin(known, axis=0), np.nanmax(known, axis=0)
        self._draws = random.standard_normal((_N_DRAWS, len(self._at)))
        self.next()

    @property
    def has_feasible(self) -> bool:
        """Whether a measured row, or one that is believed, holds all limits."""
        return len(self._best) > 0

    def next(self) -> None:
        """Go on to the next experiment of the batch: draw new weights of several objectives."""
        self._weights = self._random.dirichlet(np.ones(len(self._at)))

    def probability(self, mean: Floats, sd: Floats) -> Floats:
        """Probability that all limits hold, shape (n,), if targets err independently of each other."""
        from scipy.special import ndtr

        found = np.ones(len(mean))
        for limit in self._goals.limits:
            i = self._targets.index(limit.target)
            found *= ndtr(limit.sign * (mean[:, i] - limit.bound) / np.maximum(sd[:, i], 1e-12))
        return found

    def improvement(self, mean: Floats, sd: Floats) -> Floats:
        """Expected improvement of the objective, or of the drawn mixture of several, shape (n,)."""
        from scipy.special import ndtr

        means, sds = mean[:, self._at] * self._signs, np.maximum(sd[:, self._at], 1e-12)
        if len(self._at) > 1:
            drawn = self._scalar(means + sds * self._draws[:, None, :])
            best = self._scalar(self._best).max()
            return np.asarray(np.maximum(drawn - best, 0).mean(axis=0))
        z = (means[:, 0] - self._best.max()) / sds[:, 0]
        density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        return np.asarray(sds[:, 0] * (z * ndtr(z) + density))

    def __call__(self, posterior: Posterior) -> Floats:
        """Value of each candidate, shape (n,)."""
        mean, sd = posterior.mean, posterior.sd
        holds = self.probability(mean, sd)
        return holds * self.improvement(mean, sd) if self.has_feasible else holds

    def log_probability(self, posterior: Posterior) -> Floats:
        """Logarithm of the probability of an improvement within the limits, shape (n,), also where it is tiny."""
        from scipy.special import log_ndtr

        mean, sd = posterior.mean, np.maximum(posterior.sd, 1e-12)
        found = np.zeros(len(mean))
        for limit in self._goals.limits:
            i = self._targets.index(limit.target)
            found += log_ndtr(limit.sign * (mean[:, i] - limit.bound) / sd[:, i])
        if self.has_feasible:
            lacks = (self._best.max(axis=0) - mean[:, self._at] * self._signs) / sd[:, self._at]
            found += log_ndtr(-lacks).min(axis=1)
        return found

    def believe(self, posterior: Posterior, chosen: int) -> None:
        """Take a candidate as measured, with its expected targets."""
        mean = posterior.mean[chosen]
        if all(
            limit.sign * (mean[self._targets.index(limit.target)] - limit.bound) >= 0 for limit in self._goals.limits
        ):
            self._best = np.vstack([self._best, mean[self._at] * self._signs])

    def _scalar(self, values: Floats) -> Floats:
        """Augmented Chebyshev function, larger is better, of objectives with the axis of objectives last."""
        lacks = self._weights * (self._high - values) / np.maximum(self._high - self._low, 1e-12)
        return np.asarray(-lacks.max(axis=-1) - _AUGMENTED * lacks.sum(axis=-1))


def choose(posterior: Posterior, acquisition: Acquisition, n: int) -> list[int]:
    """Choose ``n`` different candidates of a pool, one after the other."""
    chosen = list[int]()
    while len(chosen) < min(n, len(posterior.mean)):
        values = acquisition(posterior)
        values[chosen] = -np.inf
        best = int(np.argmax(values))
        if not values[best] > 0:  # nothing is expected to improve by what a float can hold: take the least unlikely
            values = acquisition.log_probability(posterior)
            values[chosen] = -np.inf
            best = int(np.argmax(values))
        chosen.append(best)
        acquisition.believe(posterior, best)
        posterior.condition(best)
        acquisition.next()
    return chosen
