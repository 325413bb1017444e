"""The compiled program of one shape: a network, its updates and an epoch of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import RequestError
from aifs_tune.trainers.network.devices import ChunkSizer, Devices
from aifs_tune.trainers.network.losses import LossFunction
from aifs_tune.trainers.network.network import Network, gathered, is_pretrained
from aifs_tune.trainers.network.optimizers import make_updates
from aifs_tune.trainers.network.params import Optimizer
from aifs_tune.trainers.network.runtime import tf


class Examples(NamedTuple):
    """All examples, on the device: ``inputs`` as the network stores them, ``truths`` and ``weights`` (n,)."""

    inputs: Any
    y_true: Any
    weights: Any


class Epoch(NamedTuple):
    """One epoch to train. ``order`` (n,) indexes the examples; ``number`` counts epochs from 0."""

    order: NDArray[np.int32]
    number: int
    seed: int
    hyperparameters: Mapping[str, float]


class TrainFunction:
    """Reused by all trials of a shape.

    Whatever differs between them is an argument of the compiled epoch, so that it is traced once. With several
    ``devices`` each trains its share of every batch, and the gradients are added; the network has to be made under
    ``devices.scope()`` then.

    Raises
    ------
    RequestError
        If a batch cannot be shared out evenly.
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
        self.network = network
        self._loss_function, self._batch_size = loss_function, batch_size
        self._devices = devices or Devices()
        if batch_size % self._devices.n:
            raise RequestError(
                f"batch_size: {batch_size} is not allowed with {self._devices.n} devices; allowed: a multiple of that"
            )
        self._chunks = ChunkSizer()
        with self._devices.scope():
            self._updates = make_updates(optimizer, self.network.weights)
        self._n_train_traces = 0
        self._variables_index = 0
        self._aside: dict[int, tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]] = {}
        self._train = tf.function(self._train_batches, autograph=False)

    @property
    def n_traces(self) -> int:
        """How often a function was traced: once to train and once to evaluate."""
        return self._n_train_traces + self.network.n_traces

    @property
    def n_bytes(self) -> int:
        """Memory of weights and slots."""
        variables = [*self.network.weights.values(), *self._updates.slots.values()]
        return (1 + len(self._aside)) * sum(4 * int(np.prod(variable.shape)) for variable in variables)

    def switch_variables(self, turn: int) -> None:
        """Go on with another of the trials that take turns here, by number: what the one before has is kept for it."""
        if turn == self._variables_index:
            return
        self._aside[self._variables_index], self._variables_index = (self.network.values(), self.slots()), turn
        if turn in self._aside:
            weights, slots = self._aside.pop(turn)
            self.network.assign(weights)
            self.assign_slots(slots)

    def start(self, seed: int) -> None:
        """Weights and slots of a new trial."""
        self.network.initialise(seed)
        for slot in self._updates.slots.values():
            slot.assign(tf.zeros_like(slot))

    def slots(self) -> dict[str, NDArray[np.float32]]:
        """A copy of what the updates remember."""
        return {name: slot.numpy() for name, slot in self._updates.slots.items()}

    def assign_slots(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Take ``values``, one for each slot."""
        for name, slot in self._updates.slots.items():
            slot.assign(values[name])

    def train(self, examples: Examples, epoch: Epoch) -> tuple[float, float]:
        """Train one epoch; the mean loss and score of its own passes, with all random changes.

        The last batch is filled up by wrapping around to the first examples with weight 0: the update is that
        of the remainder alone, and the batch keeps its shape.
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
            loss, score = (float(total) for total in sums)  # waits: the call is over
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
        """Batches ``first`` to ``last`` of an epoch; ``sums`` are the loss and the scores so far."""
        self._n_train_traces += 1
        devices, batch = self._devices, self._batch_size
        share = batch // devices.n

        def one(step: Any, loss: Any, score: Any) -> Any:
            moment = done + tf.cast(step, tf.int64)
            n_real = tf.cast(tf.minimum(n - step * batch, batch), tf.float32)

            def on_device() -> Any:
                places = step * batch + devices.index() * share + tf.range(share)
                is_real = tf.cast(places < n, tf.float32) / n_real
                return self._update(
                    gathered(examples, tf.gather(order, places)), is_real, seed, moment, hyperparameters
                )

            batch_loss, batch_score = devices.total(devices.run(on_device))
            return step + 1, loss + batch_loss * n_real, score + batch_score * n_real

        return tf.while_loop(lambda step, *_: step < last, one, (first, *sums))[1:]

    def _update(self, batch: Examples, shares: Any, seed: Any, moment: Any, hyperparameters: Mapping[str, Any]) -> Any:
        """Learn from the examples of one device, ``shares`` (n,) of the batch each; the loss and score they add."""
        network, loss_function, devices = self.network, self._loss_function, self._devices
        draw = moment * devices.n + tf.cast(devices.index(), tf.int64)
        seeds = tf.random.split(tf.stack([seed, draw]), 2)
        inputs, y_true = loss_function.prepare(
            network.seen(batch.inputs), batch.y_true, batch.weights, hyperparameters, seeds[0]
        )
        drops = _Drops(hyperparameters.get("dropout"), seeds[1])
        with tf.GradientTape(persistent=True) as tape:  # of two sets of weights, if some are frozen for now
            outputs = network.outputs(inputs, drops, is_training=True)
            loss = tf.reduce_sum(loss_function.compute_loss(outputs, y_true, hyperparameters) * shares)
        gradients = devices.added(_gradients(tape, loss, network.weights, hyperparameters))
        clipped = tf.cond(
            hyperparameters["clip_norm"] > 0,
            lambda: _clipped(gradients, hyperparameters["clip_norm"]),
            lambda: gradients,
        )
        self._updates.apply(dict(zip(network.weights, clipped, strict=True)), moment + 1, hyperparameters)
        return loss, tf.reduce_sum(loss_function.scores(outputs, y_true) * shares)


class _Drops:
    """Dropout with a draw of its own at each call within one step."""

    def __init__(self, rate: Any, seed: Any) -> None:
        self._rate, self._seed, self._n_calls = rate, seed, 0

    def __call__(self, values: Any) -> Any:
        self._n_calls += 1
        return values if self._rate is None else dropped(values, self._rate, self._seed + (self._n_calls - 1))


def dropped(values: Any, rate: Any, seed: Any) -> Any:
    """Dropout (Srivastava et al. 2014) of a share ``rate``, scaled up in training instead of down afterwards."""
    is_kept = tf.random.stateless_uniform(values.shape, seed) >= rate
    return tf.where(is_kept, values / (1 - rate), 0.0)


def _gradients(tape: Any, loss: Any, weights: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> list[Any]:
    """Of all weights; zeros, at no cost, for those of a backbone that does not learn in this epoch."""
    new = {name: weight for name, weight in weights.items() if not is_pretrained(name)}

    def of_all() -> list[Any]:
        return list(tape.gradient(loss, list(weights.values())))

    def of_new() -> list[Any]:
        found = dict(zip(new, tape.gradient(loss, list(new.values())), strict=True))
        return [found[name] if name in new else tf.zeros_like(weight) for name, weight in weights.items()]

    return of_all() if len(new) == len(weights) else tf.cond(hyperparameters["backbone_rate"] > 0, of_all, of_new)


def _clipped(gradients: list[Any], most: Any) -> list[Any]:
    """Gradients scaled down together to a norm of ``most`` (Pascanu et al. 2013)."""
    clipped: list[Any] = tf.clip_by_global_norm(gradients, most)[0]
    return clipped
