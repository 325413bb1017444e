"""Reading of npz files from elsewhere: sizes are checked from the headers before anything is allocated."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray


def read_plain_npz(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file as :func:`numpy.savez` writes it: plain numbers, not compressed.

    Raises
    ------
    ValueError
        If a member is compressed, has Python objects, or says another size than it has.
    zipfile.BadZipFile
        If it is no such file.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise ValueError(f"{member.filename} is compressed; allowed: arrays as numpy.savez writes them")
            if member.file_size > len(content):
                raise ValueError(f"{member.filename} says {member.file_size:,} bytes in a file of {len(content):,}")
            arrays[member.filename.removesuffix(".npy")] = _array(member.filename, archive.read(member))
    return arrays


def _array(name: str, content: bytes) -> NDArray[Any]:
    buffer = io.BytesIO(content)
    version = npy.read_magic(buffer)
    reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if reader is None:
        raise ValueError(f"{name}: version {version} of the format is not allowed; allowed: 1.0, 2.0")
    shape, is_fortran, dtype = reader(buffer)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects; allowed: numbers")
    n_items, there = 1, len(content) - buffer.tell()
    for side in shape:  # in Python's integers, which cannot overflow
        n_items *= int(side)
    if min(shape, default=0) < 0 or n_items * dtype.itemsize != there:
        raise ValueError(f"{name} says {n_items:,} values of {dtype.itemsize} bytes, and has {there:,} bytes")
    array = np.frombuffer(content, dtype, count=n_items, offset=buffer.tell())
    return array.reshape(shape, order="F" if is_fortran else "C").copy()
