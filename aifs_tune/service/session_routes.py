"""Signing in and out, for people who look at the pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from aifs_tune.service import shapes
from aifs_tune.service.desk import Reading, StrictRoute, problems
from aifs_tune.service.gate import CALLER
from aifs_tune.service.sessions import LONGEST_S, Sessions, cookie_name, session_in
from aifs_tune.service.strict_json import encoded
from aifs_tune.service.tokens import Caller

router = APIRouter(prefix="/v1", route_class=StrictRoute)


def _sessions_of(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.sessions
    return sessions


OpenSessions = Annotated[Sessions, Depends(_sessions_of)]


@router.get("/caller", response_model=shapes.CallerAnswer, responses=problems())
async def get_caller(request: Request, project: Reading) -> Response:
    """Who asks: whose studies are seen, what may be done, and whether that is by a token, a session or neither."""
    caller: Caller = request.scope[CALLER]
    by = "token" if "authorization" in request.headers else "session" if caller.token_id is not None else "nobody"
    answer = {"project": project, "is_fixed": caller.project is not None, "scope": caller.scope, "by": by}
    return Response(encoded(answer), media_type="application/json")


@router.put("/session", status_code=204, responses=problems(413, 415))
async def start_session(request: Request, _project: Reading, sessions: OpenSessions) -> Response:
    """Start a session for a browser with the token of this request, as a cookie; in it, studies can be looked at."""
    session = sessions.start(request.scope[CALLER])
    _end(request, sessions)
    answer = Response(status_code=204)
    answer.set_cookie(
        cookie_name(request.scope),
        session,
        max_age=int(LONGEST_S),
        httponly=True,
        samesite="strict",
        secure=request.headers.get("origin", "").startswith("https:"),
    )
    return answer


@router.delete("/session", status_code=204, responses=problems(413, 415))
async def end_session(request: Request, _project: Reading, sessions: OpenSessions) -> Response:
    """End the session that the cookie of this request names."""
    _end(request, sessions)
    answer = Response(status_code=204)
    answer.delete_cookie(cookie_name(request.scope), httponly=True, samesite="strict")
    return answer


def _end(request: Request, sessions: Sessions) -> None:
    named = session_in(request.scope, request.headers)
    if named is not None:
        sessions.end(named)
