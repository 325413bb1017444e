"""Read-only Optuna Dashboard that shows each caller the studies of one project."""

from __future__ import annotations

import csv
import io
import json
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from a2wsgi import WSGIMiddleware
from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from aifs_tune._util.formatting import csv_cell
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
"""Paths of the dashboard's pages; they are fixed in the dashboard."""
THREADS = 4
_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline' data:; script-src 'self' 'unsafe-eval'; "
    "img-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""Content security policy: the dashboard's plots need ``unsafe-eval``, and no other page may embed it in a frame."""

_Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Dashboard:
    """ASGI application that serves GET requests for :data:`PATHS` in its own threads."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._apps: dict[str | None, _Wsgi] = {}
        self._bridge = WSGIMiddleware(self._respond, workers=THREADS)  # type: ignore[arg-type]

    def mount(self, app: FastAPI) -> None:
        """Add routes for :data:`PATHS` to ``app``; they are not part of its OpenAPI description."""
        for path in PATHS:
            app.router.routes.append(Route(path, self, include_in_schema=False))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            raise AccessError(
                f"{scope['method']}: the dashboard is read-only; allowed: GET here, and writing under /v1"
            )

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [entry for entry in message["headers"] if entry[0].lower() != b"content-security-policy"]
                message = {**message, "headers": [*own, (b"content-security-policy", _POLICY.encode())]}
            await send(message)

        await self._bridge(scope, receive, send_with_policy)  # type: ignore[arg-type]

    # -- called in threads ----------------------------------------------------------------------

    def _respond(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        caller: Caller = environ["asgi.scope"][CALLER]
        environ["wsgi.errors"] = sys.stderr
        environ.setdefault("HTTP_ACCEPT_ENCODING", "identity")  # the dashboard expects this header
        if not environ.get("PATH_INFO", "").startswith("/csv/"):
            return self._app(caller.project)(environ, start_response)
        answered: list[Any] = []
        content = b"".join(self._app(caller.project)(environ, lambda *given: answered.extend(given)))
        status, headers = answered[:2]
        if status.startswith("200"):
            content = _without_formulas(content)
            headers = [entry for entry in headers if entry[0].lower() != "content-length"]
        start_response(status, headers)
        return [content]

    def _app(self, project: str | None) -> _Wsgi:
        """Return the dashboard of a project; each project has its own, because a dashboard caches what it reads."""
        with self._lock:
            if project not in self._apps:
                self._apps[project] = _dashboard_of(ProjectView(self._storage, project))
            return self._apps[project]


def _without_formulas(content: bytes) -> bytes:
    """A CSV file in which no cell is a formula for a spreadsheet."""
    written = io.StringIO()
    rows = csv.reader(io.StringIO(content.decode(), newline=""))
    csv.writer(written).writerows([csv_cell(cell) for cell in row] for row in rows)
    return written.getvalue().encode()


def _dashboard_of(view: ProjectView) -> _Wsgi:
    from bottle import JSONPlugin
    from optuna_dashboard import wsgi  # the import takes seconds, and few callers need it

    app: Any = wsgi(view)
    app.uninstall(JSONPlugin)
    app.install(JSONPlugin(json_dumps=_dumps_in_pieces))
    made: _Wsgi = app
    return made


def _dumps_in_pieces(response: dict[str, Any]) -> str:
    """Encode as JSON piece by piece, emptying the lists of ``response``.

    Encoding or freeing ten thousand trials at once would block all other threads for seconds.
    """
    entries = []
    for key, value in response.items():
        if not isinstance(value, list):
            entries.append(f"{json.dumps(key)}:{json.dumps(value)}")
            continue
        value.reverse()
        pieces = []
        while value:
            pieces.append(json.dumps(value.pop()))
        entries.append(f"{json.dumps(key)}:[{','.join(pieces)}]")
    return f"{{{','.join(entries)}}}"
