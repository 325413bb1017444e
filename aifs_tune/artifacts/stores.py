"""Stores for the artifacts of a study: a folder, or an object store.

An entry is a folder of files with a name such as ``trial-000003/weights``. In an object store, the manifest
``trial-000003/weights.json`` has the names and hashes of the files. It is written last, in one request. The files are
below ``trial-000003/weights/<id>/``, with a new id for each upload of the entry.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aifs_tune._util.atomic_files import PARTIAL, write_folder
from aifs_tune._util.cache import kept_copy
from aifs_tune._util.hashing import Hashes, check_hashes, digest_of, hashes_of
from aifs_tune._util.object_store import open_filesystem, translated_store_errors
from aifs_tune.errors import DamagedError, NotFoundError, StorageError

VERSION = 1
"""Version of the manifest; manifests of another version are refused."""
TIMEOUT_S = 60.0
"""Time limit of a request to an object store, including the retries of its client; a second is added per MB."""

_MANIFEST = ".json"
_TRIAL = re.compile(r"trial-\d+")
_MB = 1e6


class ArtifactStore(Protocol):
    """Store of entries by name, ``TRIAL/ENTRY``, that all machines share.

    Entries that belong to no trial, such as ``data/ENTRY``, can be put, fetched and removed too, and listed by the name
    of their folder; what concerns all trials ignores them.
    All methods may block, and raise :class:`StorageError` if the store does not answer, or OSError if a disk is full.
    """

    def put(self, name: str, write: Callable[[Path], object]) -> dict[str, str]:
        """Store the entry ``name`` and return the hashes of its files.

        ``write`` fills a folder on this machine. The entry replaces an older one, completely or not at all.
        """
        ...

    def fetch(self, name: str, root: Path) -> Path:
        """Return a folder on this machine with the content of an entry; it must not be written to.

        This is the folder of the store itself, or a verified copy below ``root``. Raises :class:`NotFoundError` if
        there is no such entry, and :class:`DamagedError` if the content differs from what was stored.
        """
        ...

    def names(self, trial: str | None = None) -> list[str]:
        """Return the names of the entries of all trials, or of one folder such as that of a trial, in sorted order."""
        ...

    def remove(self, name: str) -> None:
        """Remove an entry, or all entries of a trial; a missing entry is not an error."""
        ...

    def tidy(self, keeps: Callable[[str, str], bool]) -> None:
        """Remove incomplete entries, and each entry for which ``keeps(trial, entry)`` is false.

        No process may write at the same time.
        """
        ...


def store_at(location: Path | str) -> ArtifactStore:
    """Return the store in a folder or at the URL of an object store."""
    return FolderStore(location) if isinstance(location, Path) else ObjectStore(location)


class FolderStore:
    """Store in a folder that all machines share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, write: Callable[[Path], object]) -> dict[str, str]:
        hashes: dict[str, str] = {}

        def write_and_hash(partial: Path) -> None:
            write(partial)
            hashes.update(hashes_of(partial))

        write_folder(self._folder / name, write_and_hash)
        return hashes

    def fetch(self, name: str, root: Path) -> Path:
        if not (self._folder / name).is_dir():
            raise NotFoundError(f"{self._folder / name}: does not exist")
        return self._folder / name

    def names(self, trial: str | None = None) -> list[str]:
        names = [trial] if trial else [path.name for path in self._trials()]
        found = [path for name in names for path in (self._folder / name).glob("*")]
        return sorted(f"{path.parent.name}/{path.name}" for path in found if not path.name.startswith(PARTIAL))

    def remove(self, name: str) -> None:
        shutil.rmtree(self._folder / name, ignore_errors=True)

    def tidy(self, keeps: Callable[[str, str], bool]) -> None:
        for trial in self._trials():
            entries = {path.name for path in trial.iterdir()}
            kept = {name for name in entries if not name.startswith(PARTIAL) and keeps(trial.name, name)}
            for name in entries - kept if kept else {""}:
                self.remove(f"{trial.name}/{name}")

    def _trials(self) -> list[Path]:
        return [path for path in self._folder.glob("trial-*") if _TRIAL.fullmatch(path.name) and path.is_dir()]


