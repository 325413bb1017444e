"""How far a model leans on experts: earlier studies whose word counts as far as the new results bear it out.

The values are y = sum_j b_j h_j(x) + f(x), f the Gaussian process as it is without experts, h_j what expert j expects
and b_j normal with mean :data:`WEIGHT_MEAN` and standard deviation :data:`WEIGHT_SD`: explicit basis functions,
equations 2.39 to
2.43 of Rasmussen & Williams, Gaussian Processes for Machine Learning (2006). An expert is heard while the results are
more probable with it than without it (the log of the ratio of the evidences, from their equation 2.43, is above 0) and
its weight is above 0; else it counts nothing and the model is what it would be without it. Earlier studies as weighted
experts: Feurer, Letham & Bakshy, Scalable Meta-Learning for Bayesian Optimization, arXiv 1802.02219.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import optuna
from numpy.typing import NDArray
from scipy.linalg import lapack

from aifs_tune.samplers.encoding import Encoding
from aifs_tune.samplers.gp import SingleFidelityPosterior, SingleFidelityPrior, fit
from aifs_tune.samplers.multi_fidelity_gp import Kernel, Points, Posterior

Array: TypeAlias = NDArray[np.float64]

WEIGHT_MEAN, WEIGHT_SD = 0.7, 0.5
"""Mean and standard deviation of an expert's weight before there are results."""


class SourceModel(Protocol):
    """An expert, of an earlier ``study``."""

    study: str

    def __call__(self, x: Array) -> Array:
        """The merits (m,) that it expects of features ``x`` (m, c), mean 0 and variance about 1."""


@dataclass(frozen=True)
class TransferWeights:
    """``weights`` (k,) of all experts, 0 for those that are not heard; ``heard`` (j,) are the indices of the others,
    ``alpha`` (n,) the inverse covariance times what they leave unexplained, ``solved`` (n, j) that times what they
    expect, ``covariance`` (j, j) that of their weights."""

    weights: Array
    used: NDArray[np.int64]
    alpha: Array
    solved: Array
    covariance: Array

    def at(self, factor: Array, y: Array, expected: Array) -> TransferWeights:
        """With these weights, where results were added that are only expected and say nothing of experts."""
        left = y - self.weights @ expected
        alpha, _ = lapack.dpotrs(factor, left, lower=1)
        return TransferWeights(self.weights, self.used, alpha, _solved(factor, expected)[:, self.used], self.covariance)

    def contrast(self, expected: Array, cross: Array) -> tuple[Array, Array]:
        """What the experts add to the means and variances (m,) of how much each of m configurations exceeds the last
        one of ``expected`` (k, m + 1), whose covariances with what was observed are ``cross`` (m + 1, n)."""
        beyond = expected[:, :-1] - expected[:, -1:]
        left = beyond[self.used] - self.solved.T @ (cross[:-1] - cross[-1]).T
        return self.weights @ beyond, np.asarray(np.einsum("jm,jl,lm->m", left, self.covariance, left), dtype=float)


def _solved(factor: Array, expected: Array) -> Array:
    solved, _ = lapack.dpotrs(factor, expected.T, lower=1)
    return np.asarray(solved).reshape(len(factor), len(expected))


def fit_transfer_weights(factor: Array, y: Array, expected: Array) -> TransferWeights:
    """How far to lean on experts that expect ``expected`` (k, n) where ``y`` (n,) was observed, whose covariance has
    the lower Cholesky ``factor`` (n, n)."""
    alpha, _ = lapack.dpotrs(factor, y, lower=1)
    solved = _solved(factor, expected)
    used = [j for j in range(len(expected)) if _is_useful(solved[:, [j]], expected[[j]], y)]
    weights, covariance = _weights(solved[:, used], expected[used], y)
    while len(used) and weights.min() <= 0.0:  # together, one may be what another one is too much
        del used[int(np.argmin(weights))]
        weights, covariance = _weights(solved[:, used], expected[used], y)
    kept = np.array(used, dtype=np.int64)
    full = np.zeros(len(expected))
    full[kept] = weights
    return TransferWeights(full, kept, alpha - solved[:, kept] @ weights, solved[:, kept], covariance)


