"""Compiled training of one network shape: network, optimizer and epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import RequestError
from aifs_tune.trainers.network.devices import ChunkSizer, Devices
from aifs_tune.trainers.network.losses import LossFunction
from aifs_tune.trainers.network.network import Network, gathered, is_pretrained
from aifs_tune.trainers.network.ops import numbered, uniform
from aifs_tune.trainers.network.optimizers import make_optimizer
from aifs_tune.trainers.network.params import Optimizer
from aifs_tune.trainers.network.runtime import keras, tf


class Examples(NamedTuple):
    """All examples on the device: ``inputs`` as stored, targets ``y_true`` and ``weights`` (n,)."""

    inputs: Any
    y_true: Any
    weights: Any


class Epoch(NamedTuple):
    """One epoch to train: ``order`` (n,) indexes the examples, ``number`` counts epochs from 0."""

    order: NDArray[np.int32]
    number: int
    seed: int
    hyperparameters: Mapping[str, float]


class Training(ABC):
    """Compiled training of a network shape, which all trials of the shape use.

    ``slots`` are the variables of the optimizer by name.
    """

    def __init__(self, network: Network, slots: Mapping[str, Any]) -> None:
        self.network, self._slots = network, slots
        self._variables_index = 0
        self._other_variables: dict[int, tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]] = {}

    @property
    @abstractmethod
    def n_traces(self) -> int:
        """Number of traces so far: usually one to train and one to evaluate."""

    @abstractmethod
    def start(self, seed: int) -> None:
        """Set initial weights and optimizer state of a new trial."""

    @abstractmethod
    def train(self, examples: Examples, epoch: Epoch) -> tuple[float, float]:
        """Train one epoch; return mean loss and score of its augmented training batches."""

    def predict_val(self, stored: Any, picked: NDArray[np.int32]) -> NDArray[np.float32]:
        """Predict the validation part, right after an epoch; see :meth:`Network.predict`."""
        return self.network.predict(stored, picked)

    def finish(self) -> None:  # noqa: B027 - most trainings belong to one trial alone
        """Tell that the trial trains no more epochs."""

    @property
    def n_bytes(self) -> int:
        """Memory of weights and optimizer state in bytes."""
        variables = [*self.network.weights.values(), *self._slots.values()]
        return (1 + len(self._other_variables)) * sum(4 * int(np.prod(variable.shape)) for variable in variables)

    def switch_variables(self, index: int) -> None:
        """Continue with the variables of trainer ``index``, and keep those of the current trainer for later.

        Several trainers with different data can so use one compiled function.
        """
        if index == self._variables_index:
            return
        self._other_variables[self._variables_index], self._variables_index = (
            (self.network.values(), self.slots()),
            index,
        )
        if index in self._other_variables:
            weights, slots = self._other_variables.pop(index)
            self.network.assign(weights)
            self.assign_slots(slots)

    def slots(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the optimizer state by name."""
        return {name: np.array(slot.numpy()) for name, slot in self._slots.items()}

    def assign_slots(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Set the optimizer state to ``values``."""
        for name, slot in self._slots.items():
            slot.assign(values[name])


class TrainFunction(Training):
    """Training by one of our optimizers.

    Everything that differs between these trials is an argument of the compiled function, so that it is traced once.
    Several ``devices`` each train a part of every batch and add up their gradients; the network must then be made in
    ``devices.scope()``.

    Raises
    ------
    RequestError
        If a batch cannot be split evenly between the devices.
    """

    def __init__(
        self,
        network: Network,
        loss_function: LossFunction,
        *,
        optimizer: Optimizer,
        batch_size: int,
        devices: Devices | None = None,
    ) -> None:
        self._loss_function, self._batch_size = loss_function, batch_size
        self._devices = devices or Devices()
        if batch_size % (n := self._devices.n):
            raise RequestError(f"batch_size: {batch_size} is not allowed with {n} devices; allowed: a multiple of {n}")
        self._chunks = ChunkSizer()
        with self._devices.scope():
            self._optimizer = make_optimizer(optimizer, network.weights)
        super().__init__(network, self._optimizer.slots)
        self._n_train_traces = 0
        self._train = tf.function(self._train_batches, autograph=False)

    @property
    def n_traces(self) -> int:
        return self._n_train_traces + self.network.n_traces

    def start(self, seed: int) -> None:
        self.network.initialise(seed)
        for slot in self._slots.values():
            slot.assign(tf.zeros_like(slot))

    def train(self, examples: Examples, epoch: Epoch) -> tuple[float, float]:
        """Train one epoch; return mean loss and score of its augmented training batches.

        The last batch is filled up with the first examples, at weight 0: its shape stays the same, and the update
        depends only on the other examples.
        """
        n, batch = len(epoch.order), self._batch_size
        n_steps = -(-n // batch)
        order = tf.constant(np.resize(epoch.order, n_steps * batch))
        fixed = (
            tf.constant(n, tf.int32),
            tf.constant(epoch.seed, tf.int64),
            tf.constant(epoch.number * n_steps, tf.int64),
            {name: tf.constant(value, tf.float32) for name, value in epoch.hyperparameters.items()},
        )
        sums = (tf.constant(0.0), tf.constant(0.0))
        for first, last in self._chunks.slices(n_steps):
            sums = self._train(examples, order, tf.constant(first), tf.constant(last), *fixed, sums)
            loss, score = (float(total) for total in sums)  # waits for the end of the call
        return loss / n, score / n

    def _train_batches(
        self,
        examples: Any,
        order: Any,
        first: Any,
        last: Any,
        n: Any,
        seed: Any,
        done: Any,
        hyperparameters: Any,
        sums: Any,
    ) -> Any:
        """Train batches ``first`` to ``last`` (exclusive) of an epoch; ``sums`` are loss and score so far."""
        self._n_train_traces += 1
        devices, batch = self._devices, self._batch_size
        share = batch // devices.n

        def one(step: Any, loss: Any, score: Any) -> Any:
            step_number = done + tf.cast(step, tf.int64)
            n_real = tf.cast(tf.minimum(n - step * batch, batch), tf.float32)

            def on_device() -> Any:
                positions = step * batch + devices.index() * share + tf.range(share)
                is_real = tf.cast(positions < n, tf.float32) / n_real
                return self._update(
                    gathered(examples, tf.gather(order, positions)), is_real, seed, step_number, hyperparameters
                )

            batch_loss, batch_score = devices.total(devices.run(on_device))
            return step + 1, loss + batch_loss * n_real, score + batch_score * n_real

        return tf.while_loop(lambda step, *_: step < last, one, (first, *sums))[1:]

    def _update(
        self, batch: Examples, shares: Any, seed: Any, step_number: Any, hyperparameters: Mapping[str, Any]
    ) -> Any:
        """Update the weights from the examples of one device; return the loss and score that they add.

        ``shares`` (n,) is the share of each example in the batch; ``step_number`` counts the updates of a trial from 0.
        """
        network, loss_function, devices = self.network, self._loss_function, self._devices
        draw = step_number * devices.n + tf.cast(devices.index(), tf.int64)
        seeds = tf.random.split(tf.stack([seed, draw]), 2)
        inputs, y_true = loss_function.prepare(
            network.preprocess(batch.inputs), batch.y_true, batch.weights, hyperparameters, seeds[0]
        )
        drops = StepDropout(hyperparameters.get("dropout"), seeds[1])
        with tf.GradientTape(persistent=True) as tape:  # two gradients, if some weights may be frozen
            outputs = network.outputs(inputs, drops, is_training=True)
            loss = tf.reduce_sum(loss_function.compute_loss(outputs, y_true, hyperparameters) * shares)
            if (penalty := network.penalty()) is not None:
                loss += penalty / devices.n
        gradients = devices.sum_gradients(_gradients(tape, loss, network.weights, hyperparameters))
        clipped = tf.cond(
            hyperparameters["clip_norm"] > 0,
            lambda: _clipped(gradients, hyperparameters["clip_norm"]),
            lambda: gradients,
        )
        self._optimizer.apply(dict(zip(network.weights, clipped, strict=True)), step_number + 1, hyperparameters)
        network.constrain()
        return loss, tf.reduce_sum(loss_function.scores(outputs, y_true) * shares)


class StepDropout:
    """Dropout with another random seed at each call within one step."""

    def __init__(self, rate: Any, seed: Any) -> None:
        self._rate, self._seed, self._n_calls = rate, seed, 0

    def __call__(self, values: Any) -> Any:
        self._n_calls += 1
        return values if self._rate is None else dropped(values, self._rate, numbered(self._seed, self._n_calls - 1))


def dropped(values: Any, rate: Any, seed: Any) -> Any:
    """Inverted dropout (Srivastava et al. 2014): a share ``rate`` is set to 0, and the rest is scaled up."""
    is_kept = uniform(values.shape, seed) >= rate
    return keras.ops.where(is_kept, values / (1 - rate), 0.0)


def _gradients(tape: Any, loss: Any, weights: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> list[Any]:
    """Gradients of all weights; those of a frozen backbone are zeros and are not computed."""
    new = {name: weight for name, weight in weights.items() if not is_pretrained(name)}

    def all_gradients() -> list[Any]:
        return _dense(tape, loss, weights)

    def new_gradients() -> list[Any]:
        found = dict(zip(new, _dense(tape, loss, new), strict=True))
        return [found[name] if name in new else tf.zeros_like(weight) for name, weight in weights.items()]

    return (
        all_gradients()
        if len(new) == len(weights)
        else tf.cond(hyperparameters["backbone_rate"] > 0, all_gradients, new_gradients)
    )


def _dense(tape: Any, loss: Any, weights: Mapping[str, Any]) -> list[Any]:
    """Gradients as tensors; 0 for weights that the loss does not depend on."""
    found = tape.gradient(loss, list(weights.values()), unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [tf.convert_to_tensor(gradient) for gradient in found]


def _clipped(gradients: list[Any], max_norm: Any) -> list[Any]:
    """Gradients scaled down to a global norm of at most ``max_norm`` (Pascanu et al. 2013)."""
    clipped: list[Any] = tf.clip_by_global_norm(gradients, max_norm)[0]
    return clipped
