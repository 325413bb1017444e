"""Scan of a data folder: class and subset of each file, from names and file status, without opening a file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aifs_tune.data.class_names import alike_classes, numbered_parts
from aifs_tune.data.images.beside import (
    are_folds,
    are_images_and_masks,
    is_about_images,
    mask_classes,
    masks_among,
    some,
)
from aifs_tune.data.links import ALLOWED, Links, absence_of
from aifs_tune.errors import DataError

SUBSETS = ("train", "val", "test")
_SUBSET_NAMES = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "development", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "tests", "holdout", "testset"), "test"),
}
"""Words in the names of folders that mean a subset."""
_FILLERS = frozenset(
    {"set", "data", "dataset", "images", "image", "imgs", "img", "pics", "pictures", "split", "part", "folder", "seg"}
)
"""Words that may stand beside them."""
_NOT_DATA = frozenset(
    {
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "__macosx",
        "@eadir",
        "$recycle.bin",
        "lost+found",
        "system volume information",
    }
)
"""Files and folders of systems, in lower case, that are no data at any level."""
_OF_ZARR = ("zarr.json", ".zgroup", ".zarray")
MAX_FILE_BYTES = 512 * 2**20
"""Size in bytes of the largest file that is read."""
_LAYOUT = (
    "expected FOLDER/<class>/*.jpg with at least two classes, or FOLDER/train/<class>/*.jpg with folders val and, "
    "optionally, test beside train"
)
_ARRAYS = "of arrays, make an npz file: numpy.savez('images.npz', X=images, y=classes)"
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class ImageFile:
    """A regular file in a class folder; it was not opened, so it may not be an image.

    ``name`` is the path relative to the data folder, with ``/``; ``subset`` is None if the folder has no subset
    folders, and ``group`` if it has no folds. Times are in nanoseconds.
    """

    name: str
    path: str
    label: str
    subset: str | None
    size: int
    mtime_ns: int
    ctime_ns: int
    group: str | None = None


@dataclass(frozen=True)
class Beside:
    """Files or a folder that lie beside images and are left out, with the reason; ``is_class`` of a class folder."""

    name: str
    taken_for: str
    reason: str
    is_class: bool = False

    def __str__(self) -> str:
        return f"left out: {'the folder ' if self.is_class else ''}{shown(self.name)}, {self.taken_for}: {self.reason}"


@dataclass(frozen=True)
class SkippedFile:
    """A file, folder or class that is not used, with the reason; ``name`` is printable."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class Scan:
    """Content of a data folder; ``subsets`` is empty if its folders are the classes themselves.

    ``files`` and ``skipped_files`` are sorted by name; ``classes`` includes empty class folders. ``notes`` say how the
    layout was read, and ``beside`` what is left out because it is no image of a class.
    """

    files: tuple[ImageFile, ...]
    skipped_files: tuple[SkippedFile, ...]
    classes: tuple[str, ...]
    subsets: tuple[str, ...]
    notes: tuple[str, ...] = ()
    beside: tuple[Beside, ...] = ()


def shown(name: str) -> str:
    """Return ``name`` in printable form: control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store, by its name or the files in it."""
    return path.is_dir() and (path.suffix.lower() == ".zarr" or any((path / name).exists() for name in _OF_ZARR))


