"""Random changes of a batch of images inside the compiled step: one geometric transform, brightness, noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aifs_tune.trainers.runtime import tf

_GEOMETRIC = ("rotation_deg", "width_shift", "height_shift", "zoom", "horizontal_flip", "vertical_flip")


def augment(images: Any, knobs: Mapping[str, Any], seed: Any) -> Any:
    """Each image of a float batch (n, height, width, channels) of 0 to 1 changed by its own draw.

    ``knobs`` are scalar tensors, named and measured as in :class:`~aifs_tune.trainers.cnn_params.CnnParams`;
    ``seed`` is a tensor of two whole numbers. Strengths of zero leave the images as they are.
    """
    n, height, width, _ = images.shape
    seeds = tf.random.split(seed, 2)
    draws = tf.unstack(tf.random.stateless_uniform((7, n), seeds[0], -1.0, 1.0))
    changed = tf.cond(
        tf.add_n([knobs[name] for name in _GEOMETRIC]) > 0,
        lambda: warp(images, _drawn_transforms(draws, knobs, height, width)),
        lambda: images,
    )
    return tf.cond(
        knobs["brightness"] + knobs["noise"] > 0,
        lambda: _lit(changed, draws[6] * knobs["brightness"] + 1, knobs["noise"], seeds[1]),
        lambda: changed,
    )


def warp(images: Any, transforms: Any) -> Any:
    """Images seen through ``transforms`` (n, 8); outside, the nearest pixel of the edge."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=images.shape[1:3],
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )


def transforms_of(
    angle: Any, shift: tuple[Any, Any], scale: Any, mirror: tuple[Any, Any], *, height: int, width: int
) -> Any:
    """Rows (n, 8) of the projective transform from output to input pixels, all about the image centre.

    ``angle`` in radians turns the content clockwise, ``shift`` moves it in pixels to the right and down,
    ``scale`` above 1 magnifies, ``mirror`` is 1 or -1 for x and y; all of shape (n,). The pixel in row y and
    column x maps to column ``a0 x + a1 y + a2`` and row ``b0 x + b1 y + b2``.
    """
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    a0, a1 = mirror[0] * cos, mirror[0] * sin
    b0, b1 = -mirror[1] * sin, mirror[1] * cos
    from_x, from_y = centre_x + shift[0], centre_y + shift[1]
    a2 = centre_x - a0 * from_x - a1 * from_y
    b2 = centre_y - b0 * from_x - b1 * from_y
    zero = tf.zeros_like(a0)
    return tf.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)


def _drawn_transforms(draws: list[Any], knobs: Mapping[str, Any], height: int, width: int) -> Any:
    turn, right, down, size, mirror_x, mirror_y = draws[:6]
    return transforms_of(
        turn * knobs["rotation_deg"] * (math.pi / 180),
        (right * knobs["width_shift"] * width, down * knobs["height_shift"] * height),
        1 + size * knobs["zoom"],
        (_mirror(mirror_x, knobs["horizontal_flip"]), _mirror(mirror_y, knobs["vertical_flip"])),
        height=height,
        width=width,
    )


def _mirror(draw: Any, is_on: Any) -> Any:
    return 1 - 2 * is_on * tf.cast(draw < 0, tf.float32)


def _lit(images: Any, factors: Any, noise: Any, seed: Any) -> Any:
    grain = tf.random.stateless_normal(images.shape, seed) * noise
    return tf.clip_by_value(images * factors[:, None, None, None] + grain, 0, 1)
