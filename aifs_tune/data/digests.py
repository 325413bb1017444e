"""Content digests of files, with an index that saves reading unchanged files again."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import stat
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.hashing import digest_of
from aifs_tune.data.images.folder import ImageFile, SkippedFile, shown

_VERSION = 2
_SETTLED_NS = 2_000_000_000
_BATCH = 512
_EACH = 32
_THREADS = 4
_PIECE = 2**20

Progress = Callable[[str, int, int], None]
"""Callback with the name of a phase, the number of items done and the number of all items."""


def digest_of_array(array: NDArray[Any]) -> str:
    """Return the digest of the bytes of a contiguous array, without copying them."""
    digest = hashlib.blake2b(digest_size=20)
    digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def open_regular(path: str) -> BufferedReader:
    """Open a regular file for reading; a FIFO or device in its place is refused without blocking.

    Raises
    ------
    OSError
        If it cannot be opened or is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "is not a regular file")
    return os.fdopen(descriptor, "rb")


def digest_file(file: BufferedReader) -> str:
    """Return the digest of ``file``, and rewind it."""
    digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
    file.seek(0)
    return digest


def status_of(status: os.stat_result) -> list[int]:
    """Return the size and times of a file, which tell a changed one; see :func:`is_settled`."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def is_settled(file: ImageFile) -> bool:
    """Whether a file is so old that another change would change its times.

    One that has just changed can change again within one tick of the file system's clock.
    """
    return file.ctime_ns < time.time_ns() - _SETTLED_NS


class Digests(NamedTuple):
    """Digests of a content: ``cached`` is the key in the cache, ``sha256`` the hash shown to users."""

    cached: str
    sha256: str


def digests_of(file: BufferedReader) -> Digests:
    """Return both digests of ``file`` in one pass."""
    cached, sha256 = hashlib.blake2b(digest_size=20), hashlib.sha256()
    n_bytes = min(_PIECE, os.fstat(file.fileno()).st_size + 1)  # no more memory than a small file needs
    while piece := file.read(n_bytes):
        cached.update(piece)
        sha256.update(piece)
    return Digests(cached.hexdigest(), sha256.hexdigest())


class DigestIndex:
    """Index of the digests of the files in a folder, by name, size and times."""

    def __init__(self, cache: Path, folder: Path) -> None:
        self.path = cache / "index" / f"{digest_of(os.fsencode(folder.absolute()))}.json"
        self._known = _load(self.path)

    def read(
        self, files: Sequence[ImageFile], progress: Progress | None = None
    ) -> tuple[dict[str, Digests], list[SkippedFile]]:
        """Return digests by file name, and the files that cannot be read; only changed files are read."""
        digests = {file.name: digest for file in files if (digest := self._find(file)) is not None}
        unread = [file for file in files if file.name not in digests]
        skipped_files: list[SkippedFile] = []
        with ThreadPoolExecutor(_THREADS) as threads:
            for start in range(0, len(unread), _BATCH):
                batch = unread[start : start + _BATCH]
                parts = [batch[first : first + _EACH] for first in range(0, len(batch), _EACH)]
                digested = itertools.chain.from_iterable(threads.map(_digests_or_errors, parts))
                for file, found in zip(batch, digested, strict=True):
                    if isinstance(found, Digests):
                        digests[file.name] = found
                    else:
                        skipped_files.append(SkippedFile(shown(file.name), f"cannot be read ({found.strerror})"))
                if progress is not None:
                    progress("reading", start + len(batch), len(unread))
        self._update(files, digests)
        return digests, skipped_files

    def content(self) -> bytes:
        """Return the index in its stored form."""
        return json.dumps({"version": _VERSION, "files": self._known}).encode()

    def _find(self, file: ImageFile) -> Digests | None:
        known = self._known.get(file.name)
        return Digests(str(known[3]), str(known[4])) if known is not None and known[:3] == _status(file) else None

    def _update(self, files: Sequence[ImageFile], digests: dict[str, Digests]) -> None:
        self._known = {
            file.name: [*_status(file), *digests[file.name]]
            for file in files
            if file.name in digests and is_settled(file)
        }


def _status(file: ImageFile) -> list[int | str]:
    return [file.size, file.mtime_ns, file.ctime_ns]


def _digests_or_errors(files: Sequence[ImageFile]) -> list[Digests | OSError]:
    return [_digest_or_error(file) for file in files]


def _digest_or_error(file: ImageFile) -> Digests | OSError:
    try:
        with open_regular(file.path) as opened:
            return digests_of(opened)
    except OSError as error:
        return error


def _load(path: Path) -> dict[str, list[int | str]]:
    """Load the stored index; empty if it is missing or unusable."""
    try:
        stored = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    usable = isinstance(stored, dict) and stored.get("version") == _VERSION and isinstance(stored.get("files"), dict)
    if not usable:
        return {}
    return {name: known for name, known in stored["files"].items() if isinstance(known, list) and len(known) == 5}
