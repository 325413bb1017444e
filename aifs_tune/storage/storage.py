"""Where studies live: an Optuna database with one writing process at a time and whole transactions.

Optuna commits every single write by itself. Here several writes can form one transaction
(:meth:`Storage.transact`), so that a process killed in the middle leaves the old state or the new one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from optuna.storages import RDBStorage

from aifs_tune._util.clock import MonotonicClock
from aifs_tune.errors import RequestError, StorageError
from aifs_tune.storage.cached import CachedStorage
from aifs_tune.storage.lock import WriterLock
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.sqlite import SqliteDatabase

DEFAULT_URL = "sqlite:///aifs_tune.db"
ENVIRONMENT_VARIABLE = "AIFS_TUNE_STORAGE"
T = TypeVar("T")

_CLOCK = MonotonicClock()


class Database(Protocol):
    """A database of studies that is there and can be read."""

    @property
    def url(self) -> str: ...
    @property
    def shown(self) -> str:
        """What messages call it; never a secret."""
        ...

    @property
    def artifacts(self) -> Path | str:
        """The folder of checkpoints and weights, or its URL in an object store; never a secret."""
        ...

    @property
    def rdb(self) -> RDBStorage: ...
    def lock(self, study: str | None) -> WriterLock:
        """What is to be held to write to ``study``; None: to create or list studies."""
        ...

    def data_version(self) -> str:
        """Another one than before if anything was committed in between, by whatever process; costs little."""
        ...

    def run_transaction(self, study: str | None, prepare: Callable[[bool], T]) -> T:
        """Commit what ``prepare`` writes to this thread's session, under the lock that is held, and return what it
        returns. It is told whether the lock was lost and taken again, and may be called again after it was."""
        ...


def given_url(url: str | None) -> str:
    """``url``, else ``$AIFS_TUNE_STORAGE``, else a file in the current folder."""
    return url or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_URL


def sqlite_file(url: str) -> Path:
    """The database file that ``sqlite:///FILE`` names.

    Raises
    ------
    RequestError
        If the URL is none of a storage.
    """
    prefix = "sqlite:///"
    name = url.removeprefix(prefix)
    if not url.startswith(prefix) or not name or name.startswith(":") or "?" in name or "\0" in name:
        scheme = url.split(":", 1)[0] if ":" in url else url
        raise RequestError(
            f"storage: {scheme!r} is not a storage; allowed: sqlite:///FILE, such as {DEFAULT_URL}, or "
            "postgresql+psycopg://USER@HOST/DATABASE"
        )
    return Path(name).absolute()


class Storage:
    """One open database of studies.

    Parameters
    ----------
    url
        ``sqlite:///FILE`` on a local disk, or ``postgresql+psycopg://USER@HOST/DATABASE``; None for
        ``$AIFS_TUNE_STORAGE`` or ``sqlite:///aifs_tune.db``.
    create
        Make it when it is not there; otherwise that is a :class:`NotFoundError`.
    clock
        Seconds since 1970, by which leases run out.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        create: bool = False,
        wait_s: float = 10.0,
        clock: Callable[[], float] = _CLOCK,
    ) -> None:
        self.wait_s, self.clock = wait_s, clock
        self._database = _opened(given_url(url), create=create, wait_s=wait_s)
        self.url, self.shown, self.artifacts = self._database.url, self._database.shown, self._database.artifacts
        self.shown_url = self.url if self.url.startswith("sqlite") else self.shown
        self.rdb = self._database.rdb
        self.optuna = CachedStorage(self.rdb)
        self._n_held = 0
        self.n_acquired = 0
        """How often this process took a lock: in between, others may have written."""

    def lock(self, study: str | None = None) -> WriterLock:
        """What a process holds while it writes to ``study``."""
        return self._database.lock(study)

    def data_version(self) -> str:
        """Another one than before if anything was stored in between, by whatever process; costs little."""
        with translated_database_errors(self.shown):
            return self._database.data_version()

    @contextmanager
    def writing(self, study: str | None = None, *, wait_s: float | None = None) -> Iterator[None]:
        """Hold the lock of the one process that writes to ``study``, whose reads then cost no query."""
        lock = self.lock(study)
        lock.acquire(self.wait_s if wait_s is None else wait_s)
        try:
            if lock.depth == 1:
                self._n_held += 1
                self.n_acquired += 1
                self.optuna.invalidate()
                self.optuna.acquire()
            yield
        finally:
            if lock.depth == 1:
                self._n_held -= 1
                if self._n_held == 0:
                    self.optuna.release()
            lock.release()

    def transact(self, body: Callable[[], T], study: str | None = None) -> T:
        """Run ``body`` and return what it returns: all that it writes is committed together at the end, or none of it.

        If the server of the database goes away meanwhile, ``body`` is run again when it is back, unless the commit
        had reached it. Inside the body of another transaction it is part of that one.

        Raises
        ------
        StorageBusyError
            If another process is writing to ``study``.
        StorageError
            If the database could not take it; nothing was written.
        """
        session: Any = self.rdb.scoped_session()
        if session.defers_commits:
            if study is not None and self.lock(study).depth == 0:
                raise RuntimeError(f"a transaction is open that does not write to {study!r}; name the study in it")
            return body()
        with self.writing(study), translated_database_errors(self.shown):
            try:
                return self._database.run_transaction(study, partial(self._prepared, body))
            except BaseException:
                self.optuna.invalidate()
                raise
            finally:
                session.rollback()
                session.close()

    def _prepared(self, body: Callable[[], T], is_new: bool) -> T:
        """What ``body`` returns, with all that it wrote before the database, not committed."""
        if is_new:
            self.n_acquired += 1
            self.optuna.invalidate()
        session: Any = self.rdb.scoped_session()
        session.defers_commits, session.rolled_back = True, False
        try:
            result = body()
        finally:
            session.defers_commits = False
        if session.rolled_back:
            raise StorageError(f"{self.shown}: a write was refused, nothing of this step was stored")
        return result

    def close(self) -> None:
        self.rdb.remove_session()
        self.rdb.engine.dispose()


def is_at(storage: Storage, url: str) -> bool:
    """Whether ``url`` leads to this storage."""
    return storage.url == (url if url.startswith("postgresql") else f"sqlite:///{sqlite_file(url)}")


def _opened(url: str, *, create: bool, wait_s: float) -> Database:
    if url.startswith("postgresql"):
        from aifs_tune.storage.postgres import PostgresDatabase

        return PostgresDatabase(url, create=create, wait_s=wait_s)
    return SqliteDatabase(sqlite_file(url), create=create, wait_s=wait_s)
