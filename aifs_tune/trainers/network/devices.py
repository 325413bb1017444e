"""Devices that train one trial: a single one, or several with the same weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from aifs_tune.errors import RequestError
from aifs_tune.trainers.network.ops import is_jax
from aifs_tune.trainers.network.runtime import tf


class Devices:
    """Group of ``n`` GPUs, or of logical CPUs without a GPU, that split each batch (TensorFlow's MirroredStrategy).

    Raises
    ------
    RequestError
        If there are fewer than ``n`` devices.
    """

    def __init__(self, n: int = 1) -> None:
        self.n = n
        if n > 1 and is_jax():
            raise RequestError(f"devices: {n} is not allowed with KERAS_BACKEND=jax; allowed: 1")
        self._strategy: Any = None
        if n > 1:
            found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
            if len(found) < n:
                raise RequestError(
                    f"devices: {n} is not allowed; TensorFlow finds {len(found)}; allowed: at most {len(found)}"
                )
            names = [device.name for device in found[:n]]
            sum_on_one_device = tf.distribute.ReductionToOneDevice()
            self._strategy = tf.distribute.MirroredStrategy(names, cross_device_ops=sum_on_one_device)

    def scope(self) -> AbstractContextManager[Any]:
        """Context in which new variables are placed on all devices."""
        return nullcontext() if self._strategy is None else self._strategy.scope()

    def run(self, on_device: Callable[[], Any]) -> Any:
        """Call ``on_device`` once on each device."""
        return on_device() if self._strategy is None else self._strategy.run(on_device)

    def total(self, results: Any) -> Any:
        """Sum the results of :meth:`run` over the devices."""
        if self._strategy is None:
            return results
        return tf.nest.map_structure(lambda one: self._strategy.reduce("SUM", one, axis=None), results)

    def index(self) -> Any:
        """Number of the device that this is called on, from 0."""
        if self._strategy is None:
            return 0
        return tf.distribute.get_replica_context().replica_id_in_sync_group

    def sum_gradients(self, gradients: list[Any]) -> list[Any]:
        """Sum the gradients of all devices; every device gets the sums."""
        if self._strategy is None:
            return gradients
        summed: list[Any] = tf.distribute.get_replica_context().all_reduce("SUM", gradients)
        return summed


CALL_S = 0.25
"""Intended seconds of one call of a compiled function: short, because signals wait for its end, yet long enough that
the cost of the call itself does not matter."""

_MAX_GROWTH = 4
"""Largest factor between the sizes of two calls."""


class ChunkSizer:
    """Number of batches in each call, so that a call takes about :data:`CALL_S` seconds as earlier calls did."""

    def __init__(self) -> None:
        self._n_batches = 1

    def slices(self, n: int) -> Iterator[tuple[int, int]]:
        """Yield first and last (exclusive) batch of each call, from 0 to ``n``; a call must end before the next one."""
        first = 0
        while first < n:
            last = min(n, first + self._n_batches)
            began = time.perf_counter()
            yield first, last
            batch_s = max(1e-9, (time.perf_counter() - began) / (last - first))
            self._n_batches = max(1, min(int(CALL_S / batch_s), _MAX_GROWTH * self._n_batches))
            first = last
