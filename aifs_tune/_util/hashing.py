"""What names the content of a folder of artifacts: the SHA-256 of each of its files, as ``sha256sum`` prints it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from aifs_tune.errors import DamagedError

Hashes: TypeAlias = Mapping[str, str]
"""Hexadecimal SHA-256 by the name of a file, relative to its folder with ``/``."""


def hashes_of(folder: Path) -> dict[str, str]:
    """The hash of every file below ``folder``, in the order of their names. All of each file is read.

    Raises
    ------
    DamagedError
        If something in it is neither a file nor a folder, such as a link; OSError if a file cannot be read.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise DamagedError(f"{path}: is no regular file; allowed: what a trial wrote")
        if path.is_file():
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def check_hashes(folder: Path, expected: Hashes, *, says: str = "the study") -> None:
    """Refuse ``folder`` unless it holds the files whose hashes are ``expected``, and no others; ``says`` is what has
    them.

    Raises
    ------
    DamagedError
        Naming the first file that is missing, is too many or has another hash, and both hashes.
    """
    try:
        found = hashes_of(folder)
    except OSError as error:
        raise DamagedError(f"{folder}: cannot be read ({error.strerror or error})") from error
    for name in sorted({*found, *expected}):
        here, wanted = found.get(name), expected.get(name)
        if here is None:
            raise DamagedError(f"{folder / name}: is not there; {says} has one with SHA-256 {wanted}")
        if wanted is None:
            raise DamagedError(f"{folder / name}: is not one of the files that {says} has a hash of; its is {here}")
        if here != wanted:
            raise DamagedError(f"{folder / name}: its SHA-256 is {here}, that in {says} is {wanted}")


HASHES_FILE = "hashes.json"
"""What a checkpoint says of its other files, for as long as the study does not know of it."""


def write_hashes_file(folder: Path) -> None:
    """Add to ``folder`` a file with the hashes of all that is in it."""
    (folder / HASHES_FILE).write_text(json.dumps(hashes_of(folder)))


def check_hashes_file(folder: Path) -> None:
    """Refuse ``folder`` unless it holds the files that it says itself, and no others.

    Raises
    ------
    DamagedError
        As :func:`check_hashes`, and if it does not say what is in it.
    """
    try:
        expected = dict(json.loads((folder / HASHES_FILE).read_bytes()))
        itself = hashlib.sha256((folder / HASHES_FILE).read_bytes()).hexdigest()
    except (OSError, ValueError, TypeError) as error:
        raise DamagedError(f"{folder / HASHES_FILE}: does not tell what the checkpoint is ({error})") from error
    check_hashes(folder, {**expected, HASHES_FILE: itself})


def digest_of(content: bytes) -> str:
    """Hexadecimal digest that names a content everywhere in the cache."""
    return hashlib.blake2b(content, digest_size=20).hexdigest()
