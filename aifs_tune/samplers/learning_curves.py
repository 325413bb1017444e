"""Learning curves of trials, and the model that is fitted to points of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from aifs_tune.samplers.encoding import Encoding, key_of
from aifs_tune.samplers.multi_fidelity_gp import Kernel, Points, Posterior, Prior, fit
from aifs_tune.samplers.transfer import SourceModel, TransferPosterior

Array: TypeAlias = NDArray[np.float64]

MAX_POINTS = 300
"""Maximum number of points to fit; of more, those of the best trials and a sample of the others are used.

The cost of a proposal grows with the third power of it.
"""
RECENT = 5
"""Maximum number of last epochs whose median is the current value of a trial."""
RESOLUTION, FARTHEST = 0.1, 30.0
"""Smallest distance that counts, and largest distance that still counts more, in median distances of the trials."""
KERNEL = "aifs_tune:kernel"
"""Key of the trial attribute with the kernel parameters that were fitted for a decision about this trial."""
GROWTH = 1.15
"""Growth of the number of points since the last fit at which the kernel is fitted again."""


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Learning curve of one trial: features ``x`` (c,), increasing ``epochs`` (n,), smoothed ``values`` (n,).

    Larger values are better.
    """

    trial: int
    x: Array
    epochs: NDArray[np.int64]
    values: Array

    @cached_property
    def picked(self) -> NDArray[np.int64]:
        """Indices of the epochs that are fitted: those nearest to 1, 2, 4, 8, ... and the last."""
        rungs = 2 ** np.arange(int(self.epochs[-1]).bit_length())
        return np.union1d(np.searchsorted(self.epochs, rungs), [len(self.epochs) - 1])


