"""SHA-256 hashes of the files in a folder of artifacts, as ``sha256sum`` prints them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from aifs_tune.errors import DamagedError

Hashes: TypeAlias = Mapping[str, str]
"""Hexadecimal SHA-256 by file name, relative to the folder, with ``/`` as separator."""


def hashes_of(folder: Path) -> dict[str, str]:
    """Return the hash of every file below ``folder``, in the order of names.

    Raises
    ------
    DamagedError
        If an entry is neither a file nor a folder, such as a link.
    OSError
        If a file cannot be read.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise DamagedError(f"{path}: is not a regular file or folder; allowed: files that a trial wrote")
        if path.is_file():
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def check_hashes(folder: Path, expected: Hashes, *, says: str = "the study") -> None:
    """Check that ``folder`` holds exactly the files with the ``expected`` hashes; ``says`` names their source.

    Raises
    ------
    DamagedError
        If a file is missing, unexpected or has another hash; names the first such file and the hashes.
    """
    try:
        found = hashes_of(folder)
    except OSError as error:
        raise DamagedError(f"{folder}: cannot be read ({error.strerror or error})") from error
    for name in sorted({*found, *expected}):
        here, wanted = found.get(name), expected.get(name)
        if here is None:
            raise DamagedError(f"{folder / name}: does not exist; {says} has its SHA-256 {wanted}")
        if wanted is None:
            raise DamagedError(f"{folder / name}: is unexpected; {says} has no hash of it; its SHA-256 is {here}")
        if here != wanted:
            raise DamagedError(f"{folder / name}: its SHA-256 is {here}, but {says} has {wanted}")


HASHES_FILE = "hashes.json"
"""File in a checkpoint with the hashes of its other files, used until the study has them."""


def write_hashes_file(folder: Path) -> None:
    """Write a file with the hashes of all other files to ``folder``."""
    (folder / HASHES_FILE).write_text(json.dumps(hashes_of(folder)))


def check_hashes_file(folder: Path) -> None:
    """Check that ``folder`` holds exactly the files in its file of hashes.

    Raises
    ------
    DamagedError
        As :func:`check_hashes`, and if the file of hashes cannot be read.
    """
    try:
        expected = dict(json.loads((folder / HASHES_FILE).read_bytes()))
        itself = hashlib.sha256((folder / HASHES_FILE).read_bytes()).hexdigest()
    except (OSError, ValueError, TypeError) as error:
        raise DamagedError(
            f"{folder / HASHES_FILE}: cannot be read as the hashes of the checkpoint ({error})"
        ) from error
    check_hashes(folder, {**expected, HASHES_FILE: itself})


def digest_of(content: bytes) -> str:
    """Return the hexadecimal digest that names a content in the cache."""
    return hashlib.blake2b(content, digest_size=20).hexdigest()