def scan_folder(folder: Path, *, follow_links: bool = False) -> Scan:
    """Walk the class folders below ``folder``; a file or folder with several links is visited once.

    Links that lead out of it, or of its DataLad or git-annex data set, are left out without ``follow_links``.

    Raises
    ------
    DataError
        If ``folder`` cannot be listed or has neither of the two layouts.
    """
    if is_zarr(folder):
        raise DataError(f"data folder {shown(str(folder))}: is a Zarr store, no folder of images; {_ARRAYS}")
    inner, tops, notes = _descended(folder)
    _check_classes(folder, tops)
    layout = _layout_of(folder / inner, tops)
    by_subset = layout.by_subset or {}
    is_whole = list(by_subset) in ([], ["train"])
    found: list[tuple[str, str, str | None]] = [
        (f"{inner}{top}/{name}", name, None if is_whole else subset)
        for subset, top in by_subset.items()
        for name in _folders_in(folder / inner / top, top)
    ]
    subsets, is_folded = () if is_whole else tuple(by_subset), False
    if layout.by_subset is None:
        inside, is_folded, said = _folds_in(folder / inner, tops)
        if not inside:
            inside, subsets, said = _parts_in_classes(folder / inner, tops)
        notes += said
        found = [(f"{inner}{below}", name, subset) for below, name, subset in inside]
    _check_classes(folder, sorted({name for _, name, _ in found}))
    walk = _Walk(Links.of(folder, follow=follow_links))
    for below in (".", *(f"{inner}{top}" for top in by_subset.values()), *(name for name, _, _ in found)):
        walk.reserve(os.path.join(folder, below), below)
    for name, label, subset in found:
        fold = name.split("/")[-2] if is_folded else None
        walk.enter(os.path.join(folder, name), name, label=label, subset=subset, group=fold)
    roots = [name for name, _, _ in found]
    files, beside = _without_masks(walk.files, roots)
    classes = tuple(sorted({label for _, label, _ in found} - {one.name for one in beside if one.is_class}))
    parts = numbered_parts(classes)
    notes = [
        *notes,
        *layout.notes,
        *map(str, beside),
        *alike_classes(classes),
        *([parts] if parts else []),
        *_nested(files, roots),
    ]
    return Scan(
        tuple(sorted(files, key=lambda file: file.name)),
        tuple(sorted(walk.skipped_files, key=lambda one: one.name)),
        classes,
        subsets,
        tuple(notes),
        tuple(beside),
    )


def _check_classes(folder: Path, names: Sequence[str]) -> None:
    """Refuse folders that are no classes but images with their masks, labels or boxes."""
    if are_images_and_masks(names):
        raise DataError(
            f"data folder {shown(str(folder))}: {' and '.join(map(shown, names))} are images and what is known of "
            "their pixels or boxes, not classes, and only classes or numbers of whole images are learnt; allowed: a "
            "folder for each class, or the folder of the images alone with a list of their classes: data.labels"
        )


def _without_masks(files: list[ImageFile], roots: list[str]) -> tuple[list[ImageFile], list[Beside]]:
    """Leave out masks beside the images of a class, and class folders that hold masks of the others."""
    masks = masks_among([file.name for file in files], roots)
    beside = []
    if masks:
        text = f"{len(masks)} files such as {shown(min(masks))}"
        beside.append(Beside(text, "masks or labels", "they are named after the images beside them"))
        files = [file for file in files if file.name not in masks]
    by_class: dict[str, list[str]] = {}
    for file in files:
        by_class.setdefault(file.label, []).append(file.name)
    for label in mask_classes(by_class):
        beside.append(Beside(label, "masks or labels", "its files are named as the images in other folders", True))
        files = [file for file in files if file.label != label]
    return files, beside


def _folds_in(folder: Path, tops: list[str]) -> tuple[list[tuple[str, str, str | None]], bool, list[str]]:
    """Class folders in numbered folders that all have the same, whether those are groups, and notes.

    They are groups if there is one for each part of the data. Empty if the folders are no folds.
    """
    inside = {name: _folders_in(folder / name, name) for name in tops}
    if not are_folds(inside) or any(subset_in(below) for below in inside[tops[0]]):
        return [], False, []
    is_enough = len(tops) >= len(SUBSETS)
    how = "images of one stay in one part" if is_enough else "too few to keep each in one part, so they are mixed"
    example = f"{shown(tops[0])}/{shown(inside[tops[0]][0])}"
    notes = [f"the {len(tops)} folders {some(list(map(shown, tops)))} have the same classes ({example}): folds, {how}"]
    return [(f"{name}/{below}", below, None) for name in tops for below in inside[name]], is_enough, notes


