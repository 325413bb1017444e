"""PostgreSQL storage for a team: one writing process per study, any number of readers.

Passwords come from the usual places of libpq (``PGPASSWORD``, ``~/.pgpass``, ``PGSERVICE``) or from the URL. Messages
never show a password.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from aifs_tune._util.object_store import is_url, url_problem
from aifs_tune.errors import NotFoundError, RequestError
from aifs_tune.storage.postgres_lock import AWAY_S, StudyLock
from aifs_tune.storage.session import open_rdb, translated_database_errors

ARTIFACTS_VARIABLE = "AIFS_TUNE_ARTIFACTS"
MIN_SERVER_VERSION = 14
T = TypeVar("T")

_ALLOWED = "allowed: postgresql+psycopg://USER@HOST/DATABASE"
_CREATING = "creating the tables"
_STEPS = "aifs_tune_steps"
"""Table of the last step that each writer committed. If the reply to a commit is lost, it tells whether the commit was
made. A transaction number would not: a server that crashed may assign it again."""
_MAKE = sqlalchemy.text(
    f"CREATE TABLE IF NOT EXISTS {_STEPS} "
    "(writer text PRIMARY KEY, step text NOT NULL, at timestamptz NOT NULL DEFAULT now())"
)
_LEAVE = sqlalchemy.text(
    f"INSERT INTO {_STEPS} (writer, step) SELECT :writer, :step WHERE txid_current_if_assigned() IS NOT NULL "
    "ON CONFLICT (writer) DO UPDATE SET step = excluded.step, at = excluded.at RETURNING txid_current()"
)
_SNAPSHOT = sqlalchemy.text("SELECT pg_current_snapshot()::text")
_FIND = sqlalchemy.text(f"SELECT step FROM {_STEPS} WHERE writer = :writer")
_TIDY = sqlalchemy.text(
    f"DELETE FROM {_STEPS} WHERE writer IN "
    f"(SELECT writer FROM {_STEPS} WHERE at < now() - interval '1 day' FOR UPDATE SKIP LOCKED)"
)


class PostgresDatabase:
    """Database at a URL ``postgresql+psycopg://...``; see :class:`~aifs_tune.storage.storage.Database`.

    Checkpoints and weights are stored in ``$AIFS_TUNE_ARTIFACTS``, a folder that all machines share or the URL of an
    object store; the default is the folder ``aifs_tune_artifacts`` in the current folder.

    Raises
    ------
    RequestError
        If the URL is not valid for PostgreSQL, or psycopg is not installed.
    NotFoundError
        If there are no tables and ``create`` is false.
    StorageError
        If the server cannot be reached.
    """

    def __init__(self, url: str, *, create: bool, wait_s: float) -> None:
        try:
            parsed = sqlalchemy.make_url(url)
            driver = parsed.get_driver_name()
            if driver != "psycopg":
                raise RequestError(f"storage: the driver {driver} is not supported; {_ALLOWED}")
            parsed.get_dialect().import_dbapi()
        except (ArgumentError, NoSuchModuleError):
            raise RequestError(f"storage: not a valid PostgreSQL URL; {_ALLOWED}") from None
        except ImportError:
            raise RequestError(
                "storage: the driver psycopg is not installed; run pip install 'aifs-tune[postgres]'"
            ) from None
        self.url = url
        self.shown = parsed.set(query={}).render_as_string(hide_password=True)  # the query may hold a password, too
        self.artifacts = artifacts_at(os.environ.get(ARTIFACTS_VARIABLE) or "aifs_tune_artifacts")
        self._locks: dict[str | None, StudyLock] = {}
        self._thread = threading.RLock()
        self._writer, self._is_tidy = uuid.uuid4().hex, False
        self._quiet: dict[str | None, str] = {}
        """By study the snapshot of transactions that shows that nothing was written since this process read it."""
        connecting = {
            "application_name": _name_of_this_process(),
            "connect_timeout": max(2, round(wait_s)),
            "tcp_user_timeout": round(1000 * AWAY_S / 3),
        }
        options = {"poolclass": _Pool, "pool_pre_ping": True, "connect_args": connecting}
        with translated_database_errors(self.shown):
            engine = sqlalchemy.create_engine(url, **options)
            try:
                _wait_for_a_connection(engine)
                if _shares_sessions(engine):
                    raise RequestError(
                        f"{self.shown}: the connections go through a pooler that gives one session of the server to "
                        "several clients (PgBouncer with pool_mode = transaction or statement), so locks would not "
                        "hold; allowed: pool_mode = session, or the server's own port"
                    )
                if not _is_there(engine):
                    if not create:
                        raise NotFoundError(
                            f"no studies at {self.shown}; choose another storage with --storage or $AIFS_TUNE_STORAGE"
                        )
                    _create(engine, url, options, wait_s)
                version = engine.dialect.server_version_info or ()
                if version < (MIN_SERVER_VERSION,):
                    told = ".".join(map(str, version))
                    raise RequestError(
                        f"{self.shown}: PostgreSQL {told} is too old; allowed: {MIN_SERVER_VERSION} or later"
                    )
            finally:
                engine.dispose()
            self.rdb = open_rdb(url, self.shown, options)

    def lock(self, study: str | None) -> StudyLock:
        """Return the lock of a study, or the one for creating studies (None).

        One thread of this process at a time holds any of these locks.
        """
        if study not in self._locks:
            self._locks[study] = StudyLock(self.rdb.engine, study, self.shown, self._thread)
        return self._locks[study]

    def data_version(self) -> str:
        """Return the current snapshot of transactions, which changes when one that writes ends."""
        with self.rdb.engine.connect() as connection:
            return str(connection.execute(_SNAPSHOT).scalar())

    def run_transaction(self, study: str | None, prepare: Callable[[bool, bool], T]) -> T:
        """Run the transaction on the connection that holds the lock, so that no other process of this package writes
        meanwhile.

        If the server becomes unreachable, wait for it, then call ``prepare`` again unless its work was committed.
        """
        lock, session = self.lock(study), self.rdb.scoped_session()
        until: float | None = None
        left: tuple[str, T] | None = None
        try:
            while True:
                session.close()
                session.bind = lock.checked_connection()
                try:
                    if left is not None and self._last_step(session) == left[0]:
                        return left[1]
                    was_lost, lock.was_lost, left = lock.was_lost or until is not None, False, None
                    snapshot = str(session.execute(_SNAPSHOT).scalar())
                    result = prepare(self._quiet.pop(study, None) != snapshot, was_lost)
                    left_step = self._leave_step(session)
                    left = (left_step[0], result) if left_step else None
                    session.commit()
                    quiet = snapshot if left_step is None else _next_snapshot(snapshot, left_step[1])
                    if quiet is not None:
                        self._quiet[study] = quiet
                    return result
                except Exception as error:
                    until = until or time.monotonic() + AWAY_S
                    if not _is_lost_connection(error) or time.monotonic() > until:
                        raise
        finally:
            session.close()
            session.bind = self.rdb.engine

    def problem(self) -> str | None:
        """Return None: a server has its files to itself."""
        return None

    def _leave_step(self, session: Any) -> tuple[str, int] | None:
        """Record the last step of this writer; return it with the transaction's number, None if nothing was written."""
        step = uuid.uuid4().hex
        number = session.execute(_LEAVE, {"writer": self._writer, "step": step}).scalar()
        if number is None:
            return None
        if not self._is_tidy:
            session.execute(_TIDY)
            self._is_tidy = True
        return step, int(number)

    def _last_step(self, session: Any) -> str | None:
        found: str | None = session.execute(_FIND, {"writer": self._writer}).scalar()
        return found


