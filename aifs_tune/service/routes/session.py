"""Signing in and out, for people who look at the pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from aifs_tune.service.context import ReadAccess, StrictRoute, error_responses
from aifs_tune.service.middleware import CALLER
from aifs_tune.service.schemas import responses as schemas
from aifs_tune.service.sessions import MAX_SESSION_S, Sessions, cookie_name, session_in
from aifs_tune.service.strict_json import encoded
from aifs_tune.service.tokens import Caller

router = APIRouter(prefix="/v1", route_class=StrictRoute)


def get_sessions(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.sessions
    return sessions


SessionsDep = Annotated[Sessions, Depends(get_sessions)]


@router.get("/caller", response_model=schemas.CallerResponse, responses=error_responses())
async def get_caller(request: Request, project: ReadAccess) -> Response:
    """Who asks: whose studies are seen, what may be done, and whether that is by a token, a session or neither."""
    caller: Caller = request.scope[CALLER]
    authenticated_by = (
        "token" if "authorization" in request.headers else "session" if caller.token_id is not None else "anonymous"
    )
    answer = {
        "project": project,
        "is_fixed": caller.project is not None,
        "scope": caller.scope,
        "authenticated_by": authenticated_by,
    }
    return Response(encoded(answer), media_type="application/json")


@router.put("/session", status_code=204, responses=error_responses(413, 415))
async def start_session(request: Request, _project: ReadAccess, sessions: SessionsDep) -> Response:
    """Start a session for a browser with the token of this request, as a cookie; in it, studies can be looked at."""
    session = sessions.start(request.scope[CALLER])
    _end(request, sessions)
    answer = Response(status_code=204)
    answer.set_cookie(
        cookie_name(request.scope),
        session,
        max_age=int(MAX_SESSION_S),
        httponly=True,
        samesite="strict",
        secure=request.headers.get("origin", "").startswith("https:"),
    )
    return answer


@router.delete("/session", status_code=204, responses=error_responses(413, 415))
async def end_session(request: Request, _project: ReadAccess, sessions: SessionsDep) -> Response:
    """End the session that the cookie of this request names."""
    _end(request, sessions)
    answer = Response(status_code=204)
    answer.delete_cookie(cookie_name(request.scope), httponly=True, samesite="strict")
    return answer


def _end(request: Request, sessions: Sessions) -> None:
    named = session_in(request.scope, request.headers)
    if named is not None:
        sessions.end(named)
