"""Scan of a data folder: class and subset of each file, from names and file status, without opening a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aifs_tune.errors import DataError

SUBSETS = ("train", "val", "test")
_SUBSET_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_NOT_DATA = frozenset({"thumbs.db", "desktop.ini"})
MAX_FILE_BYTES = 512 * 2**20
"""Size in bytes of the largest file that is read."""
_LAYOUT = (
    "expected FOLDER/<class>/*.jpg with at least two classes, or FOLDER/train/<class>/*.jpg with folders val and, "
    "optionally, test beside train"
)
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
    folders. Times are in nanoseconds.
    """

    name: str
    path: str
    label: str
    subset: str | None
    size: int
    mtime_ns: int
    ctime_ns: int


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

    ``files`` and ``skipped_files`` are sorted by name; ``classes`` includes empty class folders.
    """

    files: tuple[ImageFile, ...]
    skipped_files: tuple[SkippedFile, ...]
    classes: tuple[str, ...]
    subsets: tuple[str, ...]


def shown(name: str) -> str:
    """Return ``name`` in printable form: control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


def scan_folder(folder: Path) -> Scan:
    """Walk the class folders below ``folder``; a file or folder with several links is visited once.

    Raises
    ------
    DataError
        If ``folder`` cannot be listed or has neither of the two layouts.
    """
    tops = _folders_in(folder)
    by_subset = _subset_folders(folder, tops)
    found: list[tuple[str, str, str | None]]
    if by_subset is None:
        found = [(name, name, None) for name in tops]
    else:
        found = [
            (f"{top}/{name}", name, subset)
            for subset, top in by_subset.items()
            for name in _folders_in(folder / top, top)
        ]
    walk = _Walk()
    for below in (".", *(by_subset or {}).values(), *(name for name, _, _ in found)):
        walk.reserve(os.path.join(folder, below), below)
    for name, label, subset in found:
        walk.enter(os.path.join(folder, name), name, label=label, subset=subset)
    return Scan(
        tuple(sorted(walk.files, key=lambda file: file.name)),
        tuple(sorted(walk.skipped_files, key=lambda one: one.name)),
        tuple(sorted({label for _, label, _ in found})),
        tuple(by_subset or ()),
    )


def _folders_in(folder: Path, below: str = "") -> list[str]:
    """Return the sorted names of the folders, or links to folders, directly in ``folder``.

    The data folder itself, with an empty ``below``, must have at least one.
    """
    where = shown(str(folder))
    try:
        with os.scandir(folder) as entries:
            listed = sorted((entry for entry in entries if not _is_ignored(entry.name)), key=lambda entry: entry.name)
            folders = [entry.name for entry in listed if _is_folder(entry)]
    except FileNotFoundError:
        raise DataError(f"data folder {where}: does not exist; {_LAYOUT}") from None
    except NotADirectoryError:
        raise DataError(f"data folder {where}: is a file, not a folder; {_LAYOUT}") from None
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


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _NOT_DATA


def _subset_folders(folder: Path, tops: list[str]) -> dict[str, str] | None:
    """Map subsets to folder names in the order of SUBSETS; None if the folders are classes.

    A folder named train without sub-folders is a class. So is one beside folders of other names, unless there is a
    val or test folder too.
    """
    subsets = [name for name in tops if name.lower() in _SUBSET_NAMES and _has_folders(folder / name)]
    found = {_SUBSET_NAMES[name.lower()]: name for name in subsets}
    others = [name for name in tops if name not in subsets]
    if not found or (others and len(found) == 1):
        return None
    where = shown(str(folder))
    if others:
        raise DataError(
            f"data folder {where}: mixes the subsets {', '.join(subsets)} with other folders "
            f"({', '.join(map(shown, others[:5]))}); {_LAYOUT}"
        )
    if len(found) < len(subsets):
        raise DataError(f"data folder {where}: has {', '.join(subsets)}, two names for the same subset; keep one")
    if "train" not in found:
        raise DataError(f"data folder {where}: has {', '.join(subsets)} but no train; {_LAYOUT}")
    return {subset: found[subset] for subset in SUBSETS if subset in found}


def _has_folders(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(_is_folder(entry) for entry in entries if not _is_ignored(entry.name))
    except OSError:
        return False


class _Walk:
    """Collects the files below class folders; remembers the device and inode of all that it has visited."""

    def __init__(self) -> None:
        self.files: list[ImageFile] = []
        self.skipped_files: list[SkippedFile] = []
        self._seen: dict[tuple[int, int], str] = {}

    def reserve(self, path: str, name: str) -> None:
        """Mark the folder ``path`` as visited under ``name``, so that links to it are skipped in any order."""
        with suppress(OSError):  # reported when the folder is walked
            status = os.stat(path)
            self._seen.setdefault((status.st_dev, status.st_ino), name)

    def enter(self, path: str, name: str, *, label: str, subset: str | None) -> None:
        """Walk everything below the class folder ``path``."""
        waiting = [(path, name)]
        while waiting:
            here, here_name = waiting.pop()
            for child, child_name, status in self._children(here, here_name):
                if stat.S_ISDIR(status.st_mode):
                    waiting.append((child, child_name))
                elif stat.S_ISREG(status.st_mode):
                    self._take(child, child_name, status, label, subset)
                else:
                    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
                    self._skip(child_name, f"is {kind}, not a file")

    def _children(self, folder: str, name: str) -> Iterator[tuple[str, str, os.stat_result]]:
        try:
            status = os.stat(folder)
            if self._is_new(name, status):
                for child in sorted(os.listdir(folder)):
                    if not _is_ignored(child):
                        path = os.path.join(folder, child)
                        try:
                            yield path, f"{name}/{child}", os.stat(path)
                        except OSError as error:
                            kind = "is a broken link" if os.path.islink(path) else "cannot be read"
                            self._skip(f"{name}/{child}", f"{kind} ({error.strerror})")
        except OSError as error:
            self._skip(f"{name}/", f"cannot be listed ({error.strerror})")

    def _take(self, path: str, name: str, status: os.stat_result, label: str, subset: str | None) -> None:
        if status.st_size == 0:
            self._skip(name, "is empty")
        elif status.st_size > MAX_FILE_BYTES:
            self._skip(name, f"has {status.st_size:,} bytes; allowed: at most {MAX_FILE_BYTES:,}")
        elif self._is_new(name, status):
            self.files.append(
                ImageFile(name, path, label, subset, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            )

    def _is_new(self, name: str, status: os.stat_result) -> bool:
        first = self._seen.setdefault((status.st_dev, status.st_ino), name)
        if first != name:
            self._skip(name, f"is a link to {shown(first)}, which is already read")
        return first == name

    def _skip(self, name: str, reason: str) -> None:
        self.skipped_files.append(SkippedFile(shown(name), reason))
