"""Which file of a data folder is of which class and part. Names and file status only; nothing is opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aifs_tune.errors import DataError

PARTS = ("train", "val", "test")
_PART_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_NOT_DATA = frozenset({"thumbs.db", "desktop.ini"})
MAX_FILE_BYTES = 512 * 2**20
"""Bytes of the largest file that is read."""
_LAYOUT = (
    "expected FOLDER/<class>/*.jpg with at least two classes, or FOLDER/train/<class>/*.jpg with val and, "
    "if wanted, test beside train"
)
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class ImageFile:
    """A regular file in a class folder; whether it holds an image is not known yet.

    ``name`` is the path below the data folder, with ``/`` and as the file system has it; ``part`` is None
    where the folder has no parts. Times are nanoseconds.
    """

    name: str
    path: str
    label: str
    part: str | None
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True)
class SkippedFile:
    """A file or folder that is not used, and why. ``name`` is printable."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class Scan:
    """What a data folder holds; ``parts`` is empty where its folders are the classes themselves.

    ``files`` and ``left_out`` are sorted by name; ``classes`` counts empty class folders too.
    """

    files: tuple[ImageFile, ...]
    skipped_files: tuple[SkippedFile, ...]
    classes: tuple[str, ...]
    parts: tuple[str, ...]


def shown(name: str) -> str:
    """``name`` with control characters and undecodable bytes escaped, so that it can be printed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


def scan_folder(folder: Path) -> Scan:
    """Walk the class folders below ``folder``, each file and folder once however many links lead to it.

    Raises
    ------
    DataError
        If ``folder`` cannot be listed or has none of the two layouts.
    """
    tops = _folders_in(folder)
    by_part = _part_folders(folder, tops)
    found: list[tuple[str, str, str | None]]
    if by_part is None:
        found = [(name, name, None) for name in tops]
    else:
        found = [
            (f"{top}/{name}", name, part) for part, top in by_part.items() for name in _folders_in(folder / top, top)
        ]
    walk = _Walk()
    for below in (".", *(by_part or {}).values(), *(name for name, _, _ in found)):
        walk.reserve(os.path.join(folder, below), below)
    for name, label, part in found:
        walk.enter(os.path.join(folder, name), name, label=label, part=part)
    return Scan(
        tuple(sorted(walk.files, key=lambda file: file.name)),
        tuple(sorted(walk.skipped_files, key=lambda one: one.name)),
        tuple(sorted({label for _, label, _ in found})),
        tuple(by_part or ()),
    )


def _folders_in(folder: Path, below: str = "") -> list[str]:
    """Names of the folders, or links to folders, directly in ``folder``, sorted; refuses to return none."""
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
    except OSError:  # a link that leads to itself
        return False


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _NOT_DATA


def _part_folders(folder: Path, tops: list[str]) -> dict[str, str] | None:
    """Part -> folder name in the order of PARTS, or None where the folders are classes.

    A folder named train that holds no folders is a class, and so is one beside folders of other names,
    unless val or test stand there as well.
    """
    parts = [name for name in tops if name.lower() in _PART_NAMES and _has_folders(folder / name)]
    found = {_PART_NAMES[name.lower()]: name for name in parts}
    others = [name for name in tops if name not in parts]
    if not found or (others and len(found) == 1):
        return None
    where = shown(str(folder))
    if others:
        raise DataError(
            f"data folder {where}: {', '.join(map(shown, others[:5]))} beside {', '.join(parts)}: "
            f"neither classes nor parts; {_LAYOUT}"
        )
    if len(found) < len(parts):
        raise DataError(f"data folder {where}: has {', '.join(parts)}, two names of one part; keep one")
    if "train" not in found:
        raise DataError(f"data folder {where}: has {', '.join(parts)} and no train; {_LAYOUT}")
    return {part: found[part] for part in PARTS if part in found}


def _has_folders(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(_is_folder(entry) for entry in entries if not _is_ignored(entry.name))
    except OSError:
        return False


class _Walk:
    """Collects files below class folders; remembers device and inode of all it has seen."""

    def __init__(self) -> None:
        self.files: list[ImageFile] = []
        self.skipped_files: list[SkippedFile] = []
        self._seen: dict[tuple[int, int], str] = {}

    def reserve(self, path: str, name: str) -> None:
        """A link to the folder ``path`` from anywhere else leads to nothing new, whatever is walked first."""
        with suppress(OSError):  # told when it is walked
            status = os.stat(path)
            self._seen.setdefault((status.st_dev, status.st_ino), name)

    def enter(self, path: str, name: str, *, label: str, part: str | None) -> None:
        """Walk everything below the class folder ``path``."""
        waiting = [(path, name)]
        while waiting:
            here, here_name = waiting.pop()
            for child, child_name, status in self._children(here, here_name):
                if stat.S_ISDIR(status.st_mode):
                    waiting.append((child, child_name))
                elif stat.S_ISREG(status.st_mode):
                    self._take(child, child_name, status, label, part)
                else:
                    self._skip(child_name, f"is {_KINDS.get(stat.S_IFMT(status.st_mode), 'no file')}, not a file")

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
                            kind = "is a link that leads nowhere" if os.path.islink(path) else "cannot be read"
                            self._skip(f"{name}/{child}", f"{kind} ({error.strerror})")
        except OSError as error:
            self._skip(f"{name}/", f"cannot be listed ({error.strerror})")

    def _take(self, path: str, name: str, status: os.stat_result, label: str, part: str | None) -> None:
        if status.st_size == 0:
            self._skip(name, "is empty")
        elif status.st_size > MAX_FILE_BYTES:
            self._skip(name, f"has {status.st_size:,} bytes; allowed: at most {MAX_FILE_BYTES:,}")
        elif self._is_new(name, status):
            self.files.append(
                ImageFile(name, path, label, part, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            )

    def _is_new(self, name: str, status: os.stat_result) -> bool:
        first = self._seen.setdefault((status.st_dev, status.st_ino), name)
        if first != name:
            self._skip(name, f"is a link to {shown(first)}, which is read already")
        return first == name

    def _skip(self, name: str, reason: str) -> None:
        self.skipped_files.append(SkippedFile(shown(name), reason))
