"""TensorFlow and Keras as the trainers use them; import them from here."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from aifs_tune.errors import RequestError

__all__ = ["configure", "keras", "resident", "tf"]

_ALIGNMENT = 64


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
