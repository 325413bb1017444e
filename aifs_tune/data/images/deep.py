"""Images in class folders that Pillow does not read in full: TIFF of deep colours or real numbers, NumPy, DICOM."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from PIL import Image

from aifs_tune.data.image_files.arrays import (
    Admit,
    Reading,
    Request,
    UnreadableError,
    check_size,
    image_of,
    stack_of,
    without_marker,
)
from aifs_tune.data.image_files.dicom import MAGIC, MAGIC_AT, opened_dicom
from aifs_tune.data.image_files.npz import read_header
from aifs_tune.data.image_files.png import read_deep_colour
from aifs_tune.data.image_files.tiff import opened_stack
from aifs_tune.data.images.decode import MALFORMED, Pixels
from aifs_tune.errors import MissingPackageError

_NPY = b"\x93NUMPY"


@dataclass(frozen=True)
class Deep:
    """Pixels of shape (height, width, channels): uint8, uint16, else float32; ``mode`` is named as Pillow would."""

    pixels: Pixels
    mode: str
    bits: int
    note: str = ""
    has_alpha: bool = False


def read_deep(file: BinaryIO, start: bytes, admit: Admit) -> Deep | str | None:
    """Read a TIFF, NumPy or DICOM file, which begins with ``start``.

    None if Pillow reads it in full; text if it cannot be used.
    """
    try:
        if start.startswith(_NPY):
            return _npy(file, admit)
        if start[MAGIC_AT:] == MAGIC:
            return _dicom(file, admit)
    except (UnreadableError, MissingPackageError) as error:
        return str(error)
    try:
        return _tiff(file, admit)
    except (UnreadableError, MissingPackageError) as error:
        return str(error)
    except MALFORMED:  # Pillow says what is wrong with it
        return None


def _npy(file: BinaryIO, admit: Admit) -> Deep:
    file.seek(0)
    shape, _, dtype = read_header(file)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise UnreadableError(f"has pixels of type {dtype}; allowed: integers or real numbers")
    check_size(shape, admit)
    file.seek(0)
    array = np.lib.format.read_array(file, allow_pickle=False)
    notes: list[str] = []
    pixels = image_of(array, Request(note=notes.append), "auto")
    if dtype.kind == "b":
        return _as_stored(pixels * 255, np.dtype(np.uint8))
    return _as_stored(pixels, dtype, notes)


def _dicom(file: BinaryIO, admit: Admit) -> Deep:
    file.seek(0)
    notes: list[str] = []
    with opened_dicom(file) as read:
        return _as_stored(read(Request(None, admit, notes.append)), np.dtype(np.float32), notes)


def _tiff(file: BinaryIO, admit: Admit) -> Deep | None:
    file.seek(0)
    with opened_stack(file) as stack:
        if stack.is_plain and stack.dtype.kind in "ub":
            return None
        if any(n > 1 for axis, n in zip(stack.axes, stack.shape, strict=True) if axis not in "YXSC"):
            text = ", ".join(f"{axis} {n}" for axis, n in zip(stack.axes, stack.shape, strict=True))
            raise UnreadableError(f"has the axes {text}; allowed: one image (others in a manifest: data.frames.planes)")
        notes: list[str] = []
        request = Request(admit=admit, note=notes.append)
        pixels = stack_of(stack.axes, stack.shape, stack.plane, Reading(), request)
        if stack.dtype.kind != "u":
            pixels = without_marker(pixels, stack.nodata, "GDAL_NODATA", request)
        has_alpha = stack.has_alpha and pixels.shape[2] in (2, 4) and stack.dtype.kind == "u"
        if has_alpha:
            opaque = pixels[..., -1:] / np.iinfo(stack.dtype).max
            pixels = np.asarray(pixels[..., :-1] * opaque, np.float32)
        return replace(_as_stored(pixels, stack.dtype, notes), has_alpha=has_alpha)


def deep_png(image: Image.Image, file: BinaryIO) -> Deep:
    """Read a colour PNG of 16 bits, which Pillow has opened from ``file``.

    Raises
    ------
    UnreadableError
        If it has too many pixels in all channels.
    """
    check_size((image.height, image.width, len(image.getbands())), lambda n_pixels: None)
    has_alpha = image.has_transparency_data
    pixels = read_deep_colour(image, file)
    return Deep(pixels, "I;16" if pixels.shape[2] == 1 else "RGB;16", 16, has_alpha=has_alpha)


def _as_stored(pixels: Pixels, dtype: np.dtype[np.generic], notes: list[str] | None = None) -> Deep:
    """Give pixels back their type, if it is one that the cache has."""
    colour = "RGB" if pixels.shape[2] == 3 else "L"
    note = "; ".join(notes or ())
    if dtype == np.uint8:
        return Deep(pixels.astype(np.uint8), colour, 8, note)
    if dtype.newbyteorder("=") == np.uint16:
        return Deep(np.rint(pixels).astype(np.uint16), "I;16" if colour == "L" else "RGB;16", 16, note)
    kind = "F" if dtype.kind == "f" else f"I;{8 * dtype.itemsize}"
    return Deep(np.asarray(pixels, np.float32), kind if colour == "L" else f"RGB;{kind}", 8 * dtype.itemsize, note)
