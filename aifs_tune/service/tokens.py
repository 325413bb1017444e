"""API tokens with a project and a scope, stored as digests, and the tables of the service."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from aifs_tune._util.scalars import MAX_TEXT_LENGTH, brief
from aifs_tune.errors import NotFoundError, RequestError, UnknownCallerError
from aifs_tune.storage.projects import check_project
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import Storage

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
"""Tokens; times are seconds since 1970, ``digest`` is the SHA-256 of the secret."""

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
"""Responses to requests with an idempotency key; ``key`` is the BLAKE2b digest of that key."""

SWEEPS = Table(
    "aifs_tune_sweeps",
    _METADATA,
    Column("id", String(16), primary_key=True),
    Column("project", String(63), nullable=False, index=True),
    Column("sweep", String(100), nullable=False),
    Column("study", String(100), nullable=False),
    Column("overrides", String(1000), nullable=False),
    Column("host", String(255), nullable=False),
    Column("at", Float, nullable=False),
)
"""Sweeps started over HTTP; ``overrides`` are the values that the request gave instead of those of the file, as JSON.
Their state is stored in their folders."""

AUDIT = Table(
    "aifs_tune_audit",
    _METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", Float, nullable=False),
    Column("project", String(63), nullable=False),
    Column("token_id", String(16)),
    Column("label", String(200), nullable=False),
    Column("address", String(64)),
    Column("method", String(16), nullable=False),
    Column("route", String(200), nullable=False),
    Column("study", String(100)),
    Column("trial", Integer),
    Column("status", Integer, nullable=False),
    Index("ix_aifs_tune_audit_project_id", "project", "id"),
    sqlite_autoincrement=True,
)
"""Entries of the audit log; ``at`` is in seconds since 1970, ``token_id`` is None for a caller without a token."""

_AUDIT_STANDS = {
    "sqlite": tuple(
        f"CREATE TRIGGER aifs_tune_audit_{verb.lower()} BEFORE {verb} ON aifs_tune_audit "
        "BEGIN SELECT RAISE(ABORT, 'entries of the audit log stand as they are'); END"
        for verb in ("UPDATE", "DELETE")
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION aifs_tune_audit_stands() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'entries of the audit log stand as they are'; END $$",
        "CREATE TRIGGER aifs_tune_audit_stands BEFORE UPDATE OR DELETE OR TRUNCATE ON aifs_tune_audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION aifs_tune_audit_stands()",
    ),
}
"""Statements by kind of database after which it refuses to change or delete entries, whichever program asks for it."""

for _kind, _statements in _AUDIT_STANDS.items():
    for _statement in _statements:
        event.listen(AUDIT, "after_create", DDL(_statement).execute_if(dialect=_kind))  # type: ignore[no-untyped-call]


def make_tables(storage: Storage) -> None:
    """Create the tables of the service that do not exist yet; no other table is touched."""
    with translated_database_errors(storage.shown):
        with suppress(SQLAlchemyError):
            _METADATA.create_all(storage.rdb.engine)
            return
        _METADATA.create_all(storage.rdb.engine)  # another process created them at the same moment


Scope: TypeAlias = Literal["read", "measure", "manage"]
SCOPES: tuple[Scope, ...] = ("read", "measure", "manage")
"""Scopes; each allows all that those before it allow."""

MAX_DAYS = 36_500
_DAY_S = 86_400
_TOKEN = re.compile(r"aifs_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_CACHE_TTL_S = 1.0
"""Seconds for which tokens are cached; a revoked token stays valid for as long at most."""
_CACHE_TTL_UNKNOWN_S = 0.2
_NO_DIGEST = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Caller:
    """Caller of a request; with ``project`` None it may use any project, with ``token_id`` None it has no token.

    ``label`` is that of the token, or the name of the account that a person without a token signed in with.
    """

    project: str | None
    scope: Scope
    token_id: str | None = field(default=None, compare=False)
    label: str = field(default="", compare=False)

    @property
    def is_known(self) -> bool:
        """Whether the caller has a token or an account."""
        return self.token_id is not None or bool(self.label)

    def may(self, scope: Scope) -> bool:
        """Return whether the caller's scope includes ``scope``."""
        return SCOPES.index(scope) <= SCOPES.index(self.scope)


