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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from aifs_tune.data_url import is_url
from aifs_tune.errors import NotFoundError, RequestError, StorageBusyError, StorageError
from aifs_tune.held_session import opened, translated
from aifs_tune.writer_lock import Owner, WriterLock

ARTEFACTS_VARIABLE = "AIFS_TUNE_ARTEFACTS"
AWAY_S = 90.0
"""How long a writer waits for a server that went away."""
LEASE_S = 60.0
"""How long a writer that is silent keeps its study, by the server's clock; it speaks four times in that."""
OLDEST_SERVER = 14
T = TypeVar("T")

_ALLOWED = "allowed: postgresql+psycopg://USER@HOST/DATABASE"
_CREATING = "creating the tables"
_HOLDERS = sqlalchemy.text(
    "SELECT a.application_name, a.backend_start FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid = :high AND l.objid = :low "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_NUMBER = sqlalchemy.text("SELECT txid_current_if_assigned()")
_OUTCOME = sqlalchemy.text("SELECT txid_status(:number)")
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
            if driver != "psycopg":
                raise RequestError(f"storage: {driver} is not the driver that is used; {_ALLOWED}")
            parsed.get_dialect().import_dbapi()
        except (ArgumentError, NoSuchModuleError):
            raise RequestError(f"storage: not a URL of PostgreSQL; {_ALLOWED}") from None
        except ImportError:
            raise RequestError(
                f"storage: the driver psycopg is not installed (pip install 'aifs-tune[postgres]'); {_ALLOWED}"
            ) from None
        self.url = url
        self.shown = parsed.set(query={}).render_as_string(hide_password=True)  # a query may hold a password, too
        self.artefacts = _artefacts()
        self._locks: dict[str | None, StudyLock] = {}
        self._thread = threading.RLock()
        connecting = {
            "application_name": _name_of_this_process(),
            "connect_timeout": max(2, round(wait_s)),
            "tcp_user_timeout": round(1000 * AWAY_S / 3),
        }
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
                version = engine.dialect.server_version_info or ()
                if version < (OLDEST_SERVER,):
                    told = ".".join(map(str, version))
                    raise RequestError(f"{self.shown}: a server of version {told}; needed: {OLDEST_SERVER} or later")
            finally:
                engine.dispose()
            self.rdb = opened(url, self.shown, options)

    def lock(self, study: str | None) -> StudyLock:
        """A lock for each study, and one (``None``) to create studies; a thread of this process holds any of them at
        a time."""
        if study not in self._locks:
            self._locks[study] = StudyLock(self.rdb.engine, study, self.shown, self._thread)
        return self._locks[study]

    def carry_out(self, study: str | None, prepare: Callable[[bool], T]) -> T:
        """On the connection that holds the lock: what that one commits, nobody else wrote.

        A server that goes away in the middle is waited for; then ``prepare`` is called again, unless its work
        was committed.
        """
        lock, session = self.lock(study), self.rdb.scoped_session()
        until: float | None = None
        try:
            while True:
                number = None
                session.close()
                session.bind = lock.confirmed()
                is_new, lock.was_lost = lock.was_lost or until is not None, False
                try:
                    result = prepare(is_new)
                    number = session.execute(_NUMBER).scalar()
                    session.commit()
                    return result
                except Exception as error:
                    until = until or time.monotonic() + AWAY_S
                    if not _is_lost_connection(error) or time.monotonic() > until:
                        raise
                    session.close()
                    if number is not None and _was_committed(lock.confirmed(), number):
                        return result
        finally:
            session.close()
            session.bind = self.rdb.engine


def for_other_machines(url: str) -> tuple[str, str]:
    """``url`` as other machines may be given it, and what messages call it.

    Raises
    ------
    RequestError
        If other machines cannot use it, or it has a password, which is not to travel.
    """
    if not url.startswith("postgresql"):
        kind = url.split(":", 1)[0]
        raise RequestError(f"storage: {kind!r} lies on this machine, which the cluster does not read; {_ALLOWED}")
    parsed = sqlalchemy.make_url(url)
    if parsed.password or "password" in parsed.query:
        raise RequestError(
            "storage: the URL has a password, which Ray would show to all who see its jobs; leave it out and give it "
            "to the cluster's nodes (PGPASSWORD, ~/.pgpass or PGSERVICE)"
        )
    return url, parsed.set(query={}).render_as_string()


def _artefacts() -> Path:
    given = os.environ.get(ARTEFACTS_VARIABLE) or "aifs_tune_artifacts"
    if is_url(given):
        raise RequestError(f"{ARTEFACTS_VARIABLE}: {given} is a URL; allowed: a folder that all machines share")
    return Path(given).absolute()


class StudyLock(WriterLock):
    """An advisory lock of the server: it ends with the connection that holds it, however that ends.

    The server ends a connection that is silent for :data:`LEASE_S`; a thread speaks on it while this process runs.
    """

    def __init__(self, engine: Any, study: str | None, shown: str, thread: threading.RLock) -> None:
        super().__init__(shown, thread)
        self._engine, self._study = engine, study
        digest = hashlib.blake2b(f"aifs_tune/{study}".encode(), digest_size=8).digest()
        self._key = int.from_bytes(digest, "big", signed=True)
        self._halves = {"high": int.from_bytes(digest[:4], "big"), "low": int.from_bytes(digest[4:], "big")}
        self._connection: Any = None
        self.was_lost = False
        """Whether others may have written since the last transaction."""

    def owner(self) -> Owner | None:
        with translated(self._shown), self._engine.connect() as connection:
            found = connection.execute(_HOLDERS, self._halves).first()
        if found is None:
            return None
        pid, _, host = str(found[0]).removeprefix("aifs-tune ").partition("@")
        return Owner(int(pid) if pid.isdecimal() else 0, host, "aifs-tune", found[1].isoformat(timespec="seconds"))

    def confirmed(self) -> Any:
        """The connection that holds the lock; where that was lost, another one, and :attr:`was_lost` says so.

        A server that went away is waited for.

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
                return self._connection
        except SQLAlchemyError:
            pass
        self._give_back()
        self._take(AWAY_S)
        self.was_lost = True
        return self._connection

    def _take(self, wait_s: float) -> None:
        away_until, pause_s = time.monotonic() + AWAY_S, 0.1
        self.was_lost = False
        while True:
            try:
                self._connection = self._connected(wait_s)
                break
            except DBAPIError as error:
                reason = " ".join(str(error.orig).split())
                if time.monotonic() > away_until:
                    raise StorageError(f"{self._shown}: stayed away for {AWAY_S:g} s ({reason})") from error
                time.sleep(pause_s)
                pause_s = min(2.0, 2 * pause_s)
        self._given_back = threading.Event()
        arguments = (self._connection.connection.driver_connection, self._given_back, LEASE_S / 4)
        self._speaker = threading.Thread(target=_speak, args=arguments, name="aifs-tune lease", daemon=True)
        self._speaker.start()

    def _give_back(self) -> None:
        """End the session of the server, and its lock with it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._given_back.set()
            self._speaker.join()  # or it would speak on what is closed
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
            for setting in ("idle_session_timeout", "idle_in_transaction_session_timeout"):
                connection.exec_driver_sql(f"SET {setting} = {round(1000 * LEASE_S)}")
            connection.commit()
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        return connection


def _speak(connection: Any, given_back: threading.Event, every_s: float) -> None:
    """Renew the lease of psycopg's ``connection``; if that is gone, whoever writes next finds out.

    Below psycopg's cursors, which would begin a transaction.
    """
    while not given_back.wait(every_s):
        with suppress(Exception), connection.lock:
            connection.pgconn.exec_(b"SELECT 1")


def _is_lost_connection(error: BaseException | None) -> bool:
    """Whether ``error``, or what it came from, is that the server went away."""
    while error is not None:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return True
        error = error.__cause__ or error.__context__
    return False


def _was_committed(connection: Any, number: int) -> bool:
    """Whether the transaction of that number, whose connection was lost, had reached the server's log."""
    while (outcome := connection.execute(_OUTCOME, {"number": number}).scalar()) == "in progress":
        time.sleep(0.05)
    connection.rollback()
    return bool(outcome == "committed")


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
