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

from aifs_tune.data.images.decode import ChangedFileError, Decoded, DecodeSettings, Facts, Pixels, decode_file
from aifs_tune.data.images.folder import shown
from aifs_tune.data.worker_pool import WorkerDied, n_workers, run_requests
from aifs_tune.errors import DataError

_WORKER = "aifs_tune.data.images.decode_worker"

ImageFileDigest = tuple[str, str]
"""Path and content digest of a file."""


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
        for i, (path, digest) in enumerate(sources):
            try:
                yield i, decode_file(path, digest, settings)
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


def _decoded(header: dict[str, Any], payload: bytes) -> Decoded:
    facts = Facts(**header["facts"])
    if header["pixels"] is None:
        return Decoded(facts)
    dtype, *shape = header["pixels"]
    return Decoded(facts, np.frombuffer(payload, dtype=np.dtype(dtype)).reshape(shape))


def _changed(path: str, how: str) -> DataError:
    return DataError(f"{shown(path)} {how}; run again when the data folder no longer changes")


_PERCENTILES = 0.1, 99.9
_GREY8, _COLOUR8, _GREY16 = 1, 2, 3

Range = tuple[int, int]
"""16-bit pixel values that become 0 and 255."""


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
        kind = _GREY16 if pixels.dtype == np.uint16 else _COLOUR8 if pixels.shape[2] == 3 else _GREY8
        if kind not in self._files:
            self._files[kind] = open(self._folder / f"kind-{kind}", "w+b")  # noqa: SIM115 - closed by close
        self._kinds[row] = kind
        self._files[kind].seek(row * pixels.nbytes)
        self._files[kind].write(pixels.tobytes())

    @property
    def has_colour(self) -> bool:
        """Whether an image has channels that differ."""
        return bool((self._kinds == _COLOUR8).any())

    def measured_range(self) -> Range | None:
        """Return the 0.1 and 99.9 percentiles of the pixels of all 16-bit images; None without such images."""
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
        """Write ``rows`` as a uint8 array (n, size, size, channels) with data aligned to 64 bytes."""
        shape = (len(rows), self._size, self._size, channels)
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for row in rows:
                pixels = self._read(row)
                if pixels.dtype == np.uint16 and range16 is not None:
                    pixels = scaled(pixels, range16)
                file.write(np.broadcast_to(pixels, shape[1:]).tobytes())

    def close(self) -> None:
        """Close and remove the files."""
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
    """Scale 16-bit pixels linearly to 8 bits: ``range16`` becomes 0 and 255, values outside are clipped."""
    low, high = range16
    return np.rint((pixels.astype(np.float32) - low).clip(0, high - low) * (255 / (high - low))).astype(np.uint8)