@dataclass(frozen=True)
class Token:
    """Stored data of a token; times are seconds since 1970."""

    id: str
    project: str
    scope: Scope
    label: str
    created_at: int
    expires_at: int | None
    revoked_at: int | None

    def state(self, now: float) -> Literal["valid", "expired", "revoked"]:
        """Return whether the token is valid at ``now``, in seconds since 1970."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


class TokenStore:
    """All tokens of a storage. ``clock`` returns seconds since 1970."""

    def __init__(self, storage: Storage, *, clock: Callable[[], float] = time.time) -> None:
        make_tables(storage)
        self._storage, self._clock = storage, clock
        self._lock = threading.Lock()
        self._known: Mapping[str, tuple[str, Token]] = {}
        self._read_at = -_CACHE_TTL_S

    def create(self, project: str, scope: str, *, expires_days: float | None = None, label: str = "") -> str:
        """Create a token and return it; only its digest is stored, so it cannot be shown again.

        Raises
        ------
        RequestError
            If project, scope, days or label is not allowed.
        """
        check_project(project)
        if scope not in SCOPES:
            raise RequestError(f"scope: {brief(scope)} is not allowed; allowed: {', '.join(SCOPES)}")
        if expires_days is not None and not 0 < expires_days <= MAX_DAYS:
            raise RequestError(f"expires-days: {expires_days:g}; allowed: above 0, up to {MAX_DAYS}")
        if len(label) > MAX_TEXT_LENGTH or not label.isprintable():
            raise RequestError(
                f"label: {brief(label)}; allowed: printable text of at most {MAX_TEXT_LENGTH} characters"
            )
        now = int(self._clock())
        token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        row = {
            "id": token_id,
            "digest": _digest(secret),
            "project": project,
            "scope": scope,
            "label": label,
            "created_at": now,
            "expires_at": None if expires_days is None else now + max(1, round(expires_days * _DAY_S)),
        }
        with translated_database_errors(self._storage.shown), self._storage.rdb.engine.begin() as connection:
            connection.execute(insert(TOKENS), row)
        return f"aifs_{token_id}_{secret}"

    def tokens(self) -> list[tuple[Token, Literal["valid", "expired", "revoked"]]]:
        """Return all tokens with their current states, the oldest first."""
        now = self._clock()
        listed = [token for _, token in self._read().values()]
        return [(token, token.state(now)) for token in sorted(listed, key=lambda t: (t.created_at, t.id))]

    def revoke(self, token_id: str) -> None:
        """Revoke a token; a running service refuses it within a second.

        Raises
        ------
        NotFoundError
            If there is no such token.
        """
        known = self._read()
        if token_id not in known:
            raise NotFoundError(f"no token {brief(token_id)}; there are: {', '.join(known) or 'none'}")
        change = update(TOKENS).where(TOKENS.c.id == token_id, TOKENS.c.revoked_at.is_(None))
        with translated_database_errors(self._storage.shown), self._storage.rdb.engine.begin() as connection:
            connection.execute(change.values(revoked_at=int(self._clock())))

    def caller(self, token: str) -> Caller:
        """Return the caller who has this token.

        Raises
        ------
        UnknownCallerError
            If the token is unknown, expired or revoked; the message does not tell which.
        """
        parts = _TOKEN.fullmatch(token)
        token_id, secret = parts.groups() if parts else ("", "")
        digest, found = self._cached(token_id).get(token_id, (_NO_DIGEST, None))
        is_right = hmac.compare_digest(digest, _digest(secret))
        if found is None or not is_right or found.state(self._clock()) != "valid":
            raise UnknownCallerError("the token is not valid; allowed: one that aifs-tune token create printed")
        return Caller(found.project, found.scope, found.id, found.label)

    def is_valid(self, token_id: str) -> bool:
        """Return whether a token is still valid."""
        _, found = self._cached(token_id).get(token_id, (_NO_DIGEST, None))
        return found is not None and found.state(self._clock()) == "valid"

    def _cached(self, token_id: str) -> Mapping[str, tuple[str, Token]]:
        with self._lock:
            age_s = time.monotonic() - self._read_at
            if age_s > _CACHE_TTL_S or (token_id not in self._known and age_s > _CACHE_TTL_UNKNOWN_S):
                self._known, self._read_at = self._read(), time.monotonic()
            return self._known

    def _read(self) -> dict[str, tuple[str, Token]]:
        with translated_database_errors(self._storage.shown), self._storage.rdb.engine.connect() as connection:
            rows: Any = connection.execute(select(TOKENS)).mappings().all()
        return {row["id"]: (row["digest"], Token(**{k: v for k, v in row.items() if k != "digest"})) for row in rows}


def without_secrets(text: str) -> str:
    """Return ``text`` with ``...`` in place of the secret of each token in it.

    Examples
    --------
    >>> without_secrets("aifs_0123456789ab_" + 43 * "x")
    'aifs_0123456789ab_...'
    """
    return _TOKEN.sub(r"aifs_\1_...", text)


def _digest(secret: str) -> str:
    """Return the SHA-256; a slow hash is not needed for a secret of 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()
