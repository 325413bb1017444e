"""The weights of several trials of one shape stacked along a first axis, trained together by one program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aifs_tune.trainers.cnn_params import CnnShape
from aifs_tune.trainers.jax_runtime import jax, jnp
from aifs_tune.trainers.pace import ChunkSizer
from aifs_tune.trainers.params import Precision
from aifs_tune.trainers.stacked_changes import Arrays, Effects, augment, mixed
from aifs_tune.trainers.stacked_step import clipped, costs, dropped, logits, update
from aifs_tune.trainers.weights import initial_weights

_AT_ONCE = 64
"""Images of a member in one pass without training."""


class FusedEpoch(NamedTuple):
    """One epoch of one member: ``order`` (n,) indexes the images; ``number`` counts epochs from 0."""

    order: NDArray[np.int32]
    number: int
    seed: int
    hyperparameters: Mapping[str, float]


class Stack:
    """``size`` places for trials of one shape. A place is named by its number, from 0.

    ``images`` (n, height, width, channels), uint8, and ``labels`` (n,) are put on the device once.
    """

    def __init__(
        self,
        shape: CnnShape,
        size: int,
        images: NDArray[np.uint8],
        labels: NDArray[np.int32],
        class_weights: NDArray[np.float32],
        precision: Precision = "float32",
    ) -> None:
        self.shape, self.size, self.precision = shape, size, precision
        self._data = jnp.asarray(images), jnp.asarray(labels), jnp.asarray(class_weights)
        self._chunks = ChunkSizer()
        self._effects = Effects()
        kinds = ("momentum",) if shape.optimizer == "sgd" else ("m", "v")
        sizes = {name: (size, *edges) for name, edges in shape.weight_shapes.items()}
        self._weights: Arrays = {name: jnp.zeros(edges) for name, edges in sizes.items()}
        self._best: Arrays = self._weights
        self._slots: Arrays = {f"{kind}.{name}": jnp.zeros(edges) for kind in kinds for name, edges in sizes.items()}
        self.n_traces = 0
        self._train = jax.jit(self._train_slice, static_argnames="effects")
        self._classify = jax.jit(self._classify_all)
        self._put = jax.jit(lambda stacked, index, new: jax.tree.map(lambda a, b: a.at[index].set(b), stacked, new))
        self._take = jax.jit(lambda stacked, index: jax.tree.map(lambda a: a[index], stacked))

    def start(self, index: int, seed: int) -> None:
        """Weights and slots of a new trial."""
        zeros = {name: np.zeros(stacked.shape[1:], np.float32) for name, stacked in self._slots.items()}
        self.assign(index, initial_weights(self.shape.weight_shapes, seed), zeros)

    def assign(self, index: int, weights: Arrays, slots: Arrays) -> None:
        """Take these, one array for each name."""
        self._weights = self._put(self._weights, index, {name: weights[name] for name in self._weights})
        self._slots = self._put(self._slots, index, {name: slots[name] for name in self._slots})

    def keep_best(self, index: int) -> None:
        """Remember the weights of now as the best."""
        self._best = self._put(self._best, index, self._take(self._weights, index))

    def assign_best(self, index: int, weights: Arrays) -> None:
        """Take these as the best."""
        self._best = self._put(self._best, index, {name: weights[name] for name in self._best})

    def weights(self, index: int) -> dict[str, NDArray[np.float32]]:
        """A copy of the weights of now."""
        return _fetched(self._take(self._weights, index))

    def slots(self, index: int) -> dict[str, NDArray[np.float32]]:
        """A copy of what the updates remember."""
        return _fetched(self._take(self._slots, index))

    def best(self, index: int) -> dict[str, NDArray[np.float32]]:
        """A copy of the best weights."""
        return _fetched(self._take(self._best, index))

    def train(self, passes: Mapping[int, FusedEpoch]) -> dict[int, tuple[float, float]]:
        """Train one epoch at these places, the others stay as they are; loss and accuracy of the passes.

        All have the same number of images. The last batch is filled up by wrapping around to the first images
        with weight 0.
        """
        n, batch = len(next(iter(passes.values())).order), self.shape.batch_size
        n_steps = -(-n // batch)
        idle = next(iter(passes.values()))
        told = [passes.get(index, idle) for index in range(self.size)]
        for one in passes.values():
            self._effects |= Effects.of(one.hyperparameters)
        plan = {
            "order": np.stack([np.resize(one.order, n_steps * batch) for one in told]),
            "done": np.array([one.number * n_steps for one in told], np.int32),
            "seed": np.array([divmod(one.seed, 2**32) for one in told], np.uint32),
            "hyperparameters": {
                name: np.array([one.hyperparameters[name] for one in told], np.float32) for name in idle.hyperparameters
            },
        }
        is_active = np.array([index in passes for index in range(self.size)])
        plan, is_active, sums = jax.device_put((plan, is_active, np.zeros((2, self.size), np.float32)))
        weights, slots = self._weights, self._slots
        for first, last in self._chunks.slices(n_steps):
            weights, slots, sums = jax.block_until_ready(
                self._train(weights, slots, plan, is_active, sums, first, last, n, self._data, effects=self._effects)
            )
        self._weights, self._slots = weights, slots  # only now: a call that fails leaves all as it was
        losses, right = np.asarray(sums) / n
        return {index: (float(losses[index]), float(right[index])) for index in passes}

    def log_probabilities(self, picked: NDArray[np.int32], places: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Of the picked images at each of ``places``, shape (n, classes), nothing dropped."""
        filled = np.resize(picked, -(-len(picked) // _AT_ONCE) * _AT_ONCE).reshape(-1, _AT_ONCE)
        found = np.asarray(self._classify(self._weights, self._data[0], filled)).reshape(self.size, filled.size, -1)
        return {index: found[index, : len(picked)] for index in places}

    def _train_slice(
        self,
        weights: Arrays,
        slots: Arrays,
        plan: Any,
        is_active: Any,
        sums: Any,
        first: Any,
        last: Any,
        n: Any,
        data: Any,
        *,
        effects: Effects,
    ) -> Any:
        """Batches ``first`` to ``last`` of an epoch at all places; ``sums`` are the losses and right guesses so far."""
        self.n_traces += 1
        images, labels, class_weights = data
        batch = self.shape.batch_size
        network = partial(logits, shape=self.shape, precision=self.precision)

        def member(weights: Arrays, slots: Arrays, plan: Any, sums: Any) -> Any:
            def one(step: Any, carried: Any) -> Any:
                weights, slots, sums = carried
                picked = jax.lax.dynamic_slice(plan["order"], (step * batch,), (batch,))
                is_real = (step * batch + jnp.arange(batch) < n).astype(jnp.float32)
                truth = labels[picked]
                key = jax.random.fold_in(jax.random.wrap_key_data(plan["seed"]), plan["done"] + step)
                keys = jax.random.split(key, 3)
                changed = augment(
                    images[picked].astype(jnp.float32) * (1 / 255), plan["hyperparameters"], keys[0], effects
                )
                seen, share = mixed(changed, plan["hyperparameters"], keys[2], effects)
                other = jnp.roll(truth, 1)

                def loss_of(weights: Arrays) -> Any:
                    out = network(
                        weights, seen, lambda values: dropped(values, plan["hyperparameters"]["dropout"], keys[1])
                    )
                    losses = share * class_weights[truth] * costs(out, truth, plan["hyperparameters"])
                    if effects.is_mixed or effects.is_cut:
                        losses += (1 - share) * class_weights[other] * costs(out, other, plan["hyperparameters"])
                    total = (losses * is_real).sum()
                    return total / is_real.sum(), (total, (((out.argmax(1) == truth) * is_real).sum()))

                gradients, counted = jax.grad(loss_of, has_aux=True)(weights)
                gradients = clipped(gradients, plan["hyperparameters"]["clip_norm"], effects)
                new = update(
                    weights, slots, gradients, plan["done"] + step + 1, plan["hyperparameters"], shape=self.shape
                )
                return *new, sums + jnp.stack(counted)

            return jax.lax.fori_loop(first, last, one, (weights, slots, sums))

        new = jax.vmap(member, in_axes=(0, 0, 0, 1), out_axes=(0, 0, 1))(weights, slots, plan, sums)
        kept = jax.tree.map(
            lambda now, before: jnp.where(is_active.reshape(-1, *[1] * (now.ndim - 1)), now, before),
            new[:2],
            (weights, slots),
        )
        return *kept, new[2]

    def _classify_all(self, weights: Arrays, images: Any, picked: Any) -> Any:
        self.n_traces += 1
        network = partial(logits, shape=self.shape, precision=self.precision)

        def member(weights: Arrays) -> Any:
            def one(batch: Any) -> Any:
                seen = images[batch].astype(jnp.float32) * (1 / 255)
                return jax.nn.log_softmax(network(weights, seen, lambda values: values))

            return jax.lax.map(one, picked)

        return jax.vmap(member)(weights)


def _fetched(arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    return {name: np.asarray(array) for name, array in arrays.items()}
