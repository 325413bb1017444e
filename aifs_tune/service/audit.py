"""Audit log: who changed what through the service, when, and with what result; entries are added and never changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from aifs_tune.service.tokens import AUDIT, Caller, make_tables, without_secrets
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import Storage


@dataclass(frozen=True)
class Action:
    """What a caller asked for from ``address``: method and route as in the OpenAPI description, and the study and the
    trial that it is about."""

    caller: Caller
    address: str | None
    project: str
    method: str
    route: str
    study: str | None = None
    trial: int | None = None


@dataclass(frozen=True)
class AuditEntry:
    """One entry of the audit log; its numbers grow.

    ``at`` is in seconds since 1970. ``token_id`` is None for a caller without a token, ``label`` is that of the token
    when the request was made, ``address`` that of the client, ``status`` the HTTP status of the response.
    """

    id: int
    at: float
    project: str
    token_id: str | None
    label: str
    address: str | None
    method: str
    route: str
    study: str | None
    trial: int | None
    status: int

    def to_json(self) -> dict[str, Any]:
        """Return the entry with its time in UTC as ISO 8601."""
        return asdict(self) | {"at": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds")}


def add_entries(connection: Connection, action: Action, status: int, trials: Sequence[int] = ()) -> None:
    """Add the entry of an action in the transaction of ``connection``, or one for each of the given ``trials``."""
    row = {
        "at": time.time(),
        "project": action.project,
        "token_id": action.caller.token_id,
        "label": without_secrets(action.caller.label),
        "address": action.address,
        "method": action.method,
        "route": action.route,
        "study": None if action.study is None else without_secrets(action.study),
        "status": status,
    }
    connection.execute(insert(AUDIT), [row | {"trial": trial} for trial in trials or (action.trial,)])


class AuditLog:
    """The audit log of a storage."""

    def __init__(self, storage: Storage) -> None:
        make_tables(storage)
        self._storage = storage

    def record(self, action: Action, status: int) -> None:
        """Add the entry of an action that writes nothing else in the storage.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        with translated_database_errors(self._storage.shown), self._storage.rdb.engine.begin() as connection:
            add_entries(connection, action, status)

    def entries(
        self, project: str | None = None, *, study: str | None = None, before: int | None = None, limit: int = 100
    ) -> list[AuditEntry]:
        """Return up to ``limit`` entries, the newest first.

        Parameters
        ----------
        project
            Only those of this project. Default: of all.
        study
            Only those of studies with this name.
        before
            Only those with a smaller number.
        limit
            Maximum number of entries.

        Raises
        ------
        StorageError
            If they cannot be read.
        """
        wanted = select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit)
        if project is not None:
            wanted = wanted.where(AUDIT.c.project == project)
        if study is not None:
            wanted = wanted.where(AUDIT.c.study == study)
        if before is not None:
            wanted = wanted.where(AUDIT.c.id < before)
        with translated_database_errors(self._storage.shown), self._storage.rdb.engine.connect() as connection:
            rows: Any = connection.execute(wanted).mappings().all()
        return [AuditEntry(**row) for row in rows]
