"""Where studies live: an Optuna database with one writing process and whole transactions.

Optuna commits every single write by itself. Here several writes can form one transaction
(:meth:`Storage.transaction`), so that a process killed in the middle leaves the old state or the new one.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy import orm
from sqlalchemy.exc import SQLAlchemyError

from aifs_tune.durable import flush
from aifs_tune.errors import NotFoundError, RequestError, StorageBusyError, StorageError
from aifs_tune.mirror import Mirror

DEFAULT_URL = "sqlite:///aifs_tune.db"
ENVIRONMENT_VARIABLE = "AIFS_TUNE_STORAGE"


def sqlite_file(url: str | None) -> Path:
    """The database file that a storage URL names; ``$AIFS_TUNE_STORAGE`` or the current folder's when None.

    Raises
    ------
    RequestError
        If the URL is not ``sqlite:///FILE``.
    """
    given = url or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_URL
    prefix = "sqlite:///"
    name = given.removeprefix(prefix)
    if not given.startswith(prefix) or not name or name.startswith(":") or "?" in name or "\0" in name:
        scheme = given.split(":", 1)[0] if ":" in given else given
        raise RequestError(f"storage: {scheme!r} is not a storage; allowed: sqlite:///FILE, such as {DEFAULT_URL}")
    return Path(name).absolute()


@dataclass(frozen=True)
class Owner:
    """The process that is writing to a storage."""

    pid: int
    host: str
    command: str
    since: str

    @staticmethod
    def this_process() -> Owner:
        command = " ".join(["aifs-tune", *sys.argv[1:3]]) if sys.argv[0].endswith("aifs-tune") else "python"
        return Owner(os.getpid(), socket.gethostname(), command, datetime.now(UTC).isoformat(timespec="seconds"))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.command}, since {self.since})"


class WriterLock:
    """An operating system lock beside the database; it ends with its process, however that ends.

    Re-entrant in the thread that holds it; other threads of the process wait like other processes.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._thread = threading.RLock()
        self._descriptor: int | None = None
        self.depth = 0
        """How often the thread that holds it has taken it."""

    def acquire(self, wait_s: float) -> None:
        """Take the lock or raise :class:`StorageBusyError` naming who holds it after ``wait_s`` seconds."""
        if not self._thread.acquire(timeout=wait_s):
            raise StorageBusyError(f"{self._file.with_suffix('')} is being written by another thread of this process")
        try:
            if self._descriptor is None:
                self._descriptor = self._lock(wait_s)
        except BaseException:
            self._thread.release()
            raise
        self.depth += 1

    def release(self) -> None:
        self.depth -= 1
        if self.depth == 0 and self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None
        self._thread.release()

    def owner(self) -> Owner | None:
        """Who holds the lock now; None when it is free."""
        try:
            descriptor = os.open(self._file, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._read(descriptor)
        finally:
            os.close(descriptor)
        return None

    def _lock(self, wait_s: float) -> int:
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(f"cannot write beside {self._file.with_suffix('')}: {error.strerror}") from error
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                owner = self._read(descriptor)
                os.close(descriptor)
                who = str(owner) if owner else "another process"
                raise StorageBusyError(f"{self._file.with_suffix('')} is being written by {who}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(vars(Owner.this_process())).encode(), 0)
        return descriptor

    @staticmethod
    def _read(descriptor: int) -> Owner | None:
        try:
            return Owner(**json.loads(os.pread(descriptor, 65536, 0)))
        except (ValueError, TypeError):
            return None


class _Session(orm.Session):
    """A session whose commits wait for the end of the transaction that :class:`Storage` opened on it."""

    held = False
    undone = False

    def commit(self) -> None:
        if self.held:
            self.flush()
        else:
            super().commit()

    def rollback(self) -> None:
        self.undone = True
        super().rollback()

    def close(self) -> None:
        if not self.held:
            super().close()


class Storage:
    """One open database of studies.

    Parameters
    ----------
    url
        ``sqlite:///FILE`` on a local disk; None for ``$AIFS_TUNE_STORAGE`` or ``sqlite:///aifs_tune.db``.
    create
        Make the file when it is not there; otherwise that is a :class:`NotFoundError`.
    """

    def __init__(self, url: str | None = None, *, create: bool = False, wait_s: float = 10.0) -> None:
        self.file = sqlite_file(url)
        self.url = f"sqlite:///{self.file}"
        self.wait_s = wait_s
        self.lock = WriterLock(self.file.with_suffix(self.file.suffix + ".lock"))
        if not self._is_there():
            if not create:
                raise NotFoundError(
                    f"no storage at {self.file}; name another with --storage or ${ENVIRONMENT_VARIABLE}"
                )
            self._create()
        with translated(self.file):
            self.rdb = _open(self.url, self.wait_s)
        self.optuna = Mirror(self.rdb)

    @property
    def artefacts(self) -> Path:
        """The folder beside the database that holds checkpoints and weights."""
        return self.file.with_name(self.file.stem + "_artifacts")

    @contextmanager
    def writing(self, wait_s: float | None = None) -> Iterator[None]:
        """Hold the lock of the one writing process, whose reads then cost no query."""
        self.lock.acquire(self.wait_s if wait_s is None else wait_s)
        try:
            if self.lock.depth == 1:
                self.optuna.hold()
            yield
        finally:
            if self.lock.depth == 1:
                self.optuna.release()
            self.lock.release()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is committed together at the end, or none of it.

        Raises
        ------
        StorageBusyError
            If another process is writing.
        StorageError
            If the database could not take it; nothing was written.
        """
        with self.writing(), translated(self.file):
            session: Any = self.rdb.scoped_session()
            if session.held:
                yield
                return
            session.held, session.undone = True, False
            try:
                yield
                session.held = False
                if session.undone:
                    raise StorageError(f"{self.file}: a write was refused, nothing of this step was stored")
                session.commit()
            except BaseException:
                self.optuna.forget()
                raise
            finally:
                session.held = False
                session.rollback()
                session.close()

    def close(self) -> None:
        self.rdb.remove_session()
        self.rdb.engine.dispose()

    def _is_there(self) -> bool:
        return self.file.exists() and self.file.stat().st_size > 0

    def _create(self) -> None:
        """Make the database under another name first: nobody ever opens one that is not whole."""
        if not self.file.parent.is_dir():
            raise RequestError(f"storage: the folder {self.file.parent} does not exist")
        self.lock.acquire(self.wait_s)
        try:
            with translated(self.file), tempfile.TemporaryDirectory(dir=self.file.parent) as folder:
                if self._is_there():
                    return  # another process was faster
                new = Path(folder) / "new.db"
                rdb = RDBStorage(f"sqlite:///{new}")
                with rdb.engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                rdb.engine.dispose()
                flush(new)
                new.replace(self.file)
                flush(self.file.parent)
        finally:
            self.lock.release()


def _open(url: str, wait_s: float) -> RDBStorage:
    try:
        rdb = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": wait_s}}, skip_table_creation=True)
    except RuntimeError as error:  # Optuna's word for tables of another version
        raise StorageError(f"{url}: {error}") from error
    rdb.engine.dispose()
    sqlalchemy.event.listen(rdb.engine, "connect", _every_commit_reaches_the_disk)
    rdb.scoped_session = orm.scoped_session(orm.sessionmaker(bind=rdb.engine, class_=_Session))
    return rdb


def _every_commit_reaches_the_disk(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=FULL")


@contextmanager
def translated(file: Path) -> Iterator[None]:
    """Turn database errors into :class:`StorageError` that names the file and the database's own reason."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        reason = getattr(cause, "orig", None) or cause or error
        raise StorageError(f"{file}: {reason}") from error
