"""FITS files: which HDU is the image, and reading no more of it than is asked for."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.data.image_files.arrays import FEW_BANDS, Read, Reading, UnreadableError, beside, image_of, text_of
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
    with fits.open(path, memmap=False, lazy_load_hdus=True) as opened:
        arrays, said = _chosen(opened, reading)

        def read(request: Any) -> Any:
            if said:
                request.note(said)
            return beside([image_of(array, request, _bands(reading, tuple(array.shape))) for array in arrays])

        yield read


def _bands(reading: Reading, shape: tuple[int, ...]) -> Any:
    """Planes are the first axis of a cube in FITS, unless they would be of a few columns."""
    return "first" if reading.bands == "auto" and shape[-1] > FEW_BANDS else reading.bands


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


def _chosen(opened: Any, reading: Reading) -> tuple[list[Any], str]:
    """Arrays of the HDUs that are read, and what is to be said about the choice."""
    if not reading.hdu:
        return _first_image(opened)
    if reading.hdu == ("all",):
        found = [_Section(hdu) for hdu in opened if _is_image(hdu)]
        if not found:
            raise UnreadableError(f"has no HDU with an image; found: {_hdus(opened)}")
        return found, ""
    chosen = []
    for key in reading.hdu:
        try:
            hdu = opened[key]
        except (KeyError, IndexError):
            raise UnreadableError(f"has no HDU {key!r}; allowed: {_hdus(opened)}") from None
        chosen.append(_Section(hdu) if _is_image(hdu) else _column(hdu, key, opened, reading.dataset))
    return chosen, ""


def _first_image(opened: Any) -> tuple[list[Any], str]:
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


def _column(hdu: Any, key: int | str, opened: Any, column: str | None) -> NDArray[Any]:
    """Images in a column of a table, one for each row, as in target pixel files."""
    names: Sequence[str] = getattr(getattr(hdu, "columns", None), "names", ())
    if column is None or column not in names:
        raise UnreadableError(
            f"HDU {key!r} is not an image; found: {_hdus(opened)}"
            + (f"; columns of images in data.frames.dataset: {', '.join(_of_images(hdu)) or 'none'}" if names else "")
        )
    return np.asarray(hdu.data.field(column))


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
