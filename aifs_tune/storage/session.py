"""Optuna's database sessions with commits that wait, and database errors in our words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import orm
from sqlalchemy.exc import SQLAlchemyError

from aifs_tune.errors import StorageError


class DeferredCommitSession(orm.Session):
    """A session whose commits wait for the end of the transaction that :class:`~aifs_tune.storage.storage.Storage`
    opened on
    it."""

    defers_commits = False
    rolled_back = False

    def commit(self) -> None:
        if self.defers_commits:
            self.flush()
        else:
            super().commit()

    def rollback(self) -> None:
        self.rolled_back = True
        super().rollback()

    def close(self) -> None:
        if not self.defers_commits:
            super().close()


def open_rdb(url: str, shown: str, engine_kwargs: Mapping[str, Any]) -> RDBStorage:
    """Optuna's storage at ``url``, whose tables exist, with such sessions.

    Raises
    ------
    StorageError
        If the tables are of another version.
    """
    try:
        rdb = RDBStorage(url, engine_kwargs=dict(engine_kwargs), skip_table_creation=True)
    except RuntimeError as error:  # Optuna's word for tables of another version
        raise StorageError(f"{shown}: {error}") from error
    rdb.engine.dispose()
    rdb.scoped_session = orm.scoped_session(orm.sessionmaker(bind=rdb.engine, class_=DeferredCommitSession))
    return rdb


@contextmanager
def translated_database_errors(shown: str) -> Iterator[None]:
    """Turn database errors into :class:`StorageError` that names the database and its own reason."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        reason = getattr(cause, "orig", None) or cause or error
        raise StorageError(f"{shown}: {' '.join(str(reason).split())}") from error
