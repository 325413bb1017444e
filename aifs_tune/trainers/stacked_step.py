"""One step of one member of a population, in JAX: what :mod:`aifs_tune.trainers.stacked` maps over all members.

The same network, losses and updates as those of the TensorFlow program; tests hold the two against each other.
"""

from __future__ import annotations

from typing import Any

from aifs_tune.trainers.cnn_params import CnnShape
from aifs_tune.trainers.jax_runtime import jax, jnp
from aifs_tune.trainers.params import BETA1, BETA2, EPSILON, Precision
from aifs_tune.trainers.stacked_changes import Arrays, Effects
from aifs_tune.trainers.weights import is_kernel

_SURE = 1e-7


def logits(weights: Arrays, images: Any, drop: Any, *, shape: CnnShape, precision: Precision) -> Any:
    """Logits (n, classes) of float images (n, height, width, channels) of 0 to 1; ``drop`` acts on the dense units.

    A convolution is one product of the patches with the kernel, so that the members' make one batched product;
    left to ``vmap`` they would become a grouped convolution.
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
    """All squares of ``edge`` px: (n, height, width, channels) to (n, rows, columns, edge * edge * channels)."""
    rows, columns = images.shape[1] - edge + 1, images.shape[2] - edge + 1
    along_x = jnp.concatenate([images[:, :, x : x + columns] for x in range(edge)], axis=-1)
    return jnp.concatenate([along_x[:, y : y + rows] for y in range(edge)], axis=-1)


def update(
    weights: Arrays, slots: Arrays, gradients: Arrays, step: Any, hyperparameters: Arrays, *, shape: CnnShape
) -> tuple[dict[str, Any], dict[str, Any]]:
    """New weights and slots; ``step`` counts updates of the trial from 1."""
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


def costs(out: Any, labels: Any, hyperparameters: Arrays) -> Any:
    """Cross-entropy (n,) of integer ``labels``, smoothed and focal as the hyperparameters say."""
    logs = jax.nn.log_softmax(out)
    sharp = -jnp.take_along_axis(logs, labels[:, None], axis=1)[:, 0]
    unsure = jnp.maximum(1 - jnp.exp(-sharp), _SURE)  # a power of 0 has no gradient
    return unsure ** hyperparameters["focal_gamma"] * (
        sharp + hyperparameters["label_smoothing"] * (-logs.mean(1) - sharp)
    )


def clipped(gradients: Arrays, most: Any, effects: Effects) -> Arrays:
    """Gradients scaled down together to a norm of ``most``, where that is above 0."""
    if not effects.is_clipped:
        return gradients
    norm = jnp.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
    factor = jnp.where((most > 0) & (norm > most), most / jnp.maximum(norm, _SURE), 1.0)
    return {name: gradient * factor for name, gradient in gradients.items()}


def dropped(values: Any, rate: Any, key: Any) -> Any:
    """Dropout (Srivastava et al. 2014) of a share ``rate``, scaled up in training instead of down afterwards."""
    is_kept = jax.random.uniform(key, values.shape) >= rate
    return jnp.where(is_kept, values / (1 - rate), 0.0)
