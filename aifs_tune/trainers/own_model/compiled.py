"""Training of a model that the user's function has compiled, by its own loss, metrics and optimizer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from aifs_tune.trainers.keras_warm import Prepare, WarmModel, filled_batch
from aifs_tune.trainers.network.losses import LossFunction
from aifs_tune.trainers.network.network import gathered
from aifs_tune.trainers.network.program import Epoch, Examples, Training
from aifs_tune.trainers.network.runtime import tf
from aifs_tune.trainers.own_model.network import ModelNetwork

_OF_SHARES = (
    keras.losses.CategoricalCrossentropy,
    keras.losses.CategoricalFocalCrossentropy,
    keras.losses.CategoricalHinge,
    keras.losses.KLDivergence,
)
"""Losses of Keras that take a share of each class in place of its number."""
_FUNCTIONS_OF_SHARES = (
    keras.losses.categorical_crossentropy,
    keras.losses.categorical_focal_crossentropy,
    keras.losses.categorical_hinge,
    keras.losses.kl_divergence,
)
"""The same as functions."""


def takes_shares(loss: Any) -> bool:
    """Whether a loss, as ``compile`` takes it, is one of Keras' that take a share of each class."""
    if isinstance(loss, list | tuple) and len(loss) == 1:
        loss = loss[0]
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    return isinstance(loss, _OF_SHARES) or loss in _FUNCTIONS_OF_SHARES


class CompiledTraining(Training):
    """Training of a compiled model.

    ``loss_function`` augments the batches. Classes are given to the model's loss as whole numbers, or as shares of each
    class where the loss is one of Keras' categorical ones; numbers in units of their spread. Examples are weighted by
    their class.
    """

    def __init__(self, network: ModelNetwork, loss_function: LossFunction, *, batch_size: int) -> None:
        self._loss_function, self._batch_size = loss_function, batch_size
        self._warm = WarmModel(network.model, self._example)
        network.tune(self._warm.hold)
        self._built_by = network
        self._newest: Any = None
        self._takes_shares = takes_shares(network.model.loss)
        self.measured: dict[str, float] = {}
        """Metrics of the model itself in the newest epoch of training."""
        optimizer = network.model.optimizer
        super().__init__(network, {f"{i}.{slot.name}": slot for i, slot in enumerate(optimizer.variables)})

    @property
    def n_traces(self) -> int:
        return self.network.n_traces + self._warm.n_traces

    def start(self, seed: int) -> None:
        del seed  # the model was built with it
        self._warm.begin(self._built_by.start)

    def train(self, examples: Examples, epoch: Epoch) -> tuple[float, float]:
        steps = -(-len(epoch.order) // self._batch_size)
        draw = tf.constant([epoch.seed, epoch.number * steps], tf.int64)
        self.measured = self._run("train", examples, epoch.order, draw, epoch.hyperparameters)
        return self.measured["loss"], float("nan")

    def test(self, examples: Examples, picked: NDArray[np.int32]) -> dict[str, float]:
        """Metrics of the model itself for the ``picked`` examples, as they are and without weights."""
        return self._run("test", examples, picked, tf.zeros(2, tf.int64), {})

    def _run(self, what: str, examples: Examples, order: Any, draw: Any, hyperparameters: Any) -> dict[str, float]:
        strengths = {name: tf.constant(value, tf.float32) for name, value in hyperparameters.items()}
        prepare = Prepare(self._augmented if what == "train" else self._as_it_is, (draw, strengths))
        self._newest = self._as_it_is(examples, tf.constant(order), self._batch_size, 0, ())
        run = self._warm.run if self._warm.runs_in_graph([]) else self._warm.run_by_keras
        return run(what, examples, order, self._batch_size, prepare)

    def _augmented(self, examples: Any, order: Any, size: Any, i: Any, given: Any) -> Any:
        """Batch ``i``, filled up with the first examples while it is augmented, so that its shape stays the same."""
        del size  # the same as that of the program
        draw, strengths = given
        picked, n_real = filled_batch(examples, order, self._batch_size, i)
        seed = tf.stack([draw[0], draw[1] + tf.cast(i, tf.int64)])
        values, y_true = self._loss_function.prepare(
            self.network.preprocess(picked.inputs), picked.y_true, picked.weights, strengths, seed
        )
        made = self._built_by.inputs_of_model(values), self._target(y_true[0]), picked.weights
        return tf.nest.map_structure(lambda each: each[:n_real], made)

    def _as_it_is(self, examples: Any, order: Any, size: Any, i: Any, given: Any) -> Any:
        del given
        picked = gathered(examples, order[i * size : tf.minimum((i + 1) * size, tf.shape(order)[0])])
        values = self._built_by.inputs_of_model(self.network.preprocess(picked.inputs))
        return values, self._target(picked.y_true)

    def _target(self, y_true: Any) -> Any:
        """Targets as the loss of the model takes them."""
        shape = self._built_by.shape
        if not shape.is_classes:
            return y_true
        return tf.one_hot(y_true, shape.n_outputs) if self._takes_shares else y_true[:, tf.newaxis]

    def _example(self) -> Any:
        return tf.nest.map_structure(lambda values: values[:2], self._newest)