def _weights(solved: Array, expected: Array, y: Array) -> tuple[Array, Array]:
    """Means and covariance of the weights of some experts, given the results: equation 2.42 with a prior."""
    k = len(expected)
    if not k:
        return np.empty(0), np.empty((0, 0))
    precision = expected @ solved + np.eye(k) / WEIGHT_SD**2
    covariance = np.linalg.inv(0.5 * (precision + precision.T))
    return np.asarray(covariance @ (solved.T @ y + _prior_means(k) / WEIGHT_SD**2)), np.asarray(covariance, dtype=float)


def _is_useful(solved: Array, expected: Array, y: Array) -> bool:
    """Whether ``y`` is more probable with this expert than without, and its weight above 0."""
    weight, variance = (float(found.item()) for found in _weights(solved, expected, y))
    gain = 0.5 * np.log(variance / WEIGHT_SD**2) + 0.5 * (weight**2 / variance - WEIGHT_MEAN**2 / WEIGHT_SD**2)
    return weight > 0.0 and gain > 0.0


def _prior_means(k: int) -> Array:
    """Several experts share what one would be trusted with."""
    return np.full(k, WEIGHT_MEAN / k)


class TransferPosterior(Posterior):
    """As :class:`~aifs_tune.samplers.multi_fidelity_gp.Posterior`, leaning on ``source_models`` on the last epoch, at log
    ``end``.

    What they expect there counts at another epoch as far as the kernel says that levels carry over.
    """

    def __init__(
        self,
        kernel: Kernel,
        points: Points,
        source_models: Sequence[SourceModel],
        end: float,
        known: TransferWeights | None = None,
    ) -> None:
        super().__init__(kernel, points)
        self._source_models, self._end = source_models, end
        expected = self._expected(points.x, points.u)
        self.transfer = (
            fit_transfer_weights(self._factor, points.y, expected)
            if known is None
            else known.at(self._factor, points.y, expected)
        )
        self._alpha = self.transfer.alpha

    def condition_on_observations(self, points: Points) -> TransferPosterior:
        return TransferPosterior(self.kernel, points, self._source_models, self._end, self.transfer)

    def mean(self, x: Array, u: float, trial: NDArray[np.int64]) -> Array:
        return np.asarray(super().mean(x, u, trial) + self.transfer.weights @ self._expected(x, np.array([u])))

    def gain(self, x: Array, u: float, trial: NDArray[np.int64], over: Array, over_trial: int) -> tuple[Array, Array]:
        mean, variance = super().gain(x, u, trial, over, over_trial)
        if not len(self.transfer.used):
            return mean, variance
        both = np.vstack([x, over[None]])
        expected = self._expected(both, np.array([u]))
        cross = self._cross(both, u, np.append(trial, np.array([over_trial])))
        more, doubt = self.transfer.contrast(expected, cross)
        return mean + more, variance + doubt

    def _expected(self, x: Array, u: Array) -> Array:
        kernel = self.kernel
        carried = kernel.level + kernel.shape * kernel.epoch_kernel(u, np.array([self._end]))[:, 0]
        expected = np.array([source_model(x) for source_model in self._source_models])
        return np.asarray(expected * (carried / (kernel.level + kernel.shape)), dtype=float)


