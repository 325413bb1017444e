"""Routes to sign in to the pages and out of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from aifs_tune.errors import AccessError
from aifs_tune.service.context import ContextDep, ReadAccess, StrictRoute, action_of, error_responses
from aifs_tune.service.middleware import CALLER
from aifs_tune.service.schemas import responses as schemas
from aifs_tune.service.sessions import MAX_SESSION_S, Sessions, cookie_name, session_in
from aifs_tune.service.strict_json import encoded
from aifs_tune.service.tokens import Caller, Scope

router = APIRouter(prefix="/v1", route_class=StrictRoute)


def get_sessions(request: Request) -> Sessions:
    """Return the browser sessions of the application."""
    sessions: Sessions = request.app.state.sessions
    return sessions


SessionsDep = Annotated[Sessions, Depends(get_sessions)]


@router.get("/caller", response_model=schemas.CallerResponse, responses=error_responses())
async def get_caller(request: Request, project: ReadAccess) -> Response:
    """The caller: its project, its scope, and whether a token or a session authenticates it."""
    caller: Caller = request.scope[CALLER]
    authenticated_by = "token" if "authorization" in request.headers else "session" if caller.is_known else "anonymous"
    content = {
        "project": project,
        "is_fixed": caller.project is not None,
        "scope": caller.scope,
        "authenticated_by": authenticated_by,
    }
    return Response(encoded(content), media_type="application/json")


@router.put("/session", status_code=204, responses=error_responses(413, 415))
async def start_session(
    request: Request,
    project: ReadAccess,
    sessions: SessionsDep,
    context: ContextDep,
    scope: Annotated[Scope, Query(description="What the session may do, at most what the token may.")] = "read",
) -> Response:
    """Start a browser session with the token of this request; the session id is set as a cookie."""
    if "authorization" not in request.headers:  # a session does not prolong itself
        raise AccessError("a session starts with a token; allowed: the header Authorization: Bearer TOKEN")
    session = sessions.start(request.scope[CALLER], scope)
    await context.record(action_of(request, project), 204)
    _end(request, sessions)
    response = Response(status_code=204)
    set_session(request, response, session)
    return response


def set_session(request: Request, response: Response, session: str) -> None:
    """Set the cookie with the id of a session."""
    response.set_cookie(
        cookie_name(request.scope),
        session,
        max_age=int(MAX_SESSION_S),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https" or request.headers.get("origin", "").startswith("https:"),
    )


@router.delete("/session", status_code=204, responses=error_responses(413, 415))
async def end_session(request: Request, project: ReadAccess, sessions: SessionsDep, context: ContextDep) -> Response:
    """End the session of this request's cookie."""
    _end(request, sessions)
    await context.record(action_of(request, project), 204)
    response = Response(status_code=204)
    response.delete_cookie(cookie_name(request.scope), httponly=True, samesite="strict")
    return response


def _end(request: Request, sessions: Sessions) -> None:
    session = session_in(request.scope, request.headers)
    if session is not None:
        sessions.end(session)
