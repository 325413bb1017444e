"""Routes for the charts of the pages, with responses of limited size that have an ETag."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from aifs_tune.service import charts
from aifs_tune.service.context import ContextDep, ReadAccess, StrictRoute, error_responses, with_etag
from aifs_tune.service.routes.read import StudyName
from aifs_tune.service.schemas import charts as chart_schemas
from aifs_tune.study.record import StudyRecord

router = APIRouter(prefix="/v1", route_class=StrictRoute)

Limit = Annotated[int, Query(ge=1, le=2000, description="Maximum number of trials.")]


@router.get("/studies/{study}/progress", response_model=chart_schemas.ProgressResponse, responses=error_responses(404))
async def get_progress(study: StudyName, project: ReadAccess, context: ContextDep, request: Request) -> Response:
    """Progress of a study: trials by state, rate, running trials, and reasons of failures."""
    now = _now(every_s=10)
    return with_etag(
        request, await context.read_study(project, study, lambda found: charts.progress_response(study, found, now))
    )


@router.get("/studies/{study}/history", response_model=chart_schemas.HistoryResponse, responses=error_responses(404))
async def get_history(
    study: StudyName, project: ReadAccess, context: ContextDep, request: Request, limit: Limit = 500
) -> Response:
    """Optimization history: trials in the order in which they finished, and the best value so far."""
    return with_etag(
        request, await context.read_study(project, study, lambda found: charts.history_response(study, found, limit))
    )


@router.get("/studies/{study}/curves", response_model=chart_schemas.CurvesResponse, responses=error_responses(404))
async def get_curves(
    study: StudyName, project: ReadAccess, context: ContextDep, request: Request, limit: Limit = 100
) -> Response:
    """Learning curves of the trials that reported epochs."""
    return with_etag(
        request, await context.read_study(project, study, lambda found: charts.curves_response(study, found, limit))
    )


@router.get(
    "/studies/{study}/importance", response_model=chart_schemas.ImportanceResponse, responses=error_responses(404)
)
async def get_importance(study: StudyName, project: ReadAccess, context: ContextDep, request: Request) -> Response:
    """Importance of each parameter for each objective. It is computed again once more trials are complete."""

    def evaluate(found: StudyRecord) -> dict[str, object]:
        return charts.importance_response(study, found, *context.importances.of(found))

    return with_etag(request, await context.read_study(project, study, evaluate))


@router.get("/studies/{study}/workers", response_model=chart_schemas.WorkersResponse, responses=error_responses(404))
async def get_workers(
    study: StudyName, project: ReadAccess, context: ContextDep, request: Request, limit: Limit = 300
) -> Response:
    """Timeline of the workers: the trials that each one ran, and how busy it was."""
    now = _now(every_s=2)
    return with_etag(
        request,
        await context.read_study(project, study, lambda found: charts.workers_response(study, found, limit, now)),
    )


def _now(*, every_s: int) -> datetime:
    """Return the time rounded down, so that responses within ``every_s`` seconds have the same ETag."""
    return datetime.fromtimestamp(time.time() // every_s * every_s, UTC)
