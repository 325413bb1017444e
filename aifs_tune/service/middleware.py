"""What stands before every route: who may ask, from where, how much and for how long. Plain ASGI: a body is read here,
whole and bounded, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aifs_tune._util.scalars import brief
from aifs_tune.errors import AccessError, AifsTuneError, ServiceError, UnknownCallerError
from aifs_tune.service.problems import of_error, problem
from aifs_tune.service.sessions import Sessions, session_in
from aifs_tune.service.tokens import Caller, TokenStore

MAX_BODY_BYTES = 1024 * 1024
MAX_BUFFERED_BYTES = 16 * MAX_BODY_BYTES
"""Bytes of all bodies that are being read or answered."""
MAX_REQUESTS = 512
BODY_TIMEOUT_S = 10.0
"""How long a client may take to send a body."""
DRAIN_S = 1.0
"""How long the rest of a body is read that nobody wants."""
PUBLIC_PATHS = frozenset({"/v1/openapi.json", "/", "/sign-in"})
PUBLIC_PREFIXES = ("/page/", "/studies/")
"""What anybody may read: the description and the empty pages say what the service can do, not what is in it."""
SIGN_IN = "/sign-in"
CALLER = "aifs_tune.caller"
REAUTHENTICATE = "aifs_tune.still_admitted"
"""In a request's scope: what raises :class:`AccessError` once its token is not valid any more."""
IS_HEAD_REQUEST = "aifs_tune.asked_by_head"
"""Where the headers alone are wanted of what a GET would be answered with; the server leaves the body out."""
PROXY_HEADERS = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""What proxies add: a request that has one of them does not come from this machine alone."""

_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"private, no-cache"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"same-origin"),
]


_CORS_PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST",
    "Access-Control-Allow-Headers": "Accept, Aifs-Tune-Project, Authorization, Content-Type, Idempotency-Key, "
    "If-None-Match, Last-Event-ID",
    "Access-Control-Max-Age": "600",
}
_CORS_EXPOSE_HEADERS = [(b"access-control-expose-headers", b"ETag, Link, Location, Retry-After, WWW-Authenticate")]


class EarlyResponse(Exception):
    """A request is answered here."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


@dataclass(frozen=True)
class Access:
    """Who is let in: requests that are addressed to one of ``hosts`` and made by a caller that ``book`` knows.

    ``nobody`` is who asks without a token; None if every request needs one. ``origins`` are other sites whose pages
    may use the service, always with a token.
    """

    hosts: Collection[str]
    origins: Collection[str]
    token_store: TokenStore
    anonymous: Caller | None


