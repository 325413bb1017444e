"""ASGI middleware that checks where a request comes from and who makes it, and limits its size and duration."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aifs_tune._util.scalars import brief
from aifs_tune.artifacts.trial_files import MAX_FILE_BYTES
from aifs_tune.errors import AccessError, AifsTuneError, ServiceError, UnknownCallerError
from aifs_tune.service.problems import problem, problem_from_error
from aifs_tune.service.sessions import Sessions, session_in
from aifs_tune.service.tokens import Caller, TokenStore

MAX_HEADER_BYTES = 32 * 1024
MAX_BODY_BYTES = 1024 * 1024
MAX_BUFFERED_BYTES = 16 * MAX_BODY_BYTES
"""Maximum size of the bodies of all requests that are being read or processed."""
MAX_REQUESTS = 512
BODY_TIMEOUT_S = 10.0
"""Seconds within which a client must send a body."""
FILE_TIMEOUT_S = 60.0
"""Seconds within which a client must send a photo or another file."""
DRAIN_S = 1.0
"""Seconds for which the rest of a refused body is read before the connection is closed."""
PUBLIC_PATHS = frozenset({"/v1/openapi.json", "/", "/sign-in", "/compare"})
PUBLIC_PREFIXES = ("/page/", "/studies/", "/sign-in/")
"""Paths without authentication: the OpenAPI description, the static pages and the sign-in have no data of any study."""
SIGN_IN = "/sign-in"
CALLER = "aifs_tune.caller"
REAUTHENTICATE = "aifs_tune.reauthenticate"
"""Key of a request's scope: a function that raises :class:`AccessError` once the token is no longer valid."""
IS_HEAD_REQUEST = "aifs_tune.is_head_request"
"""Key of a request's scope: true for HEAD, which is routed as GET; the server leaves the body out."""
PROXY_HEADERS = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""Headers that proxies add: a request with one of them may come from another machine."""

_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"private, no-cache"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"same-origin"),
]


@dataclass(frozen=True)
class _BodyLimits:
    """What a body must be: its media type, its largest size, and the seconds within which it must arrive."""

    kind: str
    n_bytes: int
    timeout_s: float


_JSON_LIMITS = _BodyLimits("application/json", MAX_BODY_BYTES, BODY_TIMEOUT_S)
_FILE_LIMITS = _BodyLimits("application/octet-stream", MAX_FILE_BYTES, FILE_TIMEOUT_S)
_FILE_PATH = re.compile(r"/v1/studies/[^/]+/trials/[^/]+/files")


class EarlyResponse(Exception):
    """A response that is sent without calling the application."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


@dataclass(frozen=True)
class Access:
    """Who may use the service.

    Parameters
    ----------
    hosts
        Names and addresses by which requests may call the service, as in the ``Host`` header without its port.
    origins
        Other sites whose pages may use the service, always with a token.
    token_store
        The valid tokens.
    anonymous
        The caller of a request without a token; None if every request needs one.
    """

    hosts: Collection[str]
    origins: Collection[str]
    token_store: TokenStore
    anonymous: Caller | None


def add_middleware(app: ASGIApp, access: Access, sessions: Sessions) -> ASGIApp:
    """Wrap ``app`` in the checks of ``access``; browsers may use one of ``sessions`` instead of a token."""
    app = AccessMiddleware(app, access, sessions)
    if access.origins:
        app = CORSMiddleware(
            app,
            allow_origins=access.origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("Aifs-Tune-Project", "Authorization", "Idempotency-Key", "If-None-Match", "Last-Event-ID"),
            expose_headers=("ETag", "Link", "Location", "Retry-After", "WWW-Authenticate"),
        )
    return SourceMiddleware(app, access)


