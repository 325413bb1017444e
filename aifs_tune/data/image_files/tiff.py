"""TIFF files by tifffile: colours of more than 8 bits, signed and floating-point numbers, and stacks with named axes.

Pillow reads 16-bit colours as 8 bits and signed numbers as unsigned ones.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.data.image_files.arrays import UnreadableError
from aifs_tune.data.images.folder import shown

_GREY_OR_RGB = (0, 1, 2)
"""Values of PhotometricInterpretation: white is zero, black is zero, RGB."""
_GDAL_NODATA = 42113
_MOST_OF_OME = 1_000_000
_UNSIGNED, _FLOATING, _UNDEFINED = 1, 3, 4


@dataclass(frozen=True)
class Stack:
    """Image in a TIFF file, with a letter of ``axes`` for each entry of ``shape``.

    ``is_plain`` says that Pillow reads its pages in full, which are the only axis besides rows, columns and samples.
    ``channels`` are their names, where the file has them. ``nodata`` is the number that means a missing pixel, as GDAL
    writes it.
    """

    axes: str
    shape: tuple[int, ...]
    is_plain: bool
    dtype: np.dtype[Any]
    has_alpha: bool
    channels: tuple[str, ...]
    nodata: float | None
    _series: Any
    _mapped: NDArray[Any] | None

    def plane(self, at: tuple[int, ...]) -> NDArray[Any]:
        """Read the page at these positions on the axes before those of a page.

        Raises
        ------
        UnreadableError
            If it is compressed in a way that needs another package.
        """
        if self._mapped is not None:
            n_before = len(self.shape) - len(self._series.keyframe.shape)
            return np.asarray(self._mapped[at[:n_before]])
        try:
            n_before = len(self.shape) - len(self._series.keyframe.shape)
            if len(self._series.pages) == int(np.prod(self.shape[:n_before])):
                page = int(np.ravel_multi_index(at[:n_before], self.shape[:n_before])) if n_before else 0
                return np.asarray(self._series.pages[page].asarray(maxworkers=1))
            return np.asarray(self._series.asarray(maxworkers=1)[at[:n_before]])
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            how = self._series.keyframe.compression.name
            raise UnreadableError(f"is compressed with {how}, for which install: pip install imagecodecs") from error


@contextmanager
def opened_stack(file: Path | BinaryIO) -> Iterator[Stack]:
    """Open a TIFF file; only its header is read.

    Raises
    ------
    UnreadableError
        If it has several images of different sizes, or colours that are neither grey nor RGB and not of 8 bits.
    """
    with missing_packages_named():
        import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    called = None if isinstance(file, Path) else "image"  # a file opened by its descriptor has a number for a name
    with tifffile.TiffFile(file, name=called) as opened:
        series = opened.series
        if len(series) != 1:
            found = ", ".join(" x ".join(map(str, one.shape)) for one in series[:4]) or "none"
            raise UnreadableError(f"has {len(series)} images ({found}); allowed: one, or pages of one size")
        page = series[0].keyframe
        is_plain = _is_plain(opened, series[0])
        if page.dtype is None or (not is_plain and page.photometric not in _GREY_OR_RGB):
            name = getattr(page.photometric, "name", page.photometric)
            raise UnreadableError(f"has pixels of the kind {name} with {page.bitspersample} bits; allowed: grey or RGB")
        mapped = None
        if isinstance(file, Path) and series[0].dataoffset is not None and not is_plain:
            mapped = tifffile.memmap(file, series=0, mode="r")
        has_alpha = bool(page.extrasamples)
        shape, channels = tuple(series[0].shape), _channels(opened)
        nodata = _nodata(page)
        yield Stack(series[0].axes, shape, is_plain, page.dtype, has_alpha, channels, nodata, series[0], mapped)


def _nodata(page: Any) -> float | None:
    """The number in the tag GDAL_NODATA; None without one."""
    tag = page.tags.get(_GDAL_NODATA)
    try:
        return None if tag is None else float(str(tag.value).strip("\0 "))
    except ValueError:
        return None


def _channels(opened: Any) -> tuple[str, ...]:
    """Names of the channels in the metadata of OME."""
    stored = opened.ome_metadata if opened.is_ome else None
    found = re.findall(r'<Channel\b[^>]*?\bName="([^"]{1,60})"', stored[:_MOST_OF_OME] if stored else "")
    return tuple(shown(name) for name in found)


def _is_plain(opened: Any, series: Any) -> bool:
    page = series.keyframe
    bits, kinds = _listed(page.bitspersample), _listed(page.sampleformat)
    has_all_bits = max(bits) <= 8 or page.samplesperpixel == 1
    is_known = (max(bits) <= 16 and all(kind in (_UNSIGNED, _UNDEFINED) for kind in kinds)) or (
        page.samplesperpixel == 1 and kinds == (_FLOATING,) and max(bits) == 32
    )
    others = [axis for axis, n in zip(series.axes, series.shape, strict=True) if axis not in "YXS" and n > 1]
    n_planes = int(np.prod([n for axis, n in zip(series.axes, series.shape, strict=True) if axis not in "YXS"]))
    has_pages = len(opened.pages) == n_planes
    return has_all_bits and is_known and has_pages and (not others or (len(others) == 1 and others[0] in "IQRC"))


def _listed(value: Any) -> tuple[int, ...]:
    return tuple(int(one) for one in value) if isinstance(value, tuple) else (int(value),)
