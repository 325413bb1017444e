"""Cache on this machine, whose entries are named by content and created once under a lock."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aifs_tune._util.atomic_files import PARTIAL, write_folder
from aifs_tune.errors import StorageError

UNUSED_DAYS = 30
"""Days without use after which a copy in the cache is removed."""
_COPIES = ("fetched-", "artifacts-", "arrays-")
_LOCKED = (*_COPIES, "decoding-")
_DAY_S = 24 * 3600


def cache_root() -> Path:
    """Return ``$AIFS_TUNE_CACHE``, else ``aifs_tune`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    given = os.environ.get("AIFS_TUNE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aifs_tune"


@contextmanager
def storing(root: Path) -> Iterator[None]:
    """Create ``root`` and translate errors such as a full disk to :class:`StorageError`."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise StorageError(
            f"image cache {root}: cannot be written ({error.strerror or error}); "
            "free some space, or set AIFS_TUNE_CACHE to another folder"
        ) from error


@contextmanager
def locked(root: Path, name: str) -> Iterator[None]:
    """Hold the lock ``name`` among the processes of this machine, after waiting for the current holder."""
    path = root / f"{name}.lock"
    while True:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # the lock ends with the process, even after a crash
            if _is_at(path, file.fileno()):
                yield
                return


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether this open file is still the one at ``path``, and was not removed meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def kept_copy(root: Path, name: str, fill: Callable[[Path], object]) -> Path:
    """Return the folder ``name`` of the cache ``root``, created by ``fill`` if it does not exist.

    The folder appears atomically. One process creates it while others wait. Copies that were not used for
    :data:`UNUSED_DAYS` days are removed, except for those being created.

    Raises
    ------
    StorageError
        If the folder cannot be written, for example because the disk is full.
    """
    folder = root / name
    with storing(root):
        with locked(root, name):
            if not folder.exists():
                write_folder(folder, fill)
            os.utime(folder)
        _remove_unused(root)
    return folder


def _remove_stale(root: Path) -> None:
    """Remove partial folders that killed processes left behind."""
    for partial in root.glob(f"{PARTIAL}*"):
        if _age_s(partial) > _DAY_S:
            shutil.rmtree(partial, ignore_errors=True)


def _remove_unused(root: Path) -> None:
    """Remove copies and locks that were not used for :data:`UNUSED_DAYS` days."""
    _remove_stale(root)
    found = {path.name.removesuffix(".lock") for path in root.iterdir()}
    for name in (name for name in found if _is_unused(root, name)):
        lock = root / f"{name}.lock"
        with lock.open("ab") as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(lock, file.fileno()) or not _is_unused(root, name):
                continue  # another process was faster
            if (root / name).exists():
                (root / name).rename(
                    root / f"{PARTIAL}{name}"
                )  # so that a partly removed folder is never used as a copy
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
