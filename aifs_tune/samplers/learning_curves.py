"""The course of each trial, and the points of it that the model sees."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from aifs_tune.samplers.encoding import Encoding
from aifs_tune.samplers.multi_fidelity_gp import Kernel, Points, Posterior, Prior, fit
from aifs_tune.samplers.transfer import SourceModel, TransferPosterior

Array: TypeAlias = NDArray[np.float64]

MAX_POINTS = 300
"""Where there are more, the best trials and a sample of the others stand for all: a proposal's cost grows with the
third power."""


RECENT = 5
"""Epochs that stand for where a trial is now."""
RESOLUTION, FARTHEST = 0.1, 30.0
"""Differences below this count little and distances beyond that no more, in units of the median of the trials'
distances."""


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """What one trial reported: ``x`` (c,), its features; ``epochs`` (n,), rising; ``values`` (n,), larger is better,
    smoothed."""

    trial: int
    x: Array
    epochs: NDArray[np.int64]
    values: Array

    @cached_property
    def picked(self) -> NDArray[np.int64]:
        """Indices of the epochs that stand for all: those nearest to 1, 2, 4, 8, ... and the last."""
        rungs = 2 ** np.arange(int(self.epochs[-1]).bit_length())
        return np.union1d(np.searchsorted(self.epochs, rungs), [len(self.epochs) - 1])


def smoothed(epochs: NDArray[np.int64], values: Array) -> Array:
    """The median (n,) of the values (n,) of the last epochs up to each: of its later half, at most :data:`RECENT`.

    A small validation part makes curves jump, mostly down. The running maximum would turn each lucky epoch into a
    lasting difference between trials.
    """
    first = np.searchsorted(epochs, np.maximum(epochs // 2, epochs - RECENT) + 1)
    first = np.minimum(first, np.arange(len(epochs)))
    return np.array([np.median(values[start : i + 1]) for i, start in enumerate(first)])


def warped(values: Array, best: Array) -> Array:
    """Values (n,) as the model sees them: minus the logarithm of their distance to the highest, mean 0 and variance 1.

    The unit of distance is the median of the trials' own distances, each at its ``best`` (m,). What is good is told
    apart finely; what is far below, as every first epoch may be, counts as equally bad. (Ranks would spread out
    exactly that: where many trials stop at their first epoch, they make much of differences that say nothing.) Scale
    and offset do not matter.
    """
    top = values.max()
    gaps = top - best
    unit = np.median(gaps)
    if unit <= 0.0:
        unit = min(gaps[gaps > 0.0], default=1.0)
    y = -np.log(RESOLUTION + np.minimum((top - values) / unit, FARTHEST))
    return np.asarray((y - y.mean()) / (y.std() or 1.0))


def points_of(curves: Sequence[LearningCurve], *, max_points: int = MAX_POINTS, keep: int | None = None) -> Points:
    """At most ``max_points`` points of the curves, their values warped; all of trial ``keep``.

    Where there are more, two thirds of the room go to the best trials, the last epoch of a trial before its earlier
    ones; the rest is spread evenly over the others, so that what is bad stays known.
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


KERNEL = "aifs_tune:kernel"
"""Key of the trial attribute that holds the kernel's parameters, where a proposal or a decision on this trial fitted
them."""
GROWTH = 1.15
"""The kernel is fitted again once there are this many times the points of the last fit."""


@dataclass(frozen=True)
class Known:
    """The state of a study at one moment. ``unit_points`` (n, d) and ``curves`` are of the trials that have reported
    and
    did not fail; ``running`` (r, d) of all that are running; ``failed`` (f, d) of those that failed."""

    curves: list[LearningCurve]
    unit_points: Array
    running: dict[int, Array]
    failed: Array
    theta: Array | None
    n_fitted: int


class CurveModel:
    """Reads trials into curves, each once, and fits the kernel to them; leans on ``source_models``, if there are any.

    Nothing but the trials decides what the model believes: the kernel's parameters are fitted from those that an
    earlier proposal stored with its trial, so that a new process continues as the old one would have.
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
        self._prior = Prior.of(len(encoding))
        self._seen: dict[int, tuple[FrozenTrial, Array, LearningCurve | None]] = {}
        self._keys: dict[int, bytes] = {}

    def known(self, trials: Sequence[FrozenTrial]) -> Known:
        """What ``trials`` tell, in the order of their numbers."""
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
        """The :func:`key_of` each of ``trials`` that has a configuration, but that with the number ``besides``."""
        return {self._key(trial) for trial in trials if trial.number != besides and trial.params}

    def _key(self, trial: FrozenTrial) -> bytes:
        key = self._keys.get(trial.number)
        if key is None:
            key = key_of(self.encoding.unit_point(trial.params))
            if trial.state != TrialState.RUNNING:  # others have all of their parameters
                self._keys[trial.number] = key
        return key

    def _read(self, trial: FrozenTrial) -> tuple[Array, LearningCurve | None]:
        """Its place and curve: read once, while it runs once for each change."""
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
        """The course of a trial with these values by epoch; None if none of them is finite."""
        finite = {max(1, epoch): value for epoch, value in sorted(values.items()) if np.isfinite(value)}
        if not finite:
            return None
        x = self.encoding.features(self.encoding.unit_point(params)[None])[0]
        epochs = np.array(list(finite), dtype=np.int64)
        return LearningCurve(
            number, x, epochs, smoothed(epochs, self._sign * np.array(list(finite.values()), dtype=float))
        )

    def end(self, curves: Sequence[LearningCurve]) -> float:
        """Log of the last epoch that a trial can reach."""
        return float(np.log(self._last_epoch or max(curve.epochs[-1] for curve in curves)))

    def fitted(self, known: Known, store: Callable[[str], None]) -> Array:
        """The kernel's parameters for ``known``; new ones are given to ``store``."""
        n_points = sum(len(curve.picked) for curve in known.curves)
        if known.theta is not None and n_points < GROWTH * known.n_fitted:
            return known.theta
        start = self._prior.mean if known.theta is None else known.theta
        theta = fit(points_of(known.curves), self.encoding.columns, self._prior, start)
        rounded = [float(f"{value:.5g}") for value in theta]
        store(json.dumps({"theta": rounded, "points": n_points}))
        return np.array(rounded)

    def posterior(self, theta: Array, points: Points) -> Posterior:
        if self.source_models:
            return self.transfer_posterior(theta, points)
        return Posterior(Kernel(theta, self.encoding.columns), points)

    def transfer_posterior(self, theta: Array, points: Points) -> TransferPosterior:
        """The posterior with how far it leans on each of the experts."""
        end = float(np.log(self._last_epoch)) if self._last_epoch else float(points.u.max())
        return TransferPosterior(Kernel(theta, self.encoding.columns), points, self.source_models, end)


def key_of(unit_point: Array) -> bytes:
    """What is equal where two places (d,) are one configuration."""
    return np.round(np.nan_to_num(unit_point, nan=-1.0), 9).tobytes()


def new_trials(x: Array) -> NDArray[np.int64]:
    """That no row of ``x`` is a trial that was observed."""
    return np.full(len(x), -1)


def extended(points: Points, x: Array, u: float, trial: NDArray[np.int64], y: Array) -> Points:
    """``points`` and further ones at log epoch ``u``."""
    return Points(
        np.concatenate([points.x, x]),
        np.concatenate([points.u, np.full(len(x), u)]),
        np.concatenate([points.trial, trial]),
        np.concatenate([points.y, y]),
    )
