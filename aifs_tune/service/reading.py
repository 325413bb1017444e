"""Routes that read."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from fastapi import APIRouter, Path, Query, Request, Response

from aifs_tune.projects import STUDY_PATTERN
from aifs_tune.service import shapes
from aifs_tune.service.desk import OpenDesk, Reading, StrictRoute, problems, with_tag
from aifs_tune.service.strict_json import encoded
from aifs_tune.study import Study
from aifs_tune.table import table_bytes, trials_table
from aifs_tune.trial import State, selected

LARGEST_NUMBER = 2**31 - 1

Format: TypeAlias = Literal["json", "csv", "parquet"]
_MEDIA: dict[Format, str] = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
_TABLES = {
    _MEDIA["csv"]: {"schema": {"type": "string"}},
    _MEDIA["parquet"]: {"schema": {"type": "string", "format": "binary"}},
}

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
    study: StudyName,
    project: Reading,
    desk: OpenDesk,
    request: Request,
    top: Annotated[int, Query(ge=1, le=1000)] = 1,
) -> Response:
    """The best complete trials, the best first; 404 while there is none. With an ETag."""
    answer = await desk.read_study(project, study, lambda found: shapes.ranked_answer(study, found, top))
    return with_tag(request, answer)


@router.get("/studies/{study}/advice", response_model=shapes.AdviceAnswer, responses=problems(404))
async def get_advice(study: StudyName, project: Reading, desk: OpenDesk) -> Response:
    """Which configuration to take, and whether the expected gain of measuring on is below the measured noise."""
    answer = await desk.read_study(project, study, lambda found: found.advice().to_json())
    return Response(encoded(answer), media_type="application/json")


@router.get(
    "/studies/{study}/trials",
    response_model=shapes.TrialsAnswer,
    responses={200: {"content": _TABLES}, **problems(404)},
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
    overdue: Annotated[bool, Query(description="Only running trials whose lease has run out.")] = False,
    owner: Annotated[str | None, Query(max_length=200, description="Only trials that this one has.")] = None,
    label: Annotated[str | None, Query(max_length=200, description="Only of this sample.")] = None,
    output: Annotated[Format | None, Query(alias="format", description="Absent: as Accept says.")] = None,
) -> Response:
    """Trials by number, as JSON, CSV or Parquet. ``Link`` with ``rel="next"`` leads to the next page."""
    accepted = request.headers.get("accept", "")
    by_accept: Format = next((name for name, media in _MEDIA.items() if media in accepted), "json")
    wanted = output or by_accept

    def page(found: Study) -> tuple[bytes, int | None]:
        kept = selected(found.all_trials(), state=state, is_overdue=overdue, owner=owner, label=label)
        listed = [t for t in kept if t.number > after]
        following = listed[limit - 1].number if len(listed) > limit else None
        shown = listed[:limit]
        if wanted == "csv" or wanted == "parquet":
            return table_bytes(trials_table(shown, list(found.spec.space.root)), wanted), following
        return encoded({"trials": [shapes.trial_answer(trial) for trial in shown], "next": following}), following

    body, following = await desk.read_study(project, study, page)
    headers = {"Vary": "Accept"}
    if following is not None:
        headers["Link"] = f'<{request.url.include_query_params(after=following)}>; rel="next"'
    return Response(body, media_type=_MEDIA.get(wanted, "application/json"), headers=headers)


@router.get("/studies/{study}/trials/{trial}", response_model=shapes.TrialWithCurve, responses=problems(404))
async def get_trial(
    study: StudyName, trial: TrialNumber, project: Reading, desk: OpenDesk, request: Request
) -> Response:
    """One trial with all that it reported. With an ETag."""
    return with_tag(request, await desk.read_study(project, study, lambda found: shapes.curve_answer(found, trial)))
