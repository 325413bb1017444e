"""SQLite storage in a file on a local disk, with one writing process for all studies."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from aifs_tune._util.atomic_files import flush
from aifs_tune.errors import NotFoundError, RequestError
from aifs_tune.storage.lock import FileLock
from aifs_tune.storage.session import open_rdb, translated_database_errors

T = TypeVar("T")


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
        with translated_database_errors(self.shown):
            self.rdb = open_rdb(self.url, self.shown, {"connect_args": {"timeout": wait_s}})
            sqlalchemy.event.listen(self.rdb.engine, "connect", _every_commit_reaches_the_disk)

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

    def run_transaction(self, study: str | None, prepare: Callable[[bool], T]) -> T:
        """Run the transaction once: the lock is never lost, and any connection may write under it."""
        del study
        result = prepare(False)
        self.rdb.scoped_session().commit()
        return result

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


def make_tables(file: Path) -> None:
    """Create a database with Optuna's tables that several processes can read while one writes."""
    rdb = RDBStorage(f"sqlite:///{file}")
    with rdb.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    rdb.engine.dispose()


def _every_commit_reaches_the_disk(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=FULL")
