"""Random changes of a batch of images in JAX, as :mod:`aifs_tune.trainers.augment.tensorflow` and
:mod:`aifs_tune.trainers.augment.tensorflow` have them in TensorFlow.

Tests hold the two against each other. Random draws differ: the two libraries have different generators.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from aifs_tune.trainers.augment.blur import LEAST_SIGMA, mirrored_distances
from aifs_tune.trainers.fused.jax_runtime import jax, jnp
from aifs_tune.trainers.network.params import ERASED_AREA, ERASED_ASPECT

_LEAST_ALPHA = 1e-3

Arrays: TypeAlias = Mapping[str, Any]


class Effects(NamedTuple):
    """Which random changes any member may ask for: what none does is left out of the program."""

    is_turned: bool = False
    is_moved: bool = False
    is_blurred: bool = False
    is_exposed: bool = False
    is_noisy: bool = False
    is_erased: bool = False
    is_mixed: bool = False
    is_cut: bool = False
    is_clipped: bool = False

    @classmethod
    def of(cls, hyperparameters: Mapping[str, float]) -> Effects:
        """Those that are not zero in ``hyperparameters``."""
        moves = ("rotation_deg", "width_shift", "height_shift", "zoom", "horizontal_flip", "vertical_flip")
        noises = ("noise", "read_noise", "shot_noise")
        asked = [
            ("rotation_90",), moves, ("blur",), ("brightness", *noises), noises,
            ("random_erasing",), ("mixup",), ("cutmix",), ("clip_norm",),
        ]  # fmt: skip
        return cls(*(any(hyperparameters[name] > 0 for name in names) for names in asked))

    def __or__(self, other: Effects) -> Effects:
        return Effects(*(mine or theirs for mine, theirs in zip(self, other, strict=True)))


def augment(images: Any, hyperparameters: Arrays, key: Any, effects: Effects) -> Any:
    """Each image of a float batch (n, height, width, channels) of 0 to 1 changed by its own draw."""
    n, height, width, _ = images.shape
    geometry, grain = jax.random.split(key)
    draws = jax.random.uniform(geometry, (14, n), minval=-1.0)
    if effects.is_turned:
        quarters = jnp.floor(draws[7] * 2 + 2).astype(jnp.int32)
        images = turned(images, jnp.where(hyperparameters["rotation_90"] > 0, quarters, 0))
    if effects.is_moved:
        images = warp(images, *_drawn_transforms(draws, hyperparameters, height, width))
    if effects.is_blurred:
        images = blurred(images, hyperparameters["blur"] * (draws[8] + 1) / 2)
    if effects.is_exposed:
        noise = jax.random.normal(grain, images.shape) if effects.is_noisy else None
        variance = hyperparameters["noise"] ** 2 + hyperparameters["read_noise"] ** 2
        images = exposed(
            images, draws[6] * hyperparameters["brightness"] + 1, variance, hyperparameters["shot_noise"], noise
        )
    if effects.is_erased:
        images = erased(images, _lost(draws[9:], hyperparameters["random_erasing"], of=(height, width)))
    return images


def turned(images: Any, quarters: Any) -> Any:
    """By so many of 0 to 3 quarters, counter-clockwise; one that is not square by a half instead of a quarter."""
    _, height, width, _ = images.shape
    is_half = quarters >= 2
    if height == width:
        images = jnp.where(_across(quarters % 2 == 1), jnp.swapaxes(images, 1, 2)[:, ::-1], images)
    else:
        is_half = (quarters + 1) // 2 % 2 == 1
    return jnp.where(_across(is_half), images[:, ::-1, ::-1], images)


def blurred(images: Any, sigmas: Any) -> Any:
    """Seen through a Gaussian of standard deviation ``sigmas`` px between edges that mirror; keeps the sum."""
    _, height, width, _ = images.shape
    return jnp.einsum(
        "nij,njkc,nlk->nilc", _spread(sigmas, height), images, _spread(sigmas, width), precision="highest"
    )


def exposed(images: Any, factors: Any, variance: Any, shot: Any, grain: Any) -> Any:
    """As a detector sees them: times ``factors``, then noise of ``variance`` + value * ``shot``.

    ``grain`` is standard normal, of the images' shape; None: no noise.
    """
    light = images * _across(factors)
    return jnp.clip(light if grain is None else light + grain * jnp.sqrt(variance + light * shot), 0, 1)


def inside(top: Any, left: Any, height: Any, width: Any, *, of: tuple[int, int]) -> Any:
    """Shape (n, *of), whether the centre of a pixel is in the rectangle of these px."""
    y, x = jnp.arange(of[0]) + 0.5, jnp.arange(of[1]) + 0.5
    rows = (y >= top[:, None]) & (y < (top + height)[:, None])
    columns = (x >= left[:, None]) & (x < (left + width)[:, None])
    return rows[:, :, None] & columns[:, None, :]


def erased(images: Any, is_lost: Any) -> Any:
    """With the mean of the image where ``is_lost``, shape (n, height, width)."""
    return jnp.where(is_lost[..., None], images.mean((1, 2), keepdims=True), images)


def pasted(images: Any, is_other: Any) -> tuple[Any, Any]:
    """With pixels of the image before, where ``is_other``, and the share (n,) of pixels that are an image's own."""
    return jnp.where(is_other[..., None], jnp.roll(images, 1, 0), images), 1 - is_other.astype(jnp.float32).mean((1, 2))


