"""FITS files: which HDU is the image, and reading no more of it than is asked for."""

from __future__ import annotations

import gzip
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.data.image_files.arrays import (
    FEW_BANDS,
    Band,
    Pixels,
    Read,
    Reading,
    Request,
    UnreadableError,
    beside,
    image_of,
    text_of,
)
from aifs_tune.data.images.folder import shown

_ABOUT_PIXELS = frozenset(
    {
        *("aperture", "mask", "msk", "bpm", "badpix", "dq", "quality", "qual", "flag", "flags", "segm", "segmentation"),
        *("wht", "wgt", "weight", "weights", "cov", "coverage", "ctx", "con", "exp", "expmap", "time", "area"),
        *("err", "error", "errors", "unc", "uncert", "uncertainty", "sigma", "std", "stddev", "rms", "noise"),
        *("var", "variance", "ivar", "invvar", "bkg", "background", "psf", "nsamp", "samp"),
    }
)
"""Words in the names of HDUs that hold something about the pixels of an image, not the image."""


_GZIP, _PACKED = b"\x1f\x8b", (b"BZh", b"PK\x03\x04", b"\xfd7zX", b"\x1f\x9d")
_BLOCK, _MOST_BLOCKS = 2880, 10_000
"""Bytes of a block of a header, and how many a header may have."""
_PIECE, _MOST_BYTES = 2**20, 2 * 10**9


@contextmanager
def opened_fits(path: Path, reading: Reading) -> Iterator[Read]:
    """Open a FITS file; several HDUs are the bands of one image.

    Raises
    ------
    UnreadableError
        If it has no image, or only masks, weights and errors and ``reading.hdu`` names none.
    """
    with missing_packages_named():
        from astropy.io import fits

    warnings.filterwarnings("error", message=".*truncated.*")
    with open(path, "rb") as file, ExitStack() as held:
        start = file.read(4)
        if start.startswith(_PACKED):
            raise UnreadableError("is packed, and not as gzip; allowed: FITS, or FITS in gzip; unpack it")
        is_packed = start.startswith(_GZIP)
        source = held.enter_context(_Unpacked(file)) if is_packed else path
        opened = held.enter_context(fits.open(source, memmap=False, lazy_load_hdus=True))
        arrays: dict[bool, tuple[list[_Section | _Column], str]] = {}
        others: list[Band] = []

        def read(request: Request) -> Pixels:
            has_index = request.index is not None
            if has_index not in arrays:
                arrays[has_index] = _chosen(opened, reading, has_index=has_index)
            chosen, said = arrays[has_index]
            if said:
                request.note(said)
            images = [
                image_of(each, request, _bands(reading, each.shape), name=each.name, unit=each.unit) for each in chosen
            ]
            for each in chosen:
                if isinstance(each, _Column) and each.n_empty:
                    request.note(f"{each.n_empty} of {each.n} images in {each.name} have no finite pixel: left out")
            if not others:
                others.extend(_left_out(opened, chosen))
            for band in others:
                request.band(band)
            return beside(images)

        yield read


def _bands(reading: Reading, shape: tuple[int, ...]) -> Any:
    """Planes are the first axis of a cube in FITS, unless they would be of a few columns."""
    return "first" if reading.bands == "auto" and shape[-1] > FEW_BANDS else reading.bands


class _Unpacked:
    """File in gzip that refuses to unpack more than an image can need, and headers without an end."""

    mode = "rb"

    def __init__(self, packed: BinaryIO) -> None:
        packed.seek(0)
        self._file = gzip.GzipFile(fileobj=packed)
        self.name, self.closed, self._n_blocks = str(packed.name), False, 0

    def __enter__(self) -> _Unpacked:
        return self

    def __exit__(self, *problem: object) -> None:
        self._file.close()

    def read(self, n: int = -1) -> bytes:
        self._n_blocks = self._n_blocks + 1 if n == _BLOCK else 0
        if self._n_blocks > _MOST_BLOCKS:
            raise UnreadableError(
                f"has a header of more than {_MOST_BLOCKS * _BLOCK:,} bytes; allowed: one with an end"
            )
        return self._file.read(n)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._n_blocks = 0
        if whence != os.SEEK_END:
            return self._file.seek(offset, whence)
        while self._file.read(_PIECE):
            if self._file.tell() > _MOST_BYTES:
                raise UnreadableError(f"unpacks to more than {_MOST_BYTES:,} bytes; allowed: at most so many")
        return self._file.seek(self._file.tell() + offset)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
        self._file.close()


class _Section:
    """Array of an HDU that reads and scales only the requested section; ``unit`` is that of its values."""

    def __init__(self, hdu: Any) -> None:
        self.shape: tuple[int, ...] = tuple(hdu.shape)
        self.name, self.unit, self.hdu = _name(hdu), _text_in(hdu.header.get("BUNIT")), hdu

    def __getitem__(self, picked: Any) -> Any:
        return self.hdu.section[picked]

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        del dtype, copy
        return np.asarray(self.hdu.data)


