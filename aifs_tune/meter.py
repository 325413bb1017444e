"""What the workers of a sweep spend, and what the first trial takes of the memory: heard by the driver."""

from __future__ import annotations

from collections.abc import Mapping

from aifs_tune.listener import SweepCallback
from aifs_tune.memory import MemoryUsage
from aifs_tune.profile import Profile
from aifs_tune.shares import memory_verdict, n_fitting


class ResourceMonitor:
    """Hears what workers report beside their measurements and fills the profile with it.

    ``give`` tells it what each worker has. When the first trial has ended, it says once how many such trials there is
    memory for, if that is known.
    """

    def __init__(self, profile: Profile, callback: SweepCallback) -> None:
        self._profile, self._callback = profile, callback
        self.memory_usage: MemoryUsage | None = None
        """The most that any worker took until the first trial ended."""
        self._is_first = True

    def set_worker_resources(self, gpu: float, *, per_node: int, is_chosen: bool) -> None:
        """Each of ``per_node`` workers on a machine has this share of a GPU from now on; ``is_chosen`` by a user, who
        may be told of a better one."""
        self._gpu, self._per_node, self._is_chosen = gpu, per_node, is_chosen

    def record(self, timings: Mapping[str, float], memory_usage: MemoryUsage | None) -> None:
        """A worker reported an epoch, or the end of a trial."""
        self._profile.add(timings)
        if (
            self._is_first
            and memory_usage is not None
            and _size(memory_usage) >= _size(self.memory_usage or MemoryUsage())
        ):
            self.memory_usage = memory_usage

    def ended(self) -> None:
        """A trial ended."""
        if not self._is_first or self.memory_usage is None:
            return
        self._is_first = False
        said = memory_verdict(self.memory_usage, self._gpu, self._per_node)
        if said is not None and self._is_chosen:
            self._callback.on_status(said)
        self._profile.memory = self._memory_facts(self.memory_usage)

    def _memory_facts(self, memory_usage: MemoryUsage) -> dict[str, float | None]:
        peak, total = memory_usage.gpu_peak_mb, memory_usage.gpu_mb
        return {
            "gpu": self._gpu,
            "gpu_peak_mb": peak,
            "gpu_mb": total,
            "fit_on_gpu": None if peak is None or total is None else n_fitting(peak, total),
            "ram_peak_mb": memory_usage.ram_mb,
            "ram_mb": memory_usage.node_mb,
            "fit_in_ram": int(memory_usage.node_mb / memory_usage.ram_mb)
            if memory_usage.node_mb and memory_usage.ram_mb
            else None,
        }


def _size(memory_usage: MemoryUsage) -> tuple[float, float]:
    return memory_usage.gpu_peak_mb or 0.0, memory_usage.ram_mb or 0.0