class SourceMiddleware:
    """Refuses requests to an unknown host, and requests that a page of an unknown site makes (CSRF)."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in access.hosts)
        self._origins = frozenset(access.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_security_headers(send)
        refusal = _malformed(scope)
        if refusal is not None:
            refusal.headers["Connection"] = "close"
            with suppress(ClientDisconnect):
                await _respond_and_close(refusal, scope, receive, send)
            return
        try:
            self._check(Headers(scope=scope))
        except AccessError as error:
            with suppress(ClientDisconnect):
                await _respond_and_close(problem_from_error(error, scope["path"]), scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, headers: Headers) -> None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if _hostname(host) not in self._hosts:
            raise AccessError(f"Host: {brief(host)} is not this service; allow it with aifs-tune serve --allow-host")
        if origin is not None and _origin_host(origin) != host.lower() and origin not in self._origins:
            raise AccessError(
                f"Origin: {brief(origin)} is a page of another site; allow it with aifs-tune serve --allow-origin"
            )


class AccessMiddleware:
    """Authenticates each request, reads its body within the limits, and passes both to ``app``."""

    def __init__(self, app: ASGIApp, access: Access, sessions: Sessions) -> None:
        self._app, self._access, self._sessions = app, access, sessions
        self._n_requests = 0
        self._n_buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", IS_HEAD_REQUEST: True}
        self._n_requests += 1
        body = bytearray()
        try:
            try:
                await self._authorize(scope)
                await self._read_body(scope, receive, body)
            except AifsTuneError as error:
                raise EarlyResponse(problem_from_error(error, scope["path"])) from None
            await self._app(scope, _replay_body(bytes(body), receive), send)
        except EarlyResponse as early:
            await _respond_and_close(early.response, scope, receive, send)
        except ClientDisconnect:
            pass
        finally:
            self._n_requests -= 1
            self._n_buffered -= len(body)

    async def _authorize(self, scope: Scope) -> None:
        if self._n_requests > MAX_REQUESTS:
            raise ServiceError(f"the maximum of {MAX_REQUESTS} concurrent requests is reached; try again")
        if scope["path"] in PUBLIC_PATHS or scope["path"].startswith(PUBLIC_PREFIXES):
            return
        headers = Headers(scope=scope)
        try:
            scope[CALLER] = await self._authenticate(scope, headers)
        except UnknownCallerError:
            if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):  # a person, who can sign in
                raise EarlyResponse(RedirectResponse(f"{SIGN_IN}?next={quote(scope['path'])}", 303)) from None
            raise
        scope[REAUTHENTICATE] = partial(self._authenticate, scope, headers)

    async def _authenticate(self, scope: Scope, headers: Headers) -> Caller:
        authorization = headers.get("authorization")
        if authorization is None:
            session = session_in(scope, headers)
            caller = await run_in_threadpool(self._sessions.caller, session) if session is not None else None
            if caller is not None:
                return caller
            if self._access.anonymous is None:
                raise UnknownCallerError("no token; allowed: the header Authorization: Bearer TOKEN")
            if headers.get("origin") in self._access.origins:
                raise UnknownCallerError("no token; every page of another site needs one")
            if any(header in headers for header in PROXY_HEADERS):
                raise UnknownCallerError("no token; every request that comes through a proxy needs one")
            return self._access.anonymous
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise UnknownCallerError("Authorization has an unknown scheme; allowed: Bearer TOKEN")
        return await run_in_threadpool(self._access.token_store.caller, token.strip())

    async def _read_body(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        headers, path = Headers(scope=scope), scope["path"]
        if not _has_body(headers):
            return
        coding = headers.get("content-encoding", "identity")
        if coding.lower() != "identity":
            raise EarlyResponse(problem(415, f"Content-Encoding: {brief(coding)}; allowed: identity", instance=path))
        kind = headers.get("content-type", "")
        limits = _FILE_LIMITS if _FILE_PATH.fullmatch(path) else _JSON_LIMITS
        if kind.partition(";")[0].strip().lower() != limits.kind:
            raise EarlyResponse(problem(415, f"Content-Type: {brief(kind)}; allowed: {limits.kind}", instance=path))
        if int(headers.get("content-length", "0")) > limits.n_bytes:
            raise _too_large(path, limits.n_bytes)
        try:
            async with asyncio.timeout(limits.timeout_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    self._buffer(message.get("body", b""), body, path, limits.n_bytes)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise EarlyResponse(
                problem(408, f"the body did not arrive within {limits.timeout_s:g} s", instance=path)
            ) from None

    def _buffer(self, chunk: bytes, body: bytearray, path: str, n_bytes: int) -> None:
        if len(body) + len(chunk) > n_bytes:
            raise _too_large(path, n_bytes)
        if self._n_buffered + len(chunk) > MAX_BUFFERED_BYTES:
            raise ServiceError("too many request bodies are being processed; try again")
        self._n_buffered += len(chunk)
        body += chunk


async def _respond_and_close(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Respond to a request whose body was not read, and close the connection.

    A little more of the body is read first; otherwise the operating system would drop the response with the connection.
    """
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


def _malformed(scope: Scope) -> Response | None:
    """The response to a request whose headers are too large, or say its length in two ways; None if it is neither."""
    names = [name.lower() for name, _ in scope["headers"]]
    if b"content-length" in names and b"transfer-encoding" in names:
        text = "Content-Length and Transfer-Encoding cannot be combined; allowed: one of them"
        return problem(400, text, instance=scope["path"])
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        return problem(431, f"the headers are too large; allowed: at most {MAX_HEADER_BYTES} bytes", instance="/")
    return None


def _too_large(path: str, n_bytes: int) -> EarlyResponse:
    return EarlyResponse(problem(413, f"the body is too large; allowed: at most {n_bytes} bytes", instance=path))


def _origin_host(origin: str) -> str:
    """Return host and port of an Origin header; empty if it is malformed."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _hostname(host: str) -> str:
    """Return the name or address in a Host header without its port; empty if it is malformed."""
    try:
        return (urlsplit(f"//{host}").hostname or "") if "@" not in host and "/" not in host else ""
    except ValueError:
        return ""


def _replay_body(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that delivers the body that was read, then what the client sends."""
    is_sent = False

    async def replay() -> Message:
        nonlocal is_sent
        if is_sent:
            return await receive()
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _with_security_headers(send: Send) -> Send:
    """Return a ``send`` that adds each of :data:`_SECURITY_HEADERS` that a response does not set itself."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = list(message.get("headers", ()))
            names = {name.lower() for name, _ in own}
            message = {**message, "headers": [*own, *(entry for entry in _SECURITY_HEADERS if entry[0] not in names)]}
        await send(message)

    return send_with_headers
