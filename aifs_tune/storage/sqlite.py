"""SQLite storage in a file on a local disk, with one writing process for all studies."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from aifs_tune._util.atomic_files import flush
from aifs_tune.errors import NotFoundError, RequestError, StorageError
from aifs_tune.storage.lock import FileLock
from aifs_tune.storage.session import open_rdb, translated_database_errors

T = TypeVar("T")

_SEEN = "aifs_tune:data_version"
"""Entry of a connection: the count of commits by other connections at its last transaction."""


class SqliteDatabase:
    """Database in an SQLite file; see :class:`~aifs_tune.storage.storage.Database`."""

    def __init__(self, file: Path, *, create: bool, wait_s: float) -> None:
        self.file = file
        self.url = f"sqlite:///{file}"
        self.shown = str(file)
        self.artifacts: Path | str = file.with_name(file.stem + "_artifacts")
        self._version_lock, self._n_version_connections = threading.Lock(), 0
        self._version_connection: sqlalchemy.Connection | None = None
        self._lock = FileLock(file.with_suffix(file.suffix + ".lock"))
        if not self._is_there():
            if not create:
                raise NotFoundError(f"no storage at {file}; choose another one with --storage or $AIFS_TUNE_STORAGE")
            self._create(wait_s)
        self._opened = _identity(file)
        with translated_database_errors(self.shown):
            connect = partial(sqlite3.connect, address_of(file), uri=True, timeout=wait_s, check_same_thread=False)
            self.rdb = open_rdb(self.url, self.shown, {"creator": connect})  # SQLAlchemy would decode the address
            sqlalchemy.event.listen(self.rdb.engine, "connect", self._on_connect)

    def lock(self, study: str | None) -> FileLock:
        """Return the lock, which is the same for all studies."""
        del study
        return self._lock

    def data_version(self) -> str:
        """Return SQLite's count of commits by other connections, read on a connection that never commits."""
        with self._version_lock:
            if self._version_connection is None:
                self._version_connection, self._n_version_connections = (
                    self.rdb.engine.connect(),
                    self._n_version_connections + 1,
                )
            try:
                version = self._version_connection.exec_driver_sql("PRAGMA data_version").scalar()
                self._version_connection.rollback()
            except SQLAlchemyError:
                self._version_connection = None
                raise
            return f"{self._n_version_connections}.{version}"

    def run_transaction(self, study: str | None, prepare: Callable[[bool, bool], T]) -> T:
        """Run the transaction once, with the database locked for all programs from its beginning.

        If another connection committed since the last one on this connection, or if somebody deleted the lock file,
        ``prepare`` is told.
        """
        del study
        was_lost = self.problem() is None and self._lock.renew()
        connection: Any = self.rdb.scoped_session().connection()
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        seen, version = connection.info.get(_SEEN), connection.exec_driver_sql("PRAGMA data_version").scalar()
        connection.info[_SEEN] = version
        result = prepare(seen != version, was_lost)
        self.rdb.scoped_session().commit()
        return result

    def problem(self) -> str | None:
        """Return what happened to the file since it was opened; None if it is the same one."""
        found = _identity(self.file)
        if found == self._opened:
            return None
        what = "was deleted or moved" if found is None else "was replaced by another file"
        return (
            f"{self.file}: the database {what} while it was open, so nothing more can be stored in it; put it back, "
            "with the files beside it, and start again"
        )

    def _on_connect(self, connection: Any, _record: Any) -> None:
        if (problem := self.problem()) is not None:  # SQLite would create an empty file, or open another one
            raise StorageError(problem)
        connection.execute("PRAGMA synchronous=FULL")  # every commit reaches the disk

    def _is_there(self) -> bool:
        return self.file.exists() and self.file.stat().st_size > 0

    def _create(self, wait_s: float) -> None:
        """Create the database under another name and rename it, so that no process opens an incomplete one."""
        if not self.file.parent.is_dir():
            raise RequestError(f"storage: the folder {self.file.parent} does not exist")
        self._lock.acquire(wait_s)
        try:
            with translated_database_errors(self.shown), tempfile.TemporaryDirectory(dir=self.file.parent) as folder:
                if self._is_there():
                    return  # another process was faster
                new = Path(folder) / "new.db"
                make_tables(new)
                flush(new)
                new.replace(self.file)
                flush(self.file.parent)
        finally:
            self._lock.release()


FINAL_STANDS = tuple(
    f"CREATE TRIGGER IF NOT EXISTS aifs_tune_final_{table} BEFORE UPDATE {columns} ON {table} "
    "WHEN (SELECT state FROM trials WHERE trial_id = OLD.trial_id) IN ('COMPLETE', 'PRUNED', 'FAIL') "
    "BEGIN SELECT RAISE(ABORT, 'the trial is finished already; its first result stands'); END"
    for table, columns in (("trials", "OF state"), ("trial_values", ""))
)
"""Statements that keep a final result from being changed. Optuna checks the state of a trial in one statement and
changes it in another; with SQLite a result of another process can come between the two."""


def make_tables(file: Path) -> None:
    """Create a database with Optuna's tables that several processes can read while one writes."""
    rdb = RDBStorage(f"sqlite:///{quote(str(file))}")  # braces are quoted, too
    with rdb.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        for statement in FINAL_STANDS:
            connection.exec_driver_sql(statement)
        connection.commit()
    rdb.engine.dispose()


def address_of(file: Path, mode: str = "rw") -> str:
    """Address of a database for SQLite, which is told that nobody changes a file whose folder cannot be written.

    SQLite needs a file beside the database, even to read it, unless it is told so. It then does not read the journal,
    in which the newest results may be.

    Raises
    ------
    StorageError
        If there is such a journal.
    """
    address = f"file:{quote(str(file))}?mode={mode}"
    journal, index = (file.with_name(file.name + suffix) for suffix in ("-wal", "-shm"))
    if os.access(file.parent, os.W_OK) or (journal.exists() and index.exists()):
        return address
    if journal.exists() and journal.stat().st_size:
        raise StorageError(
            f"{file}: its folder cannot be written, and the newest results are in {journal.name}, which SQLite reads "
            "only where it can write; copy both files to a folder of yours and open the copy"
        )
    return f"{address}&immutable=1"


def _identity(file: Path) -> tuple[int, int] | None:
    """Device and number of a file, which a rename keeps and a copy has not; None if it does not exist."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
