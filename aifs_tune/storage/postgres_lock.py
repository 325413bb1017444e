"""Writer lock of a study in PostgreSQL: an advisory lock with a lease."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import suppress
from typing import Any

import sqlalchemy
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from aifs_tune.errors import StorageBusyError, StorageError
from aifs_tune.storage.lock import LockHolder, WriterLock
from aifs_tune.storage.session import translated_database_errors

AWAY_S = 90.0
"""Longest time that a writer waits for an unreachable server."""
LEASE_S = 60.0
"""Time after which a writer without heartbeat loses its lock, by the server's clock; it sends four heartbeats in it."""

_HOLDERS = sqlalchemy.text(
    "SELECT a.application_name, a.backend_start FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid = :high AND l.objid = :low "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_HOLDS = sqlalchemy.text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid() "
    "AND classid = :high AND objid = :low AND objsubid = 1"
)


class StudyLock(WriterLock):
    """Advisory lock of the server, which ends with the connection that holds it.

    The server closes a connection that is idle for :data:`LEASE_S`; a thread sends heartbeats while this process runs.
    """

    def __init__(self, engine: Any, study: str | None, shown: str, thread: threading.RLock) -> None:
        super().__init__(shown, thread)
        self._engine, self._study = engine, study
        digest = hashlib.blake2b(f"aifs_tune/{study}".encode(), digest_size=8).digest()
        self._key = int.from_bytes(digest, "big", signed=True)
        self._halves = {"high": int.from_bytes(digest[:4], "big"), "low": int.from_bytes(digest[4:], "big")}
        self._connection: Any = None
        self.was_lost = False
        """Whether other processes may have written since the last transaction."""

    def holder(self) -> LockHolder | None:
        with translated_database_errors(self._shown), self._engine.connect() as connection:
            found = connection.execute(_HOLDERS, self._halves).first()
        if found is None:
            return None
        pid, _, host = str(found[0]).removeprefix("aifs-tune ").partition("@")
        return LockHolder(int(pid) if pid.isdecimal() else 0, host, "aifs-tune", found[1].isoformat(timespec="seconds"))

    def checked_connection(self) -> Any:
        """Return the connection that holds the lock.

        If the connection was lost, wait for the server, acquire the lock again and set :attr:`was_lost`.

        Raises
        ------
        StorageBusyError
            If the lock was lost and another process holds it now.
        StorageError
            If the server does not answer.
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
                    raise StorageError(
                        f"{self._shown}: the server did not answer for {AWAY_S:g} s ({reason})"
                    ) from error
                time.sleep(pause_s)
                pause_s = min(2.0, 2 * pause_s)
        self._released = threading.Event()
        arguments = (self._connection.connection.driver_connection, self._released, LEASE_S / 4)
        self._heartbeat = threading.Thread(target=_send_heartbeats, args=arguments, name="aifs-tune lease", daemon=True)
        self._heartbeat.start()

    def _give_back(self) -> None:
        """Close the connection, which releases the lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._released.set()
            self._heartbeat.join()  # or it would use a closed connection
            connection.invalidate()
            connection.close()

    def _connected(self, wait_s: float) -> Any:
        """Return a new connection that holds the lock."""
        connection = self._engine.connect()
        deadline = time.monotonic() + wait_s
        try:
            while not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({self._key})").scalar():
                connection.rollback()
                if time.monotonic() > deadline:
                    what = f"study {self._study!r} in {self._shown}" if self._study else self._shown
                    raise StorageBusyError(f"{what} is being written by {self.holder() or 'another process'}")
                time.sleep(0.05)
            for setting in ("idle_session_timeout", "idle_in_transaction_session_timeout"):
                connection.exec_driver_sql(f"SET {setting} = {round(1000 * LEASE_S)}")
            connection.commit()
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        return connection


def _send_heartbeats(connection: Any, released: threading.Event, every_s: float) -> None:
    """Renew the lease of psycopg's ``connection``; the next write notices if the connection is lost.

    This uses the connection below psycopg's cursors, which would begin a transaction.
    """
    while not released.wait(every_s):
        with suppress(Exception), connection.lock:
            connection.pgconn.exec_(b"SELECT 1")
