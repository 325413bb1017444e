"""Model of trials without epochs: one objective, outcome limits and failures, and the next proposals."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import log_ndtr, logsumexp, ndtri

from aifs_tune.samplers.acquisition import (
    chance_of_success,
    log_expected_improvement,
    perturbed,
    with_other_choices,
    without_duplicates,
    without_failures,
)
from aifs_tune.samplers.encoding import Encoding
from aifs_tune.samplers.gp import (
    OFFSETS,
    OutputWarp,
    SingleFidelityPosterior,
    SingleFidelityPrior,
    choose_warp,
    fit,
    sample_theta,
    subset,
)
from aifs_tune.samplers.transfer import SingleFidelityTransferPosterior, SourceModel

Array: TypeAlias = NDArray[np.float64]
Allows: TypeAlias = Callable[[Mapping[str, Any]], bool]
Weigh: TypeAlias = Callable[[Array, Array], Array]
"""Function of log scores (m,) and unit points (m, d) that returns other log scores."""

MAX_TRIALS = 300
"""Maximum number of trials to fit; of more, the best ones and a sample of the others are used.

The cost of a fit grows with the third power of it.
"""
N_UNIFORM, N_BEST, N_NEAR = 500, 6, 50
"""Number of uniform candidates, of best trials, and of changes of each best trial."""
N_REFINED, N_CHANGES, STEPS = 8, 30, (0.15, 0.06, 0.024, 0.01, 0.003, 0.001)
"""Number of candidates to refine, changes of each, and step sizes as fractions of a range."""
N_KERNELS = 6
"""Number of kernels sampled from their posterior; the most probable one alone underestimates the uncertainty."""
MAX_SAMPLED = 150
"""Number of trials above which only the most probable kernel is used, fitted to so many: it is well known then."""
N_QUANTILES = 2000
"""Number of quantiles of a normal distribution over which a gain is averaged."""
MIN_DISTANCE = 0.2
"""Distance from a running trial, in length scales, below which a configuration is proposed only if there is no other:
the trials of a batch are to differ."""
LIKELY = 0.5
"""Probability from which a configuration counts as feasible, or as one that does not fail."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Trials of a study at one moment.

    Measured trials have ``unit_points`` (n, d), ``values`` (n, m) of m objectives, larger ones better, and ``numbers``
    (n,).
    ``excess`` (n, k) is how far they exceed each limit, NaN where unknown. ``running`` (r, d) and ``failed`` (f, d)
    are unit points of the other trials.
    """

    unit_points: Array
    values: Array
    numbers: NDArray[np.int64]
    excess: Array
    running: Array
    failed: Array


def measured_in(trials: Sequence[FrozenTrial], encoding: Encoding, directions: Sequence[StudyDirection]) -> Measured:
    """Read ``trials``, in the order of their numbers."""
    signs, d = np.where([way == StudyDirection.MAXIMIZE for way in directions], 1.0, -1.0), len(encoding)
    done = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED) and _is_finite(t) and t.params]
    values = signs * np.array([t.values for t in done]).reshape(-1, len(signs))
    if len(done) > MAX_TRIALS:
        n_better = dominated_by(values) if len(signs) > 1 else -values[:, 0]
        order = np.argsort(n_better, kind="stable")
        others = np.linspace(2 * MAX_TRIALS // 3, len(done) - 1, MAX_TRIALS // 3).astype(int)
        kept = np.sort(np.concatenate([order[: 2 * MAX_TRIALS // 3], order[others]]))
        done, values = [done[i] for i in kept], values[kept]
    excess = [t.constraints for t in done]
    limits = sorted({limit for each in excess for limit in each})

    def unit_points(of: Sequence[FrozenTrial]) -> Array:
        return np.array([encoding.unit_point(t.params) for t in of]).reshape(-1, d)

    return Measured(
        unit_points=unit_points(done),
        values=values,
        numbers=np.array([t.number for t in done], dtype=np.int64),
        excess=np.array([[each.get(limit, np.nan) for limit in limits] for each in excess]).reshape(
            len(done), len(limits)
        ),
        running=unit_points([t for t in trials if t.state == TrialState.RUNNING and t.params]),
        failed=unit_points([t for t in trials if t.state == TrialState.FAIL and t.params]),
    )


def _is_finite(trial: FrozenTrial) -> bool:
    return bool(trial.values) and bool(np.isfinite(trial.values).all())


def dominated_by(values: Array) -> NDArray[np.int64]:
    """Return how many rows of ``values`` (n, m) dominate each row: none of its values is smaller, and one is larger."""
    return np.array([np.sum(np.all(values >= row, axis=1) & np.any(values > row, axis=1)) for row in values], dtype=int)


class SingleFidelityModel:
    """Model of one objective of at least two ``measured`` trials, with the ``source_models`` of a warm start, if any.

    ``posteriors`` predict warped values. ``best`` is the index of the trial with the best posterior mean among those
    that are probably feasible; None if none is.
    """

    def __init__(
        self,
        encoding: Encoding,
        measured: Measured,
        earlier: SingleFidelityModel | None = None,
        source_models: Sequence[SourceModel] = (),
        *,
        objective: int | None = None,
    ) -> None:
        self.encoding, self.measured, self._source_models = encoding, measured, source_models
        self._values = measured.values[:, objective or 0]
        self.x = encoding.features(measured.unit_points)
        self.warp: OutputWarp
        self.posteriors: list[SingleFidelityPosterior]
        """One posterior for each kernel that was sampled."""
        self._limits: list[tuple[SingleFidelityPosterior, float]]
        if earlier is not None and np.array_equal(earlier.measured.numbers, measured.numbers):
            self.warp, self.posteriors, self._limits = earlier.warp, earlier.posteriors, earlier._limits
        else:
            prior = SingleFidelityPrior.of(encoding.columns)
            self.warp = (
                choose_warp(encoding.columns, self.x, self._values, prior)
                if objective is None
                else OutputWarp.of(self._values, OFFSETS[-1])
            )
            self.posteriors = self._drawn(self.x, self.warp(self._values))
            self._limits = [model for excess in measured.excess.T if (model := self._limit(excess)) is not None]
        self.means = np.mean([each.mean_and_variance(self.x)[0] for each in self.posteriors], axis=0)
        self.keeps = self.log_chance(self.x) >= np.log(LIKELY)
        self.best = int(np.argmax(np.where(self.keeps, self.means, -np.inf))) if self.keeps.any() else None

    @property
    def leaders(self) -> NDArray[np.int64]:
        """Indices of the trials with the best posterior means, probably feasible ones first."""
        return np.argsort(np.where(self.keeps, -self.means, np.inf), kind="stable")[:N_BEST]

    def _fitted(self, x: Array, y: Array) -> SingleFidelityPosterior:
        columns = self.encoding.columns
        return SingleFidelityPosterior(fit(columns, x, y, SingleFidelityPrior.of(self.encoding.columns)), columns, x, y)

    def _drawn(self, x: Array, y: Array) -> list[SingleFidelityPosterior]:
        columns, prior = self.encoding.columns, SingleFidelityPrior.of(self.encoding.columns)
        kept = subset(y, MAX_SAMPLED)
        found = [fit(columns, x[kept], y[kept], prior)]
        if len(y) <= MAX_SAMPLED and N_KERNELS > 1:
            found = sample_theta(columns, x, y, prior, found[0], N_KERNELS, np.random.default_rng(len(y)))
        if self._source_models:
            return [SingleFidelityTransferPosterior(theta, columns, x, y, self._source_models) for theta in found]
        return [SingleFidelityPosterior(theta, columns, x, y) for theta in found]

    @cached_property
    def weights(self) -> Array:
        """Weights of the source models (k,), the mean over the posteriors; empty without source models."""
        of_each = [
            each.transfer.weights for each in self.posteriors if isinstance(each, SingleFidelityTransferPosterior)
        ]
        return np.mean(of_each, axis=0) if of_each else np.empty(0)

    def _limit(self, excess: Array) -> tuple[SingleFidelityPosterior, float] | None:
        """Model the excess (n,) over a limit, with the limit in its scale; None while fewer than two are known."""
        known = np.isfinite(excess)
        if known.sum() < 2:
            return None
        centre, scale = float(np.mean(excess[known])), float(np.std(excess[known])) or 1.0
        return self._fitted(self.x[known], (excess[known] - centre) / scale), -centre / scale

    def log_chance(self, x: Array) -> Array:
        """Compute the log probability (m,) that ``x`` (m, c) is feasible: that it satisfies all limits."""
        total = np.zeros(len(x))
        for posterior, border in self._limits:
            mean, variance = posterior.mean_and_variance(x)
            total += log_ndtr((border - mean) / np.sqrt(variance))
        return total

    @cached_property
    def pending_posteriors(self) -> list[SingleFidelityPosterior]:
        """Posteriors conditioned on running trials, which are assumed to end as expected."""
        running = self.measured.running
        if not len(running):
            return self.posteriors
        x, y = self.encoding.features(running), self.warp(self._values)
        both = np.concatenate([self.x, x])
        return [each.condition_on_observations(both, np.concatenate([y, each.mean(x)])) for each in self.posteriors]

    def score(self, unit_points: Array) -> Array:
        """Compute log(expected improvement times probability of feasibility) (m,) at ``unit_points`` (m, d).

        While no trial is probably feasible, it is the log of that probability alone.
        """
        x = self.encoding.features(unit_points)
        chance = self.log_chance(x)
        if self.best is None:
            return chance
        scores = [self._log_improvement(each, x) for each in self.pending_posteriors]
        score = logsumexp(scores, axis=0) - np.log(len(scores)) + chance
        return adjusted(score, x, self.encoding, self.measured, self.x, self.posteriors[0].scales)

    def _log_improvement(self, posterior: SingleFidelityPosterior, x: Array) -> Array:
        """Compute the log of the expected improvement (m,), reduced where noise makes a measurement less informative.

        Equation 12 of Huang et al., Global Optimization of Stochastic Black-Box Systems, Journal of Global
        Optimization 34 (2006).
        """
        gain, variance = posterior.gain(x, self.x[self.best or 0])
        spread = posterior.mean_and_variance(x)[1]
        informative = 1.0 - np.sqrt(posterior.noise / (posterior.noise + spread))
        return np.asarray(log_expected_improvement(gain, variance) + np.log(informative + 1e-12))

    def expected_gain(self, unit_points: Array) -> Array:
        """Compute the expected improvement (m,) over the best trial times the probability of feasibility.

        It is in the unit of the objective, at ``unit_points`` (m, d).
        """
        assert self.best is not None
        x, here = self.encoding.features(unit_points), self.means[self.best]
        z, total = ndtri((np.arange(N_QUANTILES) + 0.5) / N_QUANTILES), np.zeros(len(unit_points))
        for posterior in self.pending_posteriors:
            mean, variance = posterior.gain(x, self.x[self.best])
            reached = self.warp.inverse(here + mean[:, None] + np.sqrt(variance)[:, None] * z)
            total += np.maximum(reached / self.warp.unit - self.warp.inverse(here) / self.warp.unit, 0.0).mean(1)
        gain = total / len(self.pending_posteriors) * np.exp(self.log_chance(x))
        return np.asarray(self.warp.unit * np.minimum(gain, sys.float_info.max / self.warp.unit))


def adjusted(score: Array, x: Array, encoding: Encoding, measured: Measured, measured_x: Array, scales: Array) -> Array:
    """Rank candidates ``x`` (m, c) that duplicate a running trial, or probably fail, behind all others.

    ``score`` (m,) is logarithmic, and length ``scales`` (c,) are those of the model.
    """
    if len(measured.running):
        score = without_duplicates(score, x, encoding.features(measured.running), scales, MIN_DISTANCE)
    if len(measured.failed):
        succeeds = chance_of_success(x, encoding.features(measured.failed), measured_x, scales)
        score = without_failures(score, succeeds, min_probability=LIKELY)
    return np.asarray(score)


class Model(Protocol):
    """What proposals need of a model of measured trials."""

    encoding: Encoding
    measured: Measured

    @property
    def leaders(self) -> NDArray[np.int64]:
        """Indices of the trials whose neighbourhood is searched."""

    def score(self, unit_points: Array) -> Array:
        """Compute how promising ``unit_points`` (m, d) are (m,), larger is better."""


def propose_single_fidelity(
    model: Model,
    encoding: Encoding,
    rng: np.random.Generator,
    *,
    weigh: Weigh | None = None,
    allows: Allows | None = None,
) -> Array:
    """Return allowed unit points (m, d) of ``encoding`` to try next, the most promising first.

    Candidates are uniform points and changes of the best trials, then ever smaller changes of the best candidates.
    ``weigh`` adds what is known besides the model to their log scores.
    """
    measured = model.measured
    best = measured.unit_points[model.leaders]
    near = encoding.deactivated(with_other_choices(perturbed(best, N_NEAR, rng), encoding, rng))
    unit_points = np.concatenate(
        [_spread(encoding, measured.unit_points, rng, allows), allowed(near, encoding, allows)]
    )
    if not len(unit_points):
        return unit_points

    def score(at: Array) -> Array:
        return model.score(at) if weigh is None else weigh(model.score(at), at)

    scores = score(unit_points)
    for step in STEPS:
        top = np.argsort(-scores, kind="stable")[:N_REFINED]
        changed = allowed(encoding.deactivated(_changed(unit_points[top], step, rng)), encoding, allows)
        unit_points, scores = np.concatenate([unit_points, changed]), np.concatenate([scores, score(changed)])
    return unit_points[np.argsort(-scores, kind="stable")]


def _spread(encoding: Encoding, known: Array, rng: np.random.Generator, allows: Allows | None) -> Array:
    """Draw allowed unit points: uniform ones, and where few of these are allowed, walks from allowed points."""
    found = allowed(encoding.spread(rng.random((N_UNIFORM, len(encoding)))), encoding, allows)
    for _ in range(0 if allows is None else 3):
        if len(found) < N_UNIFORM // 2:
            start = np.concatenate([known, found])
            start = start[rng.permutation(len(start))[:N_BEST]]
            walked = encoding.deactivated(with_other_choices(perturbed(start, N_NEAR, rng), encoding, rng))
            found = np.concatenate([found, allowed(walked, encoding, allows)])
    return found


def _changed(unit_points: Array, step: float, rng: np.random.Generator) -> Array:
    """Change each of ``unit_points`` (k, d) :data:`N_CHANGES` times by a normal step in some or all parameters."""
    start = np.repeat(unit_points, N_CHANGES, axis=0)
    start = np.where(np.isnan(start), rng.random(start.shape), start)
    moved = rng.random(start.shape) < rng.choice([0.3, 1.0], (len(start), 1))
    end = np.abs(start + moved * step * rng.standard_normal(start.shape))
    return np.clip(1.0 - np.abs(1.0 - end), 0.0, 1.0)


def allowed(unit_points: Array, encoding: Encoding, allows: Allows | None) -> Array:
    """Return those of ``unit_points`` (m, d) whose configuration ``allows`` accepts."""
    if allows is None or not len(unit_points):
        return unit_points
    return unit_points[[allows(params) for params in encoding.configurations(unit_points)]]
