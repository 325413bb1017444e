"""Reading of the images of a manifest in worker processes, and stretching by the training set."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.atomic_files import write_file
from aifs_tune._util.hashing import digest_of
from aifs_tune.config.data import FramesSpec
from aifs_tune.data.digests import Progress, digest_of_array
from aifs_tune.data.examples import PreparedExamples, open_examples
from aifs_tune.data.file_table import FileTable
from aifs_tune.data.forecast import Forecast
from aifs_tune.data.frames.bands import band_rows
from aifs_tune.data.frames.formats import ImageReader
from aifs_tune.data.frames.manifest import Manifest
from aifs_tune.data.frames.read import Frame, FrameSettings, read_frame
from aifs_tune.data.frames.stretch import Stretch
from aifs_tune.data.image_files.arrays import Band, Reading, UnreadableError
from aifs_tune.data.images.folder import SkippedFile
from aifs_tune.data.worker_pool import WorkerDied, n_workers, run_requests
from aifs_tune.errors import DataError, NotFoundError

_WORKER = "aifs_tune.data.frames.worker"
_REPORT_EVERY = 100
_VERSION = 7
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class Frames:
    """Readable images, stored in the file ``raw`` as float32 of ``shape`` (height, width, bands).

    ``rows`` are their rows in the manifest, ``offsets`` their positions in ``raw``, ``contents`` their digests, and
    ``statistics`` (n, 6, bands) the values from which the stretch is fitted. ``native`` is the height and width of the
    images in the files, of the first image if they differ. ``notes`` say what was chosen in reading them. ``columns``
    are the rows of the table of bands.
    """

    raw: Path
    reading: Reading
    shape: tuple[int, int, int]
    native: tuple[int, int]
    rows: Sequence[int]
    offsets: Sequence[int]
    contents: Sequence[str]
    statistics: NDArray[np.float64]
    skipped_files: Sequence[SkippedFile]
    n_missing: int
    notes: Sequence[str]
    columns: Sequence[Mapping[str, Any]]

    def stretched(self, stretch: Stretch, path: Path, progress: Progress | None) -> NDArray[np.float16]:
        """Stretch all images into ``path``, one at a time, remove the raw file and return the memory-mapped array."""
        n_bytes = 4 * int(np.prod(self.shape))
        header = {"descr": "<f2", "fortran_order": False, "shape": (len(self.rows), *self.shape)}
        with open(self.raw, "rb") as raw, open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for n_done, offset in enumerate(self.offsets, start=1):
                raw.seek(offset)
                pixels = np.frombuffer(raw.read(n_bytes), np.float32).reshape(self.shape)
                file.write(stretch.apply(pixels).astype("<f2").tobytes())
                if progress is not None and (n_done % _REPORT_EVERY == 0 or n_done == len(self.offsets)):
                    progress("stretching", n_done, len(self.offsets))
        self.raw.unlink()
        mapped: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped


def read_frames(
    manifest: Manifest,
    spec: FramesSpec,
    scratch: Path,
    progress: Progress | None,
    *,
    lock_file: Path,
    tell: Callable[[str], None] | None = None,
    processes: int | None = None,
    worker: str = _WORKER,
) -> Frames:
    """Read all images into a file in ``scratch``; unusable images are left out.

    ``lock_file`` is the lock for large images, ``tell`` gets a forecast of much space or time, ``processes`` is the
    argument of :func:`~aifs_tune.data.worker_pool.n_workers`, and ``worker`` the module that each process runs.

    Raises
    ------
    DataError
        If images differ in size or bands where they must agree; the text names the first image and the first that
        differs.
    StorageError
        If the images need more space than is free.
    """
    settings = FrameSettings(reading_of(spec), spec.background, spec.stretch, spec.image_size)
    taken, notes, described = _Taken(manifest, spec), Counter[str](), Counter[tuple[Band, ...]]()
    forecast = Forecast(scratch.parent, len(manifest), "data.frames.image_size, or fewer images", tell)
    n = n_workers(len(manifest), processes)
    command = [worker, json.dumps(settings.to_json()), str(lock_file)]
    found = _read_in_workers(manifest, command, n) if n else _read(manifest, settings)
    with open(scratch / "raw", "wb") as raw, closing(found):
        for n_done, (row, frame) in enumerate(found, start=1):
            if isinstance(frame, Frame):
                taken.take(row, _Known.of(frame, raw.tell()))
                raw.write(frame.pixels.data)
                notes.update(frame.notes)
                described[frame.bands] += 1
                forecast.update(n_done, frame.pixels.shape, most=6 * frame.pixels.size, kept=2 * frame.pixels.size)
            else:
                taken.take(row, frame)
            if progress is not None and (n_done % _REPORT_EVERY == 0 or n_done == len(manifest)):
                progress("reading", n_done, len(manifest))
    known = taken.known
    return Frames(
        scratch / "raw",
        settings.reading,
        known[0].shape if known else (0, 0, 0),
        known[0].native if known else (0, 0),
        taken.rows,
        [one.offset for one in known],
        [one.content for one in known],
        np.array([one.statistics for one in known]),
        taken.skipped_files,
        int(sum(one.ranges[2].sum() for one in known)),
        [f"{n} images: {note}" for note, n in sorted(notes.items())],
        band_rows(described, [one.ranges for one in known], sum(one.native[0] * one.native[1] for one in known)),
    )


def reading_of(spec: FramesSpec) -> Reading:
    """Return how files are read."""
    return Reading(spec.hdu, spec.dataset, spec.bands, tuple(spec.planes.items()))


_Found = Generator[tuple[int, Frame | str], None, None]
"""Rows of the manifest, each with its image or the reason why it cannot be used."""


def _read(manifest: Manifest, settings: FrameSettings) -> _Found:
    with ImageReader(settings.reading) as reader:
        for row in _in_order_of_files(manifest):
            try:
                yield row, read_frame(manifest.files[row], manifest.indices[row], settings, reader)
            except UnreadableError as error:
                yield row, str(error)


def _in_order_of_files(manifest: Manifest) -> Sequence[int]:
    """Rows so that the images of a file follow each other from its beginning to its end, which unpacks it once."""
    if all(index is None for index in manifest.indices):
        return range(len(manifest))
    return sorted(range(len(manifest)), key=lambda row: (manifest.files[row], manifest.indices[row] or 0))


def _read_in_workers(manifest: Manifest, command: Sequence[str], n: int) -> _Found:
    rows = _in_order_of_files(manifest)
    requests = [[list(map(str, manifest.files[row])), manifest.indices[row]] for row in rows]
    with closing(run_requests(requests, command, n, does="reads images")) as answers:
        for position, answer in answers:
            row = rows[position]
            if isinstance(answer, WorkerDied):
                yield row, f"crashes the process that reads it ({answer.how})"
                continue
            header, payload = answer
            if "problem" in header:
                yield row, header["problem"]
                continue
            pixels = np.frombuffer(payload, np.float32).reshape(header["shape"])
            statistics, ranges = np.array(header["statistics"]), np.array(header["ranges"])
            bands = tuple(Band(*band) for band in header["bands"])
            yield row, Frame(pixels, tuple(header["native"]), statistics, ranges, tuple(header["notes"]), bands)


@dataclass(frozen=True)
class _Known:
    """Properties of an image that stay in memory; its pixels are at ``offset`` in the raw file."""

    offset: int
    shape: tuple[int, int, int]
    native: tuple[int, int]
    content: str
    statistics: NDArray[np.float64]
    ranges: NDArray[np.float64]

    @classmethod
    def of(cls, frame: Frame, offset: int) -> _Known:
        height, width, n_bands = frame.pixels.shape
        content = digest_of_array(frame.pixels)
        return cls(offset, (height, width, n_bands), frame.native, content, frame.statistics, frame.ranges)


class _Taken:
    """Collects properties of images in any order, and checks each against the first image of the manifest."""

    def __init__(self, manifest: Manifest, spec: FramesSpec) -> None:
        self._manifest, self._spec = manifest, spec
        self._waiting: dict[int, _Known | str] = {}
        self._next = 0
        self.rows: list[int] = []
        self.known: list[_Known] = []
        self.skipped_files: list[SkippedFile] = []

    def take(self, row: int, known: _Known | str) -> None:
        self._waiting[row] = known
        while (one := self._waiting.pop(self._next, None)) is not None:
            if isinstance(one, str):
                self.skipped_files.append(SkippedFile(self._manifest.names[self._next], one))
            else:
                self._check(self._manifest.names[self._next], one)
                self.rows.append(self._next)
                self.known.append(one)
            self._next += 1

    def _check(self, name: str, one: _Known) -> None:
        if not self.rows:
            return
        where, first, first_name = self._manifest.where, self.known[0], self._manifest.names[self.rows[0]]
        size, wanted = one.native, first.native
        both = f"{where}: {first_name} has {wanted[0]} x {wanted[1]} px and {name} has {size[0]} x {size[1]} px"
        if size != wanted and self._spec.image_size is None:
            raise DataError(f"{both}; allowed: images of one size, or a data.frames.image_size to resize them")
        if size != wanted and set(self._spec.roles) & {"x", "y", "vx", "vy", "length"}:
            raise DataError(f"{both}; allowed if positions, vectors or lengths in px are predicted: one size")
        if one.shape[2] != first.shape[2]:
            raise DataError(
                f"{where}: {first_name} has {first.shape[2]} bands and {name} has {one.shape[2]}; allowed: the "
                "same number of bands in all images"
            )


def find_prepared(root: Path, settings: Any, manifest: Manifest) -> PreparedExamples | None:
    """Return what :func:`save_prepared` stored for these settings and files; None if missing or deleted."""
    try:
        stored = json.loads(_index_file(root, settings, manifest).read_bytes())
        location = Path(stored["location"])
        files = FileTable(**stored["files"])
        return PreparedExamples(open_examples(location), location, stored["lines"], files, stored["columns"])
    except (OSError, ValueError, KeyError, TypeError, NotFoundError):
        return None


def save_prepared(root: Path, settings: Any, manifest: Manifest, prepared: PreparedExamples) -> None:
    """Store the result, unless a file is so new that it can change again within one tick of the file system's clock."""
    if max((times[2] for times in _statuses(manifest)), default=0) < time.time_ns() - _SETTLED_NS:
        stored = {
            "location": str(prepared.location),
            "lines": list(prepared.lines),
            "files": prepared.files.to_json(),
            "columns": list(prepared.columns),
        }
        write_file(_index_file(root, settings, manifest), json.dumps(stored).encode())


def _index_file(root: Path, settings: Any, manifest: Manifest) -> Path:
    files = [str(file) for file in _files(manifest)]
    key = json.dumps([_VERSION, settings, files, _statuses(manifest)], sort_keys=True)
    return root / "index" / f"frames-{digest_of(key.encode())}.json"


def _files(manifest: Manifest) -> list[Path]:
    return [manifest.source, *sorted({file for files in manifest.files for file in files})]


def _statuses(manifest: Manifest) -> list[list[int]]:
    return [_status(file) for file in _files(manifest)]


def _status(file: Path) -> list[int]:
    try:
        status = os.stat(file)
    except OSError:
        return [-1, -1, -1]
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
