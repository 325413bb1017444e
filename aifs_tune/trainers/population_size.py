"""The stack of a population, and how many trials a device gains by."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from aifs_tune.scalars import Scalar
from aifs_tune.trainers.cnn_params import CnnParams
from aifs_tune.trainers.image_task import ImageTask
from aifs_tune.trainers.jax_runtime import jax
from aifs_tune.trainers.params import Precision
from aifs_tune.trainers.stacked import FusedEpoch, Stack

_SIZES = (1, 4, 16, 64)
_LEAST_GAIN = 1.1
_MOST_MEMORY = 0.8
_BFLOAT16_CAPABILITY = 8.0


def make_stack(task: ImageTask, params: Mapping[str, Scalar], size: int) -> Stack:
    """The stack of a population of this size."""
    images, shape = task.images, task.shape_of(CnnParams.from_mapping(params))
    return Stack(shape, size, images.images, images.labels, task.weights_of_classes(), precision_of(task))


def choose_fused_size(task: ImageTask, params: Mapping[str, Scalar], *, most: int) -> int:
    """The size, at most ``most``, beyond which a population trains hardly more images a second, or is too large for
    the device's memory; 1 on a CPU, which one trial keeps busy.

    Takes some seconds for each size that it tries: 1, 4, 16 and 64.
    """
    if jax.default_backend() == "cpu":
        return 1
    chosen, best_rate = 1, 0.0
    for size in sorted({min(size, most) for size in _SIZES}):
        try:
            rate = images_per_second(make_stack(task, params, size), task, params)
        except jax.errors.JaxRuntimeError:  # out of memory
            break
        if rate < _LEAST_GAIN * best_rate or memory_share() > _MOST_MEMORY:
            break
        chosen, best_rate = size, rate
    return chosen


def images_per_second(stack: Stack, task: ImageTask, params: Mapping[str, Scalar], *, at_least_s: float = 1.0) -> float:
    """What all places of a stack train together, after what is compiled."""
    batches = np.resize(task.images.train, min(len(task.images.train), 32 * stack.shape.batch_size))
    passes = dict.fromkeys(
        range(stack.size), FusedEpoch(batches, 0, 0, CnnParams.from_mapping(params).hyperparameters())
    )
    stack.train(passes)
    n_passes, began = 0, time.perf_counter()
    while (timings := time.perf_counter() - began) < at_least_s or n_passes == 0:
        stack.train(passes)
        n_passes += 1
    return n_passes * stack.size * len(batches) / timings


def memory_share() -> float:
    """The most of the device's memory that was in use so far, of 1; 0 where the device does not tell."""
    told = jax.local_devices()[0].memory_stats() or {}
    return float(told.get("peak_bytes_in_use", 0) / told["bytes_limit"]) if told.get("bytes_limit") else 0.0


def precision_of(task: ImageTask) -> Precision:
    """That of ``task``; for ``"auto"`` mixed bfloat16 on a GPU that multiplies it natively (compute capability 8.0 or
    more), else float32."""
    if task.precision != "auto":
        return task.precision
    capability: Any = getattr(jax.local_devices()[0], "compute_capability", None)
    is_native = capability is not None and float(capability) >= _BFLOAT16_CAPABILITY
    return "mixed_bfloat16" if is_native else "float32"