class ObjectStore:
    """Store of objects below a URL.

    Credentials come from the environment of each process; they are never stored.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def put(self, name: str, write: Callable[[Path], object]) -> dict[str, str]:
        with tempfile.TemporaryDirectory(prefix="aifs_tune_") as made:
            folder = Path(made)
            write(folder)
            hashes = hashes_of(folder)
            upload = uuid.uuid4().hex
            older = self._find_manifest(name)
            with self._open() as (objects, root):
                here = [folder / file for file in hashes]
                there = [f"{root}/{name}/{upload}/{file}" for file in hashes]
                limit_s = _limit_s(sum(file.stat().st_size for file in here))
                objects.put([str(file) for file in here], there, timeout=limit_s)
                manifest = json.dumps({"version": VERSION, "upload": upload, "files": hashes})
                objects.pipe_file(f"{root}/{name}{_MANIFEST}", manifest.encode(), timeout=_limit_s())
        if older is not None:
            with suppress(StorageError):
                self.remove(f"{name}/{older.upload}")
        return hashes

    def fetch(self, name: str, root: Path) -> Path:
        manifest = self._manifest(name)
        key = digest_of(json.dumps(sorted(manifest.files.items())).encode())[:24]

        def fill(partial: Path) -> None:
            self._download(name, manifest, partial)
            check_hashes(partial, manifest.files)

        copy = kept_copy(root, f"artifacts-{key}", fill)
        try:
            check_hashes(copy, manifest.files)
        except DamagedError:
            shutil.rmtree(copy, ignore_errors=True)
            copy = kept_copy(root, copy.name, fill)
        return copy

    def names(self, trial: str | None = None) -> list[str]:
        return [key.removesuffix(_MANIFEST) for key in self._keys(trial) if _is_manifest(key)]

    def remove(self, name: str) -> None:
        keys = self._keys(name.partition("/")[0])
        self._delete([key for key in keys if key == f"{name}{_MANIFEST}" or key.startswith(f"{name}/")])

    def tidy(self, keeps: Callable[[str, str], bool]) -> None:
        keys = self._keys()
        kept: set[str] = set()
        for key in filter(_is_manifest, keys):
            name = key.removesuffix(_MANIFEST)
            if keeps(*name.split("/")) and (manifest := self._find_manifest(name)) is not None:
                kept |= {key, *(f"{name}/{manifest.upload}/{file}" for file in manifest.files)}
        self._delete([key for key in keys if key not in kept])

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, str]]:
        """Yield the file system and the path of the URL in it; errors become :class:`StorageError`."""
        with translated_store_errors(
            "artifacts", self._url, "an existing bucket", refused=StorageError, failed=StorageError
        ):
            objects, root = open_filesystem(self._url, use_listings_cache=False)
            yield objects, root.rstrip("/")

    def _keys(self, trial: str | None = None) -> list[str]:
        """Return the paths of the objects of all trials, or of one folder, below the URL."""
        with self._open() as (objects, root):
            found = objects.find(f"{root}/{trial}" if trial else root, timeout=_limit_s())
            keys = sorted(key.removeprefix(f"{root}/") for key in found)
        return [key for key in keys if trial or _TRIAL.fullmatch(key.partition("/")[0])]

    def _find_manifest(self, name: str) -> _Manifest | None:
        try:
            return self._manifest(name)
        except (NotFoundError, DamagedError):
            return None

    def _manifest(self, name: str) -> _Manifest:
        with self._open() as (objects, root):
            try:
                stored = objects.cat_file(f"{root}/{name}{_MANIFEST}", timeout=_limit_s())
            except FileNotFoundError:
                raise NotFoundError(f"{self._url}/{name}: does not exist") from None
        try:
            return _Manifest.from_json(json.loads(stored))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedError(f"{self._url}/{name}{_MANIFEST}: is not a manifest ({error})") from error

    def _download(self, name: str, manifest: _Manifest, folder: Path) -> None:
        for file in manifest.files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
        there = [f"{name}/{manifest.upload}/{file}" for file in manifest.files]
        with self._open() as (objects, root):
            try:
                sizes = [objects.size(f"{root}/{file}", timeout=_limit_s()) for file in there]
                here = [str(folder / file) for file in manifest.files]
                objects.get([f"{root}/{file}" for file in there], here, timeout=_limit_s(sum(sizes)))
            except FileNotFoundError as error:
                raise DamagedError(f"{self._url}/{name}: a file in its manifest does not exist ({error})") from error

    def _delete(self, keys: Sequence[str]) -> None:
        """Delete objects, manifests first, so that no incomplete entry is visible."""
        manifests = [key for key in keys if _is_manifest(key)]
        with self._open() as (objects, root):
            for some in (manifests, [key for key in keys if not _is_manifest(key)]):
                if some:
                    objects.rm([f"{root}/{key}" for key in some], timeout=_limit_s())


@dataclass(frozen=True)
class _Manifest:
    """Manifest of an entry; its files are below the folder ``upload`` of the entry."""

    upload: str
    files: Hashes

    @classmethod
    def from_json(cls, stored: Any) -> _Manifest:
        """Make a manifest of JSON values; raise ValueError for a path that leads out of the entry."""
        upload, files = stored["upload"], dict(stored["files"])
        if stored["version"] != VERSION:
            raise ValueError(f"version {stored['version']!r}; allowed: {VERSION}")
        for name in (upload, *files):
            if not name.isprintable() or {"", ".", ".."} & set(name.split("/")):
                raise ValueError(f"{name!r} is not a path below the entry")
        return cls(upload, files)


def _is_manifest(key: str) -> bool:
    return key.count("/") == 1 and key.endswith(_MANIFEST)


def _limit_s(n_bytes: int = 0) -> float:
    return TIMEOUT_S + n_bytes / _MB
