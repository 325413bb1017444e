"""Calculation of the fraction of a GPU that a trial needs, gets and is retried with.

A share is a fraction of one GPU, above 0 and at most 1; larger whole numbers are several GPUs. MB are 2**20 bytes.
"""

from __future__ import annotations

import math

from aifs_tune._util.memory import MemoryUsage
from aifs_tune.errors import RequestError

CONTEXT_MB = 600.0
"""Allowance for GPU memory that a process uses besides TensorFlow's allocations: the CUDA context, and code and
workspaces of cuDNN and cuBLAS. It is not measured."""

MARGIN = 1.5
"""Memory of a trial as a multiple of the first trial's peak: other trials may be larger, a worker keeps the programs of
several shapes, and memory fragments."""

_MIN_MB = 100.0
_GENEROUS = 2.0
_GRAIN = 10_000
"""Ray's resolution of fractions: ten-thousandths of a GPU."""


def limit_mb(share: float, total_mb: float) -> int:
    """Return the MB that TensorFlow may allocate in one of the processes that share a GPU of ``total_mb``.

    This is the share of the process without :data:`CONTEXT_MB`.

    Raises
    ------
    RequestError
        If less than 100 MB would be left.
    """
    limit = share * math.floor(total_mb) - CONTEXT_MB
    if limit < _MIN_MB:
        least = math.ceil(1000 * (CONTEXT_MB + _MIN_MB) / total_mb) / 1000
        raise RequestError(
            f"resources.gpu: {share:g} of a GPU with {total_mb:,.0f} MB is too little, because each process uses "
            f"{CONTEXT_MB:g} MB before it allocates anything; allowed: {least:g} or more"
        )
    return int(limit)


def needed_fraction(peak_mb: float, total_mb: float) -> float:
    """Return the share that a trial with this peak needs; above 1 if a whole GPU leaves no margin."""
    return (MARGIN * peak_mb + CONTEXT_MB) / total_mb


def n_fitting(peak_mb: float, total_mb: float) -> int:
    """Return how many trials with this peak can share a GPU; at least 1."""
    return max(1, int(1 / needed_fraction(peak_mb, total_mb)))


def gpu_fraction(n: int) -> float:
    """Return the share of each of ``n`` trials on a GPU, rounded down to Ray's resolution."""
    return math.floor(_GRAIN / n) / _GRAIN


def larger_fraction(share: float) -> float | None:
    """Return the share for the retry of a trial that ran out of memory: twice as much, at most a whole GPU.

    None if the trial had a whole GPU or none.
    """
    return min(1.0, 2 * share) if 0 < share < 1 else None


def describe_gpus(share: float) -> str:
    """Describe a share: ``0.25 of a GPU``, ``a whole GPU``, ``2 GPUs``."""
    return f"{share:g} of a GPU" if share < 1 else "a whole GPU" if share == 1 else f"{share:g} GPUs"


def choose_fraction(memory_usage: MemoryUsage, useful: int) -> tuple[float, str]:
    """Return the share for each trial, from the memory usage of the first one on a whole GPU, and the reason.

    ``useful`` is the number of trials that can run on a GPU at the same time for other reasons; at least 1.
    """
    peak, total = memory_usage.gpu_peak_mb, memory_usage.gpu_mb
    if peak is None or total is None:
        what = "the GPU memory used by the first trial" if peak is None else "the memory of the GPU"
        return 1.0, f"resources.gpu: auto is 1, because {what} is unknown"
    n = min(n_fitting(peak, total), useful)
    return gpu_fraction(n), f"resources.gpu: auto is {gpu_fraction(n):g}; {_measured(peak, total)}"


def _measured(peak_mb: float, total_mb: float) -> str:
    return (
        f"the first trial used at most {peak_mb:,.0f} MB of a GPU with {total_mb:,.0f} MB: "
        f"{n_fitting(peak_mb, total_mb)} such trials fit on it, each with {MARGIN:g} times that and {CONTEXT_MB:g} MB "
        "for the driver"
    )


def memory_verdict(memory_usage: MemoryUsage, share: float, per_node: int) -> str | None:
    """Report in one line how many trials fit, from the memory of the first one; None if there is nothing to report.

    ``per_node`` is the number of trials that run at the same time on one machine.
    """
    if share > 1:
        return None
    return _of_gpu(memory_usage, share) if share else _of_node(memory_usage, per_node)


def _of_gpu(memory_usage: MemoryUsage, share: float) -> str | None:
    peak, total = memory_usage.gpu_peak_mb, memory_usage.gpu_mb
    if peak is None:
        return None
    if total is None:
        return (
            f"the first trial used at most {peak:,.0f} MB of its GPU; nvidia-smi does not report the GPU's memory, so "
            "the memory of each trial is not limited"
        )
    need, said = needed_fraction(peak, total), _measured(peak, total)
    if share < min(1.0, need):
        return f"{said}; warning: resources.gpu, {share:g}, is less than the {min(1.0, need):.2g} that a trial needs"
    if share >= _GENEROUS * need:
        return (
            f"{said}; warning: resources.gpu, {share:g}, is {share / need:.1f} times what a trial needs; "
            f"with {gpu_fraction(n_fitting(peak, total)):g} or auto, more trials run at the same time"
        )
    return said


def _of_node(memory_usage: MemoryUsage, per_node: int) -> str | None:
    peak, total = memory_usage.ram_mb, memory_usage.node_mb
    if peak is None or total is None or per_node * peak <= total:
        return None
    return (
        f"warning: the first trial's worker used at most {peak:,.0f} MB of main memory, and {per_node} workers run at "
        f"the same time on a machine with {total:,.0f} MB, which is enough for {int(total / peak)}"
    )
