"""One step of one member of a population, in JAX: what :mod:`aifs_tune.trainers.stacked` maps over all members.

The same network, updates and augmentation as those of the TensorFlow program; tests hold the two against each
other. Random draws differ: the two libraries have different generators.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from aifs_tune.trainers.cnn_params import CnnShape
from aifs_tune.trainers.jax_runtime import jax, jnp
from aifs_tune.trainers.params import BETA1, BETA2, EPSILON, Precision
from aifs_tune.trainers.weights import is_kernel

_SURE = 1e-7
_LEAST_ALPHA = 1e-3

Arrays: TypeAlias = Mapping[str, Any]


class Effects(NamedTuple):
    """Which random changes any member may ask for: what none does is left out of the program."""

    is_moved: bool = False
    is_lit: bool = False
    is_noisy: bool = False
    is_mixed: bool = False
    is_clipped: bool = False

    @classmethod
    def of(cls, knobs: Mapping[str, float]) -> Effects:
        """Those that are not zero in ``knobs``."""
        moves = ("rotation_deg", "width_shift", "height_shift", "zoom", "horizontal_flip", "vertical_flip")
        rest = ("brightness", "noise", "mixup", "clip_norm")
        return cls(any(knobs[name] for name in moves), *(knobs[name] > 0 for name in rest))

    def __or__(self, other: Effects) -> Effects:
        return Effects(*(mine or theirs for mine, theirs in zip(self, other, strict=True)))


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
    weights: Arrays, slots: Arrays, gradients: Arrays, step: Any, knobs: Arrays, *, shape: CnnShape
) -> tuple[dict[str, Any], dict[str, Any]]:
    """New weights and slots; ``step`` counts updates of the trial from 1."""
    count = step.astype(jnp.float32)
    rate, decay = knobs["learning_rate"], knobs["weight_decay"]
    new_weights, new_slots = {}, {}
    for name, weight in weights.items():
        gradient = gradients[name]
        if is_kernel(name) and shape.optimizer == "adamw":
            weight = weight - rate * decay * weight
        elif is_kernel(name):
            gradient = gradient + decay * weight
        if shape.optimizer == "sgd":
            new_slots[f"momentum.{name}"] = moved = slots[f"momentum.{name}"] * knobs["momentum"] - rate * gradient
            new_weights[name] = weight + moved
            continue
        new_slots[f"m.{name}"] = mean = slots[f"m.{name}"] + (gradient - slots[f"m.{name}"]) * (1 - BETA1)
        new_slots[f"v.{name}"] = square = slots[f"v.{name}"] + (gradient**2 - slots[f"v.{name}"]) * (1 - BETA2)
        corrected = rate * jnp.sqrt(1 - BETA2**count) / (1 - BETA1**count)
        new_weights[name] = weight - corrected * mean / (jnp.sqrt(square) + EPSILON)
    return new_weights, new_slots


def augment(images: Any, knobs: Arrays, key: Any, effects: Effects) -> Any:
    """Each image of a float batch (n, height, width, channels) of 0 to 1 changed by its own draw."""
    n, height, width, _ = images.shape
    geometry, grain = jax.random.split(key)
    draws = jax.random.uniform(geometry, (7, n), minval=-1.0)
    if effects.is_moved:
        images = warp(images, *_drawn_transforms(draws, knobs, height, width))
    if effects.is_lit:
        images = images * (draws[6] * knobs["brightness"] + 1)[:, None, None, None]
    if effects.is_noisy:
        images = images + jax.random.normal(grain, images.shape) * knobs["noise"]
    return jnp.clip(images, 0, 1) if effects.is_lit or effects.is_noisy else images


def warp(images: Any, across: Any, down: Any) -> Any:
    """Images seen through affine maps: the pixel in row y and column x comes from column ``across @ (x, y, 1)`` and
    row ``down @ (x, y, 1)``, both of shape (n, 3); bilinear, outside the nearest pixel of the edge."""
    n, height, width, _ = images.shape
    y, x = jnp.mgrid[:height, :width].astype(jnp.float32)

    def at(row: Any) -> Any:
        return row[:, 0, None, None] * x + row[:, 1, None, None] * y + row[:, 2, None, None]

    column, line = jnp.clip(at(across), 0, width - 1), jnp.clip(at(down), 0, height - 1)
    left, top = jnp.floor(column), jnp.floor(line)
    share_x, share_y = (column - left)[..., None], (line - top)[..., None]
    left, top = left.astype(jnp.int32), top.astype(jnp.int32)
    right, bottom = jnp.minimum(left + 1, width - 1), jnp.minimum(top + 1, height - 1)
    picked = jnp.arange(n)[:, None, None]
    upper = images[picked, top, left] * (1 - share_x) + images[picked, top, right] * share_x
    lower = images[picked, bottom, left] * (1 - share_x) + images[picked, bottom, right] * share_x
    return upper * (1 - share_y) + lower * share_y


def _drawn_transforms(draws: Any, knobs: Arrays, height: int, width: int) -> tuple[Any, Any]:
    turn = draws[0] * knobs["rotation_deg"] * (math.pi / 180)
    from_x = (width - 1) / 2 + draws[1] * knobs["width_shift"] * width
    from_y = (height - 1) / 2 + draws[2] * knobs["height_shift"] * height
    scale = 1 + draws[3] * knobs["zoom"]
    mirror_x = 1 - 2 * knobs["horizontal_flip"] * (draws[4] < 0)
    mirror_y = 1 - 2 * knobs["vertical_flip"] * (draws[5] < 0)
    cos, sin = jnp.cos(turn) / scale, jnp.sin(turn) / scale
    a0, a1, b0, b1 = mirror_x * cos, mirror_x * sin, -mirror_y * sin, mirror_y * cos
    across = (a0, a1, (width - 1) / 2 - a0 * from_x - a1 * from_y)
    down = (b0, b1, (height - 1) / 2 - b0 * from_x - b1 * from_y)
    return jnp.stack(across, axis=1), jnp.stack(down, axis=1)


def mixed(images: Any, alpha: Any, key: Any, effects: Effects) -> tuple[Any, Any]:
    """Images with the ones before them mixed in, and the share (n,) of each itself, at least a half."""
    if not effects.is_mixed:
        return images, jnp.ones(len(images))
    drawn = jax.random.beta(key, jnp.maximum(alpha, _LEAST_ALPHA), jnp.maximum(alpha, _LEAST_ALPHA), (len(images),))
    share = jnp.where(alpha > 0, jnp.maximum(drawn, 1 - drawn), 1.0)
    across = share[:, None, None, None]
    return images * across + jnp.roll(images, 1, 0) * (1 - across), share


def costs(out: Any, labels: Any, knobs: Arrays) -> Any:
    """Cross-entropy (n,) of integer ``labels``, smoothed and focal as the knobs say."""
    logs = jax.nn.log_softmax(out)
    sharp = -jnp.take_along_axis(logs, labels[:, None], axis=1)[:, 0]
    unsure = jnp.maximum(1 - jnp.exp(-sharp), _SURE)  # a power of 0 has no gradient
    return unsure ** knobs["focal_gamma"] * (sharp + knobs["label_smoothing"] * (-logs.mean(1) - sharp))


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
