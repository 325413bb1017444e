"""Photos and other files that people add to a trial, kept among the artifacts of its study.

The entry ``trial-files/TRIAL-ID`` has the file and its record. It is named by the number of the trial and a hash, never
by a name that users choose, so that the same file again is the same entry.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field, ValidationError

from aifs_tune._util.cache import cache_root
from aifs_tune._util.hashing import digest_of
from aifs_tune._util.models import StrictModel, Text
from aifs_tune.artifacts.stores import store_at
from aifs_tune.errors import ConflictError, DamagedError, NotFoundError, RequestError
from aifs_tune.study.study import Study

MAX_FILE_BYTES = 8 * 1024 * 1024
"""Largest size of a file."""
MAX_FILES = 20
"""Largest number of files of a trial."""
MAX_NAME_LENGTH = 100
MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".pdf": "application/pdf",
    ".csv": "text/csv",
    ".txt": "text/plain",
}
"""Endings of the names that are allowed, and what the files are."""
ID_PATTERN = "^[0-9a-f]{24}$"
_FOLDER, _RECORD, _CONTENT = "trial-files", "record.json", "content"


class TrialFile(StrictModel):
    """File of a trial.

    Attributes
    ----------
    id
        Its id among the files of the trial.
    name, media_type
        The name that its author gave it, and what it is by the ending of the name.
    n_bytes, sha256
        Its size in bytes and its hash.
    added_at
        Time at which it was added, in ISO 8601 with time zone.
    """

    id: Annotated[str, Field(pattern=ID_PATTERN)]
    name: Text
    media_type: str
    n_bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    added_at: str


def add_trial_file(study: Study, number: int, name: str, content: bytes) -> TrialFile:
    """Keep a file of trial ``number``; the same name and content again has no effect.

    Raises
    ------
    NotFoundError
        If there is no such trial.
    RequestError
        If the name or the size is not allowed.
    ConflictError
        If the trial has :data:`MAX_FILES` files.
    StorageError
        If an object store does not answer.
    """
    study.trial(number)
    media_type = _media_type(name)
    if not 0 < len(content) <= MAX_FILE_BYTES:
        raise RequestError(f"{name}: {len(content)} bytes are not allowed; allowed: 1 to {MAX_FILE_BYTES} bytes")
    sha256 = hashlib.sha256(content).hexdigest()
    file_id = digest_of(f"{name}\n{sha256}".encode())[:24]
    there = trial_files(study, number)
    same = next((each for each in there if each.id == file_id), None)
    if same is not None:
        return same
    if len(there) >= MAX_FILES:
        raise ConflictError(f"trial {number} has {len(there)} files; allowed: at most {MAX_FILES}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = TrialFile(id=file_id, name=name, media_type=media_type, n_bytes=len(content), sha256=sha256, added_at=now)
    parts = {_CONTENT: content, _RECORD: record.model_dump_json().encode()}
    store_at(study.artifacts).put(
        _entry(number, file_id), lambda folder: [(folder / part).write_bytes(data) for part, data in parts.items()]
    )
    return record


def trial_files(study: Study, number: int) -> list[TrialFile]:
    """List the files of trial ``number`` in the order in which they were added.

    Raises
    ------
    DamagedError
        If a record cannot be read.
    StorageError
        If an object store does not answer.
    """
    start = _entry(number, "")
    ids = [name.removeprefix(start) for name in store_at(study.artifacts).names(_FOLDER) if name.startswith(start)]
    return sorted((find_trial_file(study, number, each) for each in ids), key=lambda each: (each.added_at, each.name))


def find_trial_file(study: Study, number: int, file_id: str) -> TrialFile:
    """Return the record of a file of trial ``number``.

    Raises
    ------
    NotFoundError
        If the trial has no file with this id.
    DamagedError
        If its record cannot be read.
    StorageError
        If an object store does not answer.
    """
    try:
        return TrialFile.model_validate_json(_part(study, number, file_id, _RECORD))
    except ValidationError as error:
        raise DamagedError(f"study {study.name!r}: the record of a file of trial {number} is damaged") from error


def trial_file_content(study: Study, number: int, file: TrialFile) -> bytes:
    """Return the content of a file of trial ``number``, checked against its hash.

    Raises
    ------
    NotFoundError
        If the file was removed.
    DamagedError
        If it was changed.
    StorageError
        If an object store does not answer.
    """
    content = _part(study, number, file.id, _CONTENT)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise DamagedError(f"study {study.name!r}: the file {file.name} of trial {number} was changed")
    return content


def _part(study: Study, number: int, file_id: str, part: str) -> bytes:
    missing = f"trial {number} of study {study.name!r} has no file {file_id}"
    try:
        folder = store_at(study.artifacts).fetch(_entry(number, file_id), cache_root().absolute())
        return (folder / part).read_bytes()
    except (NotFoundError, FileNotFoundError):
        raise NotFoundError(missing) from None


def _entry(number: int, file_id: str) -> str:
    return f"{_FOLDER}/{number:06d}-{file_id}"


def _media_type(name: str) -> str:
    found = MEDIA_TYPES.get(PurePosixPath(name).suffix.lower())
    is_plain = name.isprintable() and not {"/", "\\"} & set(name) and len(name) <= MAX_NAME_LENGTH
    if found is None or not is_plain:
        raise RequestError(
            f"name: {name[:MAX_NAME_LENGTH]!r} is not allowed; allowed: up to {MAX_NAME_LENGTH} printable characters "
            f"without slashes that end in {', '.join(MEDIA_TYPES)}"
        )
    return found
