"""Arrays in npz files, of which one image at a time is read."""

from __future__ import annotations

import io
import zipfile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_MOST_OF_HEADER = 10_000


def arrays_named(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of the arrays."""
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape of an array in a NumPy file, whether its first axis varies fastest, and its type.

    Raises
    ------
    ValueError
        If there is no header, it is too long, or the shape is none.
    """
    version = np.lib.format.read_magic(file)
    n_bytes = 2 if version == (1, 0) else 4
    length = int.from_bytes(stored := file.read(n_bytes), "little")
    if length > _MOST_OF_HEADER:
        raise ValueError(f"its header has {length:,} bytes; allowed: at most {_MOST_OF_HEADER:,}")
    header = io.BytesIO(stored + file.read(length))
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(header)
    if min(shape, default=0) < 0:
        raise ValueError(f"its shape is {shape}; allowed: no negative lengths")
    return shape, is_fortran, dtype


class NpzArray:
    """Array in an npz file, of which ``array[i]`` unpacks what lies between the last image read and the end of image i.

    Going back begins again at the first image.

    Raises
    ------
    ValueError
        If the array has Python objects, or the file ends before it does.
    """

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self.name = name
        self._file = archive.open(f"{name}.npy")
        self.shape, self._is_fortran, self.dtype = read_header(self._file)
        self.ndim = len(self.shape)
        if self.dtype.hasobject:
            raise ValueError("Python objects cannot be read")
        self._start = self._file.tell()
        self._whole: NDArray[Any] | None = None

    def __getitem__(self, index: int) -> NDArray[Any]:
        if self._is_fortran:
            return np.asarray(np.asarray(self)[index])
        n_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self._file.seek(self._start + index * n_bytes)
        return self._values(n_bytes, self.shape[1:])

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        del dtype, copy
        if self._whole is None:
            n_bytes = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
            self._file.seek(self._start)
            shape = self.shape[::-1] if self._is_fortran else self.shape
            values = self._values(n_bytes, shape)
            if not self._is_fortran:
                return values
            self._whole = values.T
        return self._whole

    def _values(self, n_bytes: int, shape: tuple[int, ...]) -> NDArray[Any]:
        content = self._file.read(n_bytes)
        if len(content) < n_bytes:
            raise ValueError("the file ends before the array does")
        return np.frombuffer(content, self.dtype).reshape(shape)
