"""What trainers of networks on series have in common: the steps of a series that count, and random changes."""

from __future__ import annotations

from typing import Any

from aifs_tune.trainers.network.examples import ExamplesTrainer
from aifs_tune.trainers.network.losses import Hyperparameters
from aifs_tune.trainers.network.runtime import tf


class SeriesTrainer(ExamplesTrainer):
    """The examples have two inputs: values, float32 of shape (n, steps, channels), and lengths, int32 of shape (n,).

    ``facts`` of the examples may say which ``channels`` are values, to which ``noise`` is added (without it: all),
    and that they are windows of a ``forecast``, whose end is not cropped.
    """

    def changed(self, inputs: Any, hyperparameters: Hyperparameters, seed: Any) -> Any:
        """Cropped, and with Gaussian noise of the standard deviation ``noise`` where there is a series."""
        values, lengths = inputs
        seeds, facts = tf.random.split(seed, 2), self._data.facts
        keeps_end = facts.get("forecast") is not None
        values, lengths = tf.cond(
            hyperparameters["crop"] > 0,
            lambda: cropped(values, lengths, hyperparameters["crop"], seeds[0], keeps_end=keeps_end),
            lambda: (values, lengths),
        )
        roles = [channel["role"] for channel in facts.get("channels", [])] or ["value"] * values.shape[2]
        is_value = tf.constant([role == "value" for role in roles], tf.float32)

        def noisy() -> Any:
            is_there = present(lengths, values.shape[1])[:, :, tf.newaxis]
            return (
                values
                + tf.random.stateless_normal(values.shape, seeds[1]) * hyperparameters["noise"] * is_value * is_there
            )

        return tf.cond(hyperparameters["noise"] > 0, noisy, lambda: values), lengths


def present(lengths: Any, steps: int) -> Any:
    """1 for the steps of each series, 0 behind its end: float32 of shape (n, steps)."""
    return tf.sequence_mask(lengths, steps, tf.float32)


def cropped(values: Any, lengths: Any, most: Any, seed: Any, *, keeps_end: bool) -> tuple[Any, Any]:
    """Each series without up to a share ``most`` of its steps, cut off at its beginning and end, or beginning alone.

    At least two steps stay of each; 0 stands behind the end.
    """
    n, steps, _ = values.shape
    shares, places = tf.unstack(tf.random.stateless_uniform((2, n), seed))
    n_cut = tf.minimum(tf.cast(shares * most * tf.cast(lengths, tf.float32), tf.int32), tf.maximum(lengths - 2, 0))
    first = n_cut if keeps_end else tf.cast(places * tf.cast(n_cut + 1, tf.float32), tf.int32)
    moved = tf.gather(values, tf.minimum(first[:, tf.newaxis] + tf.range(steps), steps - 1), batch_dims=1)
    left = lengths - n_cut
    return moved * present(left, steps)[:, :, tf.newaxis], left
