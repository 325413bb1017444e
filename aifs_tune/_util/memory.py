"""What a process and its devices have of memory, read from the system, and what running out of it looks like.

MB are 2**20 bytes, as TensorFlow and nvidia-smi count them.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_SMI = ("nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")
_SMI_S = 20.0
_OOM_CLASSES = frozenset({"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"})
"""Classes of Python, TensorFlow and PyTorch."""
_OOM_MESSAGES = re.compile(
    "RESOURCE_EXHAUSTED|CUDA_ERROR_OUT_OF_MEMORY|STATUS_ALLOC_FAILED|CUDA out of memory|Dst tensor is not initialized"
)
"""What JAX, XLA, cuDNN, cuBLAS and TensorFlow's copies to a GPU say in errors of other classes."""


@dataclass(frozen=True)
class MemoryUsage:
    """What one worker has taken at most.

    ``ram_mb`` is main memory of its own, without what it shares with other processes (mapped images, libraries), of
    ``node_mb`` that its node has. ``gpu_peak_mb`` is what its trainer has allocated on a GPU with ``gpu_mb``. None is
    what is not known.
    """

    ram_mb: float | None = None
    node_mb: float | None = None
    gpu_peak_mb: float | None = None
    gpu_mb: float | None = None


def own_mb() -> float | None:
    """Main memory that this process has of its own now; None where the system does not tell."""
    return _status_mb("RssAnon")


def peak_mb() -> float | None:
    """The most main memory that this process has had, without what it shares with others now; None where the system
    does not tell."""
    peak, *shared = (_status_mb(name) for name in ("VmHWM", "RssFile", "RssShmem"))
    return None if peak is None else max(0.0, peak - sum(part or 0.0 for part in shared))


def node_mb() -> float | None:
    """Main memory of this machine, or of the container that this process runs in; None where the system does not
    tell."""
    found = [limit for limit in (_listed_mb("/proc/meminfo", "MemTotal"), _container_mb()) if limit is not None]
    return min(found, default=None)


@lru_cache(maxsize=1)
def gpu_mb() -> float | None:
    """All memory of the first GPU that this process may use, as nvidia-smi has it; None if there is none, or
    nvidia-smi does not answer."""
    try:
        told = subprocess.run(_SMI, capture_output=True, text=True, check=True, timeout=_SMI_S).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return total_of(told, os.environ.get("CUDA_VISIBLE_DEVICES"))


def total_of(table: str, visible: str | None) -> float | None:
    """The memory in MB of the first ``visible`` GPU (as in ``CUDA_VISIBLE_DEVICES``; None for all) in what nvidia-smi
    told: lines of index, UUID and MB. None if it is not among them, as with a part of a GPU (MIG)."""
    first = "0" if visible is None else visible.split(",")[0].strip()
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 3 and first and (cells[0] == first or (len(first) > 4 and cells[1].startswith(first))):
            return float(cells[2]) if re.fullmatch(r"\d+(\.\d+)?", cells[2]) else None
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error``, or what caused it, says that memory ran out: of a GPU or the main memory."""
    return any(
        _OOM_CLASSES & {cls.__name__ for cls in type(each).__mro__} or _OOM_MESSAGES.search(str(each))
        for each in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        yield cause
        seen.append(cause)
        cause = cause.__cause__


def _status_mb(name: str) -> float | None:
    return _listed_mb("/proc/self/status", name)


def _listed_mb(file: str, name: str) -> float | None:
    """In MB what ``file`` has under ``name`` in kB."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", Path(file).read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None


def _container_mb() -> float | None:
    """The limit of the control group (version 2) that a container runs in."""
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text()) / 2**20
    except (OSError, ValueError):
        return None
