"""Browser sessions of people who signed in with a token or an account; the cookie has a random id, never the token."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from aifs_tune.errors import AccessError
from aifs_tune.service.tokens import Caller, TokenStore
from aifs_tune.service.tokens import Scope as TokenScope

IDLE_S = 12 * 3600.0
"""Seconds without a request after which a session ends."""
MAX_SESSION_S = 7 * 86_400.0
"""Seconds after which a session ends in any case."""
MAX_ACCOUNT_SESSION_S = 12 * 3600.0
"""Seconds after which a session of an account ends, since its rights are looked up only when it begins."""
MAX_SESSIONS = 1000
"""Maximum number of sessions; one more ends the session that was used least recently."""


@dataclass
class _Session:
    caller: Caller
    began: float
    used: float


class Sessions:
    """All sessions of a service, kept in memory. ``clock`` returns monotonic seconds."""

    def __init__(self, token_store: TokenStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._token_store, self._clock = token_store, clock
        self._lock = threading.Lock()
        self._open: dict[str, _Session] = {}

    def start(self, caller: Caller, scope: TokenScope = "read") -> str:
        """Start a session that may ``scope`` for a caller with a token or an account, and return its id.

        Raises
        ------
        AccessError
            If the caller has neither, or may not ``scope``.
        """
        if not caller.is_known:
            raise AccessError("only a caller who has a token or an account can start a session")
        if not caller.may(scope):
            raise AccessError(f"this token may {caller.scope}; needed: {scope}")
        session, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            while len(self._open) >= MAX_SESSIONS:
                del self._open[min(self._open, key=lambda entry: self._open[entry].used)]
            self._open[session] = _Session(replace(caller, scope=scope), now, now)
        return session

    def caller(self, session: str) -> Caller | None:
        """Return the caller of a session; None if the session or its token is no longer valid."""
        with self._lock:
            found, now = self._open.get(session), self._clock()
            if found is None:
                return None
            token_id = found.caller.token_id
            longest_s = MAX_ACCOUNT_SESSION_S if token_id is None else MAX_SESSION_S
            is_over = now - found.used > IDLE_S or now - found.began > longest_s
            if not is_over:
                found.used = now
        if is_over or (token_id is not None and not self._token_store.is_valid(token_id)):
            self.end(session)
            return None
        return found.caller

    def end(self, session: str) -> None:
        """End a session, if there is one with this id."""
        with self._lock:
            self._open.pop(session, None)


def cookie_name(scope: Scope) -> str:
    """Return the name of the session cookie; it contains the port, because browsers share cookies between ports."""
    return f"aifs_tune_{(scope.get('server') or ('', 0))[1]}"


def session_in(scope: Scope, headers: Headers) -> str | None:
    """Return the session id of a request; None if it has none, or if another site made the browser send it.

    Raises
    ------
    AccessError
        If the request changes something and has no ``Origin`` header.
    """
    session = cookie_parser(headers.get("cookie", "")).get(cookie_name(scope))
    if session is None or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return None
    if scope["method"] not in ("GET", "HEAD") and "origin" not in headers:
        raise AccessError(
            "a request of a session that changes something needs the header Origin; allowed: the service's own pages"
        )
    return session
