"""Augmentation of a batch of images: rotation, geometry, blur, detector noise, erasing and CutMix."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from aifs_tune.trainers.augment.blur import MIN_SIGMA, mirrored_distances
from aifs_tune.trainers.network.ops import gamma, gather, normal, split, uniform, when, with_xla
from aifs_tune.trainers.network.params import ERASED_AREA, ERASED_ASPECT
from aifs_tune.trainers.network.runtime import keras


def rotated_90(images: Any, quarters: Any) -> Any:
    """Images rotated counter-clockwise by ``quarters`` (n,) of 90 degrees, without interpolation.

    An image that is not square is rotated by 180 degrees instead of 90 or 270.
    """
    _, height, width, _ = images.shape
    is_half = _across(quarters >= 2)
    if height == width:
        turned = keras.ops.flip(keras.ops.transpose(images, (0, 2, 1, 3)), 1)
        images = keras.ops.where(_across(quarters % 2 == 1), turned, images)
    else:
        is_half = _across((quarters + 1) // 2 % 2 == 1)
    return keras.ops.where(is_half, keras.ops.flip(images, (1, 2)), images)


def blurred(images: Any, sigmas: Any) -> Any:
    """Images blurred by a Gaussian of standard deviation ``sigmas`` px, sampled at the centres of the pixels.

    Edges are mirrored, so the sum of an image does not change.
    """
    _, height, width, _ = images.shape
    rows = keras.ops.einsum("nij,njkc->nikc", _spread(sigmas, height), images)
    return keras.ops.einsum("nikc,nlk->nilc", rows, _spread(sigmas, width))


def exposed(images: Any, factors: Any, variance: Any, shot: Any, grain: Any) -> Any:
    """Images as a detector measures them: multiplied by ``factors``, plus noise of ``variance`` + value * ``shot``.

    A Gaussian approximates the Poisson distribution of photons; ``grain`` is standard normal, of the images' shape.
    """
    light = images * _across(factors)
    return keras.ops.clip(light + grain * keras.ops.sqrt(variance + light * shot), 0, 1)


def inside(top: Any, left: Any, height: Any, width: Any, *, of: tuple[int, int]) -> Any:
    """Whether the centre of each pixel is in a rectangle given in px, shape (n, *of)."""
    y, x = (np.arange(edge, dtype=np.float32) + np.float32(0.5) for edge in of)
    rows = (y >= top[:, None]) & (y < (top + height)[:, None])
    columns = (x >= left[:, None]) & (x < (left + width)[:, None])
    return rows[:, :, None] & columns[:, None, :]


def erased(images: Any, is_erased: Any) -> Any:
    """Images with their mean value where ``is_erased``, shape (n, height, width)."""
    return keras.ops.where(is_erased[..., None], keras.ops.mean(images, (1, 2), keepdims=True), images)


def pasted(images: Any, is_other: Any) -> tuple[Any, Any]:
    """Images with pixels of the image before where ``is_other``, and the share (n,) of an image's own pixels."""
    share = 1 - keras.ops.mean(keras.ops.cast(is_other, "float32"), (1, 2))
    return keras.ops.where(is_other[..., None], keras.ops.roll(images, 1, 0), images), share


def _across(values: Any) -> Any:
    return values[:, None, None, None]


def _spread(sigmas: Any, length: int) -> Any:
    """Share of pixel k that blurs into pixel i, shape (n, length, length); a Gaussian with mirrored edges."""
    widths = keras.ops.maximum(sigmas, MIN_SIGMA)[:, None, None]
    weights = sum(keras.ops.exp(-0.5 * (far / widths) ** 2) for far in mirrored_distances(length))
    return weights / keras.ops.sum(weights, 2, keepdims=True)


GEOMETRIC = ("rotation_deg", "width_shift", "height_shift", "zoom", "horizontal_flip", "vertical_flip")
"""Hyperparameters that move pixels."""
_LIGHT = ("brightness", "noise", "read_noise", "shot_noise")


