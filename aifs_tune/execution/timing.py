"""Timings of a sweep, stage by stage."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORK = ("import", "switch", "trace", "train", "evaluate", "keep")
"""What a worker does: import its trainer, take over the next trial, compile, train, measure, write to disk."""


def process_age_s() -> float:
    """Seconds since this process was started; 0 where the system does not tell."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        up_s = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return up_s - ticks / os.sysconf("SC_CLK_TCK")


@dataclass
class Profile:
    """Seconds of one sweep: of its stages, one after the other, and of its workers' work, added up.

    ``stages`` are ``start`` (of the command, with its imports), ``ray``, ``decode`` and ``trials``; Ray's
    workers start while the images are decoded. ``driver_s`` is the processor time of the driver during the
    trials, which it spends beside the workers.

    ``memory`` is what the first trial took, in MB of 2**20 bytes: ``gpu_peak_mb`` of the GPU's ``gpu_mb`` with the
    share ``gpu``, ``ram_peak_mb`` of the machine's ``ram_mb``, and how many such trials there is room for,
    ``fit_on_gpu`` and ``fit_in_ram``; None is what is not known. ``n_out_of_memory`` trials were tried again with a
    larger share.
    """

    workers: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WORK, 0.0))
    driver_s: float = 0.0
    n_reports: int = 0
    memory: dict[str, float | None] = field(default_factory=dict)
    n_out_of_memory: int = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time inside to a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - began

    @contextmanager
    def trials(self) -> Iterator[None]:
        """The stage in which workers run trials and the driver serves them."""
        began = time.process_time()
        try:
            with self.stage("trials"):
                yield
        finally:
            self.driver_s += time.process_time() - began

    def add(self, timings: Mapping[str, float]) -> None:
        """Count what a worker spent on one epoch."""
        self.n_reports += 1
        for name, seconds in timings.items():
            self.work[name] = self.work.get(name, 0.0) + seconds

    @property
    def wait_s(self) -> float:
        """Worker seconds in which nothing was worked: starting, waiting for the driver, none left to run."""
        return max(0.0, self.workers * self.stages.get("trials", 0.0) - sum(self.work.values()))

    def to_json(self) -> dict[str, Any]:
        """Seconds by name."""
        trials_s = self.stages.get("trials", 0.0)
        return {
            "workers": self.workers,
            "stages_s": {name: round(seconds, 3) for name, seconds in self.stages.items()},
            "worker_s": {name: round(seconds, 3) for name, seconds in {**self.work, "wait": self.wait_s}.items()},
            "driver_s": round(self.driver_s, 3),
            "driver_share_of_a_core": round(self.driver_s / trials_s, 4) if trials_s else None,
            "reports_per_s": round(self.n_reports / trials_s, 2) if trials_s else None,
            "memory": {name: None if value is None else round(value, 4) for name, value in self.memory.items()},
            "out_of_memory_retries": self.n_out_of_memory,
        }
