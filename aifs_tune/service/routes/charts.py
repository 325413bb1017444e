"""Routes that the pages draw their charts from. Each answer is bounded and has an ETag."""

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

Limit = Annotated[int, Query(ge=1, le=2000, description="How many trials at most.")]


@router.get("/studies/{study}/progress", response_model=chart_schemas.ProgressResponse, responses=error_responses(404))
async def get_progress(study: StudyName, project: ReadAccess, context: ContextDep, request: Request) -> Response:
    """How far a study is: counts, rate, what runs, what failed for which reasons."""
    now = _now(every_s=10)
    return with_etag(
        request, await context.read_study(project, study, lambda found: charts.progress_response(study, found, now))
    )


@router.get("/studies/{study}/history", response_model=chart_schemas.HistoryResponse, responses=error_responses(404))
async def get_history(
    study: StudyName, project: ReadAccess, context: ContextDep, request: Request, limit: Limit = 500
) -> Response:
    """What was tried in the order in which it ended, and the best value so far."""
    return with_etag(
        request, await context.read_study(project, study, lambda found: charts.history_response(study, found, limit))
    )


@router.get("/studies/{study}/curves", response_model=chart_schemas.CurvesResponse, responses=error_responses(404))
async def get_curves(
    study: StudyName, project: ReadAccess, context: ContextDep, request: Request, limit: Limit = 100
) -> Response:
    """The learning curves of trials that reported epochs."""
    return with_etag(
        request, await context.read_study(project, study, lambda found: charts.curves_response(study, found, limit))
    )


@router.get(
    "/studies/{study}/importance", response_model=chart_schemas.ImportanceResponse, responses=error_responses(404)
)
async def get_importance(study: StudyName, project: ReadAccess, context: ContextDep, request: Request) -> Response:
    """What the objectives depend on. Computed again once more trials are complete."""

    def weigh(found: StudyRecord) -> dict[str, object]:
        return charts.importance_response(study, found, *context.importances.of(found))

    return with_etag(request, await context.read_study(project, study, weigh))


@router.get("/studies/{study}/workers", response_model=chart_schemas.WorkersResponse, responses=error_responses(404))
async def get_workers(
    study: StudyName, project: ReadAccess, context: ContextDep, request: Request, limit: Limit = 300
) -> Response:
    """Which worker ran which trial, and how busy each was."""
    now = _now(every_s=2)
    return with_etag(
        request,
        await context.read_study(project, study, lambda found: charts.workers_response(study, found, limit, now)),
    )


def _now(*, every_s: int) -> datetime:
    """For so long the same moment, and with it the same answer."""
    return datetime.fromtimestamp(time.time() // every_s * every_s, UTC)
