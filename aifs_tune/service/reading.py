"""Routes that read."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from aifs_tune.projects import STUDY_PATTERN
from aifs_tune.service import shapes
from aifs_tune.service.desk import OpenDesk, Reading, StrictRoute, problems, with_tag
from aifs_tune.service.strict_json import encoded
from aifs_tune.study import Study
from aifs_tune.table import trials_table
from aifs_tune.trial import State, Trial

LARGEST_NUMBER = 2**31 - 1

router = APIRouter(prefix="/v1", route_class=StrictRoute)

StudyName = Annotated[str, Path(pattern=STUDY_PATTERN)]
TrialNumber = Annotated[int, Path(ge=0, le=LARGEST_NUMBER)]


@router.get("/studies", response_model=shapes.StudiesAnswer, responses=problems())
async def list_studies(
    project: Reading,
    desk: OpenDesk,
    after: Annotated[str, Query(max_length=100, description="The name that the last page ended with.")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """The studies of a project by name."""

    def page() -> bytes:
        found, more = desk.shelf.page(project, after=after, limit=limit)
        lines = [shapes.line_answer(name, study) for name, study in found]
        return encoded({"studies": lines, "next": found[-1][0] if more else None})

    return Response(await desk.read(page), media_type="application/json")


@router.get("/studies/{study}", response_model=shapes.StudyAnswer, responses=problems(404))
async def get_study(study: StudyName, project: Reading, desk: OpenDesk, request: Request) -> Response:
    """One study: its question, how far it is, its best trial. With an ETag."""
    answer = await desk.read_study(project, study, lambda found: shapes.study_answer(project, study, found))
    return with_tag(request, answer)


@router.get("/studies/{study}/best", response_model=shapes.BestAnswer, responses=problems(404))
async def get_best(
    study: StudyName, project: Reading, desk: OpenDesk, top: Annotated[int, Query(ge=1, le=1000)] = 1
) -> Response:
    """The best complete trials, the best first; 404 while there is none."""
    answer = await desk.read_study(project, study, lambda found: shapes.ranked_answer(study, found, top))
    return Response(encoded(answer), media_type="application/json")


@router.get("/studies/{study}/advice", response_model=shapes.AdviceAnswer, responses=problems(404))
async def get_advice(study: StudyName, project: Reading, desk: OpenDesk) -> Response:
    """Which configuration to take, and whether the expected gain of measuring on is below the measured noise."""
    answer = await desk.read_study(project, study, lambda found: found.advice().to_json())
    return Response(encoded(answer), media_type="application/json")


@router.get(
    "/studies/{study}/trials",
    response_model=shapes.TrialsAnswer,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}, **problems(404)},
)
async def list_trials(
    study: StudyName,
    project: Reading,
    desk: OpenDesk,
    request: Request,
    after: Annotated[
        int, Query(ge=-1, le=LARGEST_NUMBER, description="The number that the last page ended with.")
    ] = -1,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    state: Annotated[State | None, Query(description="Only trials in this state.")] = None,
    output: Annotated[
        Literal["json", "csv"] | None, Query(alias="format", description="Absent: as Accept says.")
    ] = None,
) -> Response:
    """Trials by number, as JSON or CSV. ``Link`` with ``rel="next"`` leads to the next page."""
    wants_csv = output == "csv" or (output is None and "text/csv" in request.headers.get("accept", ""))

    def page(found: Study) -> tuple[bytes, int | None]:
        listed = [t for t in found.all_trials() if t.number > after and state in (None, t.state)]
        following = listed[limit - 1].number if len(listed) > limit else None
        shown = listed[:limit]
        if wants_csv:
            return _csv(shown, found), following
        return encoded({"trials": [shapes.trial_answer(trial) for trial in shown], "next": following}), following

    body, following = await desk.read_study(project, study, page)
    headers = {"Vary": "Accept"}
    if following is not None:
        headers["Link"] = f'<{request.url.include_query_params(after=following)}>; rel="next"'
    return Response(body, media_type="text/csv" if wants_csv else "application/json", headers=headers)


@router.get("/studies/{study}/trials/{trial}", response_model=shapes.TrialWithCurve, responses=problems(404))
async def get_trial(
    study: StudyName, trial: TrialNumber, project: Reading, desk: OpenDesk, request: Request
) -> Response:
    """One trial with all that it reported. With an ETag."""
    return with_tag(request, await desk.read_study(project, study, lambda found: shapes.curve_answer(found, trial)))


def _csv(trials: list[Trial], study: Study) -> bytes:
    return trials_table(trials, list(study.spec.space.root)).to_csv(index=False).encode()
