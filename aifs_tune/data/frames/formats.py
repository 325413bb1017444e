"""Readers of image files by suffix: FITS, HDF5, NumPy, TIFF with several pages, JPEG and PNG."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.data.images.decode import MALFORMED, MAX_PIXELS
from aifs_tune.data.images.folder import shown

Pixels = NDArray[np.float32]
"""One image of shape (height, width, bands); missing pixels are NaN."""

_MAX_AXES = 8
_FEW_BANDS = 4
_TIFF_BITS, _TIFF_SAMPLES, _SIGNED = 258, 339, 2
_COLOUR = ("RGB", "RGBA", "RGBX", "CMYK", "LAB")

Admit = Callable[[int], None]


class UnreadableError(Exception):
    """Raised if an image cannot be used; the text says what was found and what is allowed."""


@dataclass(frozen=True)
class Reading:
    """Settings for reading files.

    ``hdu`` has numbers or names of FITS HDUs, or ``all``. ``dataset`` is a name in HDF5 and npz files. ``bands`` is
    the axis of the bands in FITS, HDF5 and NumPy.
    """

    hdu: tuple[int | str, ...] = ()
    dataset: str | None = None
    bands: Literal["first", "last"] = "first"

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Reading:
        """Make settings from ``dataclasses.asdict`` of settings, after JSON."""
        return cls(tuple(stored["hdu"]), stored["dataset"], stored["bands"])


def format_of(name: str) -> str | None:
    """Return the format of a file by its suffix; None for an unknown suffix."""
    lower = name.lower()
    lower = lower.removesuffix(".gz") if lower.endswith((".fits.gz", ".fit.gz", ".fts.gz")) else lower
    return SUFFIXES.get(Path(lower).suffix)


def read_image(path: Path, index: int | None, reading: Reading, admit: Admit = lambda n_pixels: None) -> Pixels:
    """Read the image in a file, or the image at ``index`` of a file with several.

    ``admit`` is called with the number of pixels in all bands before they are read; it may block.

    Raises
    ------
    UnreadableError
        If there is no image, or it does not consist of numbers.
    """
    kind = format_of(path.name)
    if kind is None:
        raise UnreadableError(f"has an unknown suffix; allowed: {', '.join(SUFFIXES)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _OPENERS[kind](path, index, reading, admit) as image:
                pixels: Pixels = image
                return pixels
    except UnreadableError:
        raise
    except FileNotFoundError:
        raise UnreadableError("does not exist") from None
    except (*MALFORMED, zipfile.BadZipFile, Warning) as error:
        text = shown(" ".join(str(error).split())[:160]) or type(error).__name__
        raise UnreadableError(f"cannot be read as {kind} ({text})") from error


@contextmanager
def _fits(path: Path, index: int | None, reading: Reading, admit: Admit) -> Iterator[Pixels]:
    with missing_packages_named():
        from astropy.io import fits

    warnings.filterwarnings("error", message=".*truncated.*")
    with fits.open(path, memmap=False, lazy_load_hdus=True) as opened:
        bands = [_image(_Section(hdu), index, reading.bands, admit) for hdu in _chosen(opened, reading.hdu)]
        yield beside(bands)


class _Section:
    """Array of an HDU that reads and scales only the requested section."""

    def __init__(self, hdu: Any) -> None:
        self.shape: tuple[int, ...] = tuple(hdu.shape)
        self._hdu = hdu

    def __getitem__(self, picked: Any) -> Any:
        return self._hdu.section[picked]

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        del dtype, copy
        return np.asarray(self._hdu.data)


def _chosen(opened: Any, wanted: tuple[int | str, ...]) -> list[Any]:
    if not wanted or wanted == ("all",):
        images = (hdu for hdu in opened if hdu.is_image and len(hdu.shape) >= 2)
        found = list(images) if wanted else [hdu for hdu in [next(images, None)] if hdu is not None]
        if not found:
            raise UnreadableError(f"has no HDU with an image; found: {_hdus(opened)}")
        return found
    chosen = []
    for key in wanted:
        try:
            hdu = opened[key]
        except (KeyError, IndexError):
            raise UnreadableError(f"has no HDU {key!r}; allowed: {_hdus(opened)}") from None
        if not hdu.is_image or len(hdu.shape) < 2:
            raise UnreadableError(f"HDU {key!r} is not an image; found: {_hdus(opened)}")
        chosen.append(hdu)
    return chosen


def _hdus(opened: Any) -> str:
    def describe(hdu: Any) -> str:
        return " x ".join(map(str, hdu.shape)) or "empty" if hdu.is_image else "a table"

    return ", ".join(f"{i} {shown(hdu.name)} ({describe(hdu)})" for i, hdu in enumerate(opened))


@contextmanager
def _hdf5(path: Path, index: int | None, reading: Reading, admit: Admit) -> Iterator[Pixels]:
    with missing_packages_named():
        import h5py

    with open(path, "rb") as file, h5py.File(file, "r") as opened:
        named = None if reading.dataset is None else opened.get(reading.dataset)
        if isinstance(named, h5py.Dataset):
            yield _image(_within(named, opened), index, reading.bands, admit)
            return
        found: dict[str, Any] = {}

        def note(name: str, thing: Any) -> None:
            if isinstance(thing, h5py.Dataset):
                found[name] = thing

        opened.visititems(note)
        yield _image(_within(_named(found, reading.dataset), opened), index, reading.bands, admit)


def _within(dataset: Any, opened: Any) -> Any:
    """A dataset whose values are in the opened HDF5 file itself; a file from elsewhere could name any other one."""
    if dataset.is_virtual or dataset.external or dataset.file != opened:
        raise UnreadableError(
            f"its dataset {shown(dataset.name)} is kept in another file; allowed: values in the file itself"
        )
    return dataset


@contextmanager
def _npy(path: Path, index: int | None, reading: Reading, admit: Admit) -> Iterator[Pixels]:
    yield _image(np.load(path, mmap_mode="r", allow_pickle=False), index, reading.bands, admit)


@contextmanager
def _npz(path: Path, index: int | None, reading: Reading, admit: Admit) -> Iterator[Pixels]:
    with np.load(path, allow_pickle=False) as archive:
        found = {name: archive[name] for name in archive.files if reading.dataset in (None, name)}
        yield _image(_named(found or dict.fromkeys(archive.files), reading.dataset), index, reading.bands, admit)


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


@contextmanager
def _picture(path: Path, index: int | None, reading: Reading, admit: Admit) -> Iterator[Pixels]:
    """Read all pages of a file as bands, or the page at ``index``; transparency gets a black background."""
    del reading
    from PIL import Image

    with Image.open(path, formats=("JPEG", "PNG", "TIFF")) as opened:
        n = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
        if index is not None and not 0 <= index < n:
            raise UnreadableError(f"has no image {index}; allowed: 0 to {n - 1}")
        pages = []
        for page in range(n) if index is None else [index]:
            if n > 1:
                opened.seek(page)
            _check_size((opened.height, opened.width, n), admit)
            _check_depth(opened)
            pages.append(_image(_values(opened), None, "last", admit))
        yield beside(pages)


def _check_depth(page: Any) -> None:
    """Refuse pages of which Pillow would lose bits or the sign."""
    tags: Any = getattr(page, "tag_v2", None)
    if page.format != "TIFF" or tags is None:
        return
    bits, kinds = (tags.get(tag, ()) for tag in (_TIFF_BITS, _TIFF_SAMPLES))
    deepest = max(bits) if isinstance(bits, tuple) and bits else 0
    if page.mode in _COLOUR and deepest > 8:
        raise UnreadableError(
            f"has {deepest} bits in each of several colours, of which 8 would be read; allowed: a page or file for "
            "each colour, or NumPy, FITS or HDF5"
        )
    is_signed = isinstance(kinds, tuple) and _SIGNED in kinds
    if is_signed and deepest == 8:
        raise UnreadableError(
            "has signed numbers of 8 bits, which would be read as 0 to 255; allowed: 16 bits, or NumPy"
        )


def _values(page: Any) -> NDArray[Any]:
    if page.has_transparency_data:
        values = np.asarray(page.convert("RGBA"), np.float32)
        return np.asarray(values[..., :3] * (values[..., 3:] / 255))
    return np.asarray(page.convert("RGB") if page.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV") else page)


def _image(array: Any, index: int | None, bands: Literal["first", "last"], admit: Admit) -> Pixels:
    shape = tuple(array.shape)
    text = " x ".join(map(str, shape)) or "no axes"
    if index is not None:
        if len(shape) < 3:
            raise UnreadableError(f"has the shape {text}; allowed with an index: 3 or 4 axes, images along the first")
        if not 0 <= index < shape[0]:
            raise UnreadableError(f"has no image {index}; allowed: 0 to {shape[0] - 1}")
        _check_size(shape[1:], admit)
        values = np.asarray(array[index])
    else:
        _check_size(shape, admit)
        values = np.asarray(array)
    while values.ndim > 2 and values.shape[0] == 1 and values.ndim < _MAX_AXES:  # for example the Stokes axis of a map
        values = values[0]
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise UnreadableError(f"has the shape {text}; allowed: 2 axes, or 3 with the bands {bands}")
    if values.dtype.kind not in "biuf":
        raise UnreadableError(f"has pixels of type {values.dtype}; allowed: integers or real numbers")
    if values.ndim == 2:
        values = values[..., np.newaxis]
    elif bands == "first" and values.shape[2] <= _FEW_BANDS < min(values.shape[:2]):
        raise UnreadableError(
            f"has the shape {text}, which would be {values.shape[0]} bands of {values.shape[1]} x {values.shape[2]} "
            "px; if the bands are along the last axis: data.frames.bands: last"
        )
    elif bands == "first":
        values = np.moveaxis(values, 0, -1)
    return np.ascontiguousarray(values, np.float32)


def _check_size(shape: tuple[int, ...], admit: Admit) -> None:
    n_pixels = np.prod(shape, dtype=np.float64)
    if n_pixels > MAX_PIXELS:
        raise UnreadableError(f"has {' x '.join(map(str, shape))} pixels; allowed: at most {MAX_PIXELS:,} in all")
    admit(int(n_pixels))


def beside(images: list[Pixels]) -> Pixels:
    """Join images of equal size into one image with all their bands.

    Raises
    ------
    UnreadableError
        If their sizes differ.
    """
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        text = " and ".join(f"{height} x {width}" for height, width in sorted(sizes))
        raise UnreadableError(f"has frames of {text} pixels; allowed: frames of one size")
    return np.concatenate(images, axis=2)


_Opener = Callable[[Path, int | None, Reading, Admit], Any]
_OPENERS: dict[str, _Opener] = {
    "FITS": _fits, "HDF5": _hdf5, "NumPy": _npy, "npz": _npz, "TIFF": _picture, "JPEG": _picture, "PNG": _picture,
}  # fmt: skip
SUFFIXES: Mapping[str, str] = {
    **dict.fromkeys((".fits", ".fit", ".fts", ".fz"), "FITS"),
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), "HDF5"),
    ".npy": "NumPy",
    ".npz": "npz",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".jpg", ".jpeg"), "JPEG"),
    ".png": "PNG",
}
"""Format of each suffix; a FITS suffix may be followed by ``.gz``."""
