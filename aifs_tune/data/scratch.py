"""Decoded images on disk until the last one has told what all of them need: channels and 16-bit range."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.decode import Pixels

_PERCENTILES = 0.1, 99.9
_GREY8, _COLOUR8, _GREY16 = 1, 2, 3

Range = tuple[int, int]
"""Pixel values of 16-bit images that become 0 and 255."""


class Scratch:
    """One sparse file for each kind of pixels. Written, not mapped: a full disk then raises OSError, no signal."""

    def __init__(self, folder: Path, n_images: int, size: int) -> None:
        self._folder, self._size = folder, size
        self._kinds = np.zeros(n_images, np.uint8)
        self._files: dict[int, BinaryIO] = {}

    def put(self, row: int, pixels: Pixels) -> None:
        """Keep the pixels of one image."""
        kind = _GREY16 if pixels.dtype == np.uint16 else _COLOUR8 if pixels.shape[2] == 3 else _GREY8
        if kind not in self._files:
            self._files[kind] = open(self._folder / f"kind-{kind}", "w+b")  # noqa: SIM115 - closed by close
        self._kinds[row] = kind
        self._files[kind].seek(row * pixels.nbytes)
        self._files[kind].write(pixels.tobytes())

    @property
    def has_colour(self) -> bool:
        """True if some image has channels that differ."""
        return bool((self._kinds == _COLOUR8).any())

    def measured_range(self) -> Range | None:
        """The 0.1 and 99.9 percentiles of the pixels of all 16-bit images; None if there are none."""
        rows: list[int] = np.flatnonzero(self._kinds == _GREY16).tolist()
        if not rows:
            return None
        counts = np.zeros(65536, np.int64)
        for row in rows:
            counts += np.bincount(self._read(row).ravel(), minlength=65536)
        ranks = np.cumsum(counts) / counts.sum()
        low, high = (int(np.searchsorted(ranks, share / 100)) for share in _PERCENTILES)
        return (low, high) if low < high else (min(low, 65534), min(low, 65534) + 1)

    def write_npy(self, path: Path, rows: Sequence[int], channels: int, range16: Range | None) -> None:
        """Write ``rows`` as a uint8 array (n, size, size, channels) whose data begin at a multiple of 64 bytes."""
        shape = (len(rows), self._size, self._size, channels)
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for row in rows:
                pixels = self._read(row)
                if pixels.dtype == np.uint16 and range16 is not None:
                    pixels = scaled(pixels, range16)
                file.write(np.broadcast_to(pixels, shape[1:]).tobytes())

    def close(self) -> None:
        """Remove the files."""
        for kind, file in self._files.items():
            file.close()
            (self._folder / f"kind-{kind}").unlink()

    def _read(self, row: int) -> Pixels:
        kind = int(self._kinds[row])
        shape = (self._size, self._size, 3 if kind == _COLOUR8 else 1)
        dtype = np.dtype(np.uint16 if kind == _GREY16 else np.uint8)
        n_bytes = int(np.prod(shape)) * dtype.itemsize
        self._files[kind].seek(row * n_bytes)
        return np.frombuffer(self._files[kind].read(n_bytes), dtype).reshape(shape)


def scaled(pixels: Pixels, range16: Range) -> NDArray[np.uint8]:
    """16-bit pixels to 8 bit, linearly: the ends of ``range16`` become 0 and 255, values beyond are cut."""
    low, high = range16
    return np.rint((pixels.astype(np.float32) - low).clip(0, high - low) * (255 / (high - low))).astype(np.uint8)
