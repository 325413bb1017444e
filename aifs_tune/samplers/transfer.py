"""Transfer learning: models of earlier studies, weighted by how well they explain the new results.

Values are y = sum_j b_j h_j(x) + f(x). f is the Gaussian process without transfer, h_j the prediction of source model
j, and b_j its weight, normal with mean :data:`WEIGHT_MEAN` and standard deviation :data:`WEIGHT_SD`. These are explicit
basis functions, equations 2.39 to 2.43 of Rasmussen & Williams, Gaussian Processes for Machine Learning (2006). A
source model is used while the results are more probable with it than without it (the log of the ratio of the
evidences, from their equation 2.43, is above 0) and its weight is above 0. Otherwise its weight is 0, and the model is
the same as without it. The idea of weighting models of earlier studies is from Feurer, Letham & Bakshy, Scalable
Meta-Learning for Bayesian Optimization, arXiv 1802.02219.
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
"""Mean and standard deviation of the prior on the weight of a source model."""
SOURCE_TASKS = "aifs_tune:source_tasks"
"""Key of the study attribute with copies of the source tasks, so that earlier studies are not read again."""
MIN_TRIALS = 4
"""Minimum number of trials of a source task."""


class SourceModel(Protocol):
    """Model of the trials of an earlier ``study``."""

    study: str

    def __call__(self, x: Array) -> Array:
        """Predict values (m,) at features ``x`` (m, c), with mean 0 and variance about 1; larger is better."""


@dataclass(frozen=True)
class TransferWeights:
    """Weights of source models, given the results.

    ``weights`` (k,) are 0 for source models that are not used; ``used`` (j,) are the indices of the others. ``alpha``
    (n,) is the inverse covariance times the residuals, ``solved`` (n, j) the inverse covariance times the predictions
    of the used models, and ``covariance`` (j, j) that of their weights.
    """

    weights: Array
    used: NDArray[np.int64]
    alpha: Array
    solved: Array
    covariance: Array

    def at(self, factor: Array, y: Array, expected: Array) -> TransferWeights:
        """Return the same weights for points that include fantasised results, which must not change the weights."""
        left = y - self.weights @ expected
        alpha, _ = lapack.dpotrs(factor, left, lower=1)
        return TransferWeights(self.weights, self.used, alpha, _solved(factor, expected)[:, self.used], self.covariance)

    def contrast(self, expected: Array, cross: Array) -> tuple[Array, Array]:
        """Compute what source models add to the means and variances (m,) of gains over the last configuration.

        ``expected`` (k, m + 1) are their predictions, and ``cross`` (m + 1, n) the covariances with observed points.
        """
        beyond = expected[:, :-1] - expected[:, -1:]
        left = beyond[self.used] - self.solved.T @ (cross[:-1] - cross[-1]).T
        return self.weights @ beyond, np.asarray(np.einsum("jm,jl,lm->m", left, self.covariance, left), dtype=float)


def _solved(factor: Array, expected: Array) -> Array:
    solved, _ = lapack.dpotrs(factor, expected.T, lower=1)
    return np.asarray(solved).reshape(len(factor), len(expected))


def fit_transfer_weights(factor: Array, y: Array, expected: Array) -> TransferWeights:
    """Fit the weights of source models that predict ``expected`` (k, n) to observed values ``y`` (n,).

    ``factor`` (n, n) is the lower Cholesky factor of the covariance of ``y``.
    """
    alpha, _ = lapack.dpotrs(factor, y, lower=1)
    solved = _solved(factor, expected)
    used = [j for j in range(len(expected)) if _is_useful(solved[:, [j]], expected[[j]], y)]
    weights, covariance = _weights(solved[:, used], expected[used], y)
    while len(used) and weights.min() <= 0.0:  # of similar models, one may compensate for another
        del used[int(np.argmin(weights))]
        weights, covariance = _weights(solved[:, used], expected[used], y)
    kept = np.array(used, dtype=np.int64)
    full = np.zeros(len(expected))
    full[kept] = weights
    return TransferWeights(full, kept, alpha - solved[:, kept] @ weights, solved[:, kept], covariance)


def _weights(solved: Array, expected: Array, y: Array) -> tuple[Array, Array]:
    """Compute the mean and covariance of weights, given the results: equation 2.42 with a prior."""
    k = len(expected)
    if not k:
        return np.empty(0), np.empty((0, 0))
    precision = expected @ solved + np.eye(k) / WEIGHT_SD**2
    covariance = np.linalg.inv(0.5 * (precision + precision.T))
    return np.asarray(covariance @ (solved.T @ y + _prior_means(k) / WEIGHT_SD**2)), np.asarray(covariance, dtype=float)


def _is_useful(solved: Array, expected: Array, y: Array) -> bool:
    """Return whether ``y`` is more probable with this source model than without it, and its weight is above 0."""
    weight, variance = (float(found.item()) for found in _weights(solved, expected, y))
    gain = 0.5 * np.log(variance / WEIGHT_SD**2) + 0.5 * (weight**2 / variance - WEIGHT_MEAN**2 / WEIGHT_SD**2)
    return weight > 0.0 and gain > 0.0


def _prior_means(k: int) -> Array:
    """Return the prior means of ``k`` weights, whose sum is that of a single source model."""
    return np.full(k, WEIGHT_MEAN / k)


class TransferPosterior(Posterior):
    """:class:`~aifs_tune.samplers.multi_fidelity_gp.Posterior` with weighted ``source_models``.

    They predict values at the last epoch, at log ``end``. At another epoch their predictions are scaled by the kernel's
    covariance of the two epochs.
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
        added, added_variance = self.transfer.contrast(expected, cross)
        return mean + added, variance + added_variance

    def _expected(self, x: Array, u: Array) -> Array:
        kernel = self.kernel
        carried = kernel.level + kernel.shape * kernel.epoch_kernel(u, np.array([self._end]))[:, 0]
        expected = np.array([source_model(x) for source_model in self._source_models])
        return np.asarray(expected * (carried / (kernel.level + kernel.shape)), dtype=float)