def mixed(images: Any, hyperparameters: Arrays, key: Any, effects: Effects) -> tuple[Any, Any]:
    """Images with the ones before them mixed or pasted in, and the share (n,) of each itself, at least a half."""
    n, height, width, _ = images.shape
    found, share = images, jnp.ones(n)
    keys = jax.random.split(key, 4)
    if effects.is_mixed:
        share = jnp.where(hyperparameters["mixup"] > 0, near_share(n, hyperparameters["mixup"], keys[0]), 1.0)
        found = images * _across(share) + jnp.roll(images, 1, 0) * (1 - _across(share))
    if effects.is_cut:
        side = jnp.sqrt(1 - near_share(n, hyperparameters["cutmix"], keys[1]))
        y, x = jax.random.uniform(keys[2], (2, n))
        high, wide = side * height, side * width
        mask = inside(y * height - high / 2, x * width - wide / 2, high, wide, of=(height, width))
        is_blended = (jax.random.uniform(keys[3], (n,)) < 0.5) & (hyperparameters["mixup"] > 0)
        is_cut = (hyperparameters["cutmix"] > 0) & ~is_blended
        cut, cut_share = pasted(images, mask)
        found, share = jnp.where(_across(is_cut), cut, found), jnp.where(is_cut, cut_share, share)
    return found, share


def near_share(n: int, alpha: Any, key: Any) -> Any:
    """Shape (n,), the larger part of a whole divided as Beta(alpha, alpha) says."""
    drawn = jax.random.beta(key, jnp.maximum(alpha, _LEAST_ALPHA), jnp.maximum(alpha, _LEAST_ALPHA), (n,))
    return jnp.maximum(drawn, 1 - drawn)


def warp(images: Any, across: Any, down: Any) -> Any:
    """Images seen through affine maps: the pixel in row y and column x comes from column ``across @ (x, y, 1)`` and
    row ``down @ (x, y, 1)``, both of shape (n, 3); bilinear, outside the nearest pixel of the edge."""
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
    turn = draws[0] * hyperparameters["rotation_deg"] * (math.pi / 180)
    from_x = (width - 1) / 2 + draws[1] * hyperparameters["width_shift"] * width
    from_y = (height - 1) / 2 + draws[2] * hyperparameters["height_shift"] * height
    scale = 1 + draws[3] * hyperparameters["zoom"]
    mirror_x = 1 - 2 * hyperparameters["horizontal_flip"] * (draws[4] < 0)
    mirror_y = 1 - 2 * hyperparameters["vertical_flip"] * (draws[5] < 0)
    cos, sin = jnp.cos(turn) / scale, jnp.sin(turn) / scale
    a0, a1, b0, b1 = mirror_x * cos, mirror_x * sin, -mirror_y * sin, mirror_y * cos
    across = (a0, a1, (width - 1) / 2 - a0 * from_x - a1 * from_y)
    down = (b0, b1, (height - 1) / 2 - b0 * from_x - b1 * from_y)
    return jnp.stack(across, axis=1), jnp.stack(down, axis=1)


def _across(values: Any) -> Any:
    return values[:, None, None, None]


def _spread(sigmas: Any, length: int) -> Any:
    widths = jnp.maximum(sigmas, LEAST_SIGMA)[:, None, None]
    weights = sum(jnp.exp(-0.5 * (far / widths) ** 2) for far in mirrored_distances(length))
    return weights / weights.sum(2, keepdims=True)


def _lost(draws: Any, share: Any, *, of: tuple[int, int]) -> Any:
    is_hit, area, aspect, down, right = (draws + 1) / 2
    area = ERASED_AREA[0] + area * (ERASED_AREA[1] - ERASED_AREA[0])
    ratio = jnp.exp((1 - 2 * aspect) * math.log(ERASED_ASPECT))
    high = jnp.minimum(jnp.sqrt(area * ratio), 1.0) * of[0]
    wide = jnp.minimum(jnp.sqrt(area / ratio), 1.0) * of[1]
    mask = inside(down * (of[0] - high), right * (of[1] - wide), high, wide, of=of)
    return mask & (is_hit < share)[:, None, None]
