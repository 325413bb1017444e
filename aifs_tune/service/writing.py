"""Routes that write. What they answer is on disk."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from pydantic import SkipValidation

from aifs_tune.errors import ConflictError, NotFoundError
from aifs_tune.projects import stored_name
from aifs_tune.service import bodies, shapes
from aifs_tune.service.desk import Key, Managing, Measuring, OpenDesk, StrictRoute, asked_of, problems
from aifs_tune.service.once import Answer
from aifs_tune.service.reading import StudyName, TrialNumber
from aifs_tune.service.strict_json import encoded
from aifs_tune.studies import start_study, study_names
from aifs_tune.study import Study

router = APIRouter(prefix="/v1", route_class=StrictRoute)

WRITES = problems(404, 409, 413, 415)


@router.post(
    "/studies",
    status_code=201,
    response_model=shapes.StudyAnswer,
    responses={200: {"model": shapes.StudyAnswer, "description": "It was there"}, **problems(409, 413, 415)},
)
async def create_study(
    document: Annotated[bodies.NewStudy, SkipValidation, Body()],
    project: Managing,
    desk: OpenDesk,
    request: Request,
    key: Key = None,
) -> Response:
    """Start a study without a trainer, or open it if it asks the same question."""
    name, spec = await desk.read(lambda: bodies.spec_of(document))

    def start() -> Answer:
        was_there = stored_name(project, name) in study_names(desk.storage)
        try:
            study = start_study(desk.storage, spec, name, project=project)
        except NotFoundError:
            raise ConflictError(f"the name {name!r} is taken by a study of another tool; choose another") from None
        except ConflictError:
            raise ConflictError(
                f"study {name!r} exists and asks another question; choose another name, or ask the same space, "
                "constraints and objectives"
            ) from None
        desk.writers_shelf.put(study)
        return Answer(200 if was_there else 201, encoded(shapes.study_answer(project, name, study)))

    answered = await desk.write_new(asked_of(project, request, key), name, start)
    answered.headers["Location"] = f"/v1/studies/{name}"
    return answered


@router.post("/studies/{study}/ask", status_code=201, response_model=shapes.AskedAnswer, responses=WRITES)
async def ask(
    study: StudyName,
    project: Measuring,
    desk: OpenDesk,
    request: Request,
    body: Annotated[bodies.Ask, Body()] = bodies.ONE_TRIAL,
    key: Key = None,
) -> Response:
    """The next trials to run: those that wait, else configurations that are overdue, else new proposals, each made
    while those before it are pending. They are running when this answers."""
    labels = body.labels if body.label is None else [body.label, *body.labels]

    def hand_out(found: Study) -> dict[str, Any]:
        asked = found.ask_batch(body.n, labels=labels, owner=body.owner, lease_s=body.lease_s)
        return {"trials": [shapes.trial_answer(trial) for trial in asked]}

    return await desk.write(asked_of(project, request, key), study, hand_out, status=201)


@router.post("/studies/{study}/enqueue", status_code=201, response_model=shapes.TrialAnswer, responses=WRITES)
async def enqueue(
    study: StudyName,
    body: bodies.Enqueue,
    project: Measuring,
    desk: OpenDesk,
    request: Request,
    key: Key = None,
) -> Response:
    """Add a waiting trial with these parameters; it is asked for before any new proposal."""
    asked = asked_of(project, request, key)
    return await desk.write(asked, study, lambda found: shapes.trial_answer(found.enqueue(body.params)), status=201)


@router.post("/studies/{study}/attach", status_code=201, response_model=shapes.TrialAnswer, responses=WRITES)
async def attach(
    study: StudyName,
    body: bodies.Attach,
    project: Measuring,
    desk: OpenDesk,
    request: Request,
    key: Key = None,
) -> Response:
    """Store a result that was measured elsewhere, as a trial of its own."""
    return await desk.write(
        asked_of(project, request, key),
        study,
        lambda found: shapes.trial_answer(found.attach(body.params, body.value, **_end(body))),
        status=201,
    )


@router.post("/studies/{study}/trials/{trial}/report", response_model=shapes.TrialAnswer, responses=WRITES)
async def report(
    study: StudyName,
    trial: TrialNumber,
    body: bodies.Report,
    project: Measuring,
    desk: OpenDesk,
    request: Request,
    key: Key = None,
) -> Response:
    """Store what a running trial measured at an epoch; the same epoch again replaces it."""
    return await desk.write(
        asked_of(project, request, key),
        study,
        lambda found: shapes.trial_answer(
            found.report(trial, body.epoch, body.metrics, seconds=body.seconds, worker=body.worker)
        ),
    )


@router.post("/studies/{study}/trials/{trial}/tell", response_model=shapes.TrialAnswer, responses=WRITES)
async def tell(
    study: StudyName,
    trial: TrialNumber,
    body: bodies.Tell,
    project: Measuring,
    desk: OpenDesk,
    request: Request,
    key: Key = None,
) -> Response:
    """Store the final result of a trial; the first one stands, and the same again changes nothing."""
    return await desk.write(
        asked_of(project, request, key),
        study,
        lambda found: shapes.trial_answer(found.tell(trial, body.value, **_end(body))),
    )


@router.post("/studies/{study}/trials/{trial}/renew", response_model=shapes.TrialAnswer, responses=WRITES)
async def renew(
    study: StudyName,
    trial: TrialNumber,
    project: Measuring,
    desk: OpenDesk,
    request: Request,
    body: Annotated[bodies.Renew, Body()] = bodies.AS_BEFORE,
    key: Key = None,
) -> Response:
    """Let the lease of a running trial begin anew; one that had none gets one."""
    return await desk.write(
        asked_of(project, request, key), study, lambda found: shapes.trial_answer(found.renew(trial, body.lease_s))
    )


@router.post("/studies/{study}/trials/{trial}/cancel", response_model=shapes.TrialAnswer, responses=WRITES)
async def cancel(
    study: StudyName,
    trial: TrialNumber,
    project: Measuring,
    desk: OpenDesk,
    request: Request,
    body: Annotated[bodies.Cancel, Body()] = bodies.CANCELLED,
    key: Key = None,
) -> Response:
    """Give up a trial that waits or runs: it is failed, with the reason."""
    return await desk.write(
        asked_of(project, request, key),
        study,
        lambda found: shapes.trial_answer(found.tell(trial, state="failed", reason=body.reason)),
    )


def _end(body: bodies.Tell) -> dict[str, Any]:
    return {"state": body.state, "reason": body.reason, "seconds": body.seconds}
