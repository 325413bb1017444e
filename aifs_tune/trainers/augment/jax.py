"""Augmentation of a batch of images in JAX, for fused training; see :mod:`aifs_tune.trainers.augment.tensorflow`.

Tests compare the two. Their random numbers differ, because TensorFlow and JAX have different generators.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from aifs_tune.trainers.augment.blur import MIN_SIGMA, mirrored_distances
from aifs_tune.trainers.fused.jax_runtime import jax, jnp
from aifs_tune.trainers.network.params import ERASED_AREA, ERASED_ASPECT

_MIN_ALPHA = 1e-3
"""Smallest alpha of a Beta distribution that is drawn from; alpha 0 means no mixing."""

Arrays: TypeAlias = Mapping[str, Any]


class Effects(NamedTuple):
    """Kinds of augmentation that any fused trial uses; the program leaves out the others."""

    has_rotation_90: bool = False
    has_geometry: bool = False
    has_blur: bool = False
    has_light: bool = False
    has_noise: bool = False
    has_erasing: bool = False
    has_mixup: bool = False
    has_cutmix: bool = False
    has_clipping: bool = False

    @classmethod
    def of(cls, hyperparameters: Mapping[str, float]) -> Effects:
        """Kinds whose ``hyperparameters`` are not 0."""
        geometric = ("rotation_deg", "width_shift", "height_shift", "zoom", "horizontal_flip", "vertical_flip")
        noises = ("noise", "read_noise", "shot_noise")
        names_of_kinds = [
            ("rotation_90",), geometric, ("blur",), ("brightness", *noises), noises,
            ("random_erasing",), ("mixup",), ("cutmix",), ("clip_norm",),
        ]  # fmt: skip
        return cls(*(any(hyperparameters[name] > 0 for name in names) for names in names_of_kinds))

    def __or__(self, other: Effects) -> Effects:
        return Effects(*(one or another for one, another in zip(self, other, strict=True)))


def augment(images: Any, hyperparameters: Arrays, key: Any, effects: Effects) -> Any:
    """Augment each image of a float batch (n, height, width, channels) of 0 to 1 with its own random numbers."""
    n, height, width, _ = images.shape
    geometry, grain = jax.random.split(key)
    draws = jax.random.uniform(geometry, (14, n), minval=-1.0)
    if effects.has_rotation_90:
        quarters = jnp.floor(draws[7] * 2 + 2).astype(jnp.int32)
        images = rotated_90(images, jnp.where(hyperparameters["rotation_90"] > 0, quarters, 0))
    if effects.has_geometry:
        images = warp(images, *_drawn_transforms(draws, hyperparameters, height, width))
    if effects.has_blur:
        images = blurred(images, hyperparameters["blur"] * (draws[8] + 1) / 2)
    if effects.has_light:
        noise = jax.random.normal(grain, images.shape) if effects.has_noise else None
        variance = hyperparameters["noise"] ** 2 + hyperparameters["read_noise"] ** 2
        images = exposed(
            images, draws[6] * hyperparameters["brightness"] + 1, variance, hyperparameters["shot_noise"], noise
        )
    if effects.has_erasing:
        images = erased(images, _erased_pixels(draws[9:], hyperparameters["random_erasing"], of=(height, width)))
    return images


def rotated_90(images: Any, quarters: Any) -> Any:
    """Images rotated counter-clockwise by ``quarters`` of 90 degrees, or by 180 instead if they are not square."""
    _, height, width, _ = images.shape
    is_half = quarters >= 2
    if height == width:
        images = jnp.where(_across(quarters % 2 == 1), jnp.swapaxes(images, 1, 2)[:, ::-1], images)
    else:
        is_half = (quarters + 1) // 2 % 2 == 1
    return jnp.where(_across(is_half), images[:, ::-1, ::-1], images)


def blurred(images: Any, sigmas: Any) -> Any:
    """Images blurred by a Gaussian of standard deviation ``sigmas`` px, with mirrored edges; the sum stays the same."""
    _, height, width, _ = images.shape
    return jnp.einsum(
        "nij,njkc,nlk->nilc", _spread(sigmas, height), images, _spread(sigmas, width), precision="highest"
    )


def exposed(images: Any, factors: Any, variance: Any, shot: Any, grain: Any) -> Any:
    """Images as a detector measures them: multiplied by ``factors``, plus noise of ``variance`` + value * ``shot``.

    ``grain`` is standard normal, of the images' shape; None for no noise.
    """
    light = images * _across(factors)
    return jnp.clip(light if grain is None else light + grain * jnp.sqrt(variance + light * shot), 0, 1)


def inside(top: Any, left: Any, height: Any, width: Any, *, of: tuple[int, int]) -> Any:
    """Whether the centre of each pixel is in a rectangle given in px, shape (n, *of)."""
    y, x = jnp.arange(of[0]) + 0.5, jnp.arange(of[1]) + 0.5
    rows = (y >= top[:, None]) & (y < (top + height)[:, None])
    columns = (x >= left[:, None]) & (x < (left + width)[:, None])
    return rows[:, :, None] & columns[:, None, :]


def erased(images: Any, is_erased: Any) -> Any:
    """Images with their mean value where ``is_erased``, shape (n, height, width)."""
    return jnp.where(is_erased[..., None], images.mean((1, 2), keepdims=True), images)


def pasted(images: Any, is_other: Any) -> tuple[Any, Any]:
    """Images with pixels of the image before where ``is_other``, and the share (n,) of an image's own pixels."""
    return jnp.where(is_other[..., None], jnp.roll(images, 1, 0), images), 1 - is_other.astype(jnp.float32).mean((1, 2))


