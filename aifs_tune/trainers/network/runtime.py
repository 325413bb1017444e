"""TensorFlow and Keras as the trainers use them, loaded at their first use."""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util import memory
from aifs_tune._util.gpu_sharing import limit_mb
from aifs_tune._util.quiet import silence_stderr
from aifs_tune.errors import RequestError
from aifs_tune.trainers.network.params import Precision

# TensorFlow and Keras read these when they are imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX: other processes may use the GPU too
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # nvidia-smi and Ray number GPUs in this way
# With a memory limit on a GPU, TensorFlow allocates all of it at once unless this is set.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

__all__ = ["configure", "gpu_peak_mb", "import_quietly", "jax", "keras", "native_precision", "resident", "tf"]


class _LazyModule:
    """A module that is imported when one of its attributes is first used; the attribute is then kept.

    Command line and service import every trainer for its hyperparameters; they do not pay for TensorFlow.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(import_module(self._name), attribute)
        setattr(self, attribute, value)
        return value


tf: Any = _LazyModule("tensorflow")
keras: Any = _LazyModule("keras")
jax: Any = _LazyModule("jax")


def import_quietly() -> None:
    """Import TensorFlow and Keras without the messages that they write to stderr."""
    if "tensorflow" not in sys.modules:
        with silence_stderr():
            import_module("tensorflow")
            import_module("keras")


_ALIGNMENT = 64
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
_BFLOAT16_CAPABILITY = (8, 0)


def configure(threads: int | None, share: float = 1.0) -> None:
    """Limit TensorFlow or JAX to ``threads`` CPU threads and, with a ``share`` below 1, to that part of a GPU's memory.

    Without a limit, the allocated GPU memory grows as it is needed. Both accept these settings only before their
    first operation in a process; later calls change nothing. If nvidia-smi does not report the memory of a GPU, no
    limit is set.

    Raises
    ------
    RequestError
        If Keras uses neither TensorFlow nor JAX, ``threads`` is below 1, or the share is too small to use.
    """
    if (backend := keras.backend.backend()) not in ("tensorflow", "jax"):
        raise RequestError(f"KERAS_BACKEND: {backend!r} is in use; allowed: tensorflow, jax")
    if threads is not None and threads < 1:
        raise RequestError(f"threads: {threads} is not allowed; allowed: a whole number from 1, or none")
    if backend == "jax":
        _configure_jax(threads, share)
        return
    try:
        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            _let_grow(gpu, memory.gpu_mb() if share < 1 else None, share)
    except RuntimeError:
        return


def _configure_jax(threads: int | None, share: float) -> None:
    """The same for JAX, which reads these variables at its first operation."""
    if threads is not None:
        os.environ["NPROC"] = str(threads)  # the size of XLA's pool of threads
    if share < 1:
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{share:.3f}"


def _let_grow(gpu: Any, total_mb: float | None, share: float) -> None:
    """Set a memory limit or memory growth for ``gpu``.

    TensorFlow allows only one of the two for a device; with a limit, the environment variable asks for growth.
    """
    if tf.config.get_logical_device_configuration(gpu) is not None:
        return
    if total_mb is None:
        tf.config.experimental.set_memory_growth(gpu, True)
        return
    limit = tf.config.LogicalDeviceConfiguration(memory_limit=limit_mb(share, total_mb))
    tf.config.set_logical_device_configuration(gpu, [limit])


def gpu_peak_mb() -> float | None:
    """Peak memory of TensorFlow on one GPU in this process, in MB of 2**20 bytes; None without a GPU."""
    if keras.backend.backend() == "jax":
        stats = jax.local_devices()[0].memory_stats() or {}
        return stats["peak_bytes_in_use"] / 2**20 if "peak_bytes_in_use" in stats else None
    gpus = range(len(tf.config.list_logical_devices("GPU")))
    peaks = [tf.config.experimental.get_memory_info(f"GPU:{i}")["peak"] / 2**20 for i in gpus]
    return max(peaks, default=None)


def resident(array: NDArray[Any]) -> Any:
    """``array`` as a tensor on the training device: without a copy on a CPU if possible, as a copy on a GPU.

    The memory of an ``.npy`` file that was mapped copy-on-write is shared. An array is copied if it is read-only or
    strided, because DLPack cannot describe it, or if it does not begin at a multiple of 64 bytes, because TensorFlow's
    vector code would refuse it.
    """
    if keras.backend.backend() == "jax":
        return jax.numpy.asarray(array)
    flags = array.flags
    if flags.writeable and flags.c_contiguous and array.ctypes.data % _ALIGNMENT == 0:
        tensor = tf.experimental.dlpack.from_dlpack(np.asarray(array).__dlpack__())
    else:
        tensor = tf.constant(array)
    if tf.config.list_logical_devices("GPU"):
        with tf.device("GPU:0"):
            return tf.identity(tensor)
    return tensor


def native_precision() -> Precision:
    """``mixed_bfloat16`` where the hardware multiplies bfloat16 natively, else ``float32``.

    GPUs do so from compute capability 8.0, CPUs with AVX-512 BF16 or AMX. Other hardware emulates bfloat16, which is
    slower.
    """
    if keras.backend.backend() == "jax":
        on_gpu = getattr(jax.local_devices()[0], "compute_capability", None)
        is_native = cpu_flags() & _BFLOAT16_FLAGS if on_gpu is None else float(on_gpu) >= _BFLOAT16_CAPABILITY[0]
        return "mixed_bfloat16" if is_native else "float32"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "mixed_bfloat16" if capability >= _BFLOAT16_CAPABILITY else "float32"
    return "mixed_bfloat16" if cpu_flags() & _BFLOAT16_FLAGS else "float32"


def cpu_flags() -> set[str]:
    """CPU flags as Linux names them in ``/proc/cpuinfo``; empty where that file does not exist."""
    try:
        found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return set()
    return set(found[1].split()) if found else set()
