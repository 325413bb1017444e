"""Route that shows the audit log."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from aifs_tune.service.context import ContextDep, ManageAccess, StrictRoute, error_responses
from aifs_tune.service.strict_json import encoded
from aifs_tune.storage.projects import STUDY_PATTERN

router = APIRouter(prefix="/v1", route_class=StrictRoute)


class AuditEntryResponse(BaseModel):
    """Request to change something: when, by which token, from where, what, of which study and trial, and its status.

    ``token_id`` is None for a caller without a token.
    """

    id: int
    at: str
    project: str
    token_id: str | None
    label: str
    address: str | None
    method: str
    route: str
    study: str | None
    trial: int | None
    status: int


class AuditResponse(BaseModel):
    """Entries of the audit log, the newest first; ``next`` is the ``before`` of the next page."""

    entries: list[AuditEntryResponse]
    next: int | None


@router.get("/audit", response_model=AuditResponse, responses=error_responses())
async def list_audit_entries(
    project: ManageAccess,
    context: ContextDep,
    study: Annotated[str | None, Query(pattern=STUDY_PATTERN, description="Only entries of this study.")] = None,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="The last id of the previous page.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """Who changed what in a project, or was refused, when and with what result, the newest first."""
    wanted = partial(context.audit.entries, project, study=study, before=before, limit=limit + 1)
    found = await context.read(wanted)
    shown = [entry.to_json() for entry in found[:limit]]
    content = {"entries": shown, "next": shown[-1]["id"] if len(found) > limit else None}
    return Response(encoded(content), media_type="application/json")
