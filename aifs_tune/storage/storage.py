"""Storage of studies: an Optuna database with one writing process at a time and atomic transactions.

Optuna commits every write by itself. :meth:`Storage.transact` combines several writes in one transaction, so that a
process that is killed leaves either the old state or the new one. Programs that use Optuna alone may write at the same
time: a transaction begins with the database's own lock, or with a lock on each row that it changes, and what they wrote
is read first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aifs_tune._util.clock import MonotonicClock
from aifs_tune.errors import RequestError, StorageError
from aifs_tune.storage.cached import CachedStorage
from aifs_tune.storage.lock import WriterLock
from aifs_tune.storage.session import translated_database_errors, translated_study_errors
from aifs_tune.storage.sqlite import SqliteDatabase
from aifs_tune.storage.tolerant import TolerantRDBStorage

DEFAULT_URL = "sqlite:///aifs_tune.db"
ENVIRONMENT_VARIABLE = "AIFS_TUNE_STORAGE"
T = TypeVar("T")

_CLOCK = MonotonicClock()


class Database(Protocol):
    """Database of studies that exists and can be read."""

    @property
    def url(self) -> str:
        """URL of the database."""
        ...

    @property
    def shown(self) -> str:
        """Name of the database in messages, without secrets."""
        ...

    @property
    def artifacts(self) -> Path | str:
        """Folder of checkpoints and weights, or its URL in an object store, without secrets."""
        ...

    @property
    def rdb(self) -> TolerantRDBStorage:
        """Optuna's storage."""
        ...

    def lock(self, study: str | None) -> WriterLock:
        """Return the lock for writing to ``study``; None: for creating studies."""
        ...

    def data_version(self) -> str:
        """Return a text that changes whenever any process commits; cheap."""
        ...

    def run_transaction(self, study: str | None, prepare: Callable[[bool, bool], T]) -> T:
        """Call ``prepare``, commit what it wrote to this thread's session, and return its result.

        The lock is held. The arguments of ``prepare`` are whether anything else may have been written since the last
        transaction, and whether the lock was lost and acquired again, after which it may be called a second time.
        """
        ...

    def problem(self) -> str | None:
        """Return how the database is no longer the one that was opened; None if it is."""
        ...


def given_url(url: str | None) -> str:
    """Return ``url``, else ``$AIFS_TUNE_STORAGE``, else the URL of a file in the current folder."""
    if url is not None and not isinstance(url, str):
        raise RequestError(f"storage: {url!r} is not text; allowed: a URL, such as {DEFAULT_URL}, or None")
    return url or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_URL


def sqlite_file(url: str) -> Path:
    """Return the database file of a URL ``sqlite:///FILE``.

    Raises
    ------
    RequestError
        If the URL is not that of a storage.
    """
    prefix = "sqlite:///"
    name = url.removeprefix(prefix)
    if not url.startswith(prefix) or not name or name.startswith(":") or "?" in name or "\0" in name:
        scheme = url.split(":", 1)[0] if ":" in url else url
        raise RequestError(
            f"storage: {scheme!r} is not a supported storage; allowed: sqlite:///FILE, such as {DEFAULT_URL}, or "
            "postgresql+psycopg://USER@HOST/DATABASE"
        )
    return Path(name).absolute()