class AccessMiddleware:
    """Lets those requests through to ``app`` that ``access`` allows, or a browser with one of ``sessions`` makes."""

    def __init__(self, app: ASGIApp, access: Access, sessions: Sessions) -> None:
        self._app, self._token_store, self._sessions, self._anonymous = (
            app,
            access.token_store,
            sessions,
            access.anonymous,
        )
        self._origins = frozenset(access.origins)
        self._hosts = frozenset(host.lower() for host in access.hosts)
        self._n_requests = 0
        self._n_buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", IS_HEAD_REQUEST: True}
        self._n_requests += 1
        send = _with_headers(send, self._cors_headers(Headers(scope=scope)))
        body = bytearray()
        try:
            try:
                await self._authorize(scope)
                await self._read_body(scope, receive, body)
            except AifsTuneError as error:
                raise EarlyResponse(of_error(error, scope["path"])) from None
            await self._app(scope, _replay_body(bytes(body), receive), send)
        except EarlyResponse as early:
            await _respond_and_close(early.response, scope, receive, send)
        except ClientDisconnect:
            pass
        finally:
            self._n_requests -= 1
            self._n_buffered -= len(body)

    async def _authorize(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self._n_requests > MAX_REQUESTS:
            raise ServiceError(f"{MAX_REQUESTS} requests are being answered, as many as may; try again")
        host = headers.get("host", "")
        if _hostname(host) not in self._hosts:
            raise AccessError(f"Host: {brief(host)} is not this service; allow it with aifs-tune serve --allow-host")
        origin = headers.get("origin")
        if origin is not None and _origin_host(origin) != host.lower():
            if origin not in self._origins:
                raise AccessError(
                    f"Origin: {brief(origin)} is a page of another site; allow it with aifs-tune serve --allow-origin"
                )
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                raise EarlyResponse(Response(status_code=204, headers=_CORS_PREFLIGHT_HEADERS))
        if scope["path"] in PUBLIC_PATHS or scope["path"].startswith(PUBLIC_PREFIXES):
            return
        try:
            scope[CALLER] = await self._authenticate(scope, headers)
        except UnknownCallerError:
            if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                there = f"{SIGN_IN}?next={quote(scope['path'])}"
                raise EarlyResponse(RedirectResponse(there, 303)) from None  # a person looks, who can sign in
            raise
        scope[REAUTHENTICATE] = partial(self._authenticate, scope, headers)

    async def _authenticate(self, scope: Scope, headers: Headers) -> Caller:
        authorization = headers.get("authorization")
        if authorization is None:
            session = session_in(scope, headers)
            caller = await run_in_threadpool(self._sessions.caller, session) if session is not None else None
            if caller is not None:
                return caller
            if self._anonymous is None:
                raise UnknownCallerError("no token; allowed: the header Authorization: Bearer TOKEN")
            if headers.get("origin") in self._origins:
                raise UnknownCallerError("no token, which every page of another site needs")
            if any(header in headers for header in PROXY_HEADERS):
                raise UnknownCallerError("no token, and a proxy passed this on, for whom is not known")
            return self._anonymous
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise UnknownCallerError("Authorization is not of a known kind; allowed: Bearer TOKEN")
        return await run_in_threadpool(self._token_store.caller, token.strip())

    def _cors_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """What lets a page of another site read an answer."""
        origin = headers.get("origin")
        if not self._origins:
            return []
        vary = [(b"vary", b"Origin")]
        return (
            [*vary, (b"access-control-allow-origin", origin.encode()), *_CORS_EXPOSE_HEADERS]
            if origin in self._origins
            else vary
        )

    async def _read_body(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        headers, path = Headers(scope=scope), scope["path"]
        if not _has_body(headers):
            return
        coding = headers.get("content-encoding", "identity")
        if coding.lower() != "identity":
            raise EarlyResponse(problem(415, f"Content-Encoding: {brief(coding)}; allowed: identity", instance=path))
        kind = headers.get("content-type", "")
        if kind.partition(";")[0].strip().lower() != "application/json":
            raise EarlyResponse(problem(415, f"Content-Type: {brief(kind)}; allowed: application/json", instance=path))
        if int(headers.get("content-length", "0")) > MAX_BODY_BYTES:
            raise _too_large(path)
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    self._buffer(message.get("body", b""), body, path)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise EarlyResponse(
                problem(408, f"the body did not come within {BODY_TIMEOUT_S:g} s", instance=path)
            ) from None

    def _buffer(self, chunk: bytes, body: bytearray, path: str) -> None:
        if len(body) + len(chunk) > MAX_BODY_BYTES:
            raise _too_large(path)
        if self._n_buffered + len(chunk) > MAX_BUFFERED_BYTES:
            raise ServiceError("the bodies of other requests take all room; try again")
        self._n_buffered += len(chunk)
        body += chunk


async def _respond_and_close(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request whose body was not read. The connection is closed only after a little more of that was read, or
    the system would drop the answer with it."""
    if not _has_body(Headers(scope=scope)):
        await response(scope, receive, send)
        return
    response.headers["Connection"] = "close"
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    n_read, more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while more and n_read < MAX_BODY_BYTES:
                message = await receive()
                n_read += len(message.get("body", b""))
                more = message.get("more_body", False)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _too_large(path: str) -> EarlyResponse:
    return EarlyResponse(problem(413, f"the body is too large; allowed: at most {MAX_BODY_BYTES} bytes", instance=path))


def _origin_host(origin: str) -> str:
    """Host and port of an Origin header; empty if it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _hostname(host: str) -> str:
    """The name or address in a Host header, without its port; empty if it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "") if "@" not in host and "/" not in host else ""
    except ValueError:
        return ""


def _replay_body(body: bytes, receive: Receive) -> Receive:
    """First the body that was read, then what the client does."""
    is_told = False

    async def replay() -> Message:
        nonlocal is_told
        if is_told:
            return await receive()
        is_told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _with_headers(send: Send, cors: Collection[tuple[bytes, bytes]]) -> Send:
    """With headers that keep browsers from guessing and caches from keeping, unless it has its own, and those that are
    ``shared``."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = list(message.get("headers", ()))
            names = {name.lower() for name, _ in own}
            kept = (entry for entry in _SECURITY_HEADERS if entry[0] not in names)
            message = {**message, "headers": [*own, *kept, *cors]}
        await send(message)

    return guarded
