"""Routes to sign in to the pages with the account of an OpenID Connect provider."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from aifs_tune.errors import AccessError, ServiceError
from aifs_tune.service.context import ContextDep, action_of
from aifs_tune.service.middleware import CALLER, SIGN_IN
from aifs_tune.service.routes.session import SessionsDep, set_session
from aifs_tune.service.sessions import cookie_name
from aifs_tune.service.strict_json import encoded
from aifs_tune.service.tokens import Scope
from aifs_tune.storage.projects import PROJECT_PATTERN

if TYPE_CHECKING:
    from aifs_tune.service.openid import OpenId, Wanted

PATH = f"{SIGN_IN}/openid"
CALLBACK = f"{PATH}/callback"

_LOG = logging.getLogger("uvicorn.error")

router = APIRouter(include_in_schema=False)


def _openid(request: Request) -> OpenId:
    found: OpenId | None = request.app.state.openid
    if found is None:
        raise HTTPException(404)
    return found


@router.get(f"{SIGN_IN}/options")
async def sign_in_options(request: Request) -> Response:
    """Return the name of the provider with whose accounts people may sign in, None if there is none."""
    found: OpenId | None = request.app.state.openid
    return Response(encoded({"openid": None if found is None else found.name}), media_type="application/json")


@router.get(PATH)
async def begin_sign_in(
    request: Request,
    page: Annotated[str, Query(alias="next", max_length=2000, pattern=r"^/([^/\\\s][^\\\s]*)?$")] = "/",
    scope: Scope = "read",
    project: Annotated[str | None, Query(pattern=PROJECT_PATTERN)] = None,
) -> Response:
    """Send a person to the provider."""
    openid = _openid(request)
    from aifs_tune.service.openid import SIGN_IN_TTL_S, Wanted  # the package is there if the provider is

    wanted, callback = Wanted(page, scope, project), request.url.replace(path=CALLBACK, query="")
    try:
        begun, response = await openid.begin(request, str(callback), wanted)
    except ServiceError as error:
        return _back(wanted, "provider", error)
    response.set_cookie(
        _cookie_name(request),
        begun,
        max_age=int(SIGN_IN_TTL_S),
        path=PATH,
        httponly=True,
        samesite="lax",  # the provider's page, of another site, leads back
        secure=request.url.scheme == "https",
    )
    return response


@router.get(CALLBACK)
async def finish_sign_in(request: Request, sessions: SessionsDep, context: ContextDep) -> Response:
    """Start the session of a person whom the provider sends back."""
    openid, sign_in = _openid(request), request.cookies.get(_cookie_name(request))
    from aifs_tune.service.openid import callers_of  # the package is there if the provider is

    wanted: Wanted | None = None
    try:
        wanted = openid.wanted(sign_in)
        callers = callers_of(openid.rights, await openid.finish(request, sign_in))
    except (AccessError, ServiceError) as error:
        return _back(wanted, "provider" if isinstance(error, ServiceError) else "account", error)
    project = wanted.project or (next(iter(callers)) if len(callers) == 1 else None)
    if callers and project is None:
        return _back(wanted, "project", projects=",".join(callers))
    if project is None or project not in callers:
        return _back(wanted, "rights")
    caller = callers[project]
    if not caller.may(wanted.scope):
        return _back(replace(wanted, scope=caller.scope), "scope", projects=project)
    request.scope[CALLER] = caller
    response = RedirectResponse(wanted.page, 303)
    set_session(request, response, sessions.start(caller, wanted.scope))
    await context.record(action_of(request, caller.project), 303)
    response.delete_cookie(_cookie_name(request), path=PATH, httponly=True, samesite="lax")
    return response


def _back(wanted: Wanted | None, reason: str, error: Exception | None = None, **more: str) -> Response:
    """Lead back to the page for signing in, which says the reason in words of its own."""
    if error is not None:
        _LOG.warning("sign-in: %s", error)
    given = {} if wanted is None else {"next": wanted.page, "scope": wanted.scope}
    return RedirectResponse(f"{SIGN_IN}?{urlencode({**given, 'refused': reason, **more})}", 303)


def _cookie_name(request: Request) -> str:
    return f"{cookie_name(request.scope)}_openid"