class SingleFidelityTransferPosterior(SingleFidelityPosterior):
    """:class:`~aifs_tune.samplers.gp.SingleFidelityPosterior` with weighted ``source_models``."""

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
        added, added_variance = self.transfer.contrast(self._expected(both), self._cross(both))
        return mean + added, variance + added_variance

    def _expected(self, x: Array) -> Array:
        return np.array([source_model(x) for source_model in self._source_models])


@dataclass(frozen=True)
class SourceTask:
    """Trials of an earlier ``study``: the parameters that both studies have, and the posterior mean of each trial.

    Posterior means have mean 0 and variance 1; larger is better.
    """

    study: str
    params: tuple[Mapping[str, Any], ...]
    posterior_means: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document that is stored."""
        return {
            "study": self.study,
            "trials": [[dict(p), float(f"{m:.5g}")] for p, m in zip(self.params, self.posterior_means, strict=True)],
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> SourceTask:
        """Read a document of :meth:`to_json`."""
        trials = document["trials"]
        return SourceTask(document["study"], tuple(p for p, _ in trials), tuple(m for _, m in trials))


def source_tasks_of(study: optuna.Study) -> list[SourceTask]:
    """Return the source tasks of a study; empty without a warm start."""
    stored = study._storage.get_study_user_attrs(study._study_id).get(SOURCE_TASKS, [])
    return [SourceTask.from_json(document) for document in stored]


def standardised(posterior_means: Sequence[float]) -> tuple[float, ...]:
    """Scale ``posterior_means`` to mean 0 and variance 1."""
    y = np.array(posterior_means, dtype=float)
    return tuple(((y - y.mean()) / (y.std() or 1.0)).tolist()) if len(y) else ()


class GPSourceModel:
    """Source model: a Gaussian process on the posterior means of the trials of an earlier study.

    It uses only the parameters that varied among them, and depends only on the source task and the encoding.
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
        """Predict values (m,) at features ``x`` (m, c) of the encoding."""
        return self._posterior.mean(x[:, self._columns])


def source_models_of(encoding: Encoding, source_tasks: Sequence[SourceTask]) -> list[GPSourceModel]:
    """Return a source model for each source task with enough trials and at least one parameter that varied."""
    found = []
    for each in source_tasks:
        varied = [name for name in encoding.names if len({str(p.get(name)) for p in each.params}) > 1]
        if varied and len(each.params) >= MIN_TRIALS:
            found.append(GPSourceModel(encoding, each))
    return found
