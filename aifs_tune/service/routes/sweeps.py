"""Routes that start, stop and show sweeps; a request names a sweep file of the service and cannot send one."""

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
    """Name of a sweep file, and values that override those under ``search``."""

    sweep: Annotated[FileOrStudyName, Field(description="Name of a sweep file of the service, without its suffix.")]
    study: Annotated[
        FileOrStudyName | None,
        Field(description="Name of a new study, or of one to continue. Default: the name in the file."),
    ] = None
    trials: int | None = Field(default=None, ge=1, le=1_000_000)
    epochs: int | None = Field(default=None, ge=1, le=100_000)
    workers: int | None = Field(default=None, ge=1, le=10_000)
    seed: int | None = Field(default=None, ge=0, le=2**32 - 1)
    timeout_s: float | None = Field(default=None, gt=0, le=1e9)


class SweepFileResponse(BaseModel):
    """Sweep file; ``problem`` says why it cannot be run."""

    sweep: str
    description: str = ""
    objective: schemas.ObjectiveResponse | None = None
    trials: int | None = None
    epochs: int | None = None
    problem: str | None = None


class SweepResponse(BaseModel):
    """Sweep; ``overrides`` are the values given in place of the file's, ``exit_code`` is that of its process."""

    id: str
    sweep: str
    study: str
    overrides: dict[str, int | float]
    state: SweepProcessState
    exit_code: int | None
    started_at: str
    ended_at: str | None


class SweepWithLog(SweepResponse):
    """Sweep with the end of its log."""

    log: str


class SweepsResponse(BaseModel):
    """Available sweep files, and started sweeps, the newest first; ``next`` is the ``after`` of the next page."""

    sweep_files: list[SweepFileResponse]
    sweeps: list[SweepResponse]
    next: str | None


def get_sweep_processes(request: Request) -> SweepProcesses:
    """Return the object that starts sweeps; 404 if the service does not start any."""
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
        str | None, Query(pattern=r"^[0-9a-f]{16}$", description="The last id of the previous page.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Available sweep files, and the sweeps of a project, the newest first."""

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
    """Start a sweep from a sweep file of the service. It continues if the service ends."""
    overrides = body.model_dump(exclude={"sweep", "study"}, exclude_none=True)
    write_request = make_write_request(project, request, key)
    stored = await context.read(partial(sweeps.start, write_request, body.sweep, body.study, overrides))
    return _response(stored, {"Location": f"/v1/sweeps/{json.loads(stored.body)['id']}"})


@router.get("/sweeps/{sweep}", response_model=SweepWithLog, responses=error_responses(404))
async def get_sweep(sweep: SweepId, project: ReadAccess, sweeps: SweepsDep, context: ContextDep) -> Response:
    """One sweep: its study, its state, and the end of its log."""
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
    """Stop a sweep as Ctrl-C does; running trials can be resumed. A sweep that has ended is left as it is."""
    write_request = make_write_request(project, request, key)
    return _response(await context.read(partial(sweeps.stop, write_request, sweep)), {})


def _response(stored: StoredResponse, headers: dict[str, str]) -> Response:
    return Response(stored.body, stored.status, media_type="application/json", headers=headers)