def augment(images: Any, hyperparameters: Mapping[str, Any], seed: Any) -> Any:
    """Augment each image of a float batch (n, height, width, channels) of 0 to 1 with its own random numbers.

    ``hyperparameters`` are scalar tensors, with names and units of
    :data:`~aifs_tune.trainers.network.params.AUGMENTATION`; ``seed`` is that of a random function of
    :mod:`~aifs_tune.trainers.network.ops`. The order is that in which light meets them: rotation by 90 degrees, one
    geometric transform, blur, brightness and noise, erasing. Hyperparameters of 0 change nothing.
    """
    n, height, width, _ = images.shape
    seeds = split(seed, 2)
    draws = keras.ops.unstack(uniform((14, n), seeds[0], -1.0))

    def if_any(names: tuple[str, ...], change: Callable[[Any], Any], images: Any) -> Any:
        return when(sum(hyperparameters[name] for name in names) > 0, lambda: change(images), lambda: images)

    images = if_any(
        ("rotation_90",), lambda batch: rotated_90(batch, keras.ops.cast(draws[7] * 2 + 2, "int32")), images
    )
    images = if_any(
        GEOMETRIC, lambda batch: warp(batch, drawn_transforms(draws, hyperparameters, height, width)), images
    )
    images = if_any(("blur",), lambda batch: blurred(batch, hyperparameters["blur"] * (draws[8] + 1) / 2), images)
    images = if_any(_LIGHT, lambda batch: _exposed(batch, draws[6], hyperparameters, seeds[1]), images)
    return if_any(
        ("random_erasing",),
        lambda batch: erased(batch, _erased_pixels(draws[9:], hyperparameters["random_erasing"], of=(height, width))),
        images,
    )


def cutmix(images: Any, alpha: Any, seed: Any) -> tuple[Any, Any]:
    """CutMix (Yun et al. 2019): images with a rectangle of the image before, and the share (n,) of their own pixels.

    The area of the rectangle is the smaller of a share drawn from Beta(alpha, alpha) and its rest, so that an image
    keeps at least about half of its pixels. The rectangle has the image's aspect ratio and a random centre, and is
    clipped at the edges.
    """
    n, height, width, _ = images.shape
    seeds = split(seed, 2)
    side = keras.ops.sqrt(1 - larger_share(n, alpha, seeds[0]))
    y, x = keras.ops.unstack(uniform((2, n), seeds[1]))
    high, wide = side * height, side * width
    return pasted(images, inside(y * height - high / 2, x * width - wide / 2, high, wide, of=(height, width)))


def larger_share(n: int, alpha: Any, seed: Any) -> Any:
    """Larger one of a share drawn from Beta(alpha, alpha) and its rest, shape (n,)."""
    one, other = keras.ops.unstack(gamma((2, n), seed, alpha))
    share = keras.ops.divide_no_nan(one, one + other)
    return keras.ops.maximum(share, 1 - share)


def warp(images: Any, transforms: Any) -> Any:
    """Images seen through ``transforms`` (n, 8), bilinear between pixels; outside, the nearest pixel of the edge.

    Compiled by XLA: on a CPU in a quarter of the time of TensorFlow's ImageProjectiveTransformV3, which maps each
    channel of a pixel anew.
    """
    return _warp(images, transforms)


