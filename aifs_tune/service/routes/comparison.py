"""Route that compares studies."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from aifs_tune.errors import RequestError
from aifs_tune.service.context import ContextDep, ReadAccess, StrictRoute, error_responses, with_etag
from aifs_tune.service.schemas.comparison import StudiesComparison, compared_study
from aifs_tune.storage.projects import STUDY_PATTERN

MAX_STUDIES = 6
"""Maximum number of studies in one comparison, as many as there are kinds of lines in the chart of the page."""

router = APIRouter(prefix="/v1", route_class=StrictRoute)


@router.get("/comparison", response_model=StudiesComparison, responses=error_responses(404))
async def get_comparison(
    project: ReadAccess,
    context: ContextDep,
    request: Request,
    studies: Annotated[
        list[Annotated[str, Field(pattern=STUDY_PATTERN)]],
        Query(
            min_length=2,
            max_length=MAX_STUDIES,
            description="Names of the studies, each once; the first is the baseline.",
            json_schema_extra={"uniqueItems": True},
        ),
    ],
) -> Response:
    """What differs between studies (best configurations, search spaces, settings, data), and the verdict of
    ``aifs-tune compare``. The response has an ETag."""
    repeated = next((name for i, name in enumerate(studies) if name in studies[:i]), None)
    if repeated is not None:
        raise RequestError(f"studies: {repeated!r} is named twice; allowed: different studies")

    def compare() -> dict[str, object]:
        from aifs_tune.publishing.study_comparison import compare_studies  # loads pandas, which few requests need

        found = [context.studies.study(project, name) for name in studies]
        compared = [compared_study(name, study) for name, study in zip(studies, found, strict=True)]
        return {"studies": compared, **compare_studies(found)}

    return with_etag(request, await context.read(compare))
