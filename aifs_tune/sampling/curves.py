"""The course of each trial, and the points of it that the model sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from aifs_tune.sampling.curve_gp import Points

Array: TypeAlias = NDArray[np.float64]

MOST_POINTS = 300
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


def points_of(curves: Sequence[LearningCurve], *, most: int = MOST_POINTS, keep: int | None = None) -> Points:
    """At most ``most`` points of the curves, their values warped; all of trial ``keep``.

    Where there are more, two thirds of the room go to the best trials, the last epoch of a trial before its earlier
    ones; the rest is spread evenly over the others, so that what is bad stays known.
    """
    owner = np.concatenate([np.full(len(curve.picked), i) for i, curve in enumerate(curves)])
    index = np.concatenate([curve.picked for curve in curves])
    if len(owner) > most:
        rank = np.empty(len(curves))
        rank[np.argsort([-curve.values[-1] for curve in curves], kind="stable")] = np.arange(len(curves)) / len(curves)
        is_last = index == np.array([len(curve.epochs) - 1 for curve in curves])[owner]
        kept = np.array([curve.trial == keep for curve in curves])[owner]
        order = np.argsort(np.where(kept, -1.0, rank[owner] + np.where(is_last, 0.0, 0.5)), kind="stable")
        n_best = 2 * most // 3
        others = np.linspace(n_best, len(order) - 1, most - n_best).astype(int)
        chosen = np.sort(np.concatenate([order[:n_best], order[others]]))
        owner, index = owner[chosen], index[chosen]
    pairs = [(curves[i], j) for i, j in zip(owner, index, strict=True)]
    return Points(
        x=np.stack([curve.x for curve, _ in pairs]),
        u=np.log([float(curve.epochs[j]) for curve, j in pairs]),
        trial=np.array([curve.trial for curve, _ in pairs], dtype=np.int64),
        y=warped(np.array([curve.values[j] for curve, j in pairs]), np.array([curve.values[-1] for curve in curves])),
    )
