"""The service's own tables, beside Optuna's in the same database."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, MetaData, String, Table
from sqlalchemy.exc import SQLAlchemyError

from aifs_tune.held_session import translated_database_errors
from aifs_tune.storage import Storage

_METADATA = MetaData()

TOKENS = Table(
    "aifs_tune_tokens",
    _METADATA,
    Column("id", String(16), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("project", String(63), nullable=False),
    Column("scope", String(16), nullable=False),
    Column("label", String(200), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
)
"""Who may use the service; times are seconds since 1970, ``digest`` the SHA-256 of the secret."""

RESPONSES = Table(
    "aifs_tune_responses",
    _METADATA,
    Column("project", String(63), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False, index=True),
)
"""What was answered to a request that had an idempotency key, of which ``key`` is the BLAKE2b digest."""

SWEEPS = Table(
    "aifs_tune_sweeps",
    _METADATA,
    Column("id", String(16), primary_key=True),
    Column("project", String(63), nullable=False, index=True),
    Column("sweep", String(100), nullable=False),
    Column("study", String(100), nullable=False),
    Column("asked", String(1000), nullable=False),
    Column("host", String(255), nullable=False),
    Column("at", Float, nullable=False),
)
"""Sweeps that were started over HTTP; ``asked`` is what the request gave instead of the file's values, as JSON. What
became of them is in their folders."""


def make_tables(storage: Storage) -> None:
    """Make them where they are not there yet; no other table is touched."""
    with translated_database_errors(storage.shown):
        with suppress(SQLAlchemyError):
            _METADATA.create_all(storage.rdb.engine)
            return
        _METADATA.create_all(storage.rdb.engine)  # another process made them at the same moment
