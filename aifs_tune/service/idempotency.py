"""A request that is sent again is answered again and carried out once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from aifs_tune.errors import RequestError
from aifs_tune.service.strict_json import canonical
from aifs_tune.service.tokens import RESPONSES
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import Storage

KEPT_DAYS = 30
_DAY_S = 86_400


@dataclass(frozen=True)
class StoredResponse:
    """Status and body of a response."""

    status: int
    body: bytes


@dataclass(frozen=True)
class WriteRequest:
    """A request that writes: ``key`` is its idempotency key, None where it has none."""

    project: str
    method: str
    path: str
    body: Any
    key: str | None

    @property
    def fingerprint(self) -> str:
        return _digest(canonical([self.project, self.method, self.path, self.body]))


def idempotent_response(
    storage: Storage, write_request: WriteRequest, answer: Callable[[], StoredResponse]
) -> StoredResponse:
    """What ``answer`` says, or said when this key came first. Called inside a transaction of ``storage``, in which the
    answer is stored with what ``answer`` writes: both are there or none.

    Raises
    ------
    RequestError
        If the key came with another request.
    """
    return idempotent_response_in(storage.rdb.scoped_session().connection(), write_request, answer)


def idempotent_response_in(
    connection: Connection, write_request: WriteRequest, answer: Callable[[], StoredResponse]
) -> StoredResponse:
    """As :func:`idempotent_response`, in the transaction of ``connection``, in which ``answer`` has to write."""
    if write_request.key is None:
        return answer()
    key = _digest(write_request.key.encode())
    where = (RESPONSES.c.project == write_request.project, RESPONSES.c.key == key)
    found = connection.execute(select(RESPONSES).where(*where)).mappings().first()
    if found is not None:
        if found["fingerprint"] != write_request.fingerprint:
            raise RequestError(
                "Idempotency-Key: this key came with another request before; allowed: the same request, or a new key"
            )
        return StoredResponse(found["status"], bytes(found["body"]))
    told = answer()
    row = {
        "project": write_request.project,
        "key": key,
        "fingerprint": write_request.fingerprint,
        "at": int(time.time()),
    }
    connection.execute(insert(RESPONSES), row | {"status": told.status, "body": told.body})
    return told


def delete_old_responses(storage: Storage) -> None:
    """Drop those of more than :data:`KEPT_DAYS` ago."""
    old = delete(RESPONSES).where(RESPONSES.c.at < time.time() - KEPT_DAYS * _DAY_S)
    with translated_database_errors(storage.shown), storage.rdb.engine.begin() as connection:
        connection.execute(old)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=32).hexdigest()
