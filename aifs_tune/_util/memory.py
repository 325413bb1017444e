"""Memory of a process and its devices, and detection of out-of-memory errors.

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
"""Out-of-memory errors of Python, TensorFlow and PyTorch."""
_OOM_MESSAGES = re.compile(
    "RESOURCE_EXHAUSTED|CUDA_ERROR_OUT_OF_MEMORY|STATUS_ALLOC_FAILED|CUDA out of memory|Dst tensor is not initialized"
)
"""Messages of out-of-memory errors of other classes, from JAX, XLA, cuDNN, cuBLAS and TensorFlow's copies to a GPU."""


@dataclass(frozen=True)
class MemoryUsage:
    """Peak memory usage of one worker; None if unknown.

    ``ram_mb`` is its own main memory, without memory shared with other processes (mapped images, libraries), and
    ``node_mb`` the main memory of its node. ``gpu_peak_mb`` is what its trainer allocated on a GPU with ``gpu_mb``.
    """

    ram_mb: float | None = None
    node_mb: float | None = None
    gpu_peak_mb: float | None = None
    gpu_mb: float | None = None


def own_mb() -> float | None:
    """Return the main memory that this process uses alone now; None if the system does not report it."""
    return _status_mb("RssAnon")


def peak_mb() -> float | None:
    """Return the peak main memory of this process, without what it shares with others now.

    None if the system does not report it.
    """
    peak, *shared = (_status_mb(name) for name in ("VmHWM", "RssFile", "RssShmem"))
    return None if peak is None else max(0.0, peak - sum(part or 0.0 for part in shared))


def node_mb() -> float | None:
    """Return the main memory of this machine, or of the container of this process; None if it is not reported."""
    found = [limit for limit in (_listed_mb("/proc/meminfo", "MemTotal"), _container_mb()) if limit is not None]
    return min(found, default=None)


def free_mb() -> float | None:
    """Return the main memory that is free on this node, or in this container if it has less; None if it is unknown."""
    limit = _container_mb()
    left = None if limit is None else max(0.0, limit - (_group_mb("memory.current") or 0.0))
    return min((mb for mb in (_listed_mb("/proc/meminfo", "MemAvailable"), left) if mb is not None), default=None)


@lru_cache(maxsize=1)
def gpu_mb() -> float | None:
    """Return the total memory of the first GPU that this process may use, from nvidia-smi.

    None if there is no GPU or nvidia-smi does not answer.
    """
    try:
        told = subprocess.run(_SMI, capture_output=True, text=True, check=True, timeout=_SMI_S).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return total_of(told, os.environ.get("CUDA_VISIBLE_DEVICES"))


def total_of(table: str, visible: str | None) -> float | None:
    """Return the memory in MB of the first ``visible`` GPU in the output of nvidia-smi: lines of index, UUID and MB.

    ``visible`` is the value of ``CUDA_VISIBLE_DEVICES``; None: all. The result is None if the GPU is not in the output,
    as for a part of a GPU (MIG).
    """
    first = "0" if visible is None else visible.split(",")[0].strip()
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 3 and first and (cells[0] == first or (len(first) > 4 and cells[1].startswith(first))):
            return float(cells[2]) if re.fullmatch(r"\d+(\.\d+)?", cells[2]) else None
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` or one of its causes is an out-of-memory error, of a GPU or of main memory."""
    return any(
        _OOM_CLASSES & {cls.__name__ for cls in type(each).__mro__} or _OOM_MESSAGES.search(text_of(each))
        for each in _causes(error)
    )


def text_of(error: BaseException) -> str:
    """The message of an error, in characters that can be stored; what its class says if that raises itself."""
    try:
        text = str(error)
    except Exception as problem:  # noqa: BLE001 - a user's class may raise anything
        text = f"its message cannot be made: {type(problem).__name__}"
    return text.encode(errors="backslashreplace").decode()


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
    """Return in MB the value that ``file`` has under ``name`` in kB."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", Path(file).read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None


def _container_mb() -> float | None:
    """Return the limit of the control group (version 2) of a container."""
    return _group_mb("memory.max")


def _group_mb(name: str) -> float | None:
    try:
        return int(Path("/sys/fs/cgroup", name).read_text()) / 2**20
    except (OSError, ValueError):
        return None