class _Column:
    """Images in a column of a table, one for each row, as in target pixel files; ``index`` says that one is read.

    Otherwise those without a finite pixel are left out, and ``n_empty`` is their number.
    """

    def __init__(self, hdu: Any, column: str, *, has_index: bool) -> None:
        values = np.asarray(hdu.data.field(column))
        self.n_empty, self.n = 0, len(values)
        if not has_index and values.ndim > 2 and values.dtype.kind == "f":
            is_known = np.isfinite(values).any(axis=tuple(range(1, values.ndim)))
            self.n_empty = int((~is_known).sum())
            values = values[is_known] if is_known.any() else values
        self.name, self.unit, self.hdu = shown(column), _text_in(hdu.columns[column].unit), hdu
        self.shape: tuple[int, ...] = values.shape
        self._values = values

    def __getitem__(self, picked: Any) -> Any:
        return self._values[picked]

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        del dtype, copy
        return self._values


def _name(hdu: Any) -> str:
    """Name of an HDU, with its version if it is not the first of this name."""
    return (shown(hdu.name) or "image") + (f",{hdu.ver}" if hdu.ver > 1 else "")


def _text_in(card: Any) -> str | None:
    """Text of a card of a header; None without any."""
    return shown(card.strip()) or None if isinstance(card, str) else None


def _left_out(opened: Any, chosen: Sequence[_Section | _Column]) -> list[Band]:
    """The HDUs that are not read."""
    bands = []
    for hdu in opened:
        if any(hdu is each.hdu for each in chosen) or (hdu.is_image and not hdu.shape):
            continue
        if not hdu.is_image:
            bands.append(Band(_name(hdu), "table", None, "a table (data.frames.hdu and dataset read a column)"))
        elif _is_about_pixels(hdu):
            reason = "by its name a mask, weight or error (data.frames.hdu reads it)"
            bands.append(Band(_name(hdu), "mask, weight or error", None, reason))
        else:
            read = ", ".join(each.name for each in chosen)
            bands.append(Band(_name(hdu), "image", None, f"{read} is read (data.frames.hdu)"))
    return bands


def _chosen(opened: Any, reading: Reading, *, has_index: bool) -> tuple[list[_Section | _Column], str]:
    """Arrays of the HDUs that are read, and what is to be said about the choice."""
    if not reading.hdu:
        return _first_image(opened)
    if reading.hdu == ("all",):
        found = [_Section(hdu) for hdu in opened if _is_image(hdu)]
        if not found:
            raise UnreadableError(f"has no HDU with an image; found: {_hdus(opened)}")
        return [*found], ""
    chosen: list[_Section | _Column] = []
    for key in reading.hdu:
        try:
            hdu = opened[key]
        except (KeyError, IndexError):
            raise UnreadableError(f"has no HDU {key!r}; allowed: {_hdus(opened)}") from None
        if _is_image(hdu):
            chosen.append(_Section(hdu))
        else:
            column = _checked_column(hdu, key, opened, reading.dataset)
            chosen.append(_Column(hdu, column, has_index=has_index))
    return chosen, ""


def _first_image(opened: Any) -> tuple[list[_Section | _Column], str]:
    passed_over: list[Any] = []
    for hdu in opened:
        if _is_image(hdu) and not _is_about_pixels(hdu):
            names = ", ".join(shown(each.name) for each in passed_over)
            said = f"the image is HDU {shown(hdu.name)}, not {names} before it (data.frames.hdu)" if names else ""
            return [_Section(hdu)], said
        passed_over += [hdu] if _is_image(hdu) else []
    if not passed_over:
        raise UnreadableError(f"has no HDU with an image; found: {_hdus(opened)}")
    raise UnreadableError(
        f"has no HDU with an image but {', '.join(shown(hdu.name) for hdu in passed_over)}, by name a mask, weight or "
        f"error; found: {_hdus(opened)}; name the one to read: data.frames.hdu"
        + (" (of a table also its column: data.frames.dataset)" if _image_columns(opened) else "")
    )


def _is_image(hdu: Any) -> bool:
    return bool(hdu.is_image) and len(hdu.shape) >= 2


def _is_about_pixels(hdu: Any) -> bool:
    """Whether the name of an HDU, or what the header says of its kind, is that of a mask, weight or error."""
    classes = [str(hdu.header.get(f"HDUCLAS{i}", "")) for i in (1, 2, 3)]
    words = [word for text in (hdu.name, *classes) for word in re.split(r"[\W_\d]+", text.lower())]
    return not _ABOUT_PIXELS.isdisjoint(words)


def _checked_column(hdu: Any, key: int | str, opened: Any, column: str | None) -> str:
    """Name of the column of a table that is read."""
    names: Sequence[str] = getattr(getattr(hdu, "columns", None), "names", ())
    if column is None or column not in names:
        raise UnreadableError(
            f"HDU {key!r} is not an image; found: {_hdus(opened)}"
            + (f"; columns of images in data.frames.dataset: {', '.join(_of_images(hdu)) or 'none'}" if names else "")
        )
    return column


def _of_images(hdu: Any) -> list[str]:
    """Names of the columns with an image in each row."""
    columns = getattr(hdu, "columns", None) or ()
    return [column.name for column in columns if isinstance(column.dim, str) and "," in column.dim]


def _image_columns(opened: Any) -> bool:
    return any(_of_images(hdu) for hdu in opened if not hdu.is_image)


def _hdus(opened: Any) -> str:
    def describe(hdu: Any) -> str:
        if hdu.is_image:
            return text_of(tuple(hdu.shape)) if hdu.shape else "empty"
        columns = _of_images(hdu)
        return f"a table with images in {', '.join(map(shown, columns))}" if columns else "a table"

    return ", ".join(f"{i} {shown(hdu.name)} ({describe(hdu)})" for i, hdu in enumerate(opened))
