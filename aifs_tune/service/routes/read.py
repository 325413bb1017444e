"""Routes that read studies, trials and recommendations."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Path, Query, Request, Response

from aifs_tune.artifacts.logs import read_log
from aifs_tune.errors import RequestError
from aifs_tune.service import qr_code
from aifs_tune.service.context import ContextDep, ReadAccess, StrictRoute, error_responses, with_etag
from aifs_tune.service.schemas import responses as schemas
from aifs_tune.service.schemas.trials_query import MAX_TRIAL_NUMBER, TrialsFormat, TrialsQuery
from aifs_tune.service.strict_json import encoded
from aifs_tune.service.trial_list import selected_trials
from aifs_tune.storage.projects import DEFAULT_PROJECT, STUDY_PATTERN
from aifs_tune.study.dataframe import table_bytes, trials_table
from aifs_tune.study.record import StudyRecord

_MEDIA: dict[TrialsFormat, str] = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
_TABLES = {
    _MEDIA["csv"]: {"schema": {"type": "string"}},
    _MEDIA["parquet"]: {"schema": {"type": "string", "format": "binary"}},
}

router = APIRouter(prefix="/v1", route_class=StrictRoute)

StudyName = Annotated[str, Path(pattern=STUDY_PATTERN)]
TrialNumber = Annotated[int, Path(ge=0, le=MAX_TRIAL_NUMBER)]


@router.get("/studies", response_model=schemas.StudiesResponse, responses=error_responses())
async def list_studies(
    project: ReadAccess,
    context: ContextDep,
    after: Annotated[str, Query(max_length=100, description="The last name of the previous page.")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Studies of a project, by name, with the results of their confirmations."""

    def page() -> bytes:
        return encoded(context.study_list.page(project, after=after, limit=limit))

    return Response(await context.read(page), media_type="application/json")


@router.get("/studies/{study}", response_model=schemas.StudyResponse, responses=error_responses(404))
async def get_study(study: StudyName, project: ReadAccess, context: ContextDep, request: Request) -> Response:
    """One study: its search space, objectives, progress and best trial. The response has an ETag."""
    content = await context.read_study(project, study, lambda found: schemas.study_response(project, study, found))
    return with_etag(request, content)


@router.get("/studies/{study}/best", response_model=schemas.BestResponse, responses=error_responses(404))
async def get_best(
    study: StudyName,
    project: ReadAccess,
    context: ContextDep,
    request: Request,
    top: Annotated[int, Query(ge=1, le=1000)] = 1,
) -> Response:
    """The best complete trials, the best first; status 404 while there is none. The response has an ETag."""
    content = await context.read_study(project, study, lambda found: schemas.best_response(study, found, top))
    return with_etag(request, content)


@router.get(
    "/studies/{study}/recommendation", response_model=schemas.RecommendationResponse, responses=error_responses(404)
)
async def get_recommendation(study: StudyName, project: ReadAccess, context: ContextDep) -> Response:
    """Recommended configuration, and whether the expected gain of more trials is below the measured noise."""
    content = await context.read_study(project, study, lambda found: found.recommendation().to_json())
    return Response(encoded(content), media_type="application/json")


@router.get("/studies/{study}/verdict", response_model=schemas.VerdictResponse, responses=error_responses(404))
async def get_verdict(study: StudyName, project: ReadAccess, context: ContextDep, request: Request) -> Response:
    """Whether the result of a study is confirmed and by how much, its noise, and what to do next. The response has an
    ETag."""

    def judge(found: StudyRecord) -> dict[str, object]:
        from aifs_tune.publishing.verdict import verdict_summary  # loads pandas, which few requests need

        return {"study": study, **verdict_summary(found)}

    return with_etag(request, await context.read_study(project, study, judge))