class _Pool(sqlalchemy.QueuePool):
    """Connections that the server's limits on durations do not end, from their first statement on."""


@sqlalchemy.event.listens_for(_Pool, "connect")
def _without_limits(connection: Any, _record: Any) -> None:
    """Lift the limits that a server may set on the duration of statements and on idle sessions, one of which holds a
    lock."""
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("SET idle_session_timeout = 0")
    connection.commit()


def for_other_machines(url: str) -> tuple[str, str]:
    """Return ``url`` for use on other machines, and the form that messages show.

    Raises
    ------
    RequestError
        If other machines cannot use it, or it has a password, which must not be sent to them.
    """
    if not url.startswith("postgresql"):
        kind = url.split(":", 1)[0]
        raise RequestError(f"storage: {kind!r} is a file on this machine, which the cluster cannot read; {_ALLOWED}")
    parsed = sqlalchemy.make_url(url)
    if parsed.password or "password" in parsed.query:
        raise RequestError(
            "storage: the URL has a password, which Ray would show to all who can see its jobs; remove it and set it "
            "on the cluster's nodes (PGPASSWORD, ~/.pgpass or PGSERVICE)"
        )
    return url, parsed.set(query={}).render_as_string()


def artifacts_at(given: str) -> Path | str:
    """Return the location in ``$AIFS_TUNE_ARTIFACTS``: a folder, or the URL of an object store.

    Raises
    ------
    RequestError
        If the URL is not valid or contains a secret.
    """
    if not is_url(given):
        return Path(given).absolute()
    if (wrong := url_problem(given)) is not None:
        raise RequestError(f"{ARTIFACTS_VARIABLE}: {wrong}")
    return Path(given.removeprefix("file://")) if given.startswith("file://") else given.rstrip("/")


