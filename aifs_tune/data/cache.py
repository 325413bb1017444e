"""Decoded images on disk, one folder for each content: ``CACHE/<key>/{images.npy, meta.json, facts.json}``.

The key is a digest of the files' contents, their classes and how they are decoded, so the same pictures are
found again wherever they lie and whatever they are called. Each split is a small file beside the images, and
its path is what other processes open. An entry appears whole or not at all; of two processes that write the
same one, the second uses what the first has written.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.decode import Facts
from aifs_tune.data.images import ImageSet
from aifs_tune.data.reading import digest_of
from aifs_tune.durable import PARTIAL, flush, flush_folder, write_file, write_folder
from aifs_tune.errors import NotFoundError, StorageError

VERSION = 1
UNUSED_DAYS = 30
"""After so long a copy of what lies elsewhere is removed."""
_COPIES = ("fetched-", "artifacts-")
_LOCKED = (*_COPIES, "decoding-")
_DAY_S = 24 * 3600


def cache_root() -> Path:
    """``$AIFS_TUNE_CACHE``, else ``aifs_tune`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    given = os.environ.get("AIFS_TUNE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aifs_tune"


@dataclass(frozen=True)
class Meta:
    """What an entry is: rows of ``images.npy`` are sorted by class, ``counts`` of each of ``classes``.

    ``content`` is a digest of the decoded images and labels; ``shape`` that of the array; ``range16`` the
    values that became 0 and 255, None without 16-bit images.
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    shape: tuple[int, int, int, int]
    range16: tuple[int, int] | None
    content: str

    def to_json(self) -> dict[str, Any]:
        """As stored in ``meta.json``."""
        return {"version": VERSION, **{name: getattr(self, name) for name in self.__dataclass_fields__}}


@contextmanager
def storing(root: Path) -> Iterator[None]:
    """Make ``root``, and translate a full disk and the like."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise StorageError(
            f"image cache {root}: cannot be written ({error.strerror or error}); "
            "make room, or set AIFS_TUNE_CACHE to another folder"
        ) from error


@contextmanager
def locked(root: Path, name: str) -> Iterator[None]:
    """Be the only process of this machine that does what ``name`` stands for; waits for the one that does it now."""
    path = root / f"{name}.lock"
    while True:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # it ends with the process, however that ends
            if _is_at(path, file.fileno()):
                yield
                return


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether this open file is still the one at ``path``: it may have been removed since."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def kept_copy(root: Path, name: str, fill: Callable[[Path], object]) -> Path:
    """The folder ``name`` of the cache ``root`` with a copy of what lies elsewhere, made by ``fill`` if it is not
    there: whole, and by one process while the others wait.

    Copies that nobody has asked for in :data:`UNUSED_DAYS` days are removed, but for those that are being made.

    Raises
    ------
    StorageError
        If the disk is full or the like.
    """
    folder = root / name
    with storing(root):
        with locked(root, name):
            if not folder.exists():
                write_folder(folder, fill)
            os.utime(folder)
        _remove_unused(root)
    return folder


def find_entry(folder: Path) -> Meta | None:
    """The entry in ``folder`` if it is there and whole."""
    try:
        stored = json.loads((folder / "meta.json").read_bytes())
        if stored.pop("version") != VERSION:
            return None
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in stored.items()}
        meta = Meta(**fields)
        _map(folder, meta)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return meta


def load_facts(folder: Path) -> dict[str, Facts] | None:
    """What is known of each content of an entry by its digest, also of those left out; None if unreadable."""
    try:
        stored = json.loads((folder / "facts.json").read_bytes())
        return {digest: Facts(**facts) for digest, facts in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def write_entry(folder: Path, fill: Callable[[Path], Meta]) -> Meta:
    """Let ``fill`` write images and facts into a new folder, add the meta data, and make it ``folder``.

    Raises
    ------
    OSError
        If the disk is full or the like; nothing is left behind.
    """
    _remove_stale(folder.parent)
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder.parent))
    try:
        meta = fill(partial)
        (partial / "meta.json").write_text(json.dumps(meta.to_json()))
        flush_folder(partial)
        return _move(partial, folder, meta)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_split(folder: Path, meta: Meta, parts: Mapping[str, NDArray[np.int32]]) -> Path:
    """Store a split beside the images of ``folder``: the location that :func:`open_images` takes."""
    stored: dict[str, Any] = {name: rows.tolist() for name, rows in parts.items()}
    fingerprint = digest_of(json.dumps([meta.content, stored], sort_keys=True).encode())
    location = folder / f"split-{fingerprint[:16]}.json"
    write_file(location, json.dumps({"version": VERSION, "fingerprint": fingerprint, **stored}).encode())
    return location


def open_images(location: Path) -> ImageSet:
    """Map what ``prepare_images`` prepared, in any process of this machine; copies nothing.

    The images are mapped copy-on-write: processes share their pages, and what one writes no other sees.

    Raises
    ------
    NotFoundError
        If the cache has lost them since.
    """
    meta = find_entry(location.parent)
    try:
        stored = json.loads(location.read_bytes())
        train, val, test = (np.asarray(stored[part], np.int32) for part in ("train", "val", "test"))
        fingerprint = str(stored["fingerprint"])
    except (OSError, ValueError, TypeError, KeyError):
        meta = None
    if meta is None:
        raise NotFoundError(f"prepared images {location}: missing or damaged; prepare them again")
    labels = np.repeat(np.arange(len(meta.counts), dtype=np.int32), meta.counts)
    return ImageSet(_map(location.parent, meta), labels, meta.classes, train, val, test, fingerprint)


def _map(folder: Path, meta: Meta) -> NDArray[np.uint8]:
    images = np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False)
    if images.dtype != np.uint8 or images.shape != meta.shape or sum(meta.counts) != len(images):
        raise ValueError(f"{folder}: images.npy is not what meta.json says")
    return np.asarray(images)


def _move(partial: Path, folder: Path, meta: Meta) -> Meta:
    try:
        partial.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        standing = find_entry(folder)
        if standing is not None and load_facts(folder) is not None:
            return standing  # another process was faster
        with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder.parent) as damaged:
            folder.rename(Path(damaged) / "entry")
            partial.rename(folder)
    flush(folder.parent)
    return meta


def _remove_stale(root: Path) -> None:
    """Remove what processes that were killed have left."""
    for partial in root.glob(f"{PARTIAL}*"):
        if _age_s(partial) > _DAY_S:
            shutil.rmtree(partial, ignore_errors=True)


def _remove_unused(root: Path) -> None:
    """Remove copies that nobody has asked for, and locks that nobody has taken, for :data:`UNUSED_DAYS` days."""
    _remove_stale(root)
    found = {path.name.removesuffix(".lock") for path in root.iterdir()}
    for name in (name for name in found if _is_unused(root, name)):
        lock = root / f"{name}.lock"
        with lock.open("ab") as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(lock, file.fileno()) or not _is_unused(root, name):
                continue  # another process was faster
            if (root / name).exists():
                (root / name).rename(root / f"{PARTIAL}{name}")  # so that no half of it is ever taken for a copy
            shutil.rmtree(root / f"{PARTIAL}{name}", ignore_errors=True)
            lock.unlink(missing_ok=True)


def _is_unused(root: Path, name: str) -> bool:
    copy, lock = root / name, root / f"{name}.lock"
    if copy.exists():
        return name.startswith(_COPIES) and _age_s(copy) > UNUSED_DAYS * _DAY_S
    return name.startswith(_LOCKED) and lock.exists() and _age_s(lock) > UNUSED_DAYS * _DAY_S


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0  # removed meanwhile
