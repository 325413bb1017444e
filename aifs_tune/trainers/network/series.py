"""Base class of the trainers on series, with masks and augmentation of series."""

from __future__ import annotations

from typing import Any

import numpy as np

from aifs_tune.trainers.network.examples import ExamplesTrainer
from aifs_tune.trainers.network.losses import Hyperparameters
from aifs_tune.trainers.network.ops import normal, split, uniform, when
from aifs_tune.trainers.network.runtime import keras


class SeriesTrainer(ExamplesTrainer):
    """Base of the trainers on series.

    The examples have two inputs: values, float32 of shape (n, steps, channels), and lengths, int32 of shape (n,).
    ``facts`` of the examples may say which ``channels`` are values, so that ``noise`` is added to these alone, and that
    the series are windows of a ``forecast``, whose end is not cropped.
    """

    def augment(self, inputs: Any, hyperparameters: Hyperparameters, seed: Any) -> Any:
        """Crop the series, and add Gaussian noise of standard deviation ``noise`` to its steps."""
        values, lengths = inputs
        seeds, facts = split(seed, 2), self._data.facts
        keeps_end = facts.get("forecast") is not None
        values, lengths = when(
            hyperparameters["crop"] > 0,
            lambda: cropped(values, lengths, hyperparameters["crop"], seeds[0], keeps_end=keeps_end),
            lambda: (values, lengths),
        )
        roles = [channel["role"] for channel in facts.get("channels", [])] or ["value"] * values.shape[2]
        is_value = np.array([role == "value" for role in roles], np.float32)

        def noisy() -> Any:
            mask = present(lengths, values.shape[1])[:, :, None]
            return values + normal(values.shape, seeds[1]) * hyperparameters["noise"] * is_value * mask

        return when(hyperparameters["noise"] > 0, noisy, lambda: values), lengths


def series_inputs(shape: Any) -> Any:
    """Keras inputs of a network of this ``shape``: values (n, steps, channels) and lengths (n,)."""
    return keras.Input((shape.steps, shape.channels)), keras.Input((), dtype="int32")


def present(lengths: Any, steps: int) -> Any:
    """Mask of the steps: 1 inside each series, 0 after its end; float32 of shape (n, steps)."""
    is_before_end = keras.ops.expand_dims(lengths, 1) > np.arange(steps, dtype=np.int32)
    return keras.ops.cast(is_before_end, "float32")


def cropped(values: Any, lengths: Any, max_share: Any, seed: Any, *, keeps_end: bool) -> tuple[Any, Any]:
    """Series shortened by a random share of up to ``max_share``, at both ends or at the start alone.

    At least two steps of each series remain; values after its new end are 0.
    """
    n, steps, _ = values.shape
    shares, positions = keras.ops.unstack(uniform((2, n), seed))
    n_cut = keras.ops.minimum(
        keras.ops.cast(shares * max_share * keras.ops.cast(lengths, "float32"), "int32"),
        keras.ops.maximum(lengths - 2, 0),
    )
    first = n_cut if keeps_end else keras.ops.cast(positions * keras.ops.cast(n_cut + 1, "float32"), "int32")
    moved = keras.ops.take_along_axis(
        values, keras.ops.minimum(first[:, None] + np.arange(steps, dtype=np.int32), steps - 1)[:, :, None], 1
    )
    left = lengths - n_cut
    return moved * present(left, steps)[:, :, None], left