@router.get(
    "/studies/{study}/trials",
    response_model=schemas.TrialsResponse,
    responses={200: {"content": _TABLES}, **error_responses(404)},
)
async def list_trials(
    study: StudyName,
    project: ReadAccess,
    context: ContextDep,
    request: Request,
    query: Annotated[TrialsQuery, Query()],
) -> Response:
    """Trials by number or in the order of a column, as JSON, CSV or Parquet. The header ``Link`` with ``rel="next"``
    has the next page."""
    accepted = request.headers.get("accept", "")
    by_accept: TrialsFormat = next((name for name, media in _MEDIA.items() if media in accepted), "json")
    wanted = query.format or by_accept
    is_by_number = query.sort == "trial" and not query.offset
    if query.after >= 0 and not is_by_number:
        raise RequestError(f"after: {query.after} goes with the order by number; allowed here: offset")

    def page(found: StudyRecord) -> tuple[bytes, int | None]:
        kept = selected_trials(found, query)
        listed = kept[query.offset :] if query.after < 0 else [t for t in kept if t.number > query.after]
        shown, following = listed[: query.limit], None
        if len(listed) > query.limit:
            following = shown[-1].number if is_by_number else query.offset + query.limit
        if wanted == "csv" or wanted == "parquet":
            return table_bytes(trials_table(shown, list(found.spec.space.root), found.trial_notes), wanted), following
        responses = [schemas.trial_response(trial) for trial in shown]
        return encoded({"trials": responses, "next": following, "n_trials": len(kept)}), following

    body, following = await context.read_study(project, study, page)
    headers = {"Vary": "Accept"}
    if following is not None:
        url = request.url.include_query_params(**{"after" if is_by_number else "offset": following})
        headers["Link"] = f'<{url}>; rel="next"'
    return Response(body, media_type=_MEDIA.get(wanted, "application/json"), headers=headers)


@router.get("/studies/{study}/trials/{trial}", response_model=schemas.TrialWithCurve, responses=error_responses(404))
async def get_trial(
    study: StudyName, trial: TrialNumber, project: ReadAccess, context: ContextDep, request: Request
) -> Response:
    """One trial with all epochs that it reported. The response has an ETag."""
    return with_etag(
        request, await context.read_study(project, study, lambda found: schemas.trial_with_curve_response(found, trial))
    )


@router.get("/studies/{study}/notes", response_model=schemas.NotesResponse, responses=error_responses(404))
async def get_notes(study: StudyName, project: ReadAccess, context: ContextDep, request: Request) -> Response:
    """What people noted of a study and of its trials. The response has an ETag."""
    return with_etag(request, await context.read_study(project, study, schemas.notes_response))


@router.get("/studies/{study}/trials/{trial}/log", response_model=schemas.LogResponse, responses=error_responses(404))
async def get_log(
    study: StudyName, trial: TrialNumber, project: ReadAccess, context: ContextDep, request: Request
) -> Response:
    """What a trial printed, logged and warned, with the tracebacks of its errors: the last 64 kB. The response has an
    ETag."""
    log = await context.read_study(project, study, lambda found: read_log(found, trial))
    return with_etag(request, {"trial": trial, "log": log})


@router.get(
    "/studies/{study}/trials/{trial}/qr",
    response_class=Response,
    responses={200: {"content": {"image/svg+xml": {"schema": {"type": "string"}}}}, **error_responses(404)},
)
async def get_qr_code(
    study: StudyName,
    trial: TrialNumber,
    project: ReadAccess,
    context: ContextDep,
    request: Request,
    scheme: Annotated[Literal["http", "https"], Query(description="That of the service's public address.")] = "http",
) -> Response:
    """QR code with the address of the page on which the result of a trial is entered, as SVG."""
    await context.read_study(project, study, lambda found: found.trial(trial))
    query = {"trial": trial, **({} if project == DEFAULT_PROJECT else {"project": project})}
    address = f"{scheme}://{request.headers['host']}/studies/{quote(study)}/measure?{urlencode(query)}"
    return Response(qr_code.svg(address), media_type="image/svg+xml")
