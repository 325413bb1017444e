"""Readers of image files by suffix: FITS, HDF5, NumPy, TIFF, DICOM, JPEG, PNG, GIF, WebP and BMP."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.data.frames.containers import opened_hdf5, opened_npy, opened_npz
from aifs_tune.data.frames.fits_files import opened_fits
from aifs_tune.data.image_files.arrays import (
    COLOURS,
    Band,
    Pixels,
    Read,
    Reading,
    Request,
    UnreadableError,
    beside,
    check_size,
    checked_index,
    image_of,
    name_of_type,
    stack_of,
    without_marker,
)
from aifs_tune.data.image_files.dicom import opened_dicom
from aifs_tune.data.image_files.png import is_deep_colour, read_deep_colour
from aifs_tune.data.image_files.tiff import opened_stack
from aifs_tune.data.images.decode import MALFORMED, MAX_PIXELS, MOVING
from aifs_tune.data.images.folder import shown
from aifs_tune.data.links import absence_of


def format_of(name: str) -> str | None:
    """Return the format of a file by its suffix; None for an unknown suffix."""
    lower = name.lower()
    lower = lower.removesuffix(".gz") if lower.endswith((".fits.gz", ".fit.gz", ".fts.gz")) else lower
    return SUFFIXES.get(Path(lower).suffix)


class ImageReader:
    """Reader of images that keeps a file with many of them open, so that it is opened and unpacked once.

    Images should be asked for in the order of files and indices. A context manager, which closes the files.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._open: dict[Path, tuple[ExitStack, Read]] = {}

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(self, *problem: object) -> None:
        self._close(self._open)

    def read(self, files: Sequence[Path], request: Request) -> Pixels:
        """Read the images in ``files`` as the bands of one image.

        Raises
        ------
        UnreadableError
            If there is no image, or it does not consist of numbers.
        """
        self._close([file for file in self._open if file not in files])
        images = []
        for file in files:
            try:
                images.append(self._read(file, request))
            except UnreadableError as error:
                self._close([path for path in self._open if path == file])
                raise UnreadableError(f"{file.name}: {error}" if len(files) > 1 else str(error)) from error
        if request.index is None:
            self._close(self._open)
        return images[0] if len(images) == 1 else beside(images)

    def _read(self, file: Path, request: Request) -> Pixels:
        kind = format_of(file.name)
        if kind is None:
            raise UnreadableError(f"has an unknown suffix; allowed: {', '.join(SUFFIXES)}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if file not in self._open:
                    held = ExitStack()
                    self._open[file] = held, held.enter_context(_OPENERS[kind](file, self._reading))
                return self._open[file][1](request)
        except UnreadableError:
            raise
        except FileNotFoundError:
            raise UnreadableError(absence_of(file) or "does not exist") from None
        except (*MALFORMED, zipfile.BadZipFile, Warning) as error:
            text = shown(" ".join(str(error).split())[:160]) or type(error).__name__
            raise UnreadableError(f"cannot be read as {kind} ({text})") from error

    def _close(self, files: Sequence[Path] | dict[Path, Any]) -> None:
        for file in list(files):
            self._open.pop(file)[0].close()


def read_image(path: Path, index: int | None, reading: Reading) -> Pixels:
    """Read the image in a file, or the image at ``index`` of a file with several.

    Raises
    ------
    UnreadableError
        If there is no image, or it does not consist of numbers.
    """
    with ImageReader(reading) as reader:
        return reader.read([path], Request(index))


@contextmanager
def _tiff(path: Path, reading: Reading) -> Iterator[Read]:
    """Open a TIFF file: with tifffile where Pillow would lose bits, signs or the meaning of the pages."""
    with opened_stack(path) as stack:
        nodata = stack.nodata
        if not stack.is_plain or reading.planes:
            yield lambda request: without_marker(
                stack_of(stack.axes, stack.shape, stack.plane, reading, request, channels=stack.channels),
                nodata,
                "GDAL_NODATA",
                request,
            )
            return
    with _picture(path, reading) as read:
        yield lambda request: without_marker(read(request), nodata, "GDAL_NODATA", request)


@contextmanager
def _picture(path: Path, reading: Reading) -> Iterator[Read]:
    """Open a file with Pillow, which reads all pages as bands, or the page at an index."""
    del reading
    with missing_packages_named():
        from PIL import Image

    try:
        picture = Image.open(path, formats=("JPEG", "PNG", "TIFF", *MOVING, "BMP"))
    except Image.DecompressionBombError as error:
        raise UnreadableError(f"has too many pixels; allowed: at most {MAX_PIXELS:,} in all bands") from error
    with picture as opened:
        yield partial(_pages, opened)


def _pages(opened: Any, request: Request) -> Pixels:
    n = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
    if n > 1 and opened.format in MOVING and request.index is None:
        request.note("a moving picture, of which the first frame is read (data.frames.index)")
        request.band(Band("other frames", "frames", None, "the first frame is read (data.frames.index)"))
        n = 1
    pages = []
    for page in range(n) if request.index is None else [checked_index(request.index, n)]:
        if n > 1:
            opened.seek(page)
        check_size((opened.height, opened.width, len(opened.getbands()) * n), request.admit)
        has_alpha = opened.has_transparency_data
        values = _values(opened)
        pages.append(image_of(values, Request(), "last"))
        of_page = f"page {page} " if n > 1 and request.index is None else ""
        n_channels, of_one = pages[-1].shape[2], name_of_type(values.dtype)
        for name in COLOURS.get(n_channels, [f"channel {i}" for i in range(n_channels)]):
            request.band(Band(of_page + name, f"{'colour' if n_channels > 2 else 'grey'}, {of_one}"))
        if has_alpha:
            request.band(Band("alpha", "transparency", None, "the image gets a black background"))
    return beside(pages)


def _values(page: Any) -> NDArray[Any]:
    """Pixels of a page; transparency gets a black background."""
    if is_deep_colour(page):
        with open(page.filename, "rb") as file:
            return read_deep_colour(page, file)
    if page.has_transparency_data:
        values = np.asarray(page.convert("RGBA"), np.float32)
        return np.rint(values[..., :3] * (values[..., 3:] / 255)).astype(np.uint8)
    return np.asarray(page.convert("RGB") if page.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV") else page)


@contextmanager
def _dicom(path: Path, reading: Reading) -> Iterator[Read]:
    del reading
    with opened_dicom(path) as read:
        yield read


_OPENERS: dict[str, Callable[[Path, Reading], AbstractContextManager[Read]]] = {
    "FITS": opened_fits,
    "HDF5": opened_hdf5,
    "NumPy": opened_npy,
    "npz": opened_npz,
    "TIFF": _tiff,
    "DICOM": _dicom,
    "JPEG": _picture,
    "PNG": _picture,
    "GIF": _picture,
    "WebP": _picture,
    "BMP": _picture,
}
SUFFIXES: Mapping[str, str] = {
    **dict.fromkeys((".fits", ".fit", ".fts", ".fz"), "FITS"),
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), "HDF5"),
    ".npy": "NumPy",
    ".npz": "npz",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".dcm", ".dicom"), "DICOM"),
    **dict.fromkeys((".jpg", ".jpeg"), "JPEG"),
    ".png": "PNG",
    ".gif": "GIF",
    ".webp": "WebP",
    ".bmp": "BMP",
}
"""Format of each suffix; a FITS suffix may be followed by ``.gz``."""
