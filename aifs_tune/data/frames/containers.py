"""Files with many arrays: HDF5, NumPy and npz, of which no more is read than the image that is asked for."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.data.hdf import pandas_advice, pandas_key
from aifs_tune.data.image_files.arrays import (
    Band,
    Pixels,
    Read,
    Reading,
    Request,
    UnreadableError,
    image_of,
    without_marker,
)
from aifs_tune.data.image_files.npz import NpzArray, arrays_named
from aifs_tune.data.images.folder import shown

_CHUNK_CACHE = 64 * 2**20
"""Bytes of unpacked chunks that are kept of an HDF5 file, so that images in one chunk are unpacked once."""
_MOST_OF_UNIT = 40
"""Characters that are shown of a unit."""
_MOST_NAMED = 12


@contextmanager
def opened_hdf5(path: Path, reading: Reading) -> Iterator[Read]:
    """Open an HDF5 file."""
    with missing_packages_named():
        import h5py

    with open(path, "rb") as file, h5py.File(file, "r", rdcc_nbytes=_CHUNK_CACHE) as opened:
        dataset = None if reading.dataset is None else opened.get(reading.dataset)
        found: dict[str, Any] = {}
        is_given = isinstance(dataset, h5py.Dataset)

        def note(name: str, thing: Any) -> bool | None:
            if isinstance(thing, h5py.Dataset):
                found[name] = thing
            return True if is_given and len(found) > _MOST_NAMED + 1 else None  # so many are not named in any case

        opened.visititems(note)
        if not isinstance(dataset, h5py.Dataset):
            if reading.dataset is None and (key := pandas_key(opened)) is not None:
                raise UnreadableError(
                    f"holds a table of pandas ({shown(key)}), which is no image; {pandas_advice(key)}, or name the "
                    "array that is an image: data.frames.dataset"
                )
            dataset = _named(found, reading.dataset)
        if dataset.is_virtual or dataset.external or dataset.file != opened:  # could name any file of the machine
            raise UnreadableError(
                f"its dataset {shown(dataset.name)} is kept in another file; allowed: values in the file itself"
            )
        name, unit = shown(dataset.name.strip("/")), dataset.attrs.get("units", dataset.attrs.get("unit"))
        unit = unit.decode("utf-8", "replace") if isinstance(unit, bytes) else unit
        known_unit = shown(unit[:_MOST_OF_UNIT]) if isinstance(unit, str) and unit else None
        others = [other for other in found if other != dataset.name.strip("/")]

        def read(request: Request) -> Pixels:
            _tell_others(others, name, request)
            return _unpacked(image_of(dataset, request, reading.bands, name=name, unit=known_unit), dataset, request)

        yield read


def _unpacked(pixels: Pixels, dataset: Any, request: Request) -> Pixels:
    """Pixels in the units of an HDF5 data set, with NaN where it says that they are missing, as netCDF writes them."""
    for attribute in ("_FillValue", "missing_value"):
        pixels = without_marker(pixels, _number_in(dataset, attribute), attribute, request)
    scale, offset = _number_in(dataset, "scale_factor"), _number_in(dataset, "add_offset")
    if scale is None and offset is None:
        return pixels
    scale, offset = 1.0 if scale is None else scale, offset or 0.0
    request.note(f"pixels became {scale:g} x + {offset:g}, as scale_factor and add_offset say")
    return np.asarray(pixels.astype(np.float64) * scale + offset, np.float32)


def _number_in(dataset: Any, attribute: str) -> float | None:
    """A number in an attribute of a data set; None without one."""
    found = np.asarray(dataset.attrs.get(attribute, []))
    return float(found.reshape(-1)[0]) if found.size == 1 and found.dtype.kind in "iuf" else None


def _tell_others(others: Sequence[str], read: str, request: Request) -> None:
    """Name the first arrays that are not read."""
    for other in others[:_MOST_NAMED]:
        request.band(Band(shown(other), "array", None, f"{read} is read (data.frames.dataset)"))
    if len(others) > _MOST_NAMED:
        request.band(Band("and more", "arrays", None, f"{read} is read (data.frames.dataset)"))


@contextmanager
def opened_npy(path: Path, reading: Reading) -> Iterator[Read]:
    """Open a NumPy file."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    yield lambda request: image_of(array, request, reading.bands)


@contextmanager
def opened_npz(path: Path, reading: Reading) -> Iterator[Read]:
    """Open a file of NumPy arrays."""
    with zipfile.ZipFile(path) as archive:
        names = arrays_named(archive)
        wanted = [name for name in names if reading.dataset in (None, name)]
        if not wanted:
            raise UnreadableError(f"has no dataset {reading.dataset!r}; allowed: {_listed(names)}")
        array = _named({name: NpzArray(archive, name) for name in wanted}, reading.dataset)

        def read(request: Request) -> Pixels:
            _tell_others([name for name in names if name != array.name], shown(array.name), request)
            return image_of(array, request, reading.bands, name=shown(array.name))

        yield read


def _named(found: Mapping[str, Any], wanted: str | None) -> Any:
    """Return the array named ``wanted``, or the only one that can be an image."""
    if wanted is not None:
        name = wanted.strip("/")
        if name not in found:
            raise UnreadableError(f"has no dataset {wanted!r}; allowed: {_listed(found) or 'none found'}")
        return found[name]
    images = [name for name, array in found.items() if array.ndim >= 2]
    if len(images) != 1:
        raise UnreadableError(
            f"has {len(images)} datasets with two or more axes ({_listed(images) or 'none'}); allowed: one, or set "
            "data.frames.dataset"
        )
    return found[images[0]]


def _listed(names: Collection[str]) -> str:
    text = ", ".join(map(shown, itertools.islice(names, _MOST_NAMED)))
    return f"{text} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else text
