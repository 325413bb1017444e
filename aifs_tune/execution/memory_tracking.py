"""Time and memory of a sweep's workers, as the driver hears of them."""

from __future__ import annotations

from collections.abc import Mapping

from aifs_tune._util import memory
from aifs_tune._util.gpu_sharing import describe_gpus, memory_verdict, n_fitting
from aifs_tune._util.memory import MemoryUsage
from aifs_tune.execution.callbacks import SweepCallback
from aifs_tune.execution.timing import Profile
from aifs_tune.trainers.protocol import ReportsGpuMemory


class ResourceMonitor:
    """Fills the profile with the time and memory that workers report.

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


class MemoryTracker:
    """Of this process, which was given ``gpu`` GPUs, or a part of one, and may grow by ``growth_mb`` (MB of 2**20
    bytes)."""

    def __init__(self, *, gpu: float, growth_mb: float) -> None:
        self._gpu, self._growth_mb = gpu, growth_mb
        self._settled_mb: float | None = None
        self.is_out_of_memory = False
        """Whether memory ever ran out here."""

    def needs_restart(self) -> bool:
        """Whether the next trial should start in a new process, since memory ran out here or the process grew too much.
        Called between trials: growth is counted from the first call."""
        now = memory.own_mb()
        if self._settled_mb is None:
            self._settled_mb = now
        return self.is_out_of_memory or (now is not None and now - (self._settled_mb or now) > self._growth_mb)

    def memory_usage(self, trainer: object) -> MemoryUsage:
        """Memory taken so far; the GPU's as ``trainer`` reports it."""
        peak = trainer.gpu_peak_mb if self._gpu and isinstance(trainer, ReportsGpuMemory) else None
        return MemoryUsage(memory.peak_mb(), memory.node_mb(), peak, memory.gpu_mb() if self._gpu else None)

    def describe_available(self, error: BaseException) -> str:
        """Describe how much there was of the memory that ran out with ``error``."""
        if not self._gpu or isinstance(error, MemoryError):
            node_mb = memory.node_mb()
            return "the main memory" + (f" of {node_mb:,.0f} MB" if node_mb else "")
        gpu_mb = memory.gpu_mb()
        return describe_gpus(self._gpu) + (f", {self._gpu * gpu_mb:,.0f} MB" if gpu_mb else "")
