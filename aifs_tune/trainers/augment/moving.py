"""Random changes of a batch of images with what is true of them: where something is, how it moves, how bright it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aifs_tune.data.examples import Target
from aifs_tune.trainers.augment.tensorflow import GEOMETRIC, drawn_transforms, warp
from aifs_tune.trainers.network.losses import Hyperparameters
from aifs_tune.trainers.network.runtime import tf

_DARKEST = 1e-3  # the smallest factor of brightness: a magnitude has no value at 0

_SAME = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class TargetTransform:
    """How truths (n, targets), scaled as ``targets`` say, follow their images.

    ``roles`` are those of :data:`~aifs_tune.config.data.Role`, one for each target; the k-th ``x`` belongs to the k-th
    ``y``. Truths are measured in pixels of the files; ``scale`` is how many pixels of the image, along columns and
    rows, one of these is, and ``first_pixel`` the coordinate of the centre of the first.
    """

    targets: Sequence[Target]
    roles: Sequence[str]
    scale: tuple[float, float] = (1.0, 1.0)
    first_pixel: int = 0

    @classmethod
    def of(cls, targets: Sequence[Target], facts: Mapping[str, Any]) -> TargetTransform:
        """As the facts of the examples say; without any, all are scalars in pixels of the image."""
        roles = facts.get("roles") or ["scalar"] * len(targets)
        shape, native = facts.get("shape", (1, 1)), facts.get("native", (1, 1))
        return cls(targets, roles, (shape[1] / native[1], shape[0] / native[0]), facts.get("first_pixel", 0))

    def moved(self, y_true: Any, transforms: Any) -> Any:
        """The truths of images that were warped by ``transforms`` (n, 8), as in :func:`~.augment.transforms_of`.

        A position goes where its pixel went and a vector turns with it. Lengths grow with the scale, and with its
        square the sum of the pixels: a flux, and its magnitude.
        """
        if not self.targets:
            return y_true
        values = self._in_units(y_true)
        a0, a1, a2, b0, b1, b2 = tf.unstack(transforms[:, :6], axis=1)
        area = 1 / tf.abs(a0 * b1 - a1 * b0)
        pairs = self._placed(values), self._vectors(values)
        for (one, other), (across, down) in pairs[0].items():
            x, y = _solved((a0, a1, b0, b1), across - a2, down - b2)
            values[one], values[other] = self._told(x, 0), self._told(y, 1)
        for (one, other), (across, down) in pairs[1].items():
            x, y = _solved((a0, a1, b0, b1), across, down)
            values[one], values[other] = x / self.scale[0], y / self.scale[1]
        for i, role in enumerate(self.roles):
            if role == "length":
                values[i] = values[i] * tf.sqrt(area)
        return self._scaled(self._brighter(values, area))

    def brightened(self, y_true: Any, factors: Any) -> Any:
        """The truths of images whose light was multiplied by ``factors`` (n,)."""
        return self._scaled(self._brighter(self._in_units(y_true), factors)) if self.targets else y_true

    def stay_inside(self, y_true: Any, transforms: Any, *, height: int, width: int) -> Any:
        """Whether all positions are still in the image after ``transforms``, shape (n,)."""
        a0, a1, a2, b0, b1, b2 = tf.unstack(transforms[:, :6], axis=1)
        is_inside = tf.ones_like(a0, tf.bool)
        for across, down in self._placed(self._in_units(y_true)).values():
            x, y = _solved((a0, a1, b0, b1), across - a2, down - b2)
            is_inside &= (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
        return is_inside

    def _placed(self, values: list[Any]) -> dict[tuple[int, int], tuple[Any, Any]]:
        """Columns and rows, in pixels of the image, by the numbers of their two targets."""
        return {
            (i, j): tuple(
                (values[k] - self.first_pixel + 0.5) * scale - 0.5 for k, scale in zip((i, j), self.scale, strict=True)
            )
            for i, j in self._pairs("x", "y")
        }

    def _told(self, places: Any, axis: int) -> Any:
        """Pixels of the image as the truths have them."""
        return (places + 0.5) / self.scale[axis] - 0.5 + self.first_pixel

    def _vectors(self, values: list[Any]) -> dict[tuple[int, int], tuple[Any, Any]]:
        return {(i, j): (values[i] * self.scale[0], values[j] * self.scale[1]) for i, j in self._pairs("vx", "vy")}

    def _pairs(self, one: str, other: str) -> list[tuple[int, int]]:
        ones, others = ([i for i, role in enumerate(self.roles) if role == wanted] for wanted in (one, other))
        return list(zip(ones, others, strict=True))

    def _brighter(self, values: list[Any], factors: Any) -> list[Any]:
        changed = list(values)
        for i, role in enumerate(self.roles):
            if role == "flux":
                changed[i] = values[i] * factors
            elif role == "magnitude":
                changed[i] = values[i] - 2.5 / math.log(10) * tf.math.log(factors)
        return changed

    def _in_units(self, y_true: Any) -> list[Any]:
        columns = tf.unstack(y_true, axis=1)
        return [column * t.scale + t.centre for column, t in zip(columns, self.targets, strict=True)]

    def _scaled(self, values: list[Any]) -> Any:
        return tf.stack([(value - t.centre) / t.scale for value, t in zip(values, self.targets, strict=True)], axis=1)


def change(
    images: Any, y_true: Any, hyperparameters: Hyperparameters, seed: Any, *, of: TargetTransform, bends: Any
) -> tuple[Any, Any]:
    """Each image of a float batch (n, height, width, bands) and its truths changed by a draw of its own.

    ``hyperparameters`` are those of :func:`~aifs_tune.trainers.augment.tensorflow.augment`. An image whose object
    would leave it is not
    moved. Brightness multiplies the light, of which a pixel has ``sinh(value * bend)``, or ``value`` where the bend of
    its band is 0.
    """
    n, height, width, _ = images.shape
    seeds = tf.random.split(seed, 2)
    draws = tf.unstack(tf.random.stateless_uniform((7, n), seeds[0], -1.0, 1.0))

    def moved() -> tuple[Any, Any]:
        drawn = drawn_transforms(draws, hyperparameters, height, width)
        stays = of.stay_inside(y_true, drawn, height=height, width=width)
        transforms = tf.where(stays[:, None], drawn, tf.constant([_SAME]))
        return warp(images, transforms), of.moved(y_true, transforms)

    is_moved = tf.add_n([hyperparameters[name] for name in GEOMETRIC]) > 0
    warped, placed = tf.cond(is_moved, moved, lambda: (images, y_true))
    factors = tf.maximum(draws[6] * hyperparameters["brightness"] + 1, _DARKEST)
    lit, weighed = tf.cond(
        hyperparameters["brightness"] > 0,
        lambda: (_lit(warped, factors[:, None, None, None], bends), of.brightened(placed, factors)),
        lambda: (warped, placed),
    )

    def grainy() -> Any:
        return lit + tf.random.stateless_normal(images.shape, seeds[1]) * hyperparameters["noise"]

    return tf.cond(hyperparameters["noise"] > 0, grainy, lambda: lit), weighed


def _lit(images: Any, factors: Any, bends: Any) -> Any:
    bends = np.asarray(bends, np.float32)
    safe = np.where(bends > 0, bends, 1)
    bent = tf.asinh(factors * tf.sinh(images * safe)) / safe
    return tf.where(bends > 0, bent, images * factors)


def _solved(matrix: tuple[Any, Any, Any, Any], right: Any, below: Any) -> tuple[Any, Any]:
    """x and y of which ``matrix`` (a0, a1, b0, b1) makes these two."""
    a0, a1, b0, b1 = matrix
    determinant = a0 * b1 - a1 * b0
    return (b1 * right - a1 * below) / determinant, (a0 * below - b0 * right) / determinant