def _parts_in_classes(
    folder: Path, tops: list[str]
) -> tuple[list[tuple[str, str, str | None]], tuple[str, ...], list[str]]:
    """Folders below class folders with their class and subset, the subsets there are, and notes.

    A class folder may have ``train``, ``val`` and ``test`` inside, if every one has.

    Raises
    ------
    DataError
        If some classes have such folders and others none, or one has no train or two names for the same subset.
    """
    inside = {name: {below: subset_in(below) for below in _folders_in(folder / name, name)} for name in tops}
    with_parts = [name for name, below in inside.items() if {"train"} < set(below.values()) - {None}]
    if not with_parts:
        return [(name, name, None) for name in tops], (), []
    where = f"data folder {shown(str(folder))}"
    for name, below in inside.items():
        named = [subset for subset in below.values() if subset is not None]
        if "train" not in named or len(named) < len(below) or len(set(named)) < len(named):
            has = ", ".join(map(shown, below)) or "no folders"
            raise DataError(
                f"{where}: the class folder {shown(with_parts[0])} has parts inside "
                f"({', '.join(map(shown, inside[with_parts[0]]))}), and {shown(name)} has {has}; allowed: train, val "
                f"and test in every class folder, or no such names; {_LAYOUT}"
            )
    found = [(f"{name}/{below}", name, subset) for name in tops for below, subset in inside[name].items()]
    there = {subset for _, _, subset in found}
    example = ", ".join(f"{shown(tops[0])}/{shown(below)}" for below in inside[tops[0]])
    notes = [f"the parts are the folders inside the classes ({example}); files beside them are left out"]
    return found, tuple(subset for subset in SUBSETS if subset in there), notes


def _nested(files: Sequence[ImageFile], roots: Sequence[str]) -> list[str]:
    """Note on folders inside class folders, whose images are taken together."""
    known = set(roots)
    below = {folder for file in files if (folder := file.name.rpartition("/")[0]) not in known}
    if not below:
        return []
    named = ", ".join(map(shown, sorted(below)[:3])) + (", ..." if len(below) > 3 else "")
    return [f"images in folders inside a class folder ({named}) count as images of that class"]


def files_below(folder: Path, *, follow_links: bool = False) -> tuple[list[ImageFile], list[SkippedFile]]:
    """All files below a folder, without a class, and those that cannot be used; both sorted by name.

    Raises
    ------
    DataError
        If the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"data folder {shown(str(folder))}: is no folder; allowed: a folder of images")
    walk = _Walk(Links.of(folder, follow=follow_links))
    walk.enter(str(folder), "", label="", subset=None)
    walk.files.sort(key=lambda file: file.name)
    return walk.files, walk.skipped_files


def _descended(folder: Path) -> tuple[str, list[str], list[str]]:
    """Name of the folder inside the data folder that has the classes or subsets, with a slash, and its folders.

    It is the only folder there is; the name is empty if the data folder itself has them.
    """
    tops = _folders_in(folder)
    if len(tops) != 1 or subset_in(tops[0]) is not None:
        return "", tops, []
    below = _folders_in(folder / tops[0], tops[0])
    if len(below) < 2:
        return "", tops, []
    return f"{tops[0]}/", below, [f"the data are those in its folder {shown(tops[0])}"]


def _folders_in(folder: Path, below: str = "") -> list[str]:
    """Return the sorted names of the folders, or links to folders, directly in ``folder``.

    The data folder itself, with an empty ``below``, must have at least one.
    """
    where = shown(str(folder))
    try:
        with os.scandir(folder) as entries:
            listed = sorted((entry for entry in entries if not is_ignored(entry.name)), key=lambda entry: entry.name)
            folders = [entry.name for entry in listed if _is_folder(entry)]
    except FileNotFoundError:
        raise DataError(f"data folder {where}: does not exist; {_LAYOUT}") from None
    except NotADirectoryError:
        of_arrays = folder.suffix.lower() in (".h5", ".hdf5", ".hdf", ".mat", ".npy", ".pkl", ".pickle")
        layout = _ARRAYS if of_arrays else _LAYOUT
        raise DataError(f"data folder {where}: is a file, not a folder; {layout}") from None
    except OSError as error:
        raise DataError(f"data folder {where}: cannot be listed ({error.strerror})") from None
    if not folders and not below:
        found = f"{len(listed)} files such as {shown(listed[0].name)}" if listed else "nothing"
        raise DataError(f"data folder {where}: has {found} and no class folders; {_LAYOUT}")
    return folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is no data at any level."""
    return name.startswith(".") or name.lower() in _NOT_DATA


