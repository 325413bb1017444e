"""Routes that make, list and download the reports and bundles of a study."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from starlette.responses import FileResponse

from aifs_tune.publishing.publications import (
    ID_PATTERN,
    PublicationFormat,
    find_publication,
    publication_file,
    publications_of,
)
from aifs_tune.service.context import (
    ContextDep,
    IdempotencyKey,
    ManageAccess,
    ReadAccess,
    StrictRoute,
    error_responses,
    make_write_request,
    not_modified,
    with_etag,
)
from aifs_tune.service.routes.read import StudyName
from aifs_tune.service.schemas import publications as schemas
from aifs_tune.study.record import StudyRecord

_MEDIA: dict[PublicationFormat, str] = {"html": "text/html", "pdf": "application/pdf", "zip": "application/zip"}
_FILES = {
    _MEDIA["html"]: {"schema": {"type": "string"}},
    **{_MEDIA[name]: {"schema": {"type": "string", "format": "binary"}} for name in ("pdf", "zip")},
}

router = APIRouter(prefix="/v1", route_class=StrictRoute)

PublicationId = Annotated[str, Path(pattern=ID_PATTERN)]


@router.get(
    "/studies/{study}/publications", response_model=schemas.PublicationsResponse, responses=error_responses(404)
)
async def list_publications(study: StudyName, project: ReadAccess, context: ContextDep, request: Request) -> Response:
    """Reports and bundles of a study, the newest first, and the one that is being made. The response has an ETag."""

    def listed(found: StudyRecord) -> dict[str, Any]:
        job = context.publisher.find_job(found)  # first, so that one whose job succeeded is in the list
        return {
            "study": study,
            "publications": [each.model_dump() for each in publications_of(found)],
            "job": None if job is None else asdict(job),
        }

    return with_etag(request, await context.read_study(project, study, listed))


@router.post(
    "/studies/{study}/publications",
    status_code=202,
    response_model=schemas.PublicationJobResponse,
    responses=error_responses(404, 409, 413, 415),
)
async def make_publication(
    study: StudyName,
    body: schemas.PublicationRequest,
    project: ManageAccess,
    context: ContextDep,
    request: Request,
    key: IdempotencyKey = None,
) -> Response:
    """Begin to make a report (``html``, ``pdf``) or a bundle (``zip``); the list tells when it is complete. One is made
    at a time."""
    write_request = make_write_request(project, request, key)
    stored = await context.read_study(
        project, study, lambda found: context.publisher.start(write_request, study, found, body.format)
    )
    return Response(stored.body, stored.status, media_type="application/json")


@router.get(
    "/studies/{study}/publications/{publication}",
    response_class=Response,
    responses={200: {"content": _FILES}, **error_responses(404)},
)
async def download_publication(
    study: StudyName, publication: PublicationId, project: ReadAccess, context: ContextDep, request: Request
) -> Response:
    """The file of a report or a bundle, to be saved. The response has an ETag."""
    record = await context.read_study(project, study, lambda found: find_publication(found, publication))
    tag = f'"{record.sha256}"'
    unchanged = not_modified(request, tag)
    if unchanged is not None:
        return unchanged
    file = await context.read_study(project, study, lambda found: publication_file(found, record))
    return FileResponse(file, filename=record.file, media_type=_MEDIA[record.format], headers={"ETag": tag})
