"""Studies in PostgreSQL, for a team: one writing process for each study, any number of readers.

Passwords come from libpq's own places (``PGPASSWORD``, ``~/.pgpass``, ``PGSERVICE``) or stand in the URL, which is
never shown with one.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from aifs_tune.errors import NotFoundError, RequestError, StorageBusyError, StorageError
from aifs_tune.held_session import opened, translated
from aifs_tune.writer_lock import Owner, WriterLock

ARTEFACTS_VARIABLE = "AIFS_TUNE_ARTEFACTS"
AWAY_S = 60.0
"""How long a writer waits for a server that went away."""

_CREATING = "creating the tables"
_HOLDERS = sqlalchemy.text(
    "SELECT a.application_name, a.backend_start FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid = :high AND l.objid = :low "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_HOLDS = sqlalchemy.text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid() "
    "AND classid = :high AND objid = :low AND objsubid = 1"
)


class PostgresDatabase:
    """The database at ``url``, ``postgresql+psycopg://...``; see :class:`~aifs_tune.storage.Database`.

    Checkpoints and weights are kept in ``$AIFS_TUNE_ARTEFACTS``, a folder that all machines share, else in
    ``aifs_tune_artifacts`` of the current folder.

    Raises
    ------
    RequestError
        If the URL is none of PostgreSQL, or psycopg is not installed; NotFoundError if there are no tables and
        ``create`` is false; StorageError if the server cannot be reached.
    """

    def __init__(self, url: str, *, create: bool, wait_s: float) -> None:
        try:
            parsed = sqlalchemy.make_url(url)
            driver = parsed.get_driver_name()
            parsed.get_dialect().import_dbapi()
        except (ArgumentError, NoSuchModuleError):
            raise RequestError(
                "storage: not a URL of PostgreSQL; allowed: postgresql+psycopg://USER@HOST/DATABASE"
            ) from None
        except ImportError:
            raise RequestError(
                f"storage: the driver {driver} is not installed (pip install 'aifs-tune[postgres]'); allowed: "
                "postgresql+psycopg://USER@HOST/DATABASE"
            ) from None
        self.url = url
        self.shown = parsed.render_as_string(hide_password=True)
        self.artefacts = Path(os.environ.get(ARTEFACTS_VARIABLE) or "aifs_tune_artifacts").absolute()
        self._locks: dict[str | None, StudyLock] = {}
        self._thread = threading.RLock()
        connecting = {"application_name": _name_of_this_process(), "connect_timeout": max(2, round(wait_s))}
        options = {"pool_pre_ping": True, "connect_args": connecting}
        with translated(self.shown):
            engine = sqlalchemy.create_engine(url, **options)
            try:
                if not _is_there(engine):
                    if not create:
                        raise NotFoundError(
                            f"no studies at {self.shown}; name another storage with --storage or $AIFS_TUNE_STORAGE"
                        )
                    _create(engine, url, options, wait_s)
            finally:
                engine.dispose()
            self.rdb = opened(url, self.shown, options)

    def lock(self, study: str | None) -> StudyLock:
        """A lock for each study, and one (``None``) to create studies; a thread of this process holds any of them at
        a time."""
        if study not in self._locks:
            self._locks[study] = StudyLock(self.rdb.engine, study, self.shown, self._thread)
        return self._locks[study]

    @contextmanager
    def bound(self, study: str | None) -> Iterator[bool]:
        """This thread's session on the connection that holds the lock: what that one commits, nobody else wrote."""
        connection, is_new = self.lock(study).confirmed(AWAY_S)
        session: Any = self.rdb.scoped_session()
        session.close()
        session.bind = connection
        try:
            yield is_new
        finally:
            session.close()
            session.bind = self.rdb.engine


class StudyLock(WriterLock):
    """An advisory lock of the server: it ends with the connection that holds it, however that ends."""

    def __init__(self, engine: Any, study: str | None, shown: str, thread: threading.RLock) -> None:
        super().__init__(shown, thread)
        self._engine, self._study = engine, study
        digest = hashlib.blake2b(f"aifs_tune/{study}".encode(), digest_size=8).digest()
        self._key = int.from_bytes(digest, "big", signed=True)
        self._halves = {"high": int.from_bytes(digest[:4], "big"), "low": int.from_bytes(digest[4:], "big")}
        self._connection: Any = None

    def owner(self) -> Owner | None:
        with translated(self._shown), self._engine.connect() as connection:
            found = connection.execute(_HOLDERS, self._halves).first()
        if found is None:
            return None
        pid, _, host = str(found[0]).removeprefix("aifs-tune ").partition("@")
        return Owner(int(pid) if pid.isdecimal() else 0, host, "aifs-tune", found[1].isoformat(timespec="seconds"))

    def confirmed(self, wait_s: float) -> tuple[Any, bool]:
        """The connection that holds the lock, and whether it is another one than before.

        A server that went away is waited for, up to ``wait_s`` seconds.

        Raises
        ------
        StorageBusyError
            If the lock was lost and somebody else has it now.
        StorageError
            If the server stays away.
        """
        try:
            if self._connection is not None and self._connection.execute(_HOLDS, self._halves).scalar():
                self._connection.rollback()
                return self._connection, False
        except DBAPIError:
            pass
        self._give_back()
        deadline, pause_s = time.monotonic() + wait_s, 0.1
        while True:
            try:
                self._connection = self._connected(max(0.0, deadline - time.monotonic()))
                return self._connection, True
            except DBAPIError as error:
                if time.monotonic() > deadline:
                    reason = " ".join(str(error.orig).split())
                    raise StorageError(f"{self._shown}: stayed away for {wait_s:g} s ({reason})") from error
                time.sleep(pause_s)
                pause_s = min(2.0, 2 * pause_s)

    def _take(self, wait_s: float) -> None:
        with translated(self._shown):
            self._connection = self._connected(wait_s)

    def _give_back(self) -> None:
        """End the session of the server, and its lock with it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _connected(self, wait_s: float) -> Any:
        """A connection that holds the lock."""
        connection = self._engine.connect()
        deadline = time.monotonic() + wait_s
        try:
            while not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({self._key})").scalar():
                connection.rollback()
                if time.monotonic() > deadline:
                    what = f"study {self._study!r} in {self._shown}" if self._study else self._shown
                    raise StorageBusyError(f"{what} is being written by {self.owner() or 'another process'}")
                time.sleep(0.05)
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection


def _create(engine: Any, url: str, options: dict[str, Any], wait_s: float) -> None:
    """Optuna's tables, made by one process at a time."""
    lock = StudyLock(engine, _CREATING, "storage", threading.RLock())
    lock.acquire(max(wait_s, AWAY_S))
    try:
        if not _is_there(engine):  # else another process was faster
            RDBStorage(url, engine_kwargs=options).engine.dispose()
    finally:
        lock.release()


def _is_there(engine: Any) -> bool:
    """Whether the tables are there, all of them: Optuna makes this one last."""
    return bool(sqlalchemy.inspect(engine).has_table("alembic_version"))


def _name_of_this_process() -> str:
    """What the server shows of us; at most 63 bytes."""
    return f"aifs-tune {os.getpid()}@{socket.gethostname()}"[:63]
