"""Prepared data on another machine than the one that prepared them."""

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
    """Where this machine has what was prepared at ``location`` of another one: there, if the two share it, else in the
    cache of this one.

    What is in neither is fetched and decoded here, by one process while the others of this machine wait.

    Raises
    ------
    DataError
        If there are no data here, or others: names this machine and both fingerprints. StorageError if the cache
        cannot be written.
    """
    root = cache_root().absolute()
    name = f"{location.parent.name}/{location.name}" if kind == "images" else location.name
    if (found := _find(kind, (location, root / name), fingerprint)) is not None:
        return found
    with storing(root), locked(root, f"decoding-{fingerprint[:24]}"):
        if (found := _find(kind, (root / name,), fingerprint)) is not None:
            return found  # another process of this machine was waited for
        unasked = data.model_copy(update={"near_duplicates": "ignore"})
        made = prepare(unasked, kind, strict=False, tell=_say_nothing, progress=_say_nothing)
    if made.fingerprint != fingerprint:
        differing = made.fingerprint[:12]
        raise DataError(
            f"the data on {socket.gethostname()} are others than those of the study (fingerprint {differing}, "
            f"the study's is {fingerprint[:12]}); allowed: the same files, at the same path or URL, on every node"
        )
    return made.location


def _find(kind: str, places: tuple[Path, ...], fingerprint: str) -> Path | None:
    for place in places:
        try:
            opened = open_images(place) if kind == "images" else open_examples(place)
        except NotFoundError:
            continue
        if opened.fingerprint == fingerprint:
            return place
    return None


def _say_nothing(*_told: object) -> None:
    """A worker has nobody to tell."""