@with_xla
def _warp(images: Any, transforms: Any) -> Any:
    n, height, width, channels = images.shape
    y, x = np.mgrid[:height, :width]
    grid = np.stack([x.ravel(), y.ravel(), np.ones(x.size)]).astype(np.float32)
    sources = keras.ops.reshape(keras.ops.matmul(keras.ops.reshape(transforms[:, :6], (-1, 3)), grid), (n, 2, -1, 1))
    x = keras.ops.clip(sources[:, 0], 0.0, width - 1.0)
    y = keras.ops.clip(sources[:, 1], 0.0, height - 1.0)
    left, top = keras.ops.floor(x), keras.ops.floor(y)
    first = (
        np.arange(n, dtype=np.int32)[:, None] * (height * width) + keras.ops.cast(top * width + left, "int32")[..., 0]
    )
    # A neighbour beyond the edge has weight 0 but is read, so one row and one pixel follow the last image.
    pixels = keras.ops.pad(keras.ops.reshape(images, (-1, channels)), [[0, width + 1], [0, 0]])
    here, right, below, across = (gather(pixels, first + step) for step in (0, 1, width, width + 1))
    upper, lower = here + (right - here) * (x - left), below + (across - below) * (x - left)
    return keras.ops.reshape(upper + (lower - upper) * (y - top), images.shape)


def transforms_of(
    angle: Any, shift: tuple[Any, Any], scale: Any, mirror: tuple[Any, Any], *, height: int, width: int
) -> Any:
    """Rows (n, 8) of the projective transform from output to input pixels, around the image centre.

    ``angle`` in radians rotates the content clockwise, ``shift`` moves it in pixels to the right and down,
    ``scale`` above 1 magnifies, ``mirror`` is 1 or -1 for x and y; all of shape (n,). The pixel in row y and
    column x maps to column ``a0 x + a1 y + a2`` and row ``b0 x + b1 y + b2``.
    """
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    cos, sin = keras.ops.cos(angle) / scale, keras.ops.sin(angle) / scale
    a0, a1 = mirror[0] * cos, mirror[0] * sin
    b0, b1 = -mirror[1] * sin, mirror[1] * cos
    from_x, from_y = centre_x + shift[0], centre_y + shift[1]
    a2 = centre_x - a0 * from_x - a1 * from_y
    b2 = centre_y - b0 * from_x - b1 * from_y
    zero = keras.ops.zeros_like(a0)
    return keras.ops.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)


def drawn_transforms(draws: list[Any], hyperparameters: Mapping[str, Any], height: int, width: int) -> Any:
    """:func:`transforms_of` six random numbers for each image, uniform from -1 to 1."""
    angle, right, down, size, mirror_x, mirror_y = draws[:6]
    return transforms_of(
        angle * hyperparameters["rotation_deg"] * (math.pi / 180),
        (right * hyperparameters["width_shift"] * width, down * hyperparameters["height_shift"] * height),
        1 + size * hyperparameters["zoom"],
        (_mirror(mirror_x, hyperparameters["horizontal_flip"]), _mirror(mirror_y, hyperparameters["vertical_flip"])),
        height=height,
        width=width,
    )


def _mirror(draw: Any, is_on: Any) -> Any:
    return 1 - 2 * is_on * keras.ops.cast(draw < 0, "float32")


def _exposed(images: Any, draw: Any, hyperparameters: Mapping[str, Any], seed: Any) -> Any:
    variance = hyperparameters["noise"] ** 2 + hyperparameters["read_noise"] ** 2
    grain = normal(images.shape, seed)
    return exposed(images, draw * hyperparameters["brightness"] + 1, variance, hyperparameters["shot_noise"], grain)


def _erased_pixels(draws: list[Any], share: Any, *, of: tuple[int, int]) -> Any:
    """Pixels that random erasing (Zhong et al. 2020) erases, shape (n, *of), in a ``share`` of the images."""
    is_hit, area, aspect, down, right = ((draw + 1) / 2 for draw in draws)
    area = ERASED_AREA[0] + area * (ERASED_AREA[1] - ERASED_AREA[0])
    ratio = keras.ops.exp((1 - 2 * aspect) * math.log(ERASED_ASPECT))
    high = keras.ops.minimum(keras.ops.sqrt(area * ratio), 1.0) * of[0]
    wide = keras.ops.minimum(keras.ops.sqrt(area / ratio), 1.0) * of[1]
    mask = inside(down * (of[0] - high), right * (of[1] - wide), high, wide, of=of)
    return mask & (is_hit < share)[:, None, None]
