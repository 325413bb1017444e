"""Training on JAX: the step as a function of arrays, for one trial or, mapped over a first axis, for several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from aifs_tune.trainers.network.devices import ChunkSizer
from aifs_tune.trainers.network.losses import LossFunction
from aifs_tune.trainers.network.network import Network, gathered, is_kernel, is_pretrained
from aifs_tune.trainers.network.ops import split, when
from aifs_tune.trainers.network.params import BETA1, BETA2, EPSILON, Optimizer
from aifs_tune.trainers.network.program import Epoch, Examples, StepDropout, Training
from aifs_tune.trainers.network.runtime import jax, keras

_MIN_NORM = 1e-7
"""Smallest norm of gradients that is divided by."""


def slot_shapes(network: Network, optimizer: Optimizer) -> dict[str, tuple[int, ...]]:
    """Shapes of the optimizer state by name, as :mod:`~aifs_tune.trainers.network.optimizers` names it."""
    kinds = ("momentum",) if optimizer == "sgd" else ("m", "v")
    return {f"{kind}.{name}": network.sizes[name] for kind in kinds for name in network.weights}


def plan_of(epoch: Epoch, batch_size: int) -> dict[str, Any]:
    """Arrays that describe an epoch: ``order``, which is filled up, ``done`` steps, ``seed``, ``hyperparameters``."""
    n_steps = -(-len(epoch.order) // batch_size)
    return {
        "order": np.resize(epoch.order, n_steps * batch_size),
        "done": np.int32(epoch.number * n_steps),
        "seed": np.array(divmod(epoch.seed, 2**32), np.uint32),
        "hyperparameters": {name: np.float32(value) for name, value in epoch.hyperparameters.items()},
    }


def in_use(hyperparameters: Mapping[str, float]) -> frozenset[str]:
    """Names of the hyperparameters that are not 0; a compiled step leaves out what the others would do."""
    return frozenset(name for name, value in hyperparameters.items() if value != 0)


class Member(NamedTuple):
    """One trial that is about to train: its arrays, its optimizer state, and the epoch."""

    arrays: Mapping[str, Any]
    slots: Mapping[str, Any]
    epoch: Epoch


class StatelessStep:
    """Training of a network as a function of arrays.

    ``arrays`` are those of :meth:`~aifs_tune.trainers.network.network.Network.arrays`, ``slots`` the optimizer state.
    """

    def __init__(self, network: Network, loss_function: LossFunction, *, optimizer: Optimizer, batch_size: int) -> None:
        self.network, self._loss_function = network, loss_function
        self.optimizer, self.batch_size = optimizer, batch_size
        self.n_traces = 0

    def train(
        self,
        arrays: Mapping[str, Any],
        slots: Mapping[str, Any],
        plan: Mapping[str, Any],
        sums: Any,
        first: Any,
        last: Any,
        n: Any,
        examples: Examples,
        *,
        used: frozenset[str],
    ) -> Any:
        """Train batches ``first`` to ``last`` (exclusive) of the epoch of ``plan``.

        ``sums`` are loss and score so far, over ``n`` examples; ``used`` names the hyperparameters that are not 0.
        """
        self.n_traces += 1
        batch, jnp = self.batch_size, jax.numpy
        hyperparameters = {name: value if name in used else 0.0 for name, value in plan["hyperparameters"].items()}
        trained = {name: arrays[name] for name in self.network.weights}
        others = {name: array for name, array in arrays.items() if name not in trained}

        def one(step: Any, carried: Any) -> Any:
            weights, states, slots, sums = carried
            picked = jax.lax.dynamic_slice(plan["order"], (step * batch,), (batch,))
            n_real = jnp.minimum(n - step * batch, batch).astype(jnp.float32)
            shares = (step * batch + jnp.arange(batch) < n).astype(jnp.float32) / n_real
            number = plan["done"] + step
            seed = jax.random.fold_in(jax.random.wrap_key_data(plan["seed"]), number)
            *new, loss, score = self._update(
                weights, states, slots, gathered(examples, picked), shares, seed, number, hyperparameters
            )
            return *new, sums + jnp.stack([loss, score]) * n_real

        trained, others, slots, sums = jax.lax.fori_loop(first, last, one, (trained, others, dict(slots), sums))
        return trained | others, slots, sums

    def _update(
        self,
        weights: Mapping[str, Any],
        states: Mapping[str, Any],
        slots: Mapping[str, Any],
        batch: Examples,
        shares: Any,
        seed: Any,
        number: Any,
        hyperparameters: Mapping[str, Any],
    ) -> Any:
        """New weights, states and slots after a batch, with its loss and score; see :class:`TrainFunction`."""
        network, loss_function = self.network, self._loss_function
        seeds = split(seed, 2)
        inputs, y_true = loss_function.prepare(
            network.preprocess(batch.inputs), batch.y_true, batch.weights, hyperparameters, seeds[0]
        )

        def loss_of(weights: Mapping[str, Any]) -> Any:
            with network.holding({**states, **weights}) as scope:
                drop = StepDropout(hyperparameters.get("dropout"), seeds[1])
                outputs = network.outputs(inputs, drop, is_training=True)
                loss = jax.numpy.sum(loss_function.compute_loss(outputs, y_true, hyperparameters) * shares)
                if (penalty := network.penalty()) is not None:
                    loss += penalty
                moved = {name: scope.get_current_value(variable) for name, variable in network.states.items()}
            return loss, ({**states, **moved}, outputs)

        (loss, (states, outputs)), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights)
        gradients = _clipped(_without_frozen(gradients, hyperparameters), hyperparameters["clip_norm"])
        weights, slots = updated(
            weights, slots, gradients, number + 1, hyperparameters, is_decoupled=self.optimizer == "adamw"
        )
        with network.holding({**states, **weights}) as scope:
            network.constrain()
            weights = {name: scope.get_current_value(network.weights[name]) for name in weights}
        return weights, states, slots, loss, jax.numpy.sum(loss_function.scores(outputs, y_true) * shares)


def updated(
    weights: Mapping[str, Any],
    slots: Mapping[str, Any],
    gradients: Mapping[str, Any],
    count: Any,
    hyperparameters: Mapping[str, Any],
    *,
    is_decoupled: bool,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """New weights and slots after one update of :mod:`~aifs_tune.trainers.network.optimizers`; ``count`` is from 1.

    Slots of momentum belong to gradient descent, the others to Adam; ``is_decoupled`` is its weight decay.
    """
    count, decay = count.astype(np.float32), hyperparameters["weight_decay"]
    new_weights, new_slots = {}, {}
    for name, weight in weights.items():
        gradient = gradients[name]
        rate = hyperparameters["learning_rate"] * (hyperparameters["backbone_rate"] if is_pretrained(name) else 1.0)
        if is_kernel(name) and is_decoupled:
            weight = weight - rate * decay * weight
        elif is_kernel(name):
            gradient = gradient + decay * weight
        if (momentum := slots.get(f"momentum.{name}")) is not None:
            new_slots[f"momentum.{name}"] = moved = momentum * hyperparameters["momentum"] - rate * gradient
            new_weights[name] = weight + moved
            continue
        mean, square = slots[f"m.{name}"], slots[f"v.{name}"]
        new_slots[f"m.{name}"] = mean = mean + (gradient - mean) * (1 - BETA1)
        new_slots[f"v.{name}"] = square = square + (gradient**2 - square) * (1 - BETA2)
        corrected = rate * jax.numpy.sqrt(1 - BETA2**count) / (1 - BETA1**count)
        new_weights[name] = weight - corrected * mean / (jax.numpy.sqrt(square) + EPSILON)
    return new_weights, new_slots


def _without_frozen(gradients: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Gradients that are 0 for pretrained weights whose learning rate is."""
    return {
        name: gradient * (hyperparameters["backbone_rate"] > 0) if is_pretrained(name) else gradient
        for name, gradient in gradients.items()
    }


