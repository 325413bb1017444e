"""Sessions of people who signed in with a token: a browser keeps a random id in a cookie, never the token."""

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

IDLE_S = 12 * 3600.0
"""A session ends when nothing was asked in it for so long,"""
MAX_SESSION_S = 7 * 86_400.0
"""and after so long in any case."""
MAX_SESSIONS = 1000
"""Of more, the one that was used least recently ends."""


@dataclass
class _Session:
    caller: Caller
    began: float
    used: float


class Sessions:
    """All sessions of a service, in its memory: they end with it. ``clock`` gives seconds from any moment on."""

    def __init__(self, token_store: TokenStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._token_store, self._clock = token_store, clock
        self._lock = threading.Lock()
        self._open: dict[str, _Session] = {}

    def start(self, caller: Caller) -> str:
        """The id of a new session, in which all that the caller's token may read can be looked at.

        Raises
        ------
        AccessError
            If the caller has no token.
        """
        if caller.token_id is None:
            raise AccessError("a session is for who has a token; without one, nobody needs a session here")
        session, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            while len(self._open) >= MAX_SESSIONS:
                del self._open[min(self._open, key=lambda entry: self._open[entry].used)]
            self._open[session] = _Session(replace(caller, scope="read"), now, now)
        return session

    def caller(self, session: str) -> Caller | None:
        """Who is in a session; None if there is none of this id, or its token is not valid any more."""
        with self._lock:
            found, now = self._open.get(session), self._clock()
            if found is None:
                return None
            is_over = now - found.used > IDLE_S or now - found.began > MAX_SESSION_S
            if not is_over:
                found.used = now
        if is_over or not self._token_store.is_valid(found.caller.token_id or ""):
            self.end(session)
            return None
        return found.caller

    def end(self, session: str) -> None:
        """Forget a session, if there is one of this id."""
        with self._lock:
            self._open.pop(session, None)


def cookie_name(scope: Scope) -> str:
    """With the port, which browsers do not tell apart: two services of one machine have two sessions."""
    return f"aifs_tune_{(scope.get('server') or ('', 0))[1]}"


def session_in(scope: Scope, headers: Headers) -> str | None:
    """The session that a request names; None if it names none, or another site made the browser send it.

    Raises
    ------
    AccessError
        If it would change something and does not say which page it comes from.
    """
    session = cookie_parser(headers.get("cookie", "")).get(cookie_name(scope))
    if session is None or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return None
    if scope["method"] not in ("GET", "HEAD") and "origin" not in headers:
        raise AccessError("a session changes nothing without the header Origin; allowed: this service's own pages")
    return session
