"""CNN in JAX whose weights of several trials are stacked along a first axis and trained by one program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aifs_tune.trainers.augment.jax import Arrays, Effects, augment, mixed
from aifs_tune.trainers.fused.jax_runtime import jax, jnp
from aifs_tune.trainers.models.cnn import CnnShape
from aifs_tune.trainers.network.devices import ChunkSizer
from aifs_tune.trainers.network.network import PREDICT_BATCH_SIZE, initial_weights, is_kernel
from aifs_tune.trainers.network.params import BETA1, BETA2, EPSILON, Precision

_MIN_ERROR = 1e-7
"""Smallest 1 - probability in the focal loss; a power of 0 has no gradient."""


def logits(weights: Arrays, images: Any, drop: Any, *, shape: CnnShape, precision: Precision) -> Any:
    """Logits (n, classes) of float images (n, height, width, channels) of 0 to 1; ``drop`` is applied to dense units.

    A convolution is the product of patches and kernel, so that those of all trials are one batched product; ``vmap`` of
    a convolution would become a grouped convolution.
    """
    dtype = jnp.bfloat16 if precision == "mixed_bfloat16" else jnp.float32
    height, width = shape.used_edges
    values = images[:, :height, :width].astype(dtype)
    for block in range(shape.conv_blocks):
        kernel = weights[f"conv{block}.kernel"].astype(dtype)
        values = _patches(values, shape.kernel_size) @ kernel.reshape(-1, kernel.shape[-1])
        n, rows, columns, channels = values.shape
        values = values.reshape(n, rows // 2, 2, columns // 2, 2, channels).max((2, 4))
        values = jax.nn.relu(values + weights[f"conv{block}.bias"].astype(dtype))
    flat = values.reshape(len(values), -1)
    dense = flat @ weights["dense.kernel"].astype(dtype) + weights["dense.bias"].astype(dtype)
    kept = drop(jax.nn.relu(dense).astype(jnp.float32))
    return kept @ weights["classes.kernel"] + weights["classes.bias"]


def _patches(images: Any, edge: int) -> Any:
    """All patches of ``edge`` px: from (n, height, width, channels) to (n, rows, columns, edge * edge * channels)."""
    rows, columns = images.shape[1] - edge + 1, images.shape[2] - edge + 1
    along_x = jnp.concatenate([images[:, :, x : x + columns] for x in range(edge)], axis=-1)
    return jnp.concatenate([along_x[:, y : y + rows] for y in range(edge)], axis=-1)


def update(
    weights: Arrays, slots: Arrays, gradients: Arrays, step: Any, hyperparameters: Arrays, *, shape: CnnShape
) -> tuple[dict[str, Any], dict[str, Any]]:
    """New weights and optimizer state; ``step`` counts the updates of a trial from 1."""
    count = step.astype(jnp.float32)
    rate, decay = hyperparameters["learning_rate"], hyperparameters["weight_decay"]
    new_weights, new_slots = {}, {}
    for name, weight in weights.items():
        gradient = gradients[name]
        if is_kernel(name) and shape.optimizer == "adamw":
            weight = weight - rate * decay * weight
        elif is_kernel(name):
            gradient = gradient + decay * weight
        if shape.optimizer == "sgd":
            new_slots[f"momentum.{name}"] = moved = (
                slots[f"momentum.{name}"] * hyperparameters["momentum"] - rate * gradient
            )
            new_weights[name] = weight + moved
            continue
        new_slots[f"m.{name}"] = mean = slots[f"m.{name}"] + (gradient - slots[f"m.{name}"]) * (1 - BETA1)
        new_slots[f"v.{name}"] = square = slots[f"v.{name}"] + (gradient**2 - slots[f"v.{name}"]) * (1 - BETA2)
        corrected = rate * jnp.sqrt(1 - BETA2**count) / (1 - BETA1**count)
        new_weights[name] = weight - corrected * mean / (jnp.sqrt(square) + EPSILON)
    return new_weights, new_slots


def cross_entropy(out: Any, labels: Any, hyperparameters: Arrays) -> Any:
    """Cross-entropy (n,) of integer ``labels``, with label smoothing and focal loss."""
    logs = jax.nn.log_softmax(out)
    sharp = -jnp.take_along_axis(logs, labels[:, None], axis=1)[:, 0]
    unsure = jnp.maximum(1 - jnp.exp(-sharp), _MIN_ERROR)
    return unsure ** hyperparameters["focal_gamma"] * (
        sharp + hyperparameters["label_smoothing"] * (-logs.mean(1) - sharp)
    )


def clipped(gradients: Arrays, max_norm: Any, effects: Effects) -> Arrays:
    """Gradients scaled down to a global norm of at most ``max_norm``; unchanged if that is 0."""
    if not effects.has_clipping:
        return gradients
    norm = jnp.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
    factor = jnp.where((max_norm > 0) & (norm > max_norm), max_norm / jnp.maximum(norm, _MIN_ERROR), 1.0)
    return {name: gradient * factor for name, gradient in gradients.items()}


def dropped(values: Any, rate: Any, key: Any) -> Any:
    """Inverted dropout (Srivastava et al. 2014): a share ``rate`` is set to 0, and the rest is scaled up."""
    is_kept = jax.random.uniform(key, values.shape) >= rate
    return jnp.where(is_kept, values / (1 - rate), 0.0)


class FusedEpoch(NamedTuple):
    """One epoch of one trial: ``order`` (n,) indexes the images, ``number`` counts epochs from 0."""

    order: NDArray[np.int32]
    number: int
    seed: int
    hyperparameters: Mapping[str, float]


class Stack:
    """Weights and optimizer state of ``size`` trials of one shape; a trial has an index from 0.

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
        """Set initial weights and optimizer state of a new trial."""
        zeros = {name: np.zeros(stacked.shape[1:], np.float32) for name, stacked in self._slots.items()}
        self.assign(index, initial_weights(self.shape.weight_shapes, seed), zeros)

    def assign(self, index: int, weights: Arrays, slots: Arrays) -> None:
        """Set weights and optimizer state of a trial, one array for each name."""
        self._weights = self._put(self._weights, index, {name: weights[name] for name in self._weights})
        self._slots = self._put(self._slots, index, {name: slots[name] for name in self._slots})

    def keep_best(self, index: int) -> None:
        """Store the current weights as those of the best epoch."""
        self._best = self._put(self._best, index, self._take(self._weights, index))

    def assign_best(self, index: int, weights: Arrays) -> None:
        """Set the weights of the best epoch."""
        self._best = self._put(self._best, index, {name: weights[name] for name in self._best})

    def weights(self, index: int) -> dict[str, NDArray[np.float32]]:
        """Copies of the current weights."""
        return _fetched(self._take(self._weights, index))

    def slots(self, index: int) -> dict[str, NDArray[np.float32]]:
        """Copies of the optimizer state."""
        return _fetched(self._take(self._slots, index))

    def best(self, index: int) -> dict[str, NDArray[np.float32]]:
        """Copies of the weights of the best epoch."""
        return _fetched(self._take(self._best, index))

    def train(self, epochs: Mapping[int, FusedEpoch]) -> dict[int, tuple[float, float]]:
        """Train one epoch of some trials, by index; return loss and accuracy of their training batches.

        All epochs have the same number of images. The last batch is filled up with the first images, at weight 0.
        """
        n, batch = len(next(iter(epochs.values())).order), self.shape.batch_size
        n_steps = -(-n // batch)
        idle = next(iter(epochs.values()))
        planned = [epochs.get(index, idle) for index in range(self.size)]
        for one in epochs.values():
            self._effects |= Effects.of(one.hyperparameters)
        plan = {
            "order": np.stack([np.resize(one.order, n_steps * batch) for one in planned]),
            "done": np.array([one.number * n_steps for one in planned], np.int32),
            "seed": np.array([divmod(one.seed, 2**32) for one in planned], np.uint32),
            "hyperparameters": {
                name: np.array([one.hyperparameters[name] for one in planned], np.float32)
                for name in idle.hyperparameters
            },
        }
        is_active = np.array([index in epochs for index in range(self.size)])
        plan, is_active, sums = jax.device_put((plan, is_active, np.zeros((2, self.size), np.float32)))
        weights, slots = self._weights, self._slots
        for first, last in self._chunks.slices(n_steps):
            weights, slots, sums = jax.block_until_ready(
                self._train(weights, slots, plan, is_active, sums, first, last, n, self._data, effects=self._effects)
            )
        self._weights, self._slots = weights, slots  # after all calls, so that a call that fails changes nothing
        losses, right = np.asarray(sums) / n
        return {index: (float(losses[index]), float(right[index])) for index in epochs}

    def log_probabilities(self, picked: NDArray[np.int32], indices: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Log-probabilities of the ``picked`` images for trials ``indices``, shape (n, classes), without dropout."""
        filled = np.resize(picked, -(-len(picked) // PREDICT_BATCH_SIZE) * PREDICT_BATCH_SIZE).reshape(
            -1, PREDICT_BATCH_SIZE
        )
        found = np.asarray(self._classify(self._weights, self._data[0], filled)).reshape(self.size, filled.size, -1)
        return {index: found[index, : len(picked)] for index in indices}

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
        """Train batches ``first`` to ``last`` (exclusive); ``sums`` are losses and correct predictions so far."""
        self.n_traces += 1
        images, labels, class_weights = data
        batch = self.shape.batch_size
        network = partial(logits, shape=self.shape, precision=self.precision)

        def one_trial(weights: Arrays, slots: Arrays, plan: Any, sums: Any) -> Any:
            def one(step: Any, carried: Any) -> Any:
                weights, slots, sums = carried
                picked = jax.lax.dynamic_slice(plan["order"], (step * batch,), (batch,))
                is_real = (step * batch + jnp.arange(batch) < n).astype(jnp.float32)
                own_labels = labels[picked]
                key = jax.random.fold_in(jax.random.wrap_key_data(plan["seed"]), plan["done"] + step)
                keys = jax.random.split(key, 3)
                changed = augment(
                    images[picked].astype(jnp.float32) * (1 / 255), plan["hyperparameters"], keys[0], effects
                )
                inputs, share = mixed(changed, plan["hyperparameters"], keys[2], effects)
                other = jnp.roll(own_labels, 1)

                def loss_of(weights: Arrays) -> Any:
                    out = network(
                        weights, inputs, lambda values: dropped(values, plan["hyperparameters"]["dropout"], keys[1])
                    )
                    losses = share * class_weights[own_labels] * cross_entropy(out, own_labels, plan["hyperparameters"])
                    if effects.has_mixup or effects.has_cutmix:
                        losses += (
                            (1 - share) * class_weights[other] * cross_entropy(out, other, plan["hyperparameters"])
                        )
                    total = (losses * is_real).sum()
                    return total / is_real.sum(), (total, (((out.argmax(1) == own_labels) * is_real).sum()))

                gradients, counted = jax.grad(loss_of, has_aux=True)(weights)
                gradients = clipped(gradients, plan["hyperparameters"]["clip_norm"], effects)
                new = update(
                    weights, slots, gradients, plan["done"] + step + 1, plan["hyperparameters"], shape=self.shape
                )
                return *new, sums + jnp.stack(counted)

            return jax.lax.fori_loop(first, last, one, (weights, slots, sums))

        new = jax.vmap(one_trial, in_axes=(0, 0, 0, 1), out_axes=(0, 0, 1))(weights, slots, plan, sums)
        kept = jax.tree.map(
            lambda now, before: jnp.where(is_active.reshape(-1, *[1] * (now.ndim - 1)), now, before),
            new[:2],
            (weights, slots),
        )
        return *kept, new[2]

    def _classify_all(self, weights: Arrays, images: Any, picked: Any) -> Any:
        self.n_traces += 1
        network = partial(logits, shape=self.shape, precision=self.precision)

        def one_trial(weights: Arrays) -> Any:
            def one(batch: Any) -> Any:
                inputs = images[batch].astype(jnp.float32) * (1 / 255)
                return jax.nn.log_softmax(network(weights, inputs, lambda values: values))

            return jax.lax.map(one, picked)

        return jax.vmap(one_trial)(weights)


def _fetched(arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    return {name: np.asarray(array) for name, array in arrays.items()}