def _clipped(gradients: dict[str, Any], max_norm: Any) -> dict[str, Any]:
    """Gradients scaled down to a global norm of at most ``max_norm``, unless that is 0 (Pascanu et al. 2013)."""

    def scaled() -> dict[str, Any]:
        norm = jax.numpy.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
        factor = jax.numpy.minimum(1.0, max_norm / jax.numpy.maximum(norm, _MIN_NORM))
        return {name: gradient * factor for name, gradient in gradients.items()}

    clipped: dict[str, Any] = when(max_norm > 0, scaled, lambda: gradients)
    return clipped


class StatelessTraining(Training):
    """Training of one trial on JAX."""

    def __init__(self, network: Network, loss_function: LossFunction, *, optimizer: Optimizer, batch_size: int) -> None:
        shapes = slot_shapes(network, optimizer)
        super().__init__(
            network,
            {name: keras.Variable(np.zeros(shape, np.float32), trainable=False) for name, shape in shapes.items()},
        )
        self._step = StatelessStep(network, loss_function, optimizer=optimizer, batch_size=batch_size)
        self._train = jax.jit(self._step.train, static_argnames="used")
        self._chunks = ChunkSizer()
        self._used: frozenset[str] = frozenset()

    @property
    def n_traces(self) -> int:
        return self._step.n_traces + self.network.n_traces

    def member(self, epoch: Epoch) -> Member:
        """Arrays and optimizer state of the trial, with the epoch to train."""
        return Member(self.network.arrays(), {name: slot.value for name, slot in self._slots.items()}, epoch)

    def start(self, seed: int) -> None:
        self.network.initialise(seed)
        self.assign_slots({name: np.zeros(slot.shape, np.float32) for name, slot in self._slots.items()})

    def train(self, examples: Examples, epoch: Epoch) -> tuple[float, float]:
        n, batch = len(epoch.order), self._step.batch_size
        plan = plan_of(epoch, batch)
        self._used |= in_use(epoch.hyperparameters)
        arrays, slots, _ = self.member(epoch)
        sums = np.zeros(2, np.float32)
        for first, last in self._chunks.slices(-(-n // batch)):
            arrays, slots, sums = jax.block_until_ready(
                self._train(arrays, slots, plan, sums, first, last, n, examples, used=self._used)
            )
        self.network.take(arrays)
        self.assign_slots(slots)
        loss, score = np.asarray(sums) / n
        return float(loss), float(score)
