"""Idempotency keys: a repeated request gets the stored response and is not carried out again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from aifs_tune.errors import RequestError
from aifs_tune.service.audit import Action, add_entries
from aifs_tune.service.strict_json import canonical
from aifs_tune.service.tokens import RESPONSES
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import Storage

KEPT_DAYS = 30
_DAY_S = 86_400


@dataclass(frozen=True)
class StoredResponse:
    """Status and body of a response, and the study and trials of its request where the path does not name them."""

    status: int
    body: bytes
    study: str | None = None
    trials: tuple[int, ...] = ()


@dataclass(frozen=True)
class WriteRequest:
    """Request that writes; ``key`` is its idempotency key, or None."""

    action: Action
    path: str
    body: Any
    key: str | None

    @property
    def fingerprint(self) -> str:
        """Return a digest of project, method, path and body."""
        return _digest(canonical([self.action.project, self.action.method, self.path, self.body]))


def idempotent_response(
    storage: Storage, write_request: WriteRequest, respond: Callable[[], StoredResponse]
) -> StoredResponse:
    """Return what ``respond`` returns, or what it returned when this key was first used.

    Must be called inside a transaction of ``storage``. The response and the entry of the audit log are stored in the
    same transaction as what ``respond`` writes, so that either all are stored or none is.

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
        return _carried_out(connection, write_request, respond)
    key = _digest(write_request.key.encode())
    where = (RESPONSES.c.project == write_request.action.project, RESPONSES.c.key == key)
    found = connection.execute(select(RESPONSES).where(*where)).mappings().first()
    if found is not None:
        if found["fingerprint"] != write_request.fingerprint:
            raise RequestError(
                "Idempotency-Key: this key was used with another request; allowed: the same request, or a new key"
            )
        return StoredResponse(found["status"], bytes(found["body"]))
    response = _carried_out(connection, write_request, respond)
    row = {
        "project": write_request.action.project,
        "key": key,
        "fingerprint": write_request.fingerprint,
        "at": int(time.time()),
    }
    connection.execute(insert(RESPONSES), row | {"status": response.status, "body": response.body})
    return response


def _carried_out(
    connection: Connection, write_request: WriteRequest, respond: Callable[[], StoredResponse]
) -> StoredResponse:
    response, action = respond(), write_request.action
    add_entries(connection, replace(action, study=action.study or response.study), response.status, response.trials)
    return response


def delete_old_responses(storage: Storage) -> None:
    """Delete stored responses that are older than :data:`KEPT_DAYS` days."""
    old = delete(RESPONSES).where(RESPONSES.c.at < time.time() - KEPT_DAYS * _DAY_S)
    with translated_database_errors(storage.shown), storage.rdb.engine.begin() as connection:
        connection.execute(old)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=32).hexdigest()
