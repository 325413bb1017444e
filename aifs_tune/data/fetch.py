"""Data in an object store, copied once to a machine: ``CACHE/fetched-<key>/``, a folder as it is there.

The key is a digest of the URL and of what the store lists under it (names, sizes and what the store calls a version),
so that data which change are copied again. A copy appears whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from aifs_tune._util.cache import cache_root, kept_copy
from aifs_tune._util.hashing import digest_of
from aifs_tune._util.object_store import open_filesystem, translated_store_errors
from aifs_tune.data.digests import Progress
from aifs_tune.errors import DataError, WorkError

_VERSIONS = ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "updated", "mtime")
"""What the file systems of fsspec call that which changes with a file; each has some of them."""
_BATCH = 256
_WANTED = "a folder with data, or a file"


@dataclass(frozen=True)
class _File:
    """A file of the store: its ``path`` there, and below the folder that is copied its ``name``."""

    path: str
    name: str
    size: int | None
    version: tuple[str, ...]


@dataclass(frozen=True)
class _Listing:
    """What is to be copied; ``file`` is the name of the one that the URL names, if it names a file."""

    files: tuple[_File, ...]
    file: str | None

    def key(self, url: str) -> str:
        """Names this content of this place."""
        listed = [[file.name, file.size, *file.version] for file in self.files]
        return digest_of(json.dumps([url, listed]).encode())[:24]


def fetch(url: str, *, with_folder: bool, tell: Callable[[str], None], progress: Progress) -> Path:
    """The copy of a folder or file on this machine, made if there is none of what is there now.

    Of processes that want the same, one copies and the others wait. ``with_folder``: of a file, all that lies in its
    folder, and below, is copied too.

    Raises
    ------
    DataError
        If there is nothing, it is not to be read, it changes meanwhile, or the package for the store is not installed.
    WorkError
        If the store does not answer as it should; StorageError if the cache cannot be written.
    """
    with _reading(url):
        store, path = open_filesystem(url)
        listing = _listed(store, path, url, with_folder=with_folder)

    def fill(partial: Path) -> None:
        n_bytes = sum(file.size or 0 for file in listing.files)
        tell(f"fetching {len(listing.files)} files, {n_bytes / 1e6:.1f} MB, from {url}")
        _copy(store, listing, partial, url, progress)
        with _reading(url):
            later = _listed(store, path, url, with_folder=with_folder)
        if later != listing:
            raise DataError(f"data.url: {url} changed while it was copied; allowed: data that stay as they are")

    folder = kept_copy(cache_root().absolute(), f"fetched-{listing.key(url)}", fill)
    return folder if listing.file is None else folder / listing.file


def _listed(store: Any, path: str, url: str, *, with_folder: bool) -> _Listing:
    store.invalidate_cache()
    path = path.rstrip("/")
    file = path.rpartition("/")[2] if store.info(path)["type"] == "file" else None
    base = path if file is None else path.rpartition("/")[0]
    if file is None or with_folder:
        found: Mapping[str, Mapping[str, Any]] = store.find(base, detail=True)
    else:
        found = {path: store.info(path)}
    files = []
    for place, info in sorted(found.items()):
        name = place.removeprefix(base).removeprefix("/")
        if place.endswith("/") or not name:
            continue  # how some stores show a folder
        if not name.isprintable() or {"", ".", ".."} & set(name.split("/")):
            raise DataError(f"data.url: {url} has a file {name!r}; allowed: names that are a path below it")
        version = tuple(f"{key} {info[key]}" for key in _VERSIONS if info.get(key) is not None)
        files.append(_File(place, name, info.get("size"), version))
    if not files:
        raise DataError(f"data.url: {url} has no files; allowed: {_WANTED}")
    return _Listing(tuple(files), file)


def _copy(store: Any, listing: _Listing, folder: Path, url: str, progress: Progress) -> None:
    for start in range(0, len(listing.files), _BATCH):
        batch = listing.files[start : start + _BATCH]
        targets = [folder / PurePosixPath(file.name) for file in batch]
        for parent in {target.parent for target in targets}:
            parent.mkdir(parents=True, exist_ok=True)
        with _reading(url):
            store.get([file.path for file in batch], [str(target) for target in targets])
        for file, target in zip(batch, targets, strict=True):
            size = target.stat().st_size
            if file.size is not None and size != file.size:
                raise WorkError(f"data.url: {url}: {file.name} has {file.size} bytes, {size} came")
        progress("fetching", start + len(batch), len(listing.files))


def _reading(url: str) -> AbstractContextManager[None]:
    return translated_store_errors("data.url", url, _WANTED, refused=DataError, failed=WorkError)