def smoothed(epochs: NDArray[np.int64], values: Array) -> Array:
    """Smooth ``values`` (n,) by the median of the latest epochs: the later half, at most :data:`RECENT` of them.

    A small validation set makes curves jump, mostly down. A running maximum would turn each favourable outlier into a
    lasting difference between trials.
    """
    first = np.searchsorted(epochs, np.maximum(epochs // 2, epochs - RECENT) + 1)
    first = np.minimum(first, np.arange(len(epochs)))
    return np.array([np.median(values[start : i + 1]) for i, start in enumerate(first)])


def warped(values: Array, best: Array) -> Array:
    """Transform ``values`` (n,) to minus the log of their distance to the maximum, with mean 0 and variance 1.

    The unit of distance is the median distance of the trials, each at its ``best`` (m,) value. The transform resolves
    small differences among good values and none among values far below, such as those of first epochs. (Ranks would
    do the opposite where many trials stop at their first epoch.) It does not depend on the scale and offset of
    ``values``.
    """
    top = values.max()
    gaps = top - best
    unit = np.median(gaps)
    if unit <= 0.0:
        unit = min(gaps[gaps > 0.0], default=1.0)
    y = -np.log(RESOLUTION + np.minimum((top - values) / unit, FARTHEST))
    return np.asarray((y - y.mean()) / (y.std() or 1.0))


def points_of(curves: Sequence[LearningCurve], *, max_points: int = MAX_POINTS, keep: int | None = None) -> Points:
    """Return at most ``max_points`` points of the curves, with warped values, and all points of trial ``keep``.

    Of more points, two thirds are those of the best trials, the last epoch of a trial before its earlier ones. The
    rest is spread evenly over the other trials, so that the model still knows where results are bad.
    """
    owner = np.concatenate([np.full(len(curve.picked), i) for i, curve in enumerate(curves)])
    index = np.concatenate([curve.picked for curve in curves])
    if len(owner) > max_points:
        rank = np.empty(len(curves))
        rank[np.argsort([-curve.values[-1] for curve in curves], kind="stable")] = np.arange(len(curves)) / len(curves)
        is_last = index == np.array([len(curve.epochs) - 1 for curve in curves])[owner]
        kept = np.array([curve.trial == keep for curve in curves])[owner]
        order = np.argsort(np.where(kept, -1.0, rank[owner] + np.where(is_last, 0.0, 0.5)), kind="stable")
        n_best = 2 * max_points // 3
        others = np.linspace(n_best, len(order) - 1, max_points - n_best).astype(int)
        chosen = np.sort(np.concatenate([order[:n_best], order[others]]))
        owner, index = owner[chosen], index[chosen]
    pairs = [(curves[i], j) for i, j in zip(owner, index, strict=True)]
    return Points(
        x=np.stack([curve.x for curve, _ in pairs]),
        u=np.log([float(curve.epochs[j]) for curve, j in pairs]),
        trial=np.array([curve.trial for curve, _ in pairs], dtype=np.int64),
        y=warped(np.array([curve.values[j] for curve, j in pairs]), np.array([curve.values[-1] for curve in curves])),
    )


@dataclass(frozen=True)
class Known:
    """State of a study at one moment.

    ``unit_points`` (n, d) and ``curves`` belong to the trials that have reported and did not fail. ``running`` has the
    unit point (d,) of each running trial by its number, ``failed`` (f, d) those of failed trials. ``theta`` are the
    kernel parameters of the latest fit, which used ``n_fitted`` points; None before the first.
    """

    curves: list[LearningCurve]
    unit_points: Array
    running: dict[int, Array]
    failed: Array
    theta: Array | None
    n_fitted: int


class CurveModel:
    """Model of the learning curves of a study, with the ``source_models`` of a warm start, if any.

    The model depends only on the trials. Fits start from the kernel parameters that an earlier proposal stored with
    its trial, so that a new process continues exactly as the old one would have.
    """

    def __init__(
        self,
        encoding: Encoding,
        *,
        last_epoch: int | None,
        larger_is_better: bool,
        source_models: Sequence[SourceModel] = (),
    ) -> None:
        self.encoding, self.source_models = encoding, source_models
        self._last_epoch = last_epoch
        self._sign = 1.0 if larger_is_better else -1.0
        self._prior = Prior.of(int(encoding.columns.max()) + 1)
        self._seen: dict[int, tuple[FrozenTrial, Array, LearningCurve | None]] = {}
        self._keys: dict[int, bytes] = {}

    def known(self, trials: Sequence[FrozenTrial]) -> Known:
        """Read ``trials``, in the order of their numbers."""
        curves: list[LearningCurve] = []
        unit_points: list[Array] = []
        running: dict[int, Array] = {}
        failed: list[Array] = []
        theta, n_fitted = None, 0
        for trial in trials:
            if trial.state == TrialState.WAITING or not trial.params:
                continue
            stored = trial.system_attrs.get(KERNEL)
            if stored is not None:
                document = json.loads(stored)
                if len(document["theta"]) == len(self._prior.mean) and document["points"] > n_fitted:
                    theta, n_fitted = np.array(document["theta"]), document["points"]
            unit_point, curve = self._read(trial)
            if trial.state == TrialState.RUNNING:
                running[trial.number] = unit_point
            if trial.state == TrialState.FAIL:
                failed.append(unit_point)
            elif curve is not None:
                curves.append(curve)
                unit_points.append(unit_point)
        d = len(self.encoding)
        return Known(
            curves,
            np.array(unit_points).reshape(-1, d),
            running,
            np.array(failed).reshape(-1, d),
            theta,
            n_fitted,
        )

    def taken(self, trials: Sequence[FrozenTrial], *, besides: int) -> set[bytes]:
        """Return the :func:`key_of` each of ``trials`` that has a configuration, without trial number ``besides``."""
        return {self._key(trial) for trial in trials if trial.number != besides and trial.params}

    def _key(self, trial: FrozenTrial) -> bytes:
        key = self._keys.get(trial.number)
        if key is None:
            key = key_of(self.encoding.unit_point(trial.params))
            if trial.state != TrialState.RUNNING:  # a running trial may still get parameters
                self._keys[trial.number] = key
        return key

    def _read(self, trial: FrozenTrial) -> tuple[Array, LearningCurve | None]:
        """Read the unit point and curve of a trial, again only after a change while it runs."""
        if trial.number in self._seen:
            read, unit_point, curve = self._seen[trial.number]
            if read is trial or read.state.is_finished():
                return unit_point, curve
        values: Mapping[int, float] = trial.intermediate_values
        if not values and trial.values:
            values = {self._last_epoch or 1: trial.values[0]}
        curve = self.curve(trial.number, trial.params, values)
        unit_point = self.encoding.unit_point(trial.params)
        self._seen[trial.number] = trial, unit_point, curve
        return unit_point, curve

    def curve(self, number: int, params: Mapping[str, Any], values: Mapping[int, float]) -> LearningCurve | None:
        """Return the learning curve of a trial with these values by epoch; None if no value is finite."""
        finite = {max(1, epoch): value for epoch, value in sorted(values.items()) if np.isfinite(value)}
        if not finite:
            return None
        x = self.encoding.features(self.encoding.unit_point(params)[None])[0]
        epochs = np.array(list(finite), dtype=np.int64)
        return LearningCurve(
            number, x, epochs, smoothed(epochs, self._sign * np.array(list(finite.values()), dtype=float))
        )

    def end(self, curves: Sequence[LearningCurve]) -> float:
        """Return the log of the last epoch that a trial can reach."""
        return float(np.log(self._last_epoch or max(curve.epochs[-1] for curve in curves)))

    def fitted(self, known: Known, store: Callable[[str], None]) -> Array:
        """Return the kernel parameters for ``known``, and pass newly fitted ones to ``store``."""
        n_points = sum(len(curve.picked) for curve in known.curves)
        if known.theta is not None and n_points < GROWTH * known.n_fitted:
            return known.theta
        start = self._prior.mean if known.theta is None else known.theta
        theta = fit(points_of(known.curves), self.encoding.columns, self._prior, start)
        rounded = [float(f"{value:.5g}") for value in theta]
        store(json.dumps({"theta": rounded, "points": n_points}))
        return np.array(rounded)

    def posterior(self, theta: Array, points: Points) -> Posterior:
        """Return the posterior given ``points``, with source models if there are any."""
        if self.source_models:
            return self.transfer_posterior(theta, points)
        return Posterior(Kernel(theta, self.encoding.columns), points)

    def transfer_posterior(self, theta: Array, points: Points) -> TransferPosterior:
        """Return the posterior with the weights of the source models."""
        end = float(np.log(self._last_epoch)) if self._last_epoch else float(points.u.max())
        return TransferPosterior(Kernel(theta, self.encoding.columns), points, self.source_models, end)


def new_trials(x: Array) -> NDArray[np.int64]:
    """Return trial numbers that mark every row of ``x`` as a new trial."""
    return np.full(len(x), -1)


def extended(points: Points, x: Array, u: float, trial: NDArray[np.int64], y: Array) -> Points:
    """Return ``points`` with further ones at log epoch ``u``."""
    return Points(
        np.concatenate([points.x, x]),
        np.concatenate([points.u, np.full(len(x), u)]),
        np.concatenate([points.trial, trial]),
        np.concatenate([points.y, y]),
    )
