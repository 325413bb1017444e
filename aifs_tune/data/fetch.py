"""Download of data from an object store into the cache of this machine: ``CACHE/fetched-<key>/``.

The key is a digest of the URL and of the listing of the store (names, sizes and versions), so changed data are copied
again. A copy is made completely or not at all.
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
"""Names of the attributes of fsspec file systems that change with a file; each file system has some of them."""
_BATCH = 256
_WANTED = "a folder with data, or a file"


@dataclass(frozen=True)
class _File:
    """A file in the store: its ``path`` there, and its ``name`` relative to the copied folder."""

    path: str
    name: str
    size: int | None
    version: tuple[str, ...]


@dataclass(frozen=True)
class _Listing:
    """Files to copy; ``file`` is the name of the file at the URL, None if the URL is a folder."""

    files: tuple[_File, ...]
    file: str | None

    def key(self, url: str) -> str:
        """Return a digest of the URL and its listed content."""
        listed = [[file.name, file.size, *file.version] for file in self.files]
        return digest_of(json.dumps([url, listed]).encode())[:24]


def fetch(url: str, *, with_folder: bool, tell: Callable[[str], None], progress: Progress) -> Path:
    """Return the copy of a folder or file on this machine; copy it if there is no current copy.

    If several processes need the same data, one copies and the others wait. With ``with_folder``, the whole folder of
    a file is copied.

    Raises
    ------
    DataError
        If there are no data, they cannot be read, they change during the copy, or the package for the store is not
        installed.
    WorkError
        If the store fails or does not answer.
    StorageError
        If the cache cannot be written.
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
            raise DataError(f"data.url: {url} changed while it was copied; allowed: data that do not change")

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
    for found_path, info in sorted(found.items()):
        name = found_path.removeprefix(base).removeprefix("/")
        if found_path.endswith("/") or not name:
            continue  # some stores list folders like this
        if not name.isprintable() or {"", ".", ".."} & set(name.split("/")):
            raise DataError(f"data.url: {url} has a file {name!r}; allowed: relative paths below the URL")
        version = tuple(f"{key} {info[key]}" for key in _VERSIONS if info.get(key) is not None)
        files.append(_File(found_path, name, info.get("size"), version))
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
                raise WorkError(f"data.url: {url}: {file.name} has {file.size} bytes, but {size} arrived")
        progress("fetching", start + len(batch), len(listing.files))


def _reading(url: str) -> AbstractContextManager[None]:
    return translated_store_errors("data.url", url, _WANTED, refused=DataError, failed=WorkError)
