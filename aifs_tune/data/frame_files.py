"""The images of a manifest on disk, one after another, until the training part has told how they are stretched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.folder import LeftOut
from aifs_tune.data.formats import Pixels, Reading, UnreadableError, beside, read_image
from aifs_tune.data.manifest import Manifest
from aifs_tune.data.reading import Progress, digest_of
from aifs_tune.data.stretching import Stretch, described, filled
from aifs_tune.data_spec import FramesSpec
from aifs_tune.errors import DataError

_TOLD_EVERY = 100


@dataclass(frozen=True)
class Frames:
    """Images that could be read, at ``raw`` as float32 of ``shape`` (height, width, bands) one after another.

    ``rows`` are theirs in the manifest, ``contents`` their digests, ``statistics`` (n, 6, bands) what the stretch is
    measured on. ``native`` is the height and width of the files' images, of the first if they differ.
    """

    raw: Path
    reading: Reading
    shape: tuple[int, int, int]
    native: tuple[int, int]
    rows: Sequence[int]
    contents: Sequence[str]
    statistics: NDArray[np.float64]
    left_out: Sequence[LeftOut]
    n_missing: int

    def stretched(self, stretch: Stretch, path: Path) -> NDArray[np.float16]:
        """All images stretched, written to ``path`` one at a time and mapped; removes the raw ones."""
        n_bytes = 4 * int(np.prod(self.shape))
        header = {"descr": "<f2", "fortran_order": False, "shape": (len(self.rows), *self.shape)}
        with open(self.raw, "rb") as raw, open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for _ in self.rows:
                pixels = np.frombuffer(raw.read(n_bytes), np.float32).reshape(self.shape)
                file.write(stretch.apply(pixels).astype("<f2").tobytes())
        self.raw.unlink()
        mapped: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped


def read_frames(manifest: Manifest, spec: FramesSpec, scratch: Path, progress: Progress | None) -> Frames:
    """Read all images into a file in ``scratch``; those that cannot be used are left out.

    Raises
    ------
    DataError
        If images differ in size or bands where they must not; names two files.
    """
    reading = Reading(spec.hdu, spec.dataset, spec.bands)
    with open(scratch / "raw", "wb") as raw:
        reader = _Reader(manifest, spec, reading, raw)
        for row in range(len(manifest)):
            reader.take(row)
            if progress is not None and ((row + 1) % _TOLD_EVERY == 0 or row + 1 == len(manifest)):
                progress("reading", row + 1, len(manifest))
    return Frames(
        scratch / "raw",
        reading,
        reader.shape,
        reader.native,
        reader.rows,
        reader.contents,
        np.array(reader.statistics),
        reader.left_out,
        reader.n_missing,
    )


class _Reader:
    """Reads one image after another and remembers what it must be like."""

    def __init__(self, manifest: Manifest, spec: FramesSpec, reading: Reading, raw: BinaryIO) -> None:
        self._manifest, self._spec, self._reading, self._raw = manifest, spec, reading, raw
        self._first = ""
        self.shape, self.native = (0, 0, 0), (0, 0)
        self.rows: list[int] = []
        self.contents: list[str] = []
        self.statistics: list[NDArray[np.float64]] = []
        self.left_out: list[LeftOut] = []
        self.n_missing = 0

    def take(self, row: int) -> None:
        """Read the image of ``row`` and append it to the raw file."""
        name, spec = self._manifest.names[row], self._spec
        try:
            read = _read(self._manifest.files[row], self._manifest.indices[row], self._reading)
            whole, n_missing = filled(read, spec.background)
        except UnreadableError as error:
            self.left_out.append(LeftOut(name, str(error)))
            return
        self._check(name, whole)
        pixels = resized(whole, spec.image_size)
        if not self.rows:
            self._first, self.native = name, (whole.shape[0], whole.shape[1])
            self.shape = (pixels.shape[0], pixels.shape[1], pixels.shape[2])
        content = pixels.tobytes()
        self._raw.write(content)
        self.rows.append(row)
        self.contents.append(digest_of(content))
        self.statistics.append(described(pixels, spec.stretch))
        self.n_missing += n_missing

    def _check(self, name: str, pixels: Pixels) -> None:
        if not self.rows:
            return
        where, size, first = self._manifest.where, pixels.shape[:2], self.native
        both = f"{where}: {self._first} has {first[0]} x {first[1]} px and {name} has {size[0]} x {size[1]} px"
        if size != first and self._spec.image_size is None:
            raise DataError(f"{both}; allowed: images of one size, or data.frames.image_size to resize them to")
        if size != first and set(self._spec.roles) & {"x", "y", "vx", "vy", "length"}:
            raise DataError(f"{both}; allowed where positions, vectors or lengths in px are predicted: one size")
        if pixels.shape[2] != self.shape[2]:
            raise DataError(
                f"{where}: {self._first} has {self.shape[2]} bands and {name} has {pixels.shape[2]}; allowed: as many "
                "in all images"
            )


def _read(files: Sequence[Path], index: int | None, reading: Reading) -> Pixels:
    images = []
    for file in files:
        try:
            images.append(read_image(file, index, reading))
        except UnreadableError as error:
            raise UnreadableError(f"{file.name}: {error}" if len(files) > 1 else str(error)) from error
    return images[0] if len(images) == 1 else beside(images)


def resized(pixels: Pixels, edge: int | None) -> Pixels:
    """Each band to ``edge`` x ``edge`` pixels, bilinear and antialiased; as it is if ``edge`` is None."""
    if edge is None or pixels.shape[:2] == (edge, edge):
        return pixels
    from PIL import Image

    bands = (Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(pixels, -1, 0))
    return np.stack([np.asarray(band.resize((edge, edge), Image.Resampling.BILINEAR)) for band in bands], axis=-1)


def frames_like(facts: Mapping[str, Any], files: Sequence[Path | Sequence[Path]]) -> NDArray[np.float16]:
    """New images as those were prepared that ``facts`` of the examples describe, for ``predict`` of a trainer.

    An entry of ``files`` is a file, or the frames of one image.

    Raises
    ------
    DataError
        If one cannot be used, or has another size or other bands.
    """
    height, width, n_bands = facts["shape"]
    reading = Reading(tuple(facts["reading"]["hdu"]), facts["reading"]["dataset"], facts["reading"]["bands"])
    stretch = Stretch.from_json(facts["stretch"])
    images = []
    for entry in files:
        frames = [entry] if isinstance(entry, Path) else list(entry)
        try:
            whole, _ = filled(_read(frames, None, reading), facts["background"])
        except UnreadableError as error:
            raise DataError(f"{frames[0]}: {error}") from error
        if [*whole.shape[:2], whole.shape[2]] != [*facts["native"], n_bands]:
            told = " x ".join(map(str, whole.shape))
            raise DataError(f"{frames[0]}: has {told} pixels and bands; allowed: {facts['native']} and {n_bands}")
        images.append(stretch.apply(resized(whole, None if [height, width] == facts["native"] else height)))
    return np.stack(images)