class Storage:
    """Open database of studies: an SQLite file or a PostgreSQL database with Optuna's tables.

    Any number of processes may read. One process at a time writes: to all studies of an SQLite file, or to each study
    of a PostgreSQL database.

    Parameters
    ----------
    url
        ``sqlite:///FILE`` on a local disk, or ``postgresql+psycopg://USER@HOST/DATABASE``. Default None:
        ``$AIFS_TUNE_STORAGE`` if set, else ``sqlite:///aifs_tune.db``.
    create
        Whether to create the database if it does not exist; default False.
    wait_s
        Longest time in seconds to wait for another process that is writing; default 10.
    clock
        Function that returns the time in seconds since 1970, used for leases. Default: the system time when the
        process started plus the time since, so changes of the system clock have no effect.

    Raises
    ------
    RequestError
        If the URL is not that of a storage.
    NotFoundError
        If the database does not exist and ``create`` is False.
    StorageError
        If the database cannot be opened.

    Examples
    --------
    >>> space = {"temperature": {"type": "int", "low": 600, "high": 1200}}
    >>> study = aifs_tune.open_study("furnace", space=space, storage="sqlite:///lab.db")
    >>> storage = aifs_tune.Storage("sqlite:///lab.db")
    >>> [found.study_name for found in storage.optuna.get_all_studies()]
    ['furnace']
    >>> storage.close()
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
        """Number of times that this process acquired a lock; in between, other processes may have written."""

    def lock(self, study: str | None = None) -> WriterLock:
        """Return the lock that a process holds while it writes to ``study``.

        Parameters
        ----------
        study
            Name of a study in the storage; default None: the lock for creating studies.

        Returns
        -------
        WriterLock
            The lock, which also tells its holder.

        Examples
        --------
        >>> print(aifs_tune.Storage("sqlite:///lab.db", create=True).lock().holder())
        None
        """
        return self._database.lock(study)

    def data_version(self) -> str:
        """Return a text that changes whenever any process stores something; cheap enough to poll.

        Returns
        -------
        str
            The version, to compare with an earlier one.

        Raises
        ------
        StorageError
            If the database cannot be read.

        Examples
        --------
        >>> storage = aifs_tune.Storage("sqlite:///lab.db", create=True)
        >>> storage.data_version() == storage.data_version()
        True
        """
        self.check_file()
        with translated_database_errors(self.shown):
            return self._database.data_version()

    def check_file(self) -> None:
        """Check that the database file is still the one that was opened; cheap enough for each read.

        Raises
        ------
        StorageError
            If the file was deleted, moved or replaced since.

        Examples
        --------
        >>> aifs_tune.Storage("sqlite:///lab.db", create=True).check_file()
        """
        if (problem := self._database.problem()) is not None:
            raise StorageError(problem)

    @contextmanager
    def writing(self, study: str | None = None, *, wait_s: float | None = None) -> Iterator[None]:
        """Hold the writer lock of ``study`` during a ``with`` block; reads of trials then come from memory.

        Parameters
        ----------
        study
            Name of a study in the storage; default None: the lock for creating studies.
        wait_s
            Longest time in seconds to wait for another process; default: that of the storage.

        Yields
        ------
        None
            Nothing.

        Raises
        ------
        StorageBusyError
            If another process is writing.

        Examples
        --------
        >>> storage = aifs_tune.Storage("sqlite:///lab.db", create=True)
        >>> with storage.writing():
        ...     storage.lock().holder() is None
        False
        """
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

    def transact(
        self, body: Callable[[], T], study: str | None = None, *, check: Callable[[], None] | None = None
    ) -> T:
        """Run ``body`` as one transaction: either everything that it writes is committed, or nothing.

        If the database server becomes unreachable, ``body`` runs again when it is back, unless the transaction was
        committed. A transaction inside another one becomes part of it.

        Parameters
        ----------
        body
            Function without arguments that reads and writes.
        study
            Name of the study in the storage that is written; default None: studies are created.
        check
            Function that raises if the database is no longer where it was opened; called before the commit and after
            it. Default: :meth:`check_file`.

        Returns
        -------
        object
            The result of ``body``.

        Raises
        ------
        StorageBusyError
            If another process is writing to ``study``.
        StorageError
            If the database refused the transaction; nothing was written.

        Examples
        --------
        >>> storage = aifs_tune.Storage("sqlite:///lab.db", create=True)
        >>> storage.transact(lambda: len(storage.optuna.get_all_studies()))
        0
        """
        session: Any = self.rdb.scoped_session()
        if session.defers_commits:
            if study is not None and self.lock(study).depth == 0:
                raise RuntimeError(f"the open transaction does not hold the lock of {study!r}; pass the study to it")
            return body()
        check = check or self.check_file
        with ExitStack() as entered:
            try:
                entered.enter_context(self.writing(study))
            except StorageError:
                check()  # that the file is gone is the better reason
                raise
            entered.enter_context(translated_study_errors(self.shown))
            try:
                result = self._database.run_transaction(study, partial(self._prepared, body, check))
                check()
                return result
            except BaseException:
                self.optuna.invalidate()
                raise
            finally:
                session.rollback()
                session.close()

    def _prepared(self, body: Callable[[], T], check: Callable[[], None], is_changed: bool, was_lost: bool) -> T:
        """Run ``body`` and return its result, with its writes flushed to the database but not committed."""
        if was_lost:
            self.n_acquired += 1
        if is_changed or was_lost:
            self.optuna.invalidate()
        self.optuna.begin()
        session: Any = self.rdb.scoped_session()
        session.defers_commits, session.rolled_back = True, False
        try:
            result = body()
            check()
        finally:
            session.defers_commits = False
        if session.rolled_back:
            raise StorageError(f"{self.shown}: a write failed, so nothing of this transaction was stored")
        return result

    def close(self) -> None:
        """Close all connections to the database.

        Examples
        --------
        >>> aifs_tune.Storage("sqlite:///lab.db", create=True).close()
        """
        self.rdb.remove_session()
        self.rdb.engine.dispose()


def is_at(storage: Storage, url: str) -> bool:
    """Whether ``url`` is the URL of this storage."""
    return storage.url == (url if url.startswith("postgresql") else f"sqlite:///{sqlite_file(url)}")


def _opened(url: str, *, create: bool, wait_s: float) -> Database:
    if url.startswith("postgresql"):
        from aifs_tune.storage.postgres import PostgresDatabase

        return PostgresDatabase(url, create=create, wait_s=wait_s)
    return SqliteDatabase(sqlite_file(url), create=create, wait_s=wait_s)
