"""Routes that keep, list and download the photos and files of a trial."""

from __future__ import annotations

import hashlib
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response

from aifs_tune.artifacts.trial_files import (
    ID_PATTERN,
    MAX_NAME_LENGTH,
    MEDIA_TYPES,
    add_trial_file,
    find_trial_file,
    trial_file_content,
    trial_files,
)
from aifs_tune.service.context import (
    ContextDep,
    IdempotencyKey,
    MeasureAccess,
    ReadAccess,
    StrictRoute,
    action_of,
    error_responses,
    with_etag,
)
from aifs_tune.service.idempotency import WriteRequest
from aifs_tune.service.routes.read import StudyName, TrialNumber
from aifs_tune.service.schemas import trial_files as schemas
from aifs_tune.study.record import StudyRecord

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": _BINARY}}}

router = APIRouter(prefix="/v1", route_class=StrictRoute)


@router.get(
    "/studies/{study}/trials/{trial}/files", response_model=schemas.TrialFilesResponse, responses=error_responses(404)
)
async def list_trial_files(
    study: StudyName, trial: TrialNumber, project: ReadAccess, context: ContextDep, request: Request
) -> Response:
    """Photos and files of a trial, in the order in which they were added. The response has an ETag."""

    def listed(found: StudyRecord) -> dict[str, object]:
        number = found.trial(trial).number
        return {"trial": number, "files": [each.model_dump() for each in trial_files(found, number)]}

    return with_etag(request, await context.read_study(project, study, listed))


@router.post(
    "/studies/{study}/trials/{trial}/files",
    response_model=schemas.TrialFileResponse,
    responses=error_responses(404, 409, 413, 415),
    openapi_extra=_BODY,
)
async def add_file(
    study: StudyName,
    trial: TrialNumber,
    name: Annotated[
        str,
        Query(min_length=1, max_length=MAX_NAME_LENGTH, description=f"Its name; endings: {', '.join(MEDIA_TYPES)}."),
    ],
    project: MeasureAccess,
    context: ContextDep,
    request: Request,
    key: IdempotencyKey = None,
) -> Response:
    """Keep a photo or another file of a trial, up to 8 MiB; the same file again has no effect."""
    content = await request.body()
    summary = {"name": name, "sha256": hashlib.sha256(content).hexdigest()}
    kept = await context.read_study(project, study, lambda found: add_trial_file(found, trial, name, content))
    write_request = WriteRequest(action_of(request, project), request.url.path, summary, key)
    return await context.write(write_request, study, lambda _: kept.model_dump())


@router.get(
    "/studies/{study}/trials/{trial}/files/{file}",
    response_class=Response,
    responses={200: {"content": dict.fromkeys(MEDIA_TYPES.values(), _BINARY)}, **error_responses(404)},
)
async def download_trial_file(
    study: StudyName,
    trial: TrialNumber,
    file: Annotated[str, Path(pattern=ID_PATTERN)],
    project: ReadAccess,
    context: ContextDep,
) -> Response:
    """A file of a trial, to be saved."""
    record = await context.read_study(project, study, lambda found: find_trial_file(found, trial, file))
    content = await context.read_study(project, study, lambda found: trial_file_content(found, trial, record))
    headers = {"Content-Disposition": f"attachment; filename*=utf-8''{quote(record.name, safe='')}"}
    return Response(content, media_type=record.media_type, headers=headers)
