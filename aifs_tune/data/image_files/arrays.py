"""Pixel arrays of image files: which axis is what, and how large they may be."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.images.decode import MAX_PIXELS

Pixels = NDArray[np.float32]
"""One image of shape (height, width, bands); missing pixels are NaN."""

Admit = Callable[[int], None]
"""Is called with the number of pixels in all bands before they are read; it may block."""

Plane = int | Literal["max", "mean", "all"]
"""What is read along an axis of a stack: one plane, the maximum or mean of all, or all as bands."""

_MAX_AXES = 8
FEW_BANDS = 4
"""So many bands at most that an axis of this length is taken for them, between two longer ones."""
_WITHOUT_MEANING = frozenset("IQR")
"""Names of axes that say only that a file has several pages."""


class UnreadableError(Exception):
    """Raised if an image cannot be used; the text says what was found and what is allowed."""


@dataclass(frozen=True)
class Reading:
    """Settings for reading files.

    ``hdu`` has numbers or names of FITS HDUs, or ``all``. ``dataset`` is a name in HDF5 and npz files. ``bands`` is
    the axis of the bands in FITS, HDF5 and NumPy. ``planes`` says what is read along the named axes of a stack.
    """

    hdu: tuple[int | str, ...] = ()
    dataset: str | None = None
    bands: Literal["auto", "first", "last"] = "auto"
    planes: tuple[tuple[str, Plane], ...] = ()

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Reading:
        """Make settings from ``dataclasses.asdict`` of settings, after JSON."""
        planes = tuple((name, plane) for name, plane in stored["planes"])
        return cls(tuple(stored["hdu"]), stored["dataset"], stored["bands"], planes)


@dataclass(frozen=True)
class Band:
    """What a band of an image is taken for, or with ``left_out`` why something beside it in the file is not used."""

    name: str
    taken_for: str
    unit: str | None = None
    left_out: str | None = None


@dataclass(frozen=True)
class Request:
    """The image that is wanted of a file: the one at ``index`` of several, or with None the only one.

    ``note`` is called with a sentence about anything that was chosen, without the name of the file. ``band`` is called
    for each band of the image in their order, and for what is left out beside them.
    """

    index: int | None = None
    admit: Admit = lambda n_pixels: None
    note: Callable[[str], None] = lambda text: None
    band: Callable[[Band], None] = lambda band: None


Read = Callable[[Request], Pixels]
"""Reader of the images of an opened file."""


def text_of(shape: tuple[int, ...]) -> str:
    """Return a shape as text, such as ``3 x 16 x 20``."""
    return " x ".join(map(str, shape)) or "no axes"


def check_size(shape: tuple[int, ...], admit: Admit) -> None:
    """Refuse an array with too many pixels, and call ``admit`` with their number.

    Raises
    ------
    UnreadableError
        If it has more than :data:`MAX_PIXELS`.
    """
    n_pixels = np.prod(shape, dtype=np.float64)
    if n_pixels > MAX_PIXELS:
        raise UnreadableError(f"has {text_of(shape)} pixels; allowed: at most {MAX_PIXELS:,} in all")
    admit(int(n_pixels))


def checked_index(index: int, n: int) -> int:
    """Return ``index`` if there are so many images.

    Raises
    ------
    UnreadableError
        If there are not.
    """
    if not 0 <= index < n:
        raise UnreadableError(f"has no image {index}; allowed: 0 to {n - 1}")
    return index


def image_of(
    array: Any,
    request: Request,
    bands: Literal["auto", "first", "last"],
    *,
    name: str = "",
    unit: str | None = None,
) -> Pixels:
    """Return the image in an array, or the image at ``request.index`` along its first axis.

    ``array`` needs a shape, ``array[index]`` and ``numpy.asarray(array)``; nothing else is read. ``name`` is what the
    file calls it, and ``unit`` that of its values.

    Raises
    ------
    UnreadableError
        If there is no image, or it does not consist of numbers.
    """
    shape = tuple(array.shape)
    if request.index is not None:
        if len(shape) < 3:
            found = text_of(shape)
            raise UnreadableError(f"has the shape {found}; allowed with an index: 3 or 4 axes, images along the first")
        checked_index(request.index, shape[0])
        check_size(shape[1:], request.admit)
        values = np.asarray(array[request.index])
    else:
        check_size(shape, request.admit)
        values = np.asarray(array)
    while values.ndim > 2 and values.shape[0] == 1 and values.ndim < _MAX_AXES:  # for example the Stokes axis of a map
        values = values[0]
    if values.ndim not in (2, 3) or 0 in values.shape:
        where = " first or last" if bands == "auto" else f" {bands}"
        raise UnreadableError(f"has the shape {text_of(shape)}; allowed: 2 axes, or 3 with the bands{where}")
    if values.dtype.kind not in "biuf":
        raise UnreadableError(f"has pixels of type {values.dtype}; allowed: integers or real numbers")
    if values.ndim == 2:
        values = values[..., np.newaxis]
    elif not _are_bands_last(values.shape, bands, request):
        values = np.moveaxis(values, 0, -1)
    n = values.shape[2]
    for i in range(n):
        called = f"{name} plane {i}".strip() if n > 1 else name or "image"
        request.band(Band(called, f"{'plane' if n > 1 else 'image'}, {name_of_type(values.dtype)}", unit))
    return np.ascontiguousarray(values, np.float32)


def without_marker(pixels: Pixels, marker: float | None, said_by: str, request: Request) -> Pixels:
    """Return pixels with NaN in place of the number that a file says means a missing one, and note it."""
    if marker is None or not np.isfinite(marker):
        return pixels
    is_missing = pixels == np.float32(marker)
    if not is_missing.any():
        return pixels
    request.note(f"pixels of {marker:g} are missing, as {said_by} says")
    return np.where(is_missing, np.float32(np.nan), pixels)


def name_of_type(dtype: Any) -> str:
    """Return the name of a type of numbers without its byte order, such as ``uint16``."""
    return str(np.dtype(dtype).newbyteorder("=").name)


def _are_bands_last(shape: tuple[int, ...], bands: Literal["auto", "first", "last"], request: Request) -> bool:
    """Whether the bands are the last of three axes; told from the shape if nothing else says so."""
    if bands != "auto":
        return bands == "last"
    first, rows, last = shape
    is_last = last <= FEW_BANDS < min(first, rows) or (first == rows != last and first > FEW_BANDS)
    axes, size = ("last", f"{first} x {rows}") if is_last else ("first", f"{rows} x {last}")
    n = last if is_last else first
    request.note(f"shape {text_of(shape)} read as {n} bands of {size} px, bands {axes} (data.frames.bands)")
    return is_last


def stack_of(
    axes: str,
    shape: tuple[int, ...],
    plane: Callable[[tuple[int, ...]], NDArray[Any]],
    reading: Reading,
    it: Request,
    *,
    channels: Sequence[str] = (),
) -> Pixels:
    """Return an image from a stack whose axes have names, as in OME-TIFF and ImageJ.

    Parameters
    ----------
    axes : str
        A letter for each axis: Y and X of the image, S its samples, C its channels; others such as Z and T.
    shape : tuple of int
        Length of each axis.
    plane : callable
        Gets an index for each of the axes before those that it returns, which are the last ones.
    reading : Reading
        Its ``planes`` say what is read along axes that are no bands.
    it : Request
        With an index, it counts along the one axis for which ``planes`` says nothing.
    channels : sequence of str, optional
        Names of the channels, where the file has them.

    Raises
    ------
    UnreadableError
        If it is not clear what is to be read along an axis; the text names the axes and their lengths.
    """
    names = _named(axes)
    wanted = _wanted(names, shape, dict(reading.planes), it.index)
    read = [range(n) if not isinstance(one, int) else [one] for n, one in zip(shape, wanted, strict=True)]
    check_size(tuple(map(len, read)), it.admit)
    values = _read_planes(read, shape, plane)
    for axis, one in enumerate(wanted):
        if one in ("max", "mean"):
            values = getattr(values, one)(axis=axis, keepdims=True)
    rows, columns = names.index("Y"), names.index("X")
    kind = name_of_type(values.dtype)
    for band in _bands_of_stack(names, shape, wanted, kind, channels):
        if it.index is None or band.left_out is None:  # other rows of a manifest may ask for the other planes
            it.band(band)
    values = np.moveaxis(values, (rows, columns), (0, 1))
    return np.ascontiguousarray(values.reshape(*values.shape[:2], -1), np.float32)


def _named(axes: str) -> list[str]:
    """Letters of the axes; those without a meaning are A1, A2, ... if there are several."""
    unnamed = [i for i, axis in enumerate(axes) if axis in _WITHOUT_MEANING]
    return [f"A{unnamed.index(i) + 1}" if i in unnamed and len(unnamed) > 1 else axis for i, axis in enumerate(axes)]


def _wanted(names: list[str], shape: tuple[int, ...], planes: dict[str, Plane], index: int | None) -> list[Plane]:
    """What is read along each axis."""
    text = ", ".join(f"{name} {n}" for name, n in zip(names, shape, strict=True))
    absent = [name for name in planes if name not in names or name in "YXS"]
    if absent:
        raise UnreadableError(f"has the axes {text}; no axis {absent[0]} to choose a plane of")
    wanted: list[Plane] = [planes.get(name, "all") for name in names]
    for name, n, one in zip(names, shape, wanted, strict=True):
        if isinstance(one, int) and not 0 <= one < n:
            raise UnreadableError(f"has no plane {one} on the axis {name}; allowed: 0 to {n - 1}")
    is_band = [name in "YXSC" or name in _WITHOUT_MEANING for name in names]
    open_axes = [
        i for i, name in enumerate(names) if shape[i] > 1 and name not in planes and name not in ("Y", "X", "S")
    ]
    if index is not None:
        counted = [i for i in open_axes if not is_band[i]] or open_axes
        if len(counted) != 1:
            raise UnreadableError(
                f"has the axes {text}; allowed with an index: one axis that data.frames.planes leaves"
            )
        wanted[counted[0]] = checked_index(index, shape[counted[0]])
        open_axes.remove(counted[0])
    unclear = [names[i] for i in open_axes if not is_band[i]]
    if unclear:
        example = ", ".join(f"{name}: 0" for name in unclear)
        raise UnreadableError(
            f"has the axes {text}; say what is read along {' and '.join(unclear)}: data.frames.planes {{{example}}}, "
            "or max, mean, or all (as bands)"
        )
    return wanted


def _bands_of_stack(
    names: list[str], shape: tuple[int, ...], wanted: list[Plane], kind: str, channels: Sequence[str]
) -> Iterator[Band]:
    """Bands in the order of the axes, and the planes that are not read."""
    said, together = list[list[str]](), list[str]()
    for name, n, one in zip(names, shape, wanted, strict=True):
        if name in "YX" or n == 1:
            continue
        if one == "all":
            known = COLOURS.get(n, ()) if name == "S" else channels if name == "C" and len(channels) == n else ()
            said.append(list(known) or [f"{name}={i}" for i in range(n)])
        elif isinstance(one, int):
            yield Band(f"{name} other than {one}", f"{n - 1} planes", None, f"plane {one} of {n} is read")
        else:
            together.append(f"{one} of {n} planes along {name}, ")
    for parts in itertools.product(*said):
        what = "colour" if parts and parts[-1] in ("R", "G", "B") else "plane" if parts else "image"
        yield Band(" ".join(parts) or "image", f"{what}, {''.join(together)}{kind}")


COLOURS: Mapping[int, tuple[str, ...]] = {
    1: ("grey",),
    2: ("grey", "alpha"),
    3: ("R", "G", "B"),
    4: ("R", "G", "B", "A"),
}
"""Names of so many samples of a pixel."""


def _read_planes(
    read: list[Any], shape: tuple[int, ...], plane: Callable[[tuple[int, ...]], NDArray[Any]]
) -> NDArray[Any]:
    """Read these positions along each axis, shape (len(positions), ...)."""
    first = plane(tuple(positions[0] for positions in read))
    n_before = len(shape) - first.ndim
    counts = tuple(len(positions) for positions in read[:n_before])
    found = np.empty((int(np.prod(counts)), *first.shape), first.dtype)
    for i, at in enumerate(np.ndindex(*counts)):
        found[i] = plane(tuple(positions[j] for positions, j in zip(read, at, strict=False)))
    found = found.reshape(*counts, *first.shape)
    for axis, positions in enumerate(read[n_before:], start=n_before):
        if len(positions) < shape[axis]:
            found = found.take(list(positions), axis=axis)
    return found


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
