"""A request that is sent again is answered again and carried out once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from aifs_tune.errors import RequestError
from aifs_tune.held_session import translated
from aifs_tune.service.strict_json import canonical
from aifs_tune.service.tables import ANSWERS
from aifs_tune.storage import Storage

KEPT_DAYS = 30
_DAY_S = 86_400


@dataclass(frozen=True)
class Answer:
    """Status and body of a response."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Asked:
    """A request that writes: ``key`` is its idempotency key, None where it has none."""

    project: str
    method: str
    path: str
    body: Any
    key: str | None

    @property
    def fingerprint(self) -> str:
        return _digest(canonical([self.project, self.method, self.path, self.body]))


def answered_once(storage: Storage, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    """What ``answer`` says, or said when this key came first. Called inside a transaction of ``storage``, in which the
    answer is stored with what ``answer`` writes: both are there or none.

    Raises
    ------
    RequestError
        If the key came with another request.
    """
    return answered_once_on(storage.rdb.scoped_session().connection(), asked, answer)


def answered_once_on(connection: Connection, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    """As :func:`answered_once`, in the transaction of ``connection``, in which ``answer`` has to write."""
    if asked.key is None:
        return answer()
    key = _digest(asked.key.encode())
    where = (ANSWERS.c.project == asked.project, ANSWERS.c.key == key)
    found = connection.execute(select(ANSWERS).where(*where)).mappings().first()
    if found is not None:
        if found["fingerprint"] != asked.fingerprint:
            raise RequestError(
                "Idempotency-Key: this key came with another request before; allowed: the same request, or a new key"
            )
        return Answer(found["status"], bytes(found["body"]))
    told = answer()
    row = {"project": asked.project, "key": key, "fingerprint": asked.fingerprint, "at": int(time.time())}
    connection.execute(insert(ANSWERS), row | {"status": told.status, "body": told.body})
    return told


def forget_old_answers(storage: Storage) -> None:
    """Drop those of more than :data:`KEPT_DAYS` ago."""
    old = delete(ANSWERS).where(ANSWERS.c.at < time.time() - KEPT_DAYS * _DAY_S)
    with translated(storage.shown), storage.rdb.engine.begin() as connection:
        connection.execute(old)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=32).hexdigest()
