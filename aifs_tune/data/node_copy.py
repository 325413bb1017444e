"""Prepared data on a machine other than the one that prepared them."""

from __future__ import annotations

import socket
from pathlib import Path

from aifs_tune._util.cache import cache_root, locked, storing
from aifs_tune.config.data import DataSpec
from aifs_tune.data.cache import open_images
from aifs_tune.data.examples import open_examples
from aifs_tune.data.sources import prepare
from aifs_tune.errors import DataError, NotFoundError


def find_local_copy(data: DataSpec, kind: str, location: Path, fingerprint: str) -> Path:
    """Return where this machine has the data that another machine prepared at ``location``.

    This is ``location`` if both machines share it, otherwise an entry in the cache of this machine. If there is no
    such entry, one process prepares the data here while the others on this machine wait.

    Raises
    ------
    DataError
        If the data on this machine are missing or different; the text names the machine and both fingerprints.
    StorageError
        If the cache cannot be written.
    """
    root = cache_root().absolute()
    name = f"{location.parent.name}/{location.name}" if kind == "images" else location.name
    if (found := _find(kind, (location, root / name), fingerprint)) is not None:
        return found
    with storing(root), locked(root, f"decoding-{fingerprint[:24]}"):
        if (found := _find(kind, (root / name,), fingerprint)) is not None:
            return found  # another process on this machine prepared it
        unsearched = data.model_copy(update={"near_duplicates": "ignore"})
        made = prepare(unsearched, kind, strict=False, tell=_ignore, progress=_ignore)
    if made.fingerprint != fingerprint:
        raise DataError(
            f"the data on {socket.gethostname()} differ from those of the study (fingerprint {made.fingerprint[:12]}, "
            f"in the study {fingerprint[:12]}); allowed: the same files, at the same path or URL, on every node"
        )
    return made.location


def _find(kind: str, locations: tuple[Path, ...], fingerprint: str) -> Path | None:
    for location in locations:
        try:
            opened = open_images(location) if kind == "images" else open_examples(location)
        except NotFoundError:
            continue
        if opened.fingerprint == fingerprint:
            return location
    return None


def _ignore(*_message: object) -> None:
    """Drop a message; a worker shows none."""