def subset_in(name: str) -> str | None:
    """The subset that a folder's name means, such as ``Training_set`` or ``seg_test``; None if it means none."""
    words = [word for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])|\d+$", name) if word]
    meant = [subset for word in words if (subset := _SUBSET_NAMES.get(word.lower())) is not None]
    others = [word for word in words if word.lower() not in _SUBSET_NAMES and word.lower() not in _FILLERS]
    return meant[0] if len(meant) == 1 and not others else None


@dataclass(frozen=True)
class _Layout:
    """Folders of the subsets by subset, relative to the data folder, or None if its folders are the classes."""

    by_subset: dict[str, str] | None
    notes: tuple[str, ...] = ()


def _layout_of(folder: Path, tops: list[str]) -> _Layout:
    """Tell from the names and content of the top folders whether they are subsets or classes.

    A folder named train without sub-folders is a class beside folders of other names.

    Raises
    ------
    DataError
        If they could be both, or the subsets have no training set or hold files instead of classes.
    """
    where = shown(str(folder))
    named = {name: subset for name in tops if (subset := subset_in(name)) is not None}
    beside = [name for name in tops if name not in named]
    others = [name for name in beside if not is_about_images(name)]
    with_classes = {name: subset for name, subset in named.items() if _has_folders(folder / name)}
    if not named or (others and len(with_classes) < 2 and "train" not in with_classes.values()):
        notes = [f"the folder {shown(name)} is taken for a class, as are those beside it" for name in named]
        return _Layout(None, tuple(notes))
    twice = [name for name, subset in named.items() if list(named.values()).count(subset) > 1]
    if twice:
        raise DataError(
            f"data folder {where}: has {', '.join(map(shown, twice))}, two names for the same subset; keep one"
        )
    flat = [name for name, subset in named.items() if subset == "train" and name not in with_classes]
    if flat:
        raise DataError(
            f"data folder {where}: {' and '.join(map(shown, named))} hold files, and {shown(flat[0])} has no class "
            "folders, so the classes are unknown (perhaps they stand in the names of the files, or in a list); sort "
            f"the files into a folder for each class; {_LAYOUT}"
        )
    if "train" not in named.values():
        raise DataError(f"data folder {where}: has {', '.join(map(shown, named))} but no train; {_LAYOUT}")
    notes = [f"left out: the folder {shown(name)}, which is none of {', '.join(map(shown, named))}" for name in beside]
    by_subset: dict[str, str] = {}
    for name, subset in named.items():
        by_subset[subset] = _inner(folder, name, subset)
    train = set(_folders_in(folder / by_subset["train"], by_subset["train"]))
    lower = {name.casefold(): name for name in train}
    for subset in [subset for subset in by_subset if subset != "train"]:
        classes = set(_folders_in(folder / by_subset[subset], by_subset[subset]))
        for name in sorted(classes - train):
            if name.casefold() in lower:
                raise DataError(
                    f"data folder {where}: the class {shown(lower[name.casefold()])} of {shown(by_subset['train'])} is "
                    f"called {shown(name)} in {shown(by_subset[subset])}; give both folders one name"
                )
        if not classes & train:
            has = (
                f"classes that train does not have ({', '.join(sorted(map(shown, classes))[:3])})"
                if classes
                else "no classes"
            )
            notes.append(
                f"left out: the folder {shown(by_subset[subset])}, which has {has}; aifs-tune predict can use it"
            )
            del by_subset[subset]
    if list(by_subset) == ["train"]:
        return _Layout(by_subset, (*notes, "train is divided into training, validation and test sets"))
    return _Layout({subset: by_subset[subset] for subset in SUBSETS if subset in by_subset}, tuple(notes))


