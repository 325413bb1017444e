"""Augmentation of images together with their targets: positions, velocities and brightness follow the images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aifs_tune.data.examples import Target
from aifs_tune.trainers.augment.images import GEOMETRIC, drawn_transforms, warp
from aifs_tune.trainers.network.losses import Hyperparameters
from aifs_tune.trainers.network.ops import normal, split, uniform, when
from aifs_tune.trainers.network.runtime import keras

MIN_BRIGHTNESS = 1e-3
"""Smallest factor of brightness; the magnitude of a factor 0 would be infinite."""

_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class TargetTransform:
    """Change of targets (n, targets), scaled as ``targets`` say, with their images.

    Parameters
    ----------
    targets
        The targets.
    roles
        Role of each target, one of :data:`~aifs_tune.config.data.Role`; the k-th ``x`` belongs to the k-th ``y``.
    scale
        Pixels of the image per pixel of the file, along columns and rows. Targets are measured in pixels of the file.
    first_pixel
        Coordinate of the centre of the first pixel.
    """

    targets: Sequence[Target]
    roles: Sequence[str]
    scale: tuple[float, float] = (1.0, 1.0)
    first_pixel: int = 0

    @classmethod
    def of(cls, targets: Sequence[Target], facts: Mapping[str, Any]) -> TargetTransform:
        """Transform that the facts of the examples describe; without facts, all targets are scalars."""
        roles = facts.get("roles") or ["scalar"] * len(targets)
        shape, native = facts.get("shape", (1, 1)), facts.get("native", (1, 1))
        return cls(targets, roles, (shape[1] / native[1], shape[0] / native[0]), facts.get("first_pixel", 0))

    def moved(self, y_true: Any, transforms: Any) -> Any:
        """Targets of images that were warped by ``transforms`` (n, 8).

        ``transforms`` are those of :func:`~aifs_tune.trainers.augment.images.transforms_of`. A position moves with
        its pixel, and a vector rotates with the image. A length grows with the scale, and a flux (the sum of pixels)
        with the square of the scale; a magnitude follows its flux.
        """
        if not self.targets:
            return y_true
        values = self._in_units(y_true)
        a0, a1, a2, b0, b1, b2 = keras.ops.unstack(transforms[:, :6], axis=1)
        area = 1 / keras.ops.abs(a0 * b1 - a1 * b0)
        positions, vectors = self._positions(values), self._vectors(values)
        for (one, other), (across, down) in positions.items():
            x, y = _solved((a0, a1, b0, b1), across - a2, down - b2)
            values[one], values[other] = self._in_file_pixels(x, 0), self._in_file_pixels(y, 1)
        for (one, other), (across, down) in vectors.items():
            x, y = _solved((a0, a1, b0, b1), across, down)
            values[one], values[other] = x / self.scale[0], y / self.scale[1]
        for i, role in enumerate(self.roles):
            if role == "length":
                values[i] = values[i] * keras.ops.sqrt(area)
        return self._scaled(self._brighter(values, area))

    def brightened(self, y_true: Any, factors: Any) -> Any:
        """Targets of images whose light was multiplied by ``factors`` (n,)."""
        return self._scaled(self._brighter(self._in_units(y_true), factors)) if self.targets else y_true

    def stay_inside(self, y_true: Any, transforms: Any, *, height: int, width: int) -> Any:
        """Whether all positions are inside the image after ``transforms``, shape (n,)."""
        a0, a1, a2, b0, b1, b2 = keras.ops.unstack(transforms[:, :6], axis=1)
        is_inside = keras.ops.ones_like(a0, "bool")
        for across, down in self._positions(self._in_units(y_true)).values():
            x, y = _solved((a0, a1, b0, b1), across - a2, down - b2)
            is_inside &= (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
        return is_inside

    def _positions(self, values: list[Any]) -> dict[tuple[int, int], tuple[Any, Any]]:
        """Columns and rows of the positions in pixels of the image, by the indices of their two targets."""
        return {
            (i, j): tuple(
                (values[k] - self.first_pixel + 0.5) * scale - 0.5 for k, scale in zip((i, j), self.scale, strict=True)
            )
            for i, j in self._pairs("x", "y")
        }

    def _in_file_pixels(self, positions: Any, axis: int) -> Any:
        """Pixels of the file from pixels of the image."""
        return (positions + 0.5) / self.scale[axis] - 0.5 + self.first_pixel

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
                changed[i] = values[i] - 2.5 / math.log(10) * keras.ops.log(factors)
        return changed

    def _in_units(self, y_true: Any) -> list[Any]:
        columns = keras.ops.unstack(y_true, axis=1)
        return [column * t.scale + t.centre for column, t in zip(columns, self.targets, strict=True)]

    def _scaled(self, values: list[Any]) -> Any:
        return keras.ops.stack(
            [(value - t.centre) / t.scale for value, t in zip(values, self.targets, strict=True)], axis=1
        )


def change(
    images: Any, y_true: Any, hyperparameters: Hyperparameters, seed: Any, *, of: TargetTransform, bends: Any
) -> tuple[Any, Any]:
    """Augment each image of a float batch (n, height, width, bands), and its targets, with its own random numbers.

    ``hyperparameters`` are those of :func:`~aifs_tune.trainers.augment.images.augment`. An image is not moved if
    an object would leave it. Brightness multiplies the light; the light of a pixel is ``sinh(value * bend)``, or
    ``value`` in a band whose bend is 0.
    """
    n, height, width, _ = images.shape
    seeds = split(seed, 2)
    draws = keras.ops.unstack(uniform((7, n), seeds[0], -1.0))

    def moved() -> tuple[Any, Any]:
        drawn = drawn_transforms(draws, hyperparameters, height, width)
        stays = of.stay_inside(y_true, drawn, height=height, width=width)
        transforms = keras.ops.where(stays[:, None], drawn, np.array([_IDENTITY], np.float32))
        return warp(images, transforms), of.moved(y_true, transforms)

    is_moved = sum(hyperparameters[name] for name in GEOMETRIC) > 0
    warped, placed = when(is_moved, moved, lambda: (images, y_true))
    factors = keras.ops.maximum(draws[6] * hyperparameters["brightness"] + 1, MIN_BRIGHTNESS)
    lit, weighed = when(
        hyperparameters["brightness"] > 0,
        lambda: (relit(warped, factors[:, None, None, None], bends), of.brightened(placed, factors)),
        lambda: (warped, placed),
    )

    def grainy() -> Any:
        return lit + normal(images.shape, seeds[1]) * hyperparameters["noise"]

    return when(hyperparameters["noise"] > 0, grainy, lambda: lit), weighed


def relit(images: Any, factors: Any, bends: Any) -> Any:
    bends = np.asarray(bends, np.float32)
    safe = np.where(bends > 0, bends, 1)
    bent = keras.ops.arcsinh(factors * keras.ops.sinh(images * safe)) / safe
    return keras.ops.where(bends > 0, bent, images * factors)


def _solved(matrix: tuple[Any, Any, Any, Any], right: Any, below: Any) -> tuple[Any, Any]:
    """Solution x, y of ``a0 x + a1 y = right`` and ``b0 x + b1 y = below``; ``matrix`` is (a0, a1, b0, b1)."""
    a0, a1, b0, b1 = matrix
    determinant = a0 * b1 - a1 * b0
    return (b1 * right - a1 * below) / determinant, (a0 * below - b0 * right) / determinant
