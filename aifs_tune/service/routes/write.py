"""Routes that write. What they answer is on disk."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from pydantic import SkipValidation

from aifs_tune.errors import ConflictError, NotFoundError
from aifs_tune.service.context import (
    ContextDep,
    IdempotencyKey,
    ManageAccess,
    MeasureAccess,
    StrictRoute,
    error_responses,
    make_write_request,
)
from aifs_tune.service.idempotency import StoredResponse
from aifs_tune.service.routes.read import StudyName, TrialNumber
from aifs_tune.service.schemas import requests
from aifs_tune.service.schemas import responses as schemas
from aifs_tune.service.strict_json import encoded
from aifs_tune.storage.projects import stored_name
from aifs_tune.study.index import study_names
from aifs_tune.study.open import start_study
from aifs_tune.study.record import StudyRecord

router = APIRouter(prefix="/v1", route_class=StrictRoute)

WRITES = error_responses(404, 409, 413, 415)


@router.post(
    "/studies",
    status_code=201,
    response_model=schemas.StudyResponse,
    responses={200: {"model": schemas.StudyResponse, "description": "It was there"}, **error_responses(409, 413, 415)},
)
async def create_study(
    document: Annotated[requests.CreateStudyRequest, SkipValidation, Body()],
    project: ManageAccess,
    context: ContextDep,
    request: Request,
    key: IdempotencyKey = None,
) -> Response:
    """Start a study without a trainer, or open it if it asks the same question."""
    name, spec = await context.read(lambda: requests.spec_of(document))

    def start() -> StoredResponse:
        was_there = stored_name(project, name) in study_names(context.storage)
        try:
            study = start_study(context.storage, spec, name, project=project)
        except NotFoundError:
            raise ConflictError(f"the name {name!r} is taken by a study of another tool; choose another") from None
        except ConflictError:
            raise ConflictError(
                f"study {name!r} exists and asks another question; choose another name, or ask the same space, "
                "constraints and objectives"
            ) from None
        context.writer_studies.put(study)
        return StoredResponse(200 if was_there else 201, encoded(schemas.study_response(project, name, study)))

    answered = await context.write_new(make_write_request(project, request, key), name, start)
    answered.headers["Location"] = f"/v1/studies/{name}"
    return answered


@router.post("/studies/{study}/ask", status_code=201, response_model=schemas.AskResponse, responses=WRITES)
async def ask(
    study: StudyName,
    project: MeasureAccess,
    context: ContextDep,
    request: Request,
    body: Annotated[requests.AskRequest, Body()] = requests.ONE_TRIAL,
    key: IdempotencyKey = None,
) -> Response:
    """The next trials to run: those that wait, else configurations that are overdue, else new proposals, each made
    while those before it are pending. They are running when this answers."""
    labels = body.labels if body.label is None else [body.label, *body.labels]

    def hand_out(found: StudyRecord) -> dict[str, Any]:
        asked = found.ask_batch(body.n, labels=labels, owner=body.owner, lease_s=body.lease_s)
        return {"trials": [schemas.trial_response(trial) for trial in asked]}

    return await context.write(make_write_request(project, request, key), study, hand_out, status=201)


@router.post("/studies/{study}/enqueue", status_code=201, response_model=schemas.TrialResponse, responses=WRITES)
async def enqueue(
    study: StudyName,
    body: requests.EnqueueRequest,
    project: MeasureAccess,
    context: ContextDep,
    request: Request,
    key: IdempotencyKey = None,
) -> Response:
    """Add a waiting trial with these parameters; it is asked for before any new proposal."""
    asked = make_write_request(project, request, key)
    return await context.write(
        asked, study, lambda found: schemas.trial_response(found.enqueue(body.params)), status=201
    )


@router.post("/studies/{study}/attach", status_code=201, response_model=schemas.TrialResponse, responses=WRITES)
async def attach(
    study: StudyName,
    body: requests.AttachRequest,
    project: MeasureAccess,
    context: ContextDep,
    request: Request,
    key: IdempotencyKey = None,
) -> Response:
    """Store a result that was measured elsewhere, as a trial of its own."""
    return await context.write(
        make_write_request(project, request, key),
        study,
        lambda found: schemas.trial_response(found.attach(body.params, body.value, **_end(body))),
        status=201,
    )


@router.post("/studies/{study}/trials/{trial}/report", response_model=schemas.TrialResponse, responses=WRITES)
async def report(
    study: StudyName,
    trial: TrialNumber,
    body: requests.EpochReport,
    project: MeasureAccess,
    context: ContextDep,
    request: Request,
    key: IdempotencyKey = None,
) -> Response:
    """Store what a running trial measured at an epoch; the same epoch again replaces it."""
    return await context.write(
        make_write_request(project, request, key),
        study,
        lambda found: schemas.trial_response(
            found.report(trial, body.epoch, body.metrics, seconds=body.seconds, worker=body.worker)
        ),
    )


@router.post("/studies/{study}/trials/{trial}/tell", response_model=schemas.TrialResponse, responses=WRITES)
async def tell(
    study: StudyName,
    trial: TrialNumber,
    body: requests.TellRequest,
    project: MeasureAccess,
    context: ContextDep,
    request: Request,
    key: IdempotencyKey = None,
) -> Response:
    """Store the final result of a trial; the first one stands, and the same again changes nothing."""
    return await context.write(
        make_write_request(project, request, key),
        study,
        lambda found: schemas.trial_response(found.tell(trial, body.value, **_end(body))),
    )


@router.post("/studies/{study}/trials/{trial}/renew", response_model=schemas.TrialResponse, responses=WRITES)
async def renew(
    study: StudyName,
    trial: TrialNumber,
    project: MeasureAccess,
    context: ContextDep,
    request: Request,
    body: Annotated[requests.RenewRequest, Body()] = requests.AS_BEFORE,
    key: IdempotencyKey = None,
) -> Response:
    """Let the lease of a running trial begin anew; one that had none gets one."""
    return await context.write(
        make_write_request(project, request, key),
        study,
        lambda found: schemas.trial_response(found.renew(trial, body.lease_s)),
    )


@router.post("/studies/{study}/trials/{trial}/cancel", response_model=schemas.TrialResponse, responses=WRITES)
async def cancel(
    study: StudyName,
    trial: TrialNumber,
    project: MeasureAccess,
    context: ContextDep,
    request: Request,
    body: Annotated[requests.CancelRequest, Body()] = requests.CANCELLED,
    key: IdempotencyKey = None,
) -> Response:
    """Give up a trial that waits or runs: it is failed, with the reason."""
    return await context.write(
        make_write_request(project, request, key),
        study,
        lambda found: schemas.trial_response(found.tell(trial, state="failed", reason=body.reason)),
    )


def _end(body: requests.TellRequest) -> dict[str, Any]:
    return {"state": body.state, "reason": body.reason, "seconds": body.seconds}