def _inner(folder: Path, name: str, subset: str) -> str:
    """The folder of a subset: ``train/train`` if that is all there is in ``train``."""
    below = _folders_in(folder / name, name)
    return f"{name}/{below[0]}" if len(below) == 1 and subset_in(below[0]) == subset else name


def _has_folders(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(_is_folder(entry) for entry in entries if not is_ignored(entry.name))
    except OSError:
        return False


class _Walk:
    """Collects the files below class folders; remembers the device and inode of all that it has visited."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self.files: list[ImageFile] = []
        self.skipped_files: list[SkippedFile] = []
        self._seen: dict[tuple[int, int], str] = {}

    def reserve(self, path: str, name: str) -> None:
        """Mark the folder ``path`` as visited under ``name``, so that links to it are skipped in any order."""
        with suppress(OSError):  # reported when the folder is walked
            status = os.stat(path)
            self._seen.setdefault((status.st_dev, status.st_ino), name)

    def enter(self, path: str, name: str, *, label: str, subset: str | None, group: str | None = None) -> None:
        """Walk everything below the class folder ``path``."""
        waiting = [(path, name)] if self._may_read(path, name) else []
        while waiting:
            here, here_name = waiting.pop()
            for child, child_name, status in self._children(here, here_name):
                is_folder = stat.S_ISDIR(status.st_mode)
                if not is_folder and not stat.S_ISREG(status.st_mode):
                    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
                    self._skip(child_name, f"is {kind}, not a file")
                elif not self._may_read(child, child_name):
                    continue
                elif is_folder:
                    waiting.append((child, child_name))
                else:
                    self._take(child, child_name, status, label, subset, group)

    def _children(self, folder: str, name: str) -> Iterator[tuple[str, str, os.stat_result]]:
        try:
            status = os.stat(folder)
            if self._is_new(name, status):
                for child in sorted(os.listdir(folder)):
                    if not is_ignored(child):
                        path = os.path.join(folder, child)
                        try:
                            yield path, f"{name}/{child}".lstrip("/"), os.stat(path)
                        except OSError as error:
                            kind = "is a broken link" if os.path.islink(path) else "cannot be read"
                            self._skip(f"{name}/{child}", absence_of(path) or f"{kind} ({error.strerror})")
        except OSError as error:
            self._skip(f"{name}/", f"cannot be listed ({error.strerror})")

    def _may_read(self, path: str, name: str) -> bool:
        real = self._links.outside(path)
        if real is not None:
            self._skip(name, f"is a link to {shown(real)}, outside the data folder; allowed: {ALLOWED}")
        return real is None

    def _take(
        self, path: str, name: str, status: os.stat_result, label: str, subset: str | None, group: str | None
    ) -> None:
        if status.st_size == 0:
            self._skip(name, "is empty")
        elif status.st_size > MAX_FILE_BYTES:
            self._skip(name, f"has {status.st_size:,} bytes; allowed: at most {MAX_FILE_BYTES:,}")
        elif self._is_new(name, status):
            self.files.append(
                ImageFile(name, path, label, subset, status.st_size, status.st_mtime_ns, status.st_ctime_ns, group)
            )

    def _is_new(self, name: str, status: os.stat_result) -> bool:
        first = self._seen.setdefault((status.st_dev, status.st_ino), name)
        if first != name:
            self._skip(name, f"is a link to {shown(first)}, which is already read")
        return first == name

    def _skip(self, name: str, reason: str) -> None:
        self.skipped_files.append(SkippedFile(shown(name), reason))
