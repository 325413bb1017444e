"""Images and their classes as arrays of one npz file, as MNIST and many public sets have them."""

from __future__ import annotations

import itertools
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.cache import cache_root, kept_copy
from aifs_tune._util.hashing import digest_of
from aifs_tune.data.digests import Progress
from aifs_tune.data.forecast import Forecast
from aifs_tune.data.image_files.npz import NpzArray, arrays_named
from aifs_tune.data.images.folder import Scan, is_ignored, scan_folder, shown, subset_in
from aifs_tune.errors import DataError

_IMAGES = frozenset({"x", "image", "images", "img", "imgs", "data"})
_CLASSES = frozenset({"y", "label", "labels", "target", "targets", "class", "classes"})
_CHANNELS = (1, 3)
_MOST_NAMED = 12
_BLOCK = 4096
_REPORT_EVERY = 1000
_VERSION = 1
_LAYOUT = (
    "allowed: arrays X (images, height, width) or (images, height, width, 3) and y (images), or x_train, y_train, "
    "x_test, y_test"
)


@dataclass(frozen=True)
class LabelledImages:
    """Images of one part, None if there is one part alone, in the array ``name``; ``labels`` is None without classes.

    ``is_first`` says that the channels are the axis before rows and columns.
    """

    name: str
    part: str | None
    images: NpzArray
    labels: NDArray[Any] | None
    is_first: bool

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield images of shape (height, width) or (height, width, channels)."""
        for i in range(len(self)):
            with _named_if_damaged(f"array {shown(self.name)}"):
                image = self.images[i]
            yield np.moveaxis(image, 0, -1) if self.is_first else image


def is_arrays(path: Path) -> bool:
    """Whether a path is that of an npz file."""
    return path.suffix.lower() == ".npz" and path.is_file()


@contextmanager
def opened_arrays(file: Path) -> Iterator[list[LabelledImages]]:
    """Open the arrays of images in a file, and read their classes.

    Raises
    ------
    DataError
        If the file cannot be read, or its arrays are no images with classes; the text names them and their shapes.
    """
    where = f"data file {shown(str(file))}"
    with ExitStack() as held:
        with _named_if_damaged(where):
            archive = held.enter_context(zipfile.ZipFile(file))
            parts = _parts({name: NpzArray(archive, name) for name in arrays_named(archive)}, where)
        yield parts


@contextmanager
def _named_if_damaged(where: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{where}: cannot be read as npz ({shown(str(error)[:160])}); {_LAYOUT}") from None


def scan_arrays(file: Path, progress: Progress | None = None) -> Scan:
    """Unpack the images of a file into the cache, a file for each, and scan them as class folders.

    Raises
    ------
    DataError
        As of :func:`opened_arrays`, or if no part to train on has classes.
    StorageError
        If the images cannot be written, or need more space than is free.
    """
    status = file.stat()
    key = digest_of(
        repr([_VERSION, str(file.absolute()), status.st_size, status.st_mtime_ns, status.st_ctime_ns]).encode()
    )
    notes = _described(file)
    root = cache_root().absolute()
    folder = kept_copy(root, f"arrays-{key[:24]}", lambda partial: _unpack(file, partial, root, progress))
    try:
        scan = scan_folder(folder)
    except DataError as error:
        unpacked, given = f"data folder {shown(str(folder))}", f"data file {shown(str(file))}"
        raise DataError(str(error).replace(unpacked, given)) from None
    return Scan(scan.files, scan.skipped_files, scan.classes, scan.subsets, (*notes, *scan.notes), scan.beside)


def check_arrays(file: Path) -> None:
    """Check the arrays of a file without unpacking them.

    Raises
    ------
    DataError
        As of :func:`scan_arrays`.
    """
    _described(file)


def _described(file: Path) -> list[str]:
    """Say what of a file is used."""
    notes = []
    with opened_arrays(file) as found:
        labelled = [one for one in found if one.labels is not None]
        if not labelled or all(one.part not in (None, "train") for one in labelled):
            there = ", ".join(one.name for one in found)
            raise DataError(f"data file {shown(str(file))}: no classes of training images ({there}); {_LAYOUT}")
        for one in found:
            if one.labels is None:
                left_out = f"{len(one)} images of {shown(one.name)}, which has no classes"
                notes.append(f"left out: {left_out}; aifs-tune predict can use it")
                continue
            shape = " x ".join(map(str, one.images.shape))
            first = ", channels before rows and columns" if one.is_first else ""
            notes.append(f"{shown(one.name)}: {shape} {one.images.dtype}{first}, {one.part or 'all parts'}")
            n_missing = sum(_text(label) is None for label in one.labels.tolist())
            if n_missing:
                notes.append(f"left out: {n_missing} images of {shown(one.name)} without a class")
    return notes


def _parts(arrays: dict[str, NpzArray], where: str) -> list[LabelledImages]:
    images: dict[str | None, str] = {}
    classes: dict[str | None, str] = {}
    for name in arrays:
        words = [word for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", name) if word]
        part = next((subset for word in words if (subset := subset_in(word)) is not None), None)
        for known, found in ((_IMAGES, images), (_CLASSES, classes)):
            if any(word.lower() in known for word in words):
                if part in found:
                    raise DataError(f"{where}: {shown(found[part])} and {shown(name)} could both be it; {_LAYOUT}")
                found[part] = name
    if not images or (None in images and len(images) > 1):
        there = ", ".join(
            f"{shown(name)} ({' x '.join(map(str, array.shape))})"
            for name, array in itertools.islice(arrays.items(), _MOST_NAMED)
        )
        raise DataError(f"{where}: has {there or 'no arrays'}; {_LAYOUT}")
    parts = []
    for part, name in images.items():
        labels = None if part not in classes else _labels(arrays[classes[part]], classes[part], where)
        shape = arrays[name].shape
        if labels is not None and len(labels) != (shape[0] if shape else 0):
            text = (
                f"{shown(name)} has {shape[0] if shape else 0} images and {shown(classes[part])} {len(labels)} classes"
            )
            raise DataError(f"{where}: {text}; allowed: one class for each image")
        parts.append(LabelledImages(name, part, arrays[name], labels, _is_channels_first(arrays[name], name, where)))
    return parts


def _labels(array: NpzArray, name: str, where: str) -> NDArray[Any]:
    values = np.asarray(array)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "biufUS":
        found = f"{' x '.join(map(str, values.shape))} of {values.dtype}"
        raise DataError(f"{where}: {shown(name)} is {found}; allowed: one number or text for each image")
    return values


def _is_channels_first(array: NpzArray, name: str, where: str) -> bool:
    shape = array.shape
    if array.dtype.kind in "biuf" and len(shape) == 3:
        return False
    is_last, is_first = (len(shape) == 4 and shape[axis] in _CHANNELS for axis in (3, 1))
    if array.dtype.kind not in "biuf" or is_last == is_first:
        found = f"{' x '.join(map(str, shape))} of {array.dtype}"
        more = "; rows of numbers are a table, or are to be reshaped" if len(shape) == 2 else ""
        raise DataError(
            f"{where}: {shown(name)} is {found}; allowed: (images, height, width), (images, height, width, channels) "
            f"or (images, channels, height, width) with 1 or 3 channels{more}"
        )
    return is_first


def _unpack(file: Path, folder: Path, root: Path, progress: Progress | None) -> None:
    """Write each image as ``part/class/number.npy``; images of no part are in ``train``, which is divided."""
    with opened_arrays(file) as parts:
        labelled = [one for one in parts if one.labels is not None]
        total, n_done = sum(map(len, labelled)), 0
        sizes = Counter(_on_disk(one.images) for one in labelled)
        forecast = Forecast(root, total, "fewer images, or images in class folders", None)
        forecast.update(1, labelled[0].images.shape[1:], most=max(sizes), kept=max(sizes))
        for one in labelled:
            assert one.labels is not None
            for number, (image, label) in enumerate(zip(one, one.labels.tolist(), strict=True)):
                n_done += 1
                if (name := _text(label)) is not None:
                    below = folder / (one.part or "train") / _checked(name, file)
                    below.mkdir(parents=True, exist_ok=True)
                    np.save(below / f"{number:06d}.npy", np.ascontiguousarray(image), allow_pickle=False)
                if progress is not None and (n_done % _REPORT_EVERY == 0 or n_done == total):
                    progress("unpacking", n_done, total)


def _on_disk(images: NpzArray) -> int:
    n_bytes = int(np.prod(images.shape[1:])) * images.dtype.itemsize + 128
    return -(-n_bytes // _BLOCK) * _BLOCK


def _text(label: Any) -> str | None:
    """A class as text; None if it is missing."""
    if isinstance(label, bytes):
        label = label.decode("utf-8", "replace")
    if isinstance(label, float):
        return None if label != label else str(int(label)) if label.is_integer() else str(label)
    return str(label).strip() or None


def _checked(name: str, file: Path) -> str:
    if "/" in name or "\0" in name or is_ignored(name) or len(name.encode()) > 200:
        raise DataError(f"data file {shown(str(file))}: the class {shown(name[:50])!r} cannot be the name of a folder")
    return name


def images_in(files: Sequence[Path]) -> Iterator[tuple[str, Path, NDArray[Any] | None]]:
    """Yield the name and file of each image, and the image itself if it is one of the arrays of a file.

    Raises
    ------
    DataError
        As of :func:`opened_arrays`.
    """
    for file in files:
        if not is_arrays(file):
            yield str(file), file, None
            continue
        with opened_arrays(file) as parts:
            for one in parts:
                for number, image in enumerate(one):
                    yield f"{file} {one.name} {number}", file, image
