"""Reading of one frame with many bodies: its pixels, and which of them count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy  # its modules are imported when they are used
from numpy.typing import NDArray

from aifs_tune.config.data import BodiesSpec
from aifs_tune.data.bodies.tiles import cut, tiles_of
from aifs_tune.data.frames.formats import ImageReader
from aifs_tune.data.frames.stretch import filled, ranges_of
from aifs_tune.data.image_files.arrays import Band, Pixels, Reading, Request, UnreadableError


@dataclass(frozen=True)
class BodySettings:
    """Settings for reading every frame; see :class:`~aifs_tune.config.data.BodiesSpec`."""

    reading: Reading
    background: Literal["keep", "subtract"]
    binning: int
    saturation: float | None
    edge: int
    radius_px: float

    @classmethod
    def of(cls, spec: BodiesSpec) -> BodySettings:
        """Settings that a section of a sweep file gives."""
        reading = Reading(spec.hdu, spec.dataset, spec.bands)
        return cls(reading, spec.background, spec.binning, spec.saturation, spec.edge, spec.radius_px)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> BodySettings:
        """Make settings from the values of :meth:`to_json`."""
        return cls(**{**stored, "reading": Reading.from_json(stored["reading"])})


@dataclass(frozen=True)
class BodyFrame:
    """A frame: its ``pixels`` (height, width, bands) and which are ``usable`` (height, width), both after binning.

    ``native`` is the height and width in the file, and ``ranges`` (3, bands) are those of
    :func:`~aifs_tune.data.frames.stretch.ranges_of`.
    """

    pixels: Pixels
    usable: NDArray[np.bool_]
    native: tuple[int, int]
    ranges: NDArray[np.float64]


def read_body_frame(
    files: Sequence[Path],
    settings: BodySettings,
    reader: ImageReader,
    *,
    note: Callable[[str], None] = lambda text: None,
    band: Callable[[Band], None] = lambda band: None,
) -> BodyFrame:
    """Read a frame; ``note`` and ``band`` are those of :class:`~aifs_tune.data.image_files.arrays.Request`.

    Raises
    ------
    UnreadableError
        If the frame cannot be used.
    """
    read = reader.read(files, Request(note=note, band=band))
    height, width = read.shape[:2]
    if min(height, width) < settings.binning:
        raise UnreadableError(f"has {height} x {width} px, fewer than one block of data.bodies.binning")
    ranges = ranges_of(read)
    whole = filled(read, settings.background, n_missing=int(ranges[2].sum()))
    usable = _binned(_usable(read, settings)[..., None], settings.binning)[..., 0] == 1
    return BodyFrame(_binned(whole, settings.binning), usable, (height, width), ranges)


def _usable(read: Pixels, settings: BodySettings) -> NDArray[np.float32]:
    """1 where a pixel (height, width) counts, else 0."""
    bad = ~np.isfinite(read).all(axis=2)
    if settings.saturation is not None:
        with np.errstate(invalid="ignore"):
            is_saturated = (read >= settings.saturation).any(axis=2)
        if is_saturated.any():
            bad |= scipy.ndimage.distance_transform_edt(~is_saturated) <= settings.radius_px
    if edge := settings.edge:
        inner = np.zeros_like(bad)
        inner[edge:-edge, edge:-edge] = True
        bad |= ~inner
    return np.asarray(~bad, np.float32)


def _binned(pixels: NDArray[np.float32], blocks: int) -> NDArray[np.float32]:
    """Mean of blocks of ``blocks`` x ``blocks`` pixels of (height, width, bands); the rest at the end is cut off."""
    if blocks == 1:
        return pixels
    height, width = (each // blocks for each in pixels.shape[:2])
    whole = pixels[: height * blocks, : width * blocks]
    return np.asarray(whole.reshape(height, blocks, width, blocks, -1).mean(axis=(1, 3)), np.float32)


def tiles_of_frame(
    pixels: NDArray[np.float16], usable: NDArray[np.bool_], number: int, edge: int
) -> tuple[NDArray[np.float16], NDArray[np.uint8], NDArray[np.int32]]:
    """Tiles (n, edge, edge, bands) of frame ``number``, their masks (n, edge, edge) and places (n, 7)."""
    height, width = usable.shape
    places = tiles_of(height, width, edge)
    tiles = np.stack([cut(pixels, place, edge) for place in places])
    masks = np.stack([cut(usable.astype(np.uint8)[..., None], place, edge)[..., 0] for place in places])
    return tiles, masks, np.insert(places, 0, number, axis=1).astype(np.int32)
