"""Decoding of many image files in worker processes; a file that crashes its process is skipped alone."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.images.decode import (
    ChangedFileError,
    Decoded,
    DecodeSettings,
    Facts,
    ImageFileDigest,
    Pixels,
    decode_file,
)
from aifs_tune.data.images.folder import shown
from aifs_tune.data.worker_loop import Payload
from aifs_tune.data.worker_pool import WorkerDied, n_workers, run_requests
from aifs_tune.errors import DataError

_WORKER = "aifs_tune.data.images.decode_worker"


def decode_all(
    sources: Sequence[ImageFileDigest],
    settings: DecodeSettings,
    *,
    lock_file: Path,
    processes: int | None = None,
    worker: str = _WORKER,
) -> Generator[tuple[int, Decoded], None, None]:
    """Yield the index of a source and its decoded image, in the order in which they are ready.

    ``processes`` is the argument of :func:`~aifs_tune.data.worker_pool.n_workers`. ``worker`` is the module that each
    process runs. Closing the generator stops the processes.

    Raises
    ------
    DataError
        If a file changed after its digest was computed.
    WorkError
        If no process can be started.
    """
    n = n_workers(len(sources), processes)
    if n == 0:
        for i, (path, digest, known) in enumerate(sources):
            try:
                yield i, decode_file(path, digest, settings, known=known)
            except ChangedFileError as error:
                raise _changed(path, str(error)) from None
        return
    command = [worker, json.dumps(asdict(settings)), str(lock_file)]
    with closing(run_requests(sources, command, n, does="decodes images")) as answers:
        for i, answer in answers:
            if isinstance(answer, WorkerDied):
                yield i, Decoded(Facts(problem=f"crashes the process that decodes it ({answer.how})"))
                continue
            header, payload = answer
            if "changed" in header:
                raise _changed(sources[i][0], header["changed"])
            yield i, _decoded(header, payload)


def _decoded(header: dict[str, Any], payload: Payload) -> Decoded:
    facts = Facts(**header["facts"])
    if header["pixels"] is None:
        return Decoded(facts)
    dtype, *shape = header["pixels"]
    return Decoded(facts, np.frombuffer(payload, dtype=np.dtype(dtype)).reshape(shape))


def _changed(path: str, how: str) -> DataError:
    return DataError(f"{shown(path)} {how}; run again when the data folder no longer changes")


_PERCENTILES = 0.1, 99.9
_MOST_SAMPLED = 10_000_000
_KINDS = tuple((np.dtype(name), channels) for name in ("u1", "u2", "f4") for channels in (1, 3))

Range = tuple[float, float]
"""Pixel values of images with more than 8 bits that become 0 and 255."""


class Scratch:
    """Temporary pixel store, one sparse file for each kind of pixels.

    The files are written, not memory-mapped, so that a full disk raises OSError instead of a signal.
    """

    def __init__(self, folder: Path, n_images: int, size: int) -> None:
        self._folder, self._size = folder, size
        self._kinds = np.zeros(n_images, np.uint8)
        self._files: dict[int, BinaryIO] = {}

    def put(self, row: int, pixels: Pixels) -> None:
        """Store the pixels of one image."""
        kind = _KINDS.index((pixels.dtype, pixels.shape[2]))
        if kind not in self._files:
            self._files[kind] = open(self._folder / f"kind-{kind}", "w+b")  # noqa: SIM115 - closed by close
        self._kinds[row] = kind
        self._files[kind].seek(row * pixels.nbytes)
        self._files[kind].write(np.ascontiguousarray(pixels).data)

    @property
    def n_kinds(self) -> int:
        """Number of kinds of pixels so far."""
        return len(self._files)

    @property
    def has_colour(self) -> bool:
        """Whether an image has channels that differ."""
        return any(_KINDS[kind][1] == 3 for kind in self._files)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type that holds the pixels of all images."""
        return max((_KINDS[kind][0] for kind in self._files), key=lambda one: one.itemsize, default=np.dtype("u1"))

    def write_npy(self, path: Path, rows: Sequence[int], channels: int) -> None:
        """Write ``rows`` as an array (n, size, size, channels) of :attr:`dtype`, with data aligned to 64 bytes."""
        dtype = self.dtype.newbyteorder("<")
        with NpyWriter(path, (len(rows), self._size, self._size, channels), dtype) as file:
            for row in rows:
                file.write(self._read(row))

    def close(self) -> None:
        """Close and remove the files."""
        for kind, file in self._files.items():
            file.close()
            (self._folder / f"kind-{kind}").unlink()

    def _read(self, row: int) -> Pixels:
        dtype, channels = _KINDS[int(self._kinds[row])]
        shape = (self._size, self._size, channels)
        n_bytes = int(np.prod(shape)) * dtype.itemsize
        self._files[int(self._kinds[row])].seek(row * n_bytes)
        return np.frombuffer(self._files[int(self._kinds[row])].read(n_bytes), dtype).reshape(shape)


class NpyWriter:
    """Writer of an array of images, one at a time; a context manager."""

    def __init__(self, path: Path, shape: tuple[int, int, int, int], dtype: np.dtype[Any]) -> None:
        self._file, self._shape, self._dtype = open(path, "wb"), shape[1:], dtype  # noqa: SIM115 - closed by __exit__
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> NpyWriter:
        return self

    def __exit__(self, *problem: object) -> None:
        self._file.close()

    def write(self, pixels: NDArray[Any]) -> None:
        """Write an image; one channel is repeated where the array has three."""
        whole = np.broadcast_to(pixels.astype(self._dtype, copy=False), self._shape)
        self._file.write(np.ascontiguousarray(whole).data)


def measured_range(images: NDArray[Any], rows: Sequence[int]) -> Range:
    """Return the 0.1 and 99.9 percentiles of the pixels of ``rows``, which are not empty.

    All pixels of 16-bit images are counted, and of others at most ten million, evenly spaced.
    """
    if images.dtype == np.uint16:
        counts = np.zeros(65536, np.int64)
        for row in rows:
            counts += np.bincount(images[row].ravel(), minlength=65536)
        ranks = np.cumsum(counts) / counts.sum()
        low, high = (int(np.searchsorted(ranks, share / 100)) for share in _PERCENTILES)
        return (low, high) if low < high else (min(low, 65534), min(low, 65534) + 1)
    stride = len(rows) * int(np.prod(images.shape[1:])) // _MOST_SAMPLED + 1
    values = np.concatenate([images[row].ravel()[i % stride :: stride] for i, row in enumerate(rows)])
    bottom, top = (float(value) for value in np.percentile(values, _PERCENTILES))
    return bottom, top if bottom < top else bottom + max(abs(bottom), 1.0) * 1e-3


def scaled(pixels: NDArray[Any], range16: Range) -> NDArray[np.uint8]:
    """Scale pixels linearly to 8 bits: ``range16`` becomes 0 and 255, values outside are clipped."""
    low, high = range16
    wide: NDArray[Any] = pixels.astype(np.float64 if pixels.dtype == np.float32 else np.float32)
    return np.asarray(np.rint((wide - low).clip(0, high - low) * (255 / (high - low))), np.uint8)
