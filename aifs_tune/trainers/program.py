"""The compiled program of one shape: a network, its updates and an epoch of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aifs_tune.trainers.augment import augment
from aifs_tune.trainers.cnn_params import CnnShape, Precision
from aifs_tune.trainers.network import Network, to_unit_scale
from aifs_tune.trainers.pace import Pace
from aifs_tune.trainers.runtime import tf
from aifs_tune.trainers.updates import make_updates


class Pass(NamedTuple):
    """One epoch to train. ``order`` (n,) indexes the images; ``number`` counts epochs from 0."""

    order: NDArray[np.int32]
    number: int
    seed: int
    knobs: Mapping[str, float]
    class_weights: NDArray[np.float32]


class Program:
    """Reused by all trials of a shape.

    Whatever differs between them is an argument of the compiled epoch, so that it is traced once.
    """

    def __init__(self, shape: CnnShape, precision: Precision = "float32") -> None:
        self.shape = shape
        self.network = Network(shape, precision)
        self._pace = Pace()
        self._updates = make_updates(shape.optimizer, self.network.weights)
        self._n_train_traces = 0
        self._train = tf.function(self._train_batches, autograph=False)

    @property
    def n_traces(self) -> int:
        """How often a function was traced: once to train and once to evaluate."""
        return self._n_train_traces + self.network.n_traces

    @property
    def n_bytes(self) -> int:
        """Memory of weights and slots."""
        return sum(4 * int(np.prod(v.shape)) for v in [*self.network.weights.values(), *self._updates.slots.values()])

    def start(self, seed: int) -> None:
        """Weights and slots of a new trial."""
        self.network.initialise(seed)
        for slot in self._updates.slots.values():
            slot.assign(tf.zeros_like(slot))

    def slots(self) -> dict[str, NDArray[np.float32]]:
        """A copy of what the updates remember."""
        return {name: np.array(slot) for name, slot in self._updates.slots.items()}

    def assign_slots(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Take ``values``, one for each slot."""
        for name, slot in self._updates.slots.items():
            slot.assign(values[name])

    def train(self, images: Any, labels: Any, epoch: Pass) -> tuple[float, float]:
        """Train one epoch; the loss and accuracy of its own passes, with augmentation and dropout.

        The last batch is filled up by wrapping around to the first images with weight 0: the update is that
        of the remainder alone, and the batch keeps its shape.
        """
        n, batch = len(epoch.order), self.shape.batch_size
        n_steps = -(-n // batch)
        order = tf.constant(np.resize(epoch.order, n_steps * batch))
        fixed = (
            tf.constant(n, tf.int32),
            tf.constant(epoch.class_weights),
            tf.constant(epoch.seed, tf.int64),
            tf.constant(epoch.number * n_steps, tf.int64),
            {name: tf.constant(value, tf.float32) for name, value in epoch.knobs.items()},
        )
        sums = (tf.constant(0.0), tf.constant(0.0))
        for first, last in self._pace.slices(n_steps):
            sums = self._train(images, labels, order, tf.constant(first), tf.constant(last), *fixed, sums)
            loss, n_right = (float(total) for total in sums)  # waits: the call is over
        return loss / n, n_right / n

    def _train_batches(
        self,
        images: Any,
        labels: Any,
        order: Any,
        first: Any,
        last: Any,
        n: Any,
        class_weights: Any,
        seed: Any,
        done: Any,
        knobs: Any,
        sums: Any,
    ) -> Any:
        """Batches ``first`` to ``last`` of an epoch; ``sums`` are the loss and the right guesses so far."""
        self._n_train_traces += 1
        batch = self.shape.batch_size

        def one(step: Any, loss: Any, n_right: Any) -> Any:
            places = step * batch + tf.range(batch)
            picked = tf.gather(order, places)
            is_real = tf.cast(places < n, tf.float32)
            truth = tf.gather(labels, picked)
            weights = tf.gather(class_weights, truth) * is_real
            moment = done + tf.cast(step, tf.int64)
            logits, batch_loss = self._update(tf.gather(images, picked), truth, weights, is_real, seed, moment, knobs)
            right = tf.cast(tf.argmax(logits, axis=1, output_type=tf.int32) == truth, tf.float32)
            return step + 1, loss + batch_loss, n_right + tf.reduce_sum(right * is_real)

        return tf.while_loop(lambda step, *_: step < last, one, (first, *sums))[1:]

    def _update(
        self, raw: Any, truth: Any, weights: Any, is_real: Any, seed: Any, moment: Any, knobs: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        seeds = tf.random.split(tf.stack([seed, moment]), 2)
        images = augment(to_unit_scale(raw), knobs, seeds[0])
        variables = list(self.network.weights.values())
        with tf.GradientTape() as tape:
            logits = self.network.logits(images, drop=lambda values: dropped(values, knobs["dropout"], seeds[1]))
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=truth, logits=logits)
            loss = tf.reduce_sum(losses * weights)
            mean = loss / tf.reduce_sum(is_real)
        gradients = dict(zip(self.network.weights, tape.gradient(mean, variables), strict=True))
        self._updates.apply(gradients, moment + 1, knobs)
        return logits, loss


def dropped(values: Any, rate: Any, seed: Any) -> Any:
    """Dropout (Srivastava et al. 2014) of a share ``rate``, scaled up in training instead of down afterwards."""
    is_kept = tf.random.stateless_uniform(values.shape, seed) >= rate
    return tf.where(is_kept, values / (1 - rate), 0.0)