class SingleFidelityTransferPosterior(SingleFidelityPosterior):
    """As :class:`~aifs_tune.samplers.gp.SingleFidelityPosterior`, leaning on ``source_models``."""

    def __init__(
        self,
        theta: Array,
        columns: NDArray[np.int64],
        x: Array,
        y: Array,
        source_models: Sequence[SourceModel],
        known: TransferWeights | None = None,
    ) -> None:
        super().__init__(theta, columns, x, y)
        self._source_models = source_models
        expected = self._expected(x)
        self.transfer = (
            fit_transfer_weights(self._factor, y, expected) if known is None else known.at(self._factor, y, expected)
        )
        self._alpha = self.transfer.alpha

    def condition_on_observations(self, x: Array, y: Array) -> SingleFidelityTransferPosterior:
        return SingleFidelityTransferPosterior(self.theta, self._columns, x, y, self._source_models, self.transfer)

    def mean(self, x: Array) -> Array:
        return np.asarray(super().mean(x) + self.transfer.weights @ self._expected(x))

    def mean_and_variance(self, x: Array) -> tuple[Array, Array]:
        mean, variance = super().mean_and_variance(x)
        expected = self._expected(x)
        left = expected[self.transfer.used] - self.transfer.solved.T @ self._cross(x).T
        return mean + self.transfer.weights @ expected, variance + np.einsum(
            "jm,jl,lm->m", left, self.transfer.covariance, left
        )

    def gain(self, x: Array, over: Array) -> tuple[Array, Array]:
        mean, variance = super().gain(x, over)
        both = np.vstack([x, over[None]])
        more, doubt = self.transfer.contrast(self._expected(both), self._cross(both))
        return mean + more, variance + doubt

    def _expected(self, x: Array) -> Array:
        return np.array([source_model(x) for source_model in self._source_models])


SOURCE_TASKS = "aifs_tune:source_tasks"
"""Key of the study attribute that holds what was taken over: nothing of another study is read later."""
MIN_TRIALS = 4
"""Trials that an expert learns from; fewer say nothing."""


@dataclass(frozen=True)
class SourceTask:
    """Trials of an earlier ``study``: the parameters that both have, and the merit of each trial, with mean 0 and
    variance 1; larger is better."""

    study: str
    params: tuple[Mapping[str, Any], ...]
    posterior_means: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "study": self.study,
            "trials": [[dict(p), float(f"{m:.5g}")] for p, m in zip(self.params, self.posterior_means, strict=True)],
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> SourceTask:
        """What :meth:`to_json` wrote."""
        trials = document["trials"]
        return SourceTask(document["study"], tuple(p for p, _ in trials), tuple(m for _, m in trials))


def source_tasks_of(study: optuna.Study) -> list[SourceTask]:
    """What a study took over; nothing, as a rule."""
    stored = study._storage.get_study_user_attrs(study._study_id).get(SOURCE_TASKS, [])
    return [SourceTask.from_json(document) for document in stored]


def standardised(posterior_means: Sequence[float]) -> tuple[float, ...]:
    """``posterior_means`` with mean 0 and variance 1."""
    y = np.array(posterior_means, dtype=float)
    return tuple(((y - y.mean()) / (y.std() or 1.0)).tolist()) if len(y) else ()


class GPSourceModel:
    """What an earlier study expects of any configuration: a Gaussian process on the merits of its trials.

    It knows of the parameters alone that varied among them, and is the same wherever it is made.
    """

    def __init__(self, encoding: Encoding, source_task: SourceTask) -> None:
        self.study = source_task.study
        values = {name: {str(p.get(name)) for p in source_task.params} for name in encoding.names}
        varied = [j for j, name in enumerate(encoding.names) if len(values[name]) > 1]
        self._columns = np.flatnonzero(np.isin(encoding.columns, varied))
        x = encoding.features(np.array([encoding.unit_point(p) for p in source_task.params]))[:, self._columns]
        y = np.array(source_task.posterior_means)
        columns = np.unique(encoding.columns[self._columns], return_inverse=True)[1].astype(np.int64)
        self._posterior = SingleFidelityPosterior(fit(columns, x, y, SingleFidelityPrior.of(columns)), columns, x, y)

    def __call__(self, x: Array) -> Array:
        """The merits (m,) that are expected of features ``x`` (m, c) of the encoding."""
        return self._posterior.mean(x[:, self._columns])


def source_models_of(encoding: Encoding, source_tasks: Sequence[SourceTask]) -> list[GPSourceModel]:
    """An expert for each of ``source_tasks`` that has enough trials, of which some parameter varied."""
    found = []
    for each in source_tasks:
        varied = [name for name in encoding.names if len({str(p.get(name)) for p in each.params}) > 1]
        if varied and len(each.params) >= MIN_TRIALS:
            found.append(GPSourceModel(encoding, each))
    return found
