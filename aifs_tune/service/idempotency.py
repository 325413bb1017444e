"""Idempotency keys: a repeated request gets the stored response and is not carried out again."""

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
    """Request that writes; ``key`` is its idempotency key, or None."""

    project: str
    method: str
    path: str
    body: Any
    key: str | None

    @property
    def fingerprint(self) -> str:
        """Return a digest of project, method, path and body."""
        return _digest(canonical([self.project, self.method, self.path, self.body]))


def idempotent_response(
    storage: Storage, write_request: WriteRequest, respond: Callable[[], StoredResponse]
) -> StoredResponse:
    """Return what ``respond`` returns, or what it returned when this key was first used.

    Must be called inside a transaction of ``storage``. The response is stored in the same transaction as what
    ``respond`` writes, so that either both are stored or neither is.

    Raises
    ------
    RequestError
        If the key was used with another request.
    """
    return idempotent_response_in(storage.rdb.scoped_session().connection(), write_request, respond)


def idempotent_response_in(
    connection: Connection, write_request: WriteRequest, respond: Callable[[], StoredResponse]
) -> StoredResponse:
    """Do the same as :func:`idempotent_response` in the transaction of ``connection``; ``respond`` must write in it."""
    if write_request.key is None:
        return respond()
    key = _digest(write_request.key.encode())
    where = (RESPONSES.c.project == write_request.project, RESPONSES.c.key == key)
    found = connection.execute(select(RESPONSES).where(*where)).mappings().first()
    if found is not None:
        if found["fingerprint"] != write_request.fingerprint:
            raise RequestError(
                "Idempotency-Key: this key was used with another request; allowed: the same request, or a new key"
            )
        return StoredResponse(found["status"], bytes(found["body"]))
    response = respond()
    row = {
        "project": write_request.project,
        "key": key,
        "fingerprint": write_request.fingerprint,
        "at": int(time.time()),
    }
    connection.execute(insert(RESPONSES), row | {"status": response.status, "body": response.body})
    return response


def delete_old_responses(storage: Storage) -> None:
    """Delete stored responses that are older than :data:`KEPT_DAYS` days."""
    old = delete(RESPONSES).where(RESPONSES.c.at < time.time() - KEPT_DAYS * _DAY_S)
    with translated_database_errors(storage.shown), storage.rdb.engine.begin() as connection:
        connection.execute(old)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=32).hexdigest()
