"""Where one trial is trained: on one device, or on several that hold the same weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from aifs_tune.errors import RequestError
from aifs_tune.trainers.network.runtime import tf


class Devices:
    """``n`` GPUs, or where there are none logical CPUs, that share out each batch (TensorFlow's MirroredStrategy).

    Raises
    ------
    RequestError
        If there are fewer.
    """

    def __init__(self, n: int = 1) -> None:
        self.n = n
        self._strategy: Any = None
        if n > 1:
            found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
            if len(found) < n:
                raise RequestError(f"devices: {n} are asked for, TensorFlow sees {len(found)}; allowed: at most that")
            names = [device.name for device in found[:n]]
            one_adds = tf.distribute.ReductionToOneDevice()
            self._strategy = tf.distribute.MirroredStrategy(names, cross_device_ops=one_adds)

    def scope(self) -> AbstractContextManager[Any]:
        """Variables that are made in it are on all devices."""
        return nullcontext() if self._strategy is None else self._strategy.scope()

    def run(self, on_device: Callable[[], Any]) -> Any:
        """Call it once on each device."""
        return on_device() if self._strategy is None else self._strategy.run(on_device)

    def total(self, results: Any) -> Any:
        """The sums over devices of what :meth:`run` gave."""
        if self._strategy is None:
            return results
        return tf.nest.map_structure(lambda one: self._strategy.reduce("SUM", one, axis=None), results)

    def index(self) -> Any:
        """Of the device that this is called on, from 0."""
        if self._strategy is None:
            return 0
        return tf.distribute.get_replica_context().replica_id_in_sync_group

    def added(self, gradients: list[Any]) -> list[Any]:
        """The sums of the devices' gradients, on each of them."""
        if self._strategy is None:
            return gradients
        summed: list[Any] = tf.distribute.get_replica_context().all_reduce("SUM", gradients)
        return summed


CALL_S = 0.25
"""What one call should take: a signal is answered after it, and its own cost is small beside it."""

_MOST_GROWTH = 4


class ChunkSizer:
    """Cuts batches into calls of about :data:`CALL_S` seconds each, by how long the calls before took."""

    def __init__(self) -> None:
        self._at_once = 1

    def slices(self, n: int) -> Iterator[tuple[int, int]]:
        """First and last (exclusive) of each call, from 0 to ``n``; the caller works on one before it asks for more."""
        first = 0
        while first < n:
            last = min(n, first + self._at_once)
            began = time.perf_counter()
            yield first, last
            a_batch_s = max(1e-9, (time.perf_counter() - began) / (last - first))
            self._at_once = max(1, min(int(CALL_S / a_batch_s), _MOST_GROWTH * self._at_once))
            first = last