def mixed(images: Any, hyperparameters: Arrays, key: Any, effects: Effects) -> tuple[Any, Any]:
    """Images with mixup or CutMix of the image before each, and the share (n,) of the image itself, at least a half."""
    n, height, width, _ = images.shape
    found, share = images, jnp.ones(n)
    keys = jax.random.split(key, 4)
    if effects.has_mixup:
        share = jnp.where(hyperparameters["mixup"] > 0, larger_share(n, hyperparameters["mixup"], keys[0]), 1.0)
        found = images * _across(share) + jnp.roll(images, 1, 0) * (1 - _across(share))
    if effects.has_cutmix:
        side = jnp.sqrt(1 - larger_share(n, hyperparameters["cutmix"], keys[1]))
        y, x = jax.random.uniform(keys[2], (2, n))
        high, wide = side * height, side * width
        mask = inside(y * height - high / 2, x * width - wide / 2, high, wide, of=(height, width))
        is_blended = (jax.random.uniform(keys[3], (n,)) < 0.5) & (hyperparameters["mixup"] > 0)
        is_cut = (hyperparameters["cutmix"] > 0) & ~is_blended
        cut, cut_share = pasted(images, mask)
        found, share = jnp.where(_across(is_cut), cut, found), jnp.where(is_cut, cut_share, share)
    return found, share


def larger_share(n: int, alpha: Any, key: Any) -> Any:
    """Larger one of a share drawn from Beta(alpha, alpha) and its rest, shape (n,)."""
    drawn = jax.random.beta(key, jnp.maximum(alpha, _MIN_ALPHA), jnp.maximum(alpha, _MIN_ALPHA), (n,))
    return jnp.maximum(drawn, 1 - drawn)


def warp(images: Any, across: Any, down: Any) -> Any:
    """Images transformed by affine maps, bilinear; outside, the nearest pixel of the edge.

    The pixel in row y and column x comes from column ``across @ (x, y, 1)`` and row ``down @ (x, y, 1)``, both of shape
    (n, 3).
    """
    n, height, width, _ = images.shape
    y, x = jnp.mgrid[:height, :width].astype(jnp.float32)

    def at(row: Any) -> Any:
        return row[:, 0, None, None] * x + row[:, 1, None, None] * y + row[:, 2, None, None]

    column, line = jnp.clip(at(across), 0, width - 1), jnp.clip(at(down), 0, height - 1)
    left, top = jnp.floor(column), jnp.floor(line)
    share_x, share_y = (column - left)[..., None], (line - top)[..., None]
    left, top = left.astype(jnp.int32), top.astype(jnp.int32)
    right, bottom = jnp.minimum(left + 1, width - 1), jnp.minimum(top + 1, height - 1)
    picked = jnp.arange(n)[:, None, None]
    upper = images[picked, top, left] * (1 - share_x) + images[picked, top, right] * share_x
    lower = images[picked, bottom, left] * (1 - share_x) + images[picked, bottom, right] * share_x
    return upper * (1 - share_y) + lower * share_y


def _drawn_transforms(draws: Any, hyperparameters: Arrays, height: int, width: int) -> tuple[Any, Any]:
    angle = draws[0] * hyperparameters["rotation_deg"] * (math.pi / 180)
    from_x = (width - 1) / 2 + draws[1] * hyperparameters["width_shift"] * width
    from_y = (height - 1) / 2 + draws[2] * hyperparameters["height_shift"] * height
    scale = 1 + draws[3] * hyperparameters["zoom"]
    mirror_x = 1 - 2 * hyperparameters["horizontal_flip"] * (draws[4] < 0)
    mirror_y = 1 - 2 * hyperparameters["vertical_flip"] * (draws[5] < 0)
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    a0, a1, b0, b1 = mirror_x * cos, mirror_x * sin, -mirror_y * sin, mirror_y * cos
    across = (a0, a1, (width - 1) / 2 - a0 * from_x - a1 * from_y)
    down = (b0, b1, (height - 1) / 2 - b0 * from_x - b1 * from_y)
    return jnp.stack(across, axis=1), jnp.stack(down, axis=1)


def _across(values: Any) -> Any:
    return values[:, None, None, None]


def _spread(sigmas: Any, length: int) -> Any:
    widths = jnp.maximum(sigmas, MIN_SIGMA)[:, None, None]
    weights = sum(jnp.exp(-0.5 * (far / widths) ** 2) for far in mirrored_distances(length))
    return weights / weights.sum(2, keepdims=True)


def _erased_pixels(draws: Any, share: Any, *, of: tuple[int, int]) -> Any:
    is_hit, area, aspect, down, right = (draws + 1) / 2
    area = ERASED_AREA[0] + area * (ERASED_AREA[1] - ERASED_AREA[0])
    ratio = jnp.exp((1 - 2 * aspect) * math.log(ERASED_ASPECT))
    high = jnp.minimum(jnp.sqrt(area * ratio), 1.0) * of[0]
    wide = jnp.minimum(jnp.sqrt(area / ratio), 1.0) * of[1]
    mask = inside(down * (of[0] - high), right * (of[1] - wide), high, wide, of=of)
    return mask & (is_hit < share)[:, None, None]
