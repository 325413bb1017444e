"""Database sessions with deferred commits for Optuna's storage, and translation of database errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages._rdb import models
from optuna.storages._rdb import storage as optuna_rdb
from sqlalchemy import orm, text
from sqlalchemy.exc import SQLAlchemyError

from aifs_tune.errors import StorageError
from aifs_tune.storage.tolerant import TolerantRDBStorage


class DeferredCommitSession(orm.Session):
    """Session whose commits wait for the end of a transaction of :class:`~aifs_tune.storage.storage.Storage`."""

    defers_commits = False
    rolled_back = False

    def commit(self) -> None:
        """Commit, or only flush while commits are deferred."""
        if self.defers_commits:
            self.flush()
        else:
            super().commit()

    def rollback(self) -> None:
        """Roll back and remember it."""
        self.rolled_back = True
        super().rollback()

    def close(self) -> None:
        """Close the session unless commits are deferred."""
        if not self.defers_commits:
            super().close()


def newest_tables() -> str:
    """Return the version of the tables that Optuna makes: the last of its migrations, v3.2.0.a for example."""
    migrations = Path(optuna_rdb.__file__).parent / "alembic" / "versions"
    return max(file.stem.rstrip("_") for file in migrations.glob("v*.py"))


class TableVersion(optuna_rdb._VersionManager):
    """Optuna's check of the version of its tables, without alembic unless they are of another version.

    Importing alembic takes longer than most commands.
    """

    def _init_alembic(self) -> None:
        if self._stored() is None:
            super()._init_alembic()

    def check_table_schema_compatibility(self) -> None:
        """Raise a RuntimeError if the tables belong to another version of Optuna."""
        if self._stored() != newest_tables():
            super().check_table_schema_compatibility()

    def _stored(self) -> str | None:
        with self.engine.connect() as connection:
            if not self.engine.dialect.has_table(connection, "alembic_version"):
                return None
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return None if found is None else str(found)


optuna_rdb._VersionManager = TableVersion  # type: ignore[misc]  # a class in place of a class


def open_rdb(url: str, shown: str, engine_kwargs: Mapping[str, Any]) -> TolerantRDBStorage:
    """Open the storage at ``url``, whose tables must exist, with deferred-commit sessions.

    Raises
    ------
    StorageError
        If the tables belong to another version of Optuna.
    """
    try:
        # Optuna fills in the version of its tables where braces are
        rdb = TolerantRDBStorage(url.replace("{", "{{").replace("}", "}}"), dict(engine_kwargs))
    except RuntimeError as error:  # raised by Optuna for tables of another version
        raise StorageError(f"{shown}: {error}") from error
    rdb.engine.dispose()
    rdb.scoped_session = orm.scoped_session(orm.sessionmaker(bind=rdb.engine, class_=DeferredCommitSession))
    return rdb


@contextmanager
def translated_database_errors(shown: str) -> Iterator[None]:
    """Translate database errors to :class:`StorageError` with the database and its reason."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        reason = getattr(cause, "orig", None) or cause or error
        raise StorageError(f"{shown}: {' '.join(str(reason).split())}") from error


@contextmanager
def translated_study_errors(shown: str) -> Iterator[None]:
    """As :func:`translated_database_errors`; also if the study, or a trial of it, is no longer there."""
    with translated_database_errors(shown):
        try:
            yield
        except KeyError as error:
            if error.args != (models.NOT_FOUND_MSG,):
                raise
            raise StorageError(f"{shown}: another program deleted the study, or a trial of it, meanwhile") from error
