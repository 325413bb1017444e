"""Augmentation of a user's arrays of images in the compiled step of a Keras model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from aifs_tune._util.scalars import Scalar
from aifs_tune.errors import RequestError
from aifs_tune.space.parameters import Parameter
from aifs_tune.trainers.augment.images import augment
from aifs_tune.trainers.keras_warm import Prepare, filled_batch
from aifs_tune.trainers.network.losses import mixed
from aifs_tune.trainers.network.params import AUGMENTATION, CLASS_LOSS
from aifs_tune.trainers.network.runtime import tf

ALLOWED: dict[str, Parameter] = {**AUGMENTATION, "mixup": CLASS_LOSS["mixup"]}
"""Allowed values of each parameter."""
_MIXING = ("mixup", "cutmix")


class ArrayAugmentation:
    """Augmentation of the arrays ``train``, (x, y) or (x, y, weights).

    Raises
    ------
    RequestError
        If ``x`` is no array of images.
    """

    def __init__(self, train: Any) -> None:
        x: Any = train[0] if isinstance(train, tuple | list) else train
        shape = tuple(getattr(x, "shape", ()))
        if len(shape) != 4:
            came = f"an array of shape {shape}" if shape else type(x).__name__
            raise RequestError(
                f"augment: x is {came}, no images; allowed: one array of shape (n, height, width, channels)"
            )
        kind = np.dtype(x.dtype)
        smallest, largest = float(np.min(x)), float(np.max(x))
        if kind != np.uint8 and not (kind.kind == "f" and smallest >= 0 and largest <= 1):
            raise RequestError(
                f"augment: x has values of type {kind} from {smallest:g} to {largest:g}; allowed: uint8, or "
                "floating-point numbers from 0 to 1"
            )
        self._scale = 255.0 if kind == np.uint8 else 1.0
        self._y = np.asarray(train[1]) if hasattr(train[1], "dtype") else None
        self._has_weights = len(train) > 2

    def check(self, params: Mapping[str, Any]) -> None:
        """Check values of parameters, and that labels can be mixed where images are.

        Raises
        ------
        RequestError
            If a value is not allowed.
        """
        for name in (name for name in params if name in ALLOWED):
            ALLOWED[name].take(name, params[name])
        for name in (name for name in _MIXING if params.get(name)):
            if self._y is None or self._y.dtype.kind != "f" or self._has_weights:
                came = "weights" if self._has_weights else "whole numbers" if self._y is not None else "several outputs"
                raise RequestError(
                    f"{name}: {params[name]} mixes the labels of two images, but the data have {came}; allowed: 0, or "
                    "labels as floating-point numbers, such as a share for each class, without weights"
                )

    def prepare(self, params: Mapping[str, Scalar], *, batch_size: int, seed: int, first_batch: int) -> Prepare:
        """What augments the batches of an epoch; ``first_batch`` counts the batches of a trial before it."""
        values = {name: float(params.get(name) or 0) for name in ALLOWED}
        strengths = {name: tf.constant(value, tf.float32) for name, value in values.items()}
        draw = tf.constant([seed, first_batch], tf.int64)
        return Prepare(partial(self._batch, batch_size), (draw, strengths))

    def _batch(self, batch_size: int, data: Any, order: Any, size: Any, i: Any, given: Any) -> Any:
        del size  # the same as batch_size, which the program is compiled for
        draw, strengths = given
        (x, y, *weights), n_real = filled_batch(data, order, batch_size, i)
        seeds = tf.random.split(tf.stack([draw[0], draw[1] + tf.cast(i, tf.int64)]), 3)
        images = augment(tf.cast(x, tf.float32) / self._scale, strengths, seeds[0])
        if self._y is not None and self._y.dtype.kind == "f":
            images, share = mixed(images, batch_size, strengths, seeds)
            across = tf.reshape(share, (batch_size, *[1] * (y.shape.rank - 1)))
            y = y * across + tf.roll(y, 1, 0) * (1 - across)
        made = (images * self._scale, y, *weights)
        return tf.nest.map_structure(lambda each: each[:n_real], made)
