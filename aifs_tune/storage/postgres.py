"""Studies in PostgreSQL, for a team: one writing process for each study, any number of readers.

Passwords come from libpq's own places (``PGPASSWORD``, ``~/.pgpass``, ``PGSERVICE``) or stand in the URL, which is
never shown with one.
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
"""The last step that each writer committed: where the answer to a commit is lost, it says whether that arrived. The
number of a transaction would not: a server that crashed may give it again, to another one."""
_MAKE = sqlalchemy.text(
    f"CREATE TABLE IF NOT EXISTS {_STEPS} "
    "(writer text PRIMARY KEY, step text NOT NULL, at timestamptz NOT NULL DEFAULT now())"
)
_LEAVE = sqlalchemy.text(
    f"INSERT INTO {_STEPS} (writer, step) SELECT :writer, :step WHERE txid_current_if_assigned() IS NOT NULL "
    "ON CONFLICT (writer) DO UPDATE SET step = excluded.step, at = excluded.at"
)
_SNAPSHOT = sqlalchemy.text("SELECT pg_current_snapshot()::text")
_FIND = sqlalchemy.text(f"SELECT step FROM {_STEPS} WHERE writer = :writer")
_TIDY = sqlalchemy.text(
    f"DELETE FROM {_STEPS} WHERE writer IN "
    f"(SELECT writer FROM {_STEPS} WHERE at < now() - interval '1 day' FOR UPDATE SKIP LOCKED)"
)


class PostgresDatabase:
    """The database at ``url``, ``postgresql+psycopg://...``; see :class:`~aifs_tune.storage.storage.Database`.

    Checkpoints and weights are kept in ``$AIFS_TUNE_ARTIFACTS``, a folder that all machines share or the URL of an
    object store, else in ``aifs_tune_artifacts`` of the current folder.

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
        self.artifacts = artifacts_at(os.environ.get(ARTIFACTS_VARIABLE) or "aifs_tune_artifacts")
        self._locks: dict[str | None, StudyLock] = {}
        self._thread = threading.RLock()
        self._writer, self._is_tidy = uuid.uuid4().hex, False
        connecting = {
            "application_name": _name_of_this_process(),
            "connect_timeout": max(2, round(wait_s)),
            "tcp_user_timeout": round(1000 * AWAY_S / 3),
        }
        options = {"pool_pre_ping": True, "connect_args": connecting}
        with translated_database_errors(self.shown):
            engine = sqlalchemy.create_engine(url, **options)
            try:
                if not _is_there(engine):
                    if not create:
                        raise NotFoundError(
                            f"no studies at {self.shown}; name another storage with --storage or $AIFS_TUNE_STORAGE"
                        )
                    _create(engine, url, options, wait_s)
                version = engine.dialect.server_version_info or ()
                if version < (MIN_SERVER_VERSION,):
                    told = ".".join(map(str, version))
                    raise RequestError(
                        f"{self.shown}: a server of version {told}; needed: {MIN_SERVER_VERSION} or later"
                    )
            finally:
                engine.dispose()
            self.rdb = open_rdb(url, self.shown, options)

    def lock(self, study: str | None) -> StudyLock:
        """A lock for each study, and one (``None``) to create studies; a thread of this process holds any of them at
        a time."""
        if study not in self._locks:
            self._locks[study] = StudyLock(self.rdb.engine, study, self.shown, self._thread)
        return self._locks[study]

    def data_version(self) -> str:
        """The transactions that write now, and the newest number of one: it changes as one of them ends."""
        with self.rdb.engine.connect() as connection:
            return str(connection.execute(_SNAPSHOT).scalar())

    def run_transaction(self, study: str | None, prepare: Callable[[bool], T]) -> T:
        """On the connection that holds the lock: what that one commits, nobody else wrote.

        A server that goes away in the middle is waited for; then ``prepare`` is called again, unless its work
        was committed.
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
                    is_new, lock.was_lost, left = lock.was_lost or until is not None, False, None
                    result = prepare(is_new)
                    step = self._leave_step(session)
                    left = (step, result) if step else None
                    session.commit()
                    return result
                except Exception as error:
                    until = until or time.monotonic() + AWAY_S
                    if not _is_lost_connection(error) or time.monotonic() > until:
                        raise
        finally:
            session.close()
            session.bind = self.rdb.engine

    def _leave_step(self, session: Any) -> str | None:
        """Write that this is the last step of this writer; None if the transaction wrote nothing."""
        step = uuid.uuid4().hex
        if not session.execute(_LEAVE, {"writer": self._writer, "step": step}).rowcount:
            return None
        if not self._is_tidy:
            session.execute(_TIDY)
            self._is_tidy = True
        return step

    def _last_step(self, session: Any) -> str | None:
        found: str | None = session.execute(_FIND, {"writer": self._writer}).scalar()
        return found


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


def artifacts_at(given: str) -> Path | str:
    """What ``$AIFS_TUNE_ARTIFACTS`` names: a folder, or the URL of an object store.

    Raises
    ------
    RequestError
        If it is a URL of neither, or one with a secret in it.
    """
    if not is_url(given):
        return Path(given).absolute()
    if (wrong := url_problem(given)) is not None:
        raise RequestError(f"{ARTIFACTS_VARIABLE}: {wrong}")
    return Path(given.removeprefix("file://")) if given.startswith("file://") else given.rstrip("/")


def _is_lost_connection(error: BaseException | None) -> bool:
    """Whether ``error``, or what it came from, is that the server went away."""
    while error is not None:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return True
        error = error.__cause__ or error.__context__
    return False


def _create(engine: Any, url: str, options: dict[str, Any], wait_s: float) -> None:
    """Optuna's tables and ours, made by one process at a time."""
    lock = StudyLock(engine, _CREATING, "storage", threading.RLock())
    lock.acquire(max(wait_s, AWAY_S))
    try:
        if not sqlalchemy.inspect(engine).has_table("alembic_version"):  # else another process was faster
            RDBStorage(url, engine_kwargs=options).engine.dispose()
        with engine.begin() as connection:
            connection.execute(_MAKE)
    finally:
        lock.release()


def _is_there(engine: Any) -> bool:
    """Whether the tables are there, all of them: this one is made last."""
    return bool(sqlalchemy.inspect(engine).has_table(_STEPS))


def _name_of_this_process() -> str:
    """What the server shows of us; at most 63 bytes."""
    return f"aifs-tune {os.getpid()}@{socket.gethostname()}"[:63]
