"""DICOM files: pixel values in the units that the file says, and nothing else.

Of the header only what describes the pixels is read. Names, dates and identifiers of patients are in no message, and
are not stored anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.data.image_files.arrays import (
    COLOURS,
    Band,
    Pixels,
    Read,
    Request,
    UnreadableError,
    check_size,
    checked_index,
    name_of_type,
)
from aifs_tune.data.images.decode import MALFORMED

_PALETTE = "PALETTE COLOR"
_UNITS = frozenset(
    {"HU", "OD", "MGML", "PCT", "HU_MOD", "Z_EFF", "ED", "EDW", "GY", "RELATIVE", "BQML", "CNTS", "CPS", "PROPCPS"}
)
"""Values of RescaleType, DoseUnits and Units that are units; others may be any text."""
MAGIC_AT = 128
MAGIC = b"DICM"
"""Bytes at :data:`MAGIC_AT` of a DICOM file."""


@contextmanager
def opened_dicom(file: Path | BinaryIO) -> Iterator[Read]:
    """Open a DICOM file; an image is rescaled, and inverted where white is zero.

    Raises
    ------
    UnreadableError
        If the file has no pixels, or cannot be read. The text has nothing from the file but its kind of compression
        and numbers of pixels.
    """
    with missing_packages_named():
        import pydicom

    try:
        dataset = pydicom.dcmread(file)
    except FileNotFoundError:
        raise
    except (*MALFORMED, pydicom.errors.InvalidDicomError, NotImplementedError) as error:
        raise UnreadableError(f"cannot be read as DICOM ({type(error).__name__})") from None
    yield partial(_read, dataset)


def _read(dataset: Any, request: Request) -> Pixels:
    try:
        return _image(dataset, request)
    except MALFORMED as error:  # its text may quote the header
        raise UnreadableError(f"cannot be read as DICOM ({type(error).__name__})") from None


def _image(dataset: Any, request: Request) -> Pixels:
    if "PixelData" not in dataset and "FloatPixelData" not in dataset and "DoubleFloatPixelData" not in dataset:
        raise UnreadableError("is a DICOM file without an image")
    n_frames, samples = _whole(dataset, "NumberOfFrames", 1), _whole(dataset, "SamplesPerPixel", 1)
    rows, columns = _whole(dataset, "Rows", 0), _whole(dataset, "Columns", 0)
    if n_frames > 1 and request.index is None:
        raise UnreadableError(
            f"has {n_frames} frames of {rows} x {columns} pixels; allowed: a column of the manifest that says which "
            "frame is meant (data.frames.index)"
        )
    number = 0 if request.index is None else checked_index(request.index, n_frames)
    check_size((rows, columns, samples), request.admit)
    values = _frame(dataset, number if n_frames > 1 else None)
    is_colour = samples > 1 or _text(dataset, "PhotometricInterpretation") == _PALETTE
    if values.ndim != 2 + is_colour:
        raise UnreadableError(f"has pixels of the shape {' x '.join(map(str, values.shape))}; allowed: one image")
    if is_colour:
        for name in COLOURS.get(values.shape[2], ()):
            request.band(Band(name, f"colour, {name_of_type(values.dtype)}"))
        return np.ascontiguousarray(values, np.float32)
    rescaled = _rescaling(dataset, number)
    found = rescaled(values.astype(np.float64))
    if _text(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        ends = rescaled(_ends(dataset))
        found = ends.sum() - found
        request.note("white is zero (MONOCHROME1): inverted, so that bright is large")
    known = (_text(dataset, name) for name in ("DoseUnits", "RescaleType", "Units"))
    unit = next((each for each in known if each in _UNITS), None)
    request.band(Band("grey", f"grey, stored bits: {_whole(dataset, 'BitsStored', 16)}", unit))
    return np.ascontiguousarray(found[..., np.newaxis], np.float32)


def _frame(dataset: Any, number: int | None) -> NDArray[Any]:
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    try:
        values = np.asarray(pixel_array(dataset, index=number))
        if _text(dataset, "PhotometricInterpretation") == _PALETTE:
            return np.asarray(apply_color_lut(values, dataset))
    except (*MALFORMED, NotImplementedError) as error:
        syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
        if syntax is not None and syntax.is_compressed:
            raise UnreadableError(
                f"is compressed as {syntax.name} and cannot be unpacked; perhaps this helps: "
                "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
            ) from None
        raise UnreadableError(f"cannot be read as DICOM ({type(error).__name__})") from None
    return values


def _rescaling(dataset: Any, number: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Function from stored numbers to the units of the file, from the header or that of this frame."""
    from pydicom.pixels.processing import apply_modality_lut

    holders = [dataset]
    frames, shared = (dataset.get(name) for name in _FUNCTIONAL_GROUPS)
    for group in (shared[0] if shared else None, frames[number] if frames and len(frames) > number else None):
        holders += list(group.get("PixelValueTransformationSequence") or []) if group is not None else []
    holder = holders[-1]
    if "ModalityLUTSequence" in holder:
        return lambda values: np.asarray(apply_modality_lut(values.astype(np.int64), holder), np.float64)
    if "DoseGridScaling" in dataset:
        dose = float(dataset.DoseGridScaling)
        return lambda values: values * dose
    slope, offset = (float(holder.get(name) or other) for name, other in (("RescaleSlope", 1), ("RescaleIntercept", 0)))
    return lambda values: values * slope + offset


_FUNCTIONAL_GROUPS = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"


def _ends(dataset: Any) -> NDArray[np.float64]:
    """Smallest and largest number that can be stored."""
    n = 1 << _whole(dataset, "BitsStored", 16)
    lowest = -n // 2 if _whole(dataset, "PixelRepresentation", 0) else 0
    return np.array([lowest, lowest + n - 1], np.float64)


def _whole(dataset: Any, name: str, otherwise: int) -> int:
    value = dataset.get(name)
    return otherwise if value is None or value == "" else int(value)


def _text(dataset: Any, name: str) -> str:
    return str(dataset.get(name) or "").strip()