def _next_snapshot(before: str, number: int) -> str | None:
    """The snapshot after transaction ``number`` if no other one wrote since the snapshot ``before``; None if one may
    have, as it ran then or began in between."""
    return f"{number + 1}:{number + 1}:" if before == f"{number}:{number}:" else None


def _is_lost_connection(error: BaseException | None) -> bool:
    """Whether ``error`` or one of its causes is a lost connection to the server."""
    while error is not None:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return True
        error = error.__cause__ or error.__context__
    return False


def _create(engine: Any, url: str, options: dict[str, Any], wait_s: float) -> None:
    """Create the tables of Optuna and of this package, in one process at a time."""
    lock = StudyLock(engine, _CREATING, "storage", threading.RLock())
    lock.acquire(max(wait_s, AWAY_S))
    try:
        if not sqlalchemy.inspect(engine).has_table("alembic_version"):  # else another process was faster
            RDBStorage(url, engine_kwargs=options).engine.dispose()
        with engine.begin() as connection:
            connection.execute(_MAKE)
    finally:
        lock.release()


def _wait_for_a_connection(engine: Any) -> None:
    """Wait, like for a restart, while the server has no connection left or is starting."""
    until, pause_s = time.monotonic() + AWAY_S, 0.2
    while True:
        try:
            engine.connect().close()
        except DBAPIError as error:
            said = str(error.orig)
            if not any(reason in said for reason in _PASSING) or time.monotonic() > until:
                raise
            time.sleep(pause_s)
            pause_s = min(5.0, 2 * pause_s)
        else:
            return


_PASSING = (
    "too many clients",
    "too many connections",
    "remaining connection slots",
    "no more connections allowed",
    "the database system is starting up",
    "the database system is shutting down",
)
"""What a server says that takes connections again later."""


def _shares_sessions(engine: Any) -> bool:
    """Whether two connections have one session of the server, so that both can hold a lock at the same time."""
    key = int.from_bytes(os.urandom(7), "big")
    with engine.connect() as one:
        own = one.connection.driver_connection.info.backend_pid
        if one.exec_driver_sql("SELECT pg_backend_pid()").scalar() == own:
            return False  # nothing is between this process and the server
        with engine.connect() as other:
            try:
                for connection in (one, other):
                    if not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({key})").scalar():
                        return False
                    connection.commit()
                return True
            finally:
                for connection in (one, other):
                    connection.rollback()
                    connection.exec_driver_sql("SELECT pg_advisory_unlock_all()")
                    connection.commit()


def _is_there(engine: Any) -> bool:
    """Whether all tables exist: this one is created last."""
    return bool(sqlalchemy.inspect(engine).has_table(_STEPS))


def _name_of_this_process() -> str:
    """Return the application name that the server shows, of at most 63 bytes."""
    return f"aifs-tune {os.getpid()}@{socket.gethostname()}"[:63]
