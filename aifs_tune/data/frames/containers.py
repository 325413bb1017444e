"""Files with many arrays: HDF5, NumPy and npz, of which no more is read than the image that is asked for."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.data.image_files.arrays import Read, Reading, UnreadableError, image_of
from aifs_tune.data.images.folder import shown

_CHUNK_CACHE = 64 * 2**20
"""Bytes of unpacked chunks that are kept of an HDF5 file, so that images in one chunk are unpacked once."""


@contextmanager
def opened_hdf5(path: Path, reading: Reading) -> Iterator[Read]:
    """Open an HDF5 file."""
    with missing_packages_named():
        import h5py

    with open(path, "rb") as file, h5py.File(file, "r", rdcc_nbytes=_CHUNK_CACHE) as opened:
        dataset = None if reading.dataset is None else opened.get(reading.dataset)
        if not isinstance(dataset, h5py.Dataset):
            found: dict[str, Any] = {}

            def note(name: str, thing: Any) -> None:
                if isinstance(thing, h5py.Dataset):
                    found[name] = thing

            opened.visititems(note)
            dataset = _named(found, reading.dataset)
        if dataset.is_virtual or dataset.external or dataset.file != opened:  # could name any file of the machine
            raise UnreadableError(
                f"its dataset {shown(dataset.name)} is kept in another file; allowed: values in the file itself"
            )
        yield lambda request: image_of(dataset, request, reading.bands)


@contextmanager
def opened_npy(path: Path, reading: Reading) -> Iterator[Read]:
    """Open a NumPy file."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    yield lambda request: image_of(array, request, reading.bands)


@contextmanager
def opened_npz(path: Path, reading: Reading) -> Iterator[Read]:
    """Open a file of NumPy arrays."""
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        wanted = [name for name in names if reading.dataset in (None, name)]
        if not wanted:
            raise UnreadableError(f"has no dataset {reading.dataset!r}; allowed: {', '.join(map(shown, names))}")
        array = _named({name: NpzArray(archive, name) for name in wanted}, reading.dataset)
        yield lambda request: image_of(array, request, reading.bands)


class NpzArray:
    """Array in an npz file, of which ``array[i]`` unpacks what lies between the last image read and the end of image i.

    Going back begins again at the first image.

    Raises
    ------
    ValueError
        If the array has Python objects, or the file ends before it does.
    """

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._file = archive.open(f"{name}.npy")
        version = np.lib.format.read_magic(self._file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
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


def _named(found: Mapping[str, Any], wanted: str | None) -> Any:
    """Return the array named ``wanted``, or the only one that can be an image."""
    if wanted is not None:
        name = wanted.strip("/")
        if name not in found:
            listed = ", ".join(map(shown, found)) or "none found"
            raise UnreadableError(f"has no dataset {wanted!r}; allowed: {listed}")
        return found[name]
    images = [name for name, array in found.items() if array.ndim >= 2]
    if len(images) != 1:
        listed = ", ".join(map(shown, images)) or "none"
        raise UnreadableError(
            f"has {len(images)} datasets with two or more axes ({listed}); allowed: one, or set data.frames.dataset"
        )
    return found[images[0]]
