"""The application: routes behind the gate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from aifs_tune.errors import AifsTuneError
from aifs_tune.service import problems
from aifs_tune.service.context import AppContext
from aifs_tune.service.dashboard import Dashboard
from aifs_tune.service.idempotency import delete_old_responses
from aifs_tune.service.middleware import Access, AccessMiddleware
from aifs_tune.service.routes import charts, events, pages, read, session, write
from aifs_tune.service.routes import sweeps as sweeps_routes
from aifs_tune.service.schemas import responses
from aifs_tune.service.sessions import Sessions
from aifs_tune.service.sweep_processes import SweepProcesses
from aifs_tune.storage.storage import Storage


def routes(
    storage: Storage | None, ending: asyncio.Event | None = None, sweeps: SweepProcesses | None = None
) -> FastAPI:
    """All routes; None to describe them only. Streams end once ``ending`` is set; without ``sweeps`` none can be
    started."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if storage is None:
            raise RuntimeError("this application is to be described, not run")
        context = AppContext(storage)
        app.state.context, app.state.sweeps = context, sweeps
        streams = asyncio.create_task(_end_streams(context, ending or asyncio.Event()))
        try:
            yield
        finally:
            streams.cancel()
            await context.changes.close()
            context.close()

    app = FastAPI(
        title="aifs-tune",
        version="1",
        summary="Experiment design: studies, trials, ask and tell.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # these load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        exception_handlers={
            AifsTuneError: problems.on_error,
            RequestValidationError: problems.on_invalid,
            HTTPException: problems.on_http,
            Exception: problems.on_fault,
        },
    )
    bearer = Security(HTTPBearer(auto_error=False, description="A token that aifs-tune token create printed."))
    app.include_router(read.router, dependencies=[bearer])
    app.include_router(events.router, dependencies=[bearer])
    app.include_router(charts.router, dependencies=[bearer])
    app.include_router(session.router, dependencies=[bearer])
    app.include_router(write.router, dependencies=[bearer])
    app.include_router(sweeps_routes.router, dependencies=[bearer])
    app.include_router(pages.router)
    app.openapi_schema = _with_problems(app.openapi())
    return app


async def _end_streams(context: AppContext, ending: asyncio.Event) -> None:
    await ending.wait()
    context.changes.end()


def _with_problems(described: dict[str, Any]) -> dict[str, Any]:
    """The description, with what its errors look like."""
    template = "#/components/schemas/{model}"
    schema = responses.Problem.model_json_schema(ref_template=template)
    described["components"]["schemas"] |= {**schema.pop("$defs"), "Problem": schema}
    return described


def application(
    storage: Storage, access: Access, *, ending: asyncio.Event, sweeps: SweepProcesses | None = None
) -> ASGIApp:
    """The service of ``storage``, whose streams end once ``ending`` is set; without ``sweeps`` none can be started."""
    delete_old_responses(storage)
    app, sessions = routes(storage, ending, sweeps), Sessions(access.token_store)
    app.state.sessions = sessions
    Dashboard(storage).mount(app)
    return AccessMiddleware(app, access, sessions)
