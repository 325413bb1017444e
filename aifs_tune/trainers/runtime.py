"""TensorFlow and Keras as the trainers use them; import them from here."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from aifs_tune.errors import RequestError
from aifs_tune.trainers.params import Precision

__all__ = ["configure", "keras", "native_precision", "resident", "tf"]

_ALIGNMENT = 64
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
_BFLOAT16_CAPABILITY = (8, 0)


def configure(threads: int | None) -> None:
    """Limit TensorFlow to ``threads`` CPU threads and let a GPU's memory grow.

    TensorFlow takes both only before its first operation in a process; later calls change nothing.

    Raises
    ------
    RequestError
        If Keras runs on something else than TensorFlow, or ``threads`` is below 1.
    """
    if keras.backend.backend() != "tensorflow":
        raise RequestError(f"KERAS_BACKEND: {keras.backend.backend()!r} is in use; allowed: tensorflow")
    if threads is not None and threads < 1:
        raise RequestError(f"threads: {threads} is not allowed; allowed: a whole number from 1, or none")
    try:
        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        return


def resident(array: NDArray[Any]) -> Any:
    """``array`` as a tensor where the training runs: on a CPU the same memory if possible, on a GPU a copy.

    The memory of an ``.npy`` file that was mapped copy-on-write is shared. A copy is made of an array that is
    read-only or strided, which DLPack cannot describe, or that TensorFlow's vector code would refuse because
    it does not begin at a multiple of 64 bytes.
    """
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
    """Mixed bfloat16 where the hardware multiplies it natively, else float32.

    A GPU does from compute capability 8.0; a CPU with AVX-512 BF16 or AMX. Elsewhere bfloat16 is emulated and slower.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "mixed_bfloat16" if capability >= _BFLOAT16_CAPABILITY else "float32"
    return "mixed_bfloat16" if cpu_flags() & _BFLOAT16_FLAGS else "float32"


def cpu_flags() -> set[str]:
    """What the CPU can do, in Linux's words; empty where the system does not tell."""
    try:
        found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return set()
    return set(found[1].split()) if found else set()
