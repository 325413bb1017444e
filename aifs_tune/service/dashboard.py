"""Optuna's dashboard beside the service, to look at: a caller sees in it the studies of one project."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from a2wsgi import WSGIMiddleware
from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from aifs_tune.errors import AccessError
from aifs_tune.service.middleware import CALLER
from aifs_tune.service.project_view import ProjectView
from aifs_tune.service.tokens import Caller
from aifs_tune.storage.storage import Storage

PATHS = (
    "/dashboard",
    "/dashboard/{rest:path}",
    "/api/{rest:path}",
    "/csv/{study:int}",
    "/static/{file}",
    "/favicon.ico",
)
"""Where its pages look for it and each other; it cannot be told another place."""
THREADS = 4
_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline' data:; script-src 'self' 'unsafe-eval'; "
    "img-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""Its own, which its drawing of parallel coordinates needs, and that no other page may have it in a frame."""

_Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Dashboard:
    """An ASGI application for :data:`PATHS` that answers requests to read, in threads of its own."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._apps: dict[str | None, _Wsgi] = {}
        self._bridge = WSGIMiddleware(self._answer, workers=THREADS)  # type: ignore[arg-type]

    def mount(self, app: FastAPI) -> None:
        """Answer at :data:`PATHS`, which are not described."""
        for path in PATHS:
            app.router.routes.append(Route(path, self, include_in_schema=False))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            raise AccessError(
                f"{scope['method']}: the dashboard is to look at; allowed: GET here, and writing under /v1"
            )

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [entry for entry in message["headers"] if entry[0].lower() != b"content-security-policy"]
                message = {**message, "headers": [*own, (b"content-security-policy", _POLICY.encode())]}
            await send(message)

        await self._bridge(scope, receive, guarded)  # type: ignore[arg-type]

    # -- in a thread ----------------------------------------------------------------------------

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        caller: Caller = environ["asgi.scope"][CALLER]
        environ["wsgi.errors"] = sys.stderr
        environ.setdefault("HTTP_ACCEPT_ENCODING", "identity")  # it takes for granted that there is one
        return self._app(caller.project)(environ, start_response)

    def _app(self, project: str | None) -> _Wsgi:
        """The dashboard of a project. Each has one, so that what one remembers is not told in another."""
        with self._lock:
            if project not in self._apps:
                self._apps[project] = _dashboard_of(ProjectView(self._storage, project))
            return self._apps[project]


def _dashboard_of(view: ProjectView) -> _Wsgi:
    from bottle import JSONPlugin
    from optuna_dashboard import wsgi  # takes seconds, and not everybody looks

    app: Any = wsgi(view)
    app.uninstall(JSONPlugin)
    app.install(JSONPlugin(json_dumps=_encoded_in_pieces))
    made: _Wsgi = app
    return made


def _encoded_in_pieces(answer: dict[str, Any]) -> str:
    """As JSON, which uses up ``answer``: ten thousand trials encoded, or given up, at once would keep every other
    thread waiting for seconds."""
    entries = []
    for key, value in answer.items():
        if not isinstance(value, list):
            entries.append(f"{json.dumps(key)}:{json.dumps(value)}")
            continue
        value.reverse()
        pieces = []
        while value:
            pieces.append(json.dumps(value.pop()))
        entries.append(f"{json.dumps(key)}:[{','.join(pieces)}]")
    return f"{{{','.join(entries)}}}"
