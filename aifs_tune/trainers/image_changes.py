"""What can happen to a batch of images (n, height, width, channels) of 0 to 1, each by its own numbers (n,)."""

from __future__ import annotations

from typing import Any

from aifs_tune.trainers.blur import LEAST_SIGMA, mirrored_distances
from aifs_tune.trainers.runtime import tf


def turned(images: Any, quarters: Any) -> Any:
    """By so many of 0 to 3 quarters, counter-clockwise, no pixel changed.

    An image that is not square is turned by a half instead of by one or three quarters.
    """
    _, height, width, _ = images.shape
    is_half = _across(quarters >= 2)
    if height == width:
        images = tf.where(_across(quarters % 2 == 1), tf.reverse(tf.transpose(images, (0, 2, 1, 3)), (1,)), images)
    else:
        is_half = _across((quarters + 1) // 2 % 2 == 1)
    return tf.where(is_half, tf.reverse(images, (1, 2)), images)


def blurred(images: Any, sigmas: Any) -> Any:
    """Seen through a Gaussian of standard deviation ``sigmas`` px, sampled at the centres of the pixels.

    The sum of an image stays what it is: what would leave it comes back, as from a mirror at its edge.
    """
    _, height, width, _ = images.shape
    down, across = _spread(sigmas, height), _spread(sigmas, width)
    return tf.einsum("nij,njkc,nlk->nilc", down, images, across, optimize="optimal")


def exposed(images: Any, factors: Any, variance: Any, shot: Any, grain: Any) -> Any:
    """As a detector sees them: times ``factors``, then noise of ``variance`` + value * ``shot``.

    The photons' Poisson distribution is taken for a Gaussian; ``grain`` is standard normal, of the images' shape.
    """
    light = images * _across(factors)
    return tf.clip_by_value(light + grain * tf.sqrt(variance + light * shot), 0, 1)


def inside(top: Any, left: Any, height: Any, width: Any, *, of: tuple[int, int]) -> Any:
    """Shape (n, *of), whether the centre of a pixel is in the rectangle of these px."""
    y, x = tf.range(of[0], dtype=tf.float32) + 0.5, tf.range(of[1], dtype=tf.float32) + 0.5
    rows = (y >= top[:, None]) & (y < (top + height)[:, None])
    columns = (x >= left[:, None]) & (x < (left + width)[:, None])
    return rows[:, :, None] & columns[:, None, :]


def erased(images: Any, is_lost: Any) -> Any:
    """With the mean of the image where ``is_lost``, shape (n, height, width)."""
    return tf.where(is_lost[..., None], tf.reduce_mean(images, (1, 2), keepdims=True), images)


def pasted(images: Any, is_other: Any) -> tuple[Any, Any]:
    """With pixels of the image before, where ``is_other``, and the share (n,) of pixels that are an image's own."""
    share = 1 - tf.reduce_mean(tf.cast(is_other, tf.float32), (1, 2))
    return tf.where(is_other[..., None], tf.roll(images, 1, 0), images), share


def _across(values: Any) -> Any:
    return values[:, None, None, None]


def _spread(sigmas: Any, length: int) -> Any:
    """Shape (n, length, length): the share of pixel k that pixel i gets; a Gaussian and its mirror images."""
    widths = tf.maximum(sigmas, LEAST_SIGMA)[:, None, None]
    weights = tf.add_n([tf.exp(-0.5 * (far / widths) ** 2) for far in mirrored_distances(length)])
    return weights / tf.reduce_sum(weights, axis=2, keepdims=True)
