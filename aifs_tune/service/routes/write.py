"""Routes that write studies and trials, and respond once the result is on disk."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from pydantic import SkipValidation

from aifs_tune.errors import ConflictError, NotFoundError, RequestError
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
from aifs_tune.study.manage import remove_files
from aifs_tune.study.open import start_study
from aifs_tune.study.record import StudyRecord

router = APIRouter(prefix="/v1", route_class=StrictRoute)

WRITES = error_responses(404, 409, 413, 415)


@router.post(
    "/studies",
    status_code=201,
    response_model=schemas.StudyResponse,
    responses={
        200: {"model": schemas.StudyResponse, "description": "The study exists already"},
        **error_responses(409, 413, 415),
    },
)
async def create_study(
    document: Annotated[requests.CreateStudyRequest, SkipValidation, Body()],
    project: ManageAccess,
    context: ContextDep,
    request: Request,
    key: IdempotencyKey = None,
) -> Response:
    """Create a study without a trainer, or open it if it exists with the same space, constraints and objectives."""
    name, spec = await context.check(lambda: requests.spec_of(document))

    def start() -> StoredResponse:
        is_known = stored_name(project, name) in study_names(context.storage)
        try:
            study = start_study(context.storage, spec, name, project=project)
        except NotFoundError:
            raise ConflictError(f"study {name!r} was made by another tool; choose another name") from None
        except ConflictError:
            raise ConflictError(
                f"study {name!r} exists with a different space, constraints or objectives; choose another name, or "
                "send the same ones"
            ) from None
        context.writer_studies.put(study)
        content = encoded(schemas.study_response(project, name, study))
        return StoredResponse(200 if is_known else 201, content, study=name)

    response = await context.write_new(make_write_request(project, request, key), name, start)
    response.headers["Location"] = f"/v1/studies/{name}"
    return response


@router.post("/studies/{study}/archive", response_model=schemas.StudyResponse, responses=WRITES)
async def archive_study(
    study: StudyName,
    project: ManageAccess,
    context: ContextDep,
    request: Request,
    body: Annotated[requests.ArchiveRequest, Body()] = requests.ASIDE,
    key: IdempotencyKey = None,
) -> Response:
    """Put a study aside, or take it back with ``is_archived`` false. It works as before."""

    def archive(found: StudyRecord) -> dict[str, Any]:
        found.set_archived(body.is_archived)
        return schemas.study_response(project, study, found)

    return await context.write(make_write_request(project, request, key), study, archive)


@router.post("/studies/{study}/delete", response_model=schemas.DeletedResponse, responses=WRITES)
async def delete_study(
    study: StudyName,
    body: requests.DeleteRequest,
    project: ManageAccess,
    context: ContextDep,
    request: Request,
    key: IdempotencyKey = None,
) -> Response:
    """Delete a study with all its trials, checkpoints, weights and logs. It cannot be undone. The body repeats the name
    of the study."""
    deleted: list[StudyRecord] = []

    def delete() -> StoredResponse:
        found = context.writer_studies.study(project, study)
        if body.study != study:
            raise RequestError(f"study: {body.study!r} is not the study to delete; allowed: {study!r}")
        n_trials = len(found.all_trials())
        found.delete_record()
        context.writer_studies.drop(found)
        deleted.append(found)
        return StoredResponse(200, encoded({"study": study, "n_trials": n_trials}))

    response = await context.write_new(make_write_request(project, request, key), study, delete)
    for found in deleted:
        await context.read(partial(context.publisher.drop, found))  # not in the transaction, for which it may wait
        await context.read(partial(remove_files, found.artifacts))
    return response


@router.post("/studies/{study}/ask", status_code=201, response_model=schemas.AskResponse, responses=WRITES)
async def ask(
    study: StudyName,
    project: MeasureAccess,
    context: ContextDep,
    request: Request,
    body: Annotated[requests.AskRequest, Body()] = requests.ONE_TRIAL,
    key: IdempotencyKey = None,
) -> Response:
    """Get the next trials to run: waiting ones, then configurations whose lease has expired, then new proposals.

    Each proposal takes the trials before it into account as pending. The trials are in state running once the response
    is sent.
    """
    labels = body.labels if body.label is None else [body.label, *body.labels]

    def ask_trials(found: StudyRecord) -> dict[str, Any]:
        trials = found.ask_batch(body.n, labels=labels, owner=body.owner, lease_s=body.lease_s)
        return {"trials": [schemas.trial_response(trial) for trial in trials]}

    return await context.write(make_write_request(project, request, key), study, ask_trials, status=201)


@router.post("/studies/{study}/enqueue", status_code=201, response_model=schemas.TrialResponse, responses=WRITES)
async def enqueue(
    study: StudyName,
    body: requests.EnqueueRequest,
    project: MeasureAccess,
    context: ContextDep,
    request: Request,
    key: IdempotencyKey = None,
) -> Response:
    """Add a waiting trial with these parameters; it is run before any new proposal."""
    return await context.write(
        make_write_request(project, request, key),
        study,
        lambda found: schemas.trial_response(found.enqueue(body.params)),
        status=201,
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
    """Add a result that was measured elsewhere, as a new trial."""
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
    """Store the metrics of a running trial at an epoch; a second report of the same epoch replaces the first."""
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
    """Store the final result of a trial. It cannot be changed; the same result again has no effect."""
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
    """Extend the lease of a running trial, from now on. A trial without a lease gets one."""
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
    """Cancel a waiting or running trial: its state becomes failed, with the reason."""
    return await context.write(
        make_write_request(project, request, key),
        study,
        lambda found: schemas.trial_response(found.cancel(trial, body.reason)),
    )


@router.post("/studies/{study}/note", response_model=schemas.NotesResponse, responses=WRITES)
async def note_study(
    study: StudyName,
    body: requests.NoteRequest,
    project: MeasureAccess,
    context: ContextDep,
    request: Request,
    key: IdempotencyKey = None,
) -> Response:
    """Note something of a study, in place of an earlier note; an empty text removes it."""
    return await context.write(make_write_request(project, request, key), study, lambda found: _noted(found, body.text))


@router.post("/studies/{study}/trials/{trial}/note", response_model=schemas.NotesResponse, responses=WRITES)
async def note_trial(
    study: StudyName,
    trial: TrialNumber,
    body: requests.NoteRequest,
    project: MeasureAccess,
    context: ContextDep,
    request: Request,
    key: IdempotencyKey = None,
) -> Response:
    """Note something of a trial, in place of an earlier note; an empty text removes it."""
    return await context.write(
        make_write_request(project, request, key), study, lambda found: _noted(found, body.text, trial)
    )


def _noted(study: StudyRecord, text: str, trial: int | None = None) -> dict[str, Any]:
    study.set_note(text, trial)
    return schemas.notes_response(study)


def _end(body: requests.TellRequest) -> dict[str, Any]:
    return {"state": body.state, "reason": body.reason, "seconds": body.seconds}
