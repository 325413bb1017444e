"""Routes that start, stop and show sweeps. A request names a sweep file that the service offers, and brings none."""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from aifs_tune._util.models import StrictModel
from aifs_tune.errors import NotFoundError
from aifs_tune.service.context import (
    ContextDep,
    IdempotencyKey,
    ManageAccess,
    ReadAccess,
    StrictRoute,
    error_responses,
    make_write_request,
)
from aifs_tune.service.idempotency import StoredResponse
from aifs_tune.service.schemas import responses as schemas
from aifs_tune.service.strict_json import encoded
from aifs_tune.service.sweep_processes import SweepProcesses, SweepProcessState
from aifs_tune.storage.projects import STUDY_PATTERN

router = APIRouter(prefix="/v1", route_class=StrictRoute)

FileOrStudyName = Annotated[str, Field(pattern=STUDY_PATTERN)]
SweepId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]


class StartSweepRequest(StrictModel):
    """Which sweep file, and what to use instead of its values under ``search``."""

    sweep: Annotated[FileOrStudyName, Field(description="A sweep file that the service offers, without its ending.")]
    study: Annotated[
        FileOrStudyName | None, Field(description="A new one, or one that goes on; absent: named after the file.")
    ] = None
    trials: int | None = Field(default=None, ge=1, le=1_000_000)
    epochs: int | None = Field(default=None, ge=1, le=100_000)
    workers: int | None = Field(default=None, ge=1, le=10_000)
    seed: int | None = Field(default=None, ge=0, le=2**32 - 1)
    timeout_s: float | None = Field(default=None, gt=0, le=1e9)


class SweepFileResponse(BaseModel):
    """A sweep file; ``problem`` says why it cannot be run."""

    sweep: str
    description: str = ""
    objective: schemas.ObjectiveResponse | None = None
    trials: int | None = None
    epochs: int | None = None
    problem: str | None = None


class SweepResponse(BaseModel):
    """A sweep; ``asked`` is what the request gave instead of the file's values, ``exit_code`` that of its process."""

    id: str
    sweep: str
    study: str
    asked: dict[str, int | float]
    state: SweepProcessState
    exit_code: int | None
    started_at: str
    ended_at: str | None


class SweepWithLog(SweepResponse):
    """A sweep with the end of what it has said."""

    log: str


class SweepsResponse(BaseModel):
    """What can be started, and what was, the newest first; ``next`` is the ``after`` of the next page."""

    sweep_files: list[SweepFileResponse]
    sweeps: list[SweepResponse]
    next: str | None


def get_sweep_processes(request: Request) -> SweepProcesses:
    found: SweepProcesses | None = request.app.state.sweeps
    if found is None:
        raise NotFoundError("this service starts no sweeps: it was started without --sweeps")
    return found


SweepsDep = Annotated[SweepProcesses, Depends(get_sweep_processes)]


@router.get("/sweeps", response_model=SweepsResponse, responses=error_responses(404))
async def list_sweeps(
    project: ReadAccess,
    sweeps: SweepsDep,
    context: ContextDep,
    after: Annotated[
        str | None, Query(pattern=r"^[0-9a-f]{16}$", description="The id that the last page ended with.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """The sweep files that can be started, and the sweeps of a project, the newest first."""

    def page() -> bytes:
        listed, following = sweeps.page(project, after=after, limit=limit)
        return encoded({"sweep_files": sweeps.sweep_files(), "sweeps": listed, "next": following})

    return Response(await context.read(page), media_type="application/json")


@router.post("/sweeps", status_code=202, response_model=SweepResponse, responses=error_responses(404, 409, 413, 415))
async def start_sweep(
    body: StartSweepRequest,
    project: ManageAccess,
    sweeps: SweepsDep,
    context: ContextDep,
    request: Request,
    key: IdempotencyKey = None,
) -> Response:
    """Start a sweep from a file that the service offers. It goes on when the service ends."""
    options = body.model_dump(exclude={"sweep", "study"}, exclude_none=True)
    asked = make_write_request(project, request, key)
    told = await context.read(partial(sweeps.start, asked, body.sweep, body.study, options))
    return _answered(told, {"Location": f"/v1/sweeps/{json.loads(told.body)['id']}"})


@router.get("/sweeps/{sweep}", response_model=SweepWithLog, responses=error_responses(404))
async def get_sweep(sweep: SweepId, project: ReadAccess, sweeps: SweepsDep, context: ContextDep) -> Response:
    """One sweep: its study, its state, and the end of what it has said."""
    return Response(encoded(await context.read(partial(sweeps.sweep, project, sweep))), media_type="application/json")


@router.post(
    "/sweeps/{sweep}/stop", status_code=202, response_model=SweepResponse, responses=error_responses(404, 409, 413, 415)
)
async def stop_sweep(
    sweep: SweepId,
    project: ManageAccess,
    sweeps: SweepsDep,
    context: ContextDep,
    request: Request,
    key: IdempotencyKey = None,
) -> Response:
    """Ask a sweep to end, as Ctrl-C does: trials in flight can go on later. One that is over stays as it is."""
    asked = make_write_request(project, request, key)
    return _answered(await context.read(partial(sweeps.stop, asked, sweep)), {})


def _answered(told: StoredResponse, headers: dict[str, str]) -> Response:
    return Response(told.body, told.status, media_type="application/json", headers=headers)
