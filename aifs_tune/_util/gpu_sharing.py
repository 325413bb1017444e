"""How much of a GPU a trial needs, gets and may be retried with: the arithmetic alone.

A share is a fraction of one GPU, above 0 and at most 1; whole numbers above are several GPUs. MB are 2**20 bytes.
"""

from __future__ import annotations

import math

from aifs_tune._util.memory import MemoryUsage
from aifs_tune.errors import RequestError

CONTEXT_MB = 600.0
"""What each process takes of a GPU beside TensorFlow's own allocations: the CUDA context, the code and workspaces of
cuDNN and cuBLAS. An allowance, not a measurement."""

MARGIN = 1.5
"""A trial is given so many times the peak of the first one: others may be larger, a worker keeps the programs of
several shapes, and an allocator cannot use every gap."""

_MIN_MB = 100.0
_GENEROUS = 2.0
_GRAIN = 10_000
"""Ray counts a GPU in ten-thousandths."""


def limit_mb(share: float, total_mb: float) -> int:
    """What TensorFlow may allocate in one of the processes that share a GPU of ``total_mb``: its share without
    :data:`CONTEXT_MB`.

    Raises
    ------
    RequestError
        If less than 100 MB would be left.
    """
    limit = share * total_mb - CONTEXT_MB
    if limit < _MIN_MB:
        least = math.ceil(1000 * (CONTEXT_MB + _MIN_MB) / total_mb) / 1000
        raise RequestError(
            f"resources.gpu: {share:g} of a GPU with {total_mb:,.0f} MB is too little, as each process takes "
            f"{CONTEXT_MB:g} MB before it allocates anything; allowed: {least:g} or more"
        )
    return int(limit)


def needed_fraction(peak_mb: float, total_mb: float) -> float:
    """The share that trials like one with this peak should have; above 1 if a whole GPU leaves no margin."""
    return (MARGIN * peak_mb + CONTEXT_MB) / total_mb


def n_fitting(peak_mb: float, total_mb: float) -> int:
    """How many trials like one with this peak should share a GPU, at least 1."""
    return max(1, int(1 / needed_fraction(peak_mb, total_mb)))


def gpu_fraction(n: int) -> float:
    """The share of each of ``n`` trials on a GPU, rounded down to what Ray counts in."""
    return math.floor(_GRAIN / n) / _GRAIN


def larger_fraction(share: float) -> float | None:
    """The share that a trial gets after it ran out of memory with ``share``: twice as much, at most a whole GPU; None
    if it had a whole one, or none."""
    return min(1.0, 2 * share) if 0 < share < 1 else None


def describe_gpus(share: float) -> str:
    """``0.25 of a GPU``, ``a whole GPU``, ``2 GPUs``."""
    return f"{share:g} of a GPU" if share < 1 else "a whole GPU" if share == 1 else f"{share:g} GPUs"


def choose_fraction(memory_usage: MemoryUsage, useful: int) -> tuple[float, str]:
    """The share that each trial should get after what the first one took of a whole GPU, and why in one line.

    ``useful`` is how many could run on a GPU at the same time for other reasons; at least 1.
    """
    peak, total = memory_usage.gpu_peak_mb, memory_usage.gpu_mb
    if peak is None or total is None:
        what = "what the first trial took of its GPU" if peak is None else "how much memory a GPU has"
        return 1.0, f"resources.gpu: auto is 1, as {what} is not known"
    n = min(n_fitting(peak, total), useful)
    return gpu_fraction(n), f"resources.gpu: auto is {gpu_fraction(n):g}; {_measured(peak, total)}"


def _measured(peak_mb: float, total_mb: float) -> str:
    return (
        f"the first trial took at most {peak_mb:,.0f} MB of a GPU with {total_mb:,.0f} MB: "
        f"{n_fitting(peak_mb, total_mb)} such trials fit on one, each with {MARGIN:g} times that and {CONTEXT_MB:g} MB "
        "for the driver"
    )


def memory_verdict(memory_usage: MemoryUsage, share: float, per_node: int) -> str | None:
    """What the memory of the first trial says of how many fit, in one line; None if there is nothing to say.

    ``per_node`` is how many run at the same time on one machine.
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
            f"the first trial took at most {peak:,.0f} MB of its GPU; nvidia-smi does not tell how much there is, so "
            "that a share of it is not limited"
        )
    need, said = needed_fraction(peak, total), _measured(peak, total)
    if share < min(1.0, need):
        return f"{said}; warning: resources.gpu, {share:g}, is less than the {min(1.0, need):.2g} that this comes to"
    if share >= _GENEROUS * need:
        return (
            f"{said}; warning: resources.gpu, {share:g}, is {share / need:.1f} times what this comes to; "
            f"{gpu_fraction(n_fitting(peak, total)):g} or auto lets more run at the same time"
        )
    return said


def _of_node(memory_usage: MemoryUsage, per_node: int) -> str | None:
    peak, total = memory_usage.ram_mb, memory_usage.node_mb
    if peak is None or total is None or per_node * peak <= total:
        return None
    return (
        f"warning: the first trial's worker took at most {peak:,.0f} MB of main memory, and {per_node} of them run at "
        f"the same time on a machine with {total:,.0f} MB, which is enough for {int(total / peak)}"
    )
