"""FastAPI application of the service: its routes, its OpenAPI description and its middleware."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

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
from aifs_tune.service.middleware import Access, add_middleware
from aifs_tune.service.routes import (
    audit,
    charts,
    comparison,
    events,
    pages,
    publications,
    read,
    session,
    sign_in,
    trial_files,
    write,
)
from aifs_tune.service.routes import sweeps as sweeps_routes
from aifs_tune.service.schemas import responses
from aifs_tune.service.sessions import Sessions
from aifs_tune.service.sweep_processes import SweepProcesses
from aifs_tune.storage.storage import Storage

if TYPE_CHECKING:
    from aifs_tune.service.openid import OpenId


def routes(
    storage: Storage | None, shutdown: asyncio.Event | None = None, sweeps: SweepProcesses | None = None
) -> FastAPI:
    """Build the application without its middleware.

    Parameters
    ----------
    storage
        The studies; None for an application that can be described but not run.
    shutdown
        Ends event streams once it is set.
    sweeps
        Starts sweeps; None if requests cannot start any.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if storage is None:
            raise RuntimeError("an application without a storage can be described but not run")
        context = AppContext(storage)
        app.state.context, app.state.sweeps = context, sweeps
        streams = asyncio.create_task(_end_streams(context, shutdown or asyncio.Event()))
        try:
            yield
        finally:
            streams.cancel()
            await context.changes.close()
            context.close()

    app = FastAPI(
        title="aifs-tune",
        version="1",
        summary="Hyperparameter tuning and experiment design: studies, trials, ask and tell.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # these pages load scripts from other sites
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
    bearer = Security(HTTPBearer(auto_error=False, description="A token printed by `aifs-tune token create`."))
    app.include_router(read.router, dependencies=[bearer])
    app.include_router(events.router, dependencies=[bearer])
    app.include_router(charts.router, dependencies=[bearer])
    app.include_router(comparison.router, dependencies=[bearer])
    app.include_router(publications.router, dependencies=[bearer])
    app.include_router(session.router, dependencies=[bearer])
    app.include_router(write.router, dependencies=[bearer])
    app.include_router(trial_files.router, dependencies=[bearer])
    app.include_router(sweeps_routes.router, dependencies=[bearer])
    app.include_router(audit.router, dependencies=[bearer])
    app.include_router(sign_in.router)
    app.include_router(pages.router)
    app.openapi_schema = _with_problems(app.openapi())
    return app


async def _end_streams(context: AppContext, shutdown: asyncio.Event) -> None:
    await shutdown.wait()
    context.changes.end()


def _with_problems(openapi: dict[str, Any]) -> dict[str, Any]:
    """Add the schema of error responses to the OpenAPI description."""
    template = "#/components/schemas/{model}"
    schema = responses.Problem.model_json_schema(ref_template=template)
    openapi["components"]["schemas"] |= {**schema.pop("$defs"), "Problem": schema}
    return openapi


def application(
    storage: Storage,
    access: Access,
    *,
    shutdown: asyncio.Event,
    sweeps: SweepProcesses | None = None,
    openid: OpenId | None = None,
) -> ASGIApp:
    """Build the whole service with its middleware; see :func:`routes` for the parameters.

    ``openid`` signs in people with the accounts of a provider.
    """
    delete_old_responses(storage)
    app, sessions = routes(storage, shutdown, sweeps), Sessions(access.token_store)
    app.state.sessions, app.state.openid = sessions, openid
    Dashboard(storage).mount(app)
    return add_middleware(app, access, sessions)
