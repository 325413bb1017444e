"""What a worker's process takes of the memory, from its first trial on."""

from __future__ import annotations

from aifs_tune import memory
from aifs_tune.memory import MemoryUsage
from aifs_tune.shares import describe_gpus
from aifs_tune.trainers.protocol import ReportsGpuMemory


class MemoryTracker:
    """Of this process, which was given ``gpu`` GPUs, or a part of one, and may grow by ``growth_mb`` (MB of 2**20
    bytes)."""

    def __init__(self, *, gpu: float, growth_mb: float) -> None:
        self._gpu, self._growth_mb = gpu, growth_mb
        self._settled_mb: float | None = None
        self.is_out_of_memory = False
        """Whether memory ever ran out here."""

    def needs_restart(self) -> bool:
        """Whether the next trial should better begin in a new process, as memory ran out here, or this one has grown by
        more than it may. Called between trials: growth is counted from the first call."""
        now = memory.own_mb()
        if self._settled_mb is None:
            self._settled_mb = now
        return self.is_out_of_memory or (now is not None and now - (self._settled_mb or now) > self._growth_mb)

    def memory_usage(self, trainer: object) -> MemoryUsage:
        """What was taken so far, the GPU's part as ``trainer`` tells it."""
        peak = trainer.gpu_peak_mb if self._gpu and isinstance(trainer, ReportsGpuMemory) else None
        return MemoryUsage(memory.peak_mb(), memory.node_mb(), peak, memory.gpu_mb() if self._gpu else None)

    def describe_available(self, error: BaseException) -> str:
        """In words how much there was of the memory that ran out with ``error``."""
        if not self._gpu or isinstance(error, MemoryError):
            node_mb = memory.node_mb()
            return "the main memory" + (f" of {node_mb:,.0f} MB" if node_mb else "")
        gpu_mb = memory.gpu_mb()
        return describe_gpus(self._gpu) + (f", {self._gpu * gpu_mb:,.0f} MB" if gpu_mb else "")
