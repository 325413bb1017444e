"""Decoded images on disk, one folder for each content: ``CACHE/<key>/{images.npy, meta.json, facts.json}``.

The key is a digest of the files' contents, their classes and how they are decoded, so the same pictures are
found again wherever they lie and whatever they are called. Each split is a small file beside the images, and
its path is what other processes open. An entry appears whole or not at all; of two processes that write the
same one, the second uses what the first has written.
"""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.atomic_files import PARTIAL, flush, flush_folder, write_file
from aifs_tune._util.cache import _remove_stale
from aifs_tune._util.hashing import digest_of
from aifs_tune.data.images.decode import Facts, ImageSet
from aifs_tune.errors import NotFoundError

VERSION = 1


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
