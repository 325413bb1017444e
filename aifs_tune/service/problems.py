"""Error responses as RFC 9457 problem details, without details of the service's internals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from aifs_tune._util.scalars import brief
from aifs_tune.config.messages import validation_problems
from aifs_tune.errors import PROBLEM_TYPES, AifsTuneError, SweepFileError
from aifs_tune.service.strict_json import encoded

MEDIA_TYPE = "application/problem+json"
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
RETRY_S = 1
"""Value in seconds of ``Retry-After`` in responses with status 503."""
_MAX_FIELD_PROBLEMS = 10
"""Maximum number of wrong fields of a body that are listed."""


def problem(
    status: int,
    detail: str,
    *,
    instance: str,
    kind: tuple[str, str] | None = None,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build a response; ``kind`` is its type and title, by default those of the status, ``errors`` lists fields."""
    uri, title = kind or ("about:blank", HTTPStatus(status).phrase)
    body: dict[str, Any] = {"type": uri, "title": title, "status": status, "detail": detail, "instance": instance}
    if errors:
        body["errors"] = list(errors)
    given = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        given["Retry-After"] = str(RETRY_S)
    if status == HTTPStatus.UNAUTHORIZED:
        given["WWW-Authenticate"] = "Bearer"
    return Response(encoded(body), status, headers=given, media_type=MEDIA_TYPE)


def problem_from_error(error: AifsTuneError, instance: str) -> Response:
    """Build the response for an error of this package."""
    kind = next(PROBLEM_TYPES[family] for family in type(error).__mro__ if family in PROBLEM_TYPES)
    errors = [{"pointer": pointer(path), "detail": text} for path, text in _problems_of(error)]
    return problem(error.http_status, str(error), instance=instance, kind=kind, errors=errors)


def pointer(path: Sequence[str | int]) -> str:
    """Return a JSON pointer (RFC 6901) as a URI fragment without percent-encoding, such as ``#/space/x/low``."""
    return "#" + "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in path)


async def on_error(request: Request, error: Exception) -> Response:
    """Respond to an error of this package."""
    if not isinstance(error, AifsTuneError):
        raise error
    return problem_from_error(error, request.url.path)


async def on_invalid(request: Request, error: Exception) -> Response:
    """Respond with what is wrong in path, query, headers or body."""
    if not isinstance(error, RequestValidationError):
        raise error
    errors = [
        {"parameter": ".".join(map(str, entry["loc"][1:])), "detail": f"{entry['msg']}{_received(entry)}"}
        for entry in error.errors()
        if entry["loc"][0] != "body"
    ]
    if any(entry["loc"][0] == "body" for entry in error.errors()):
        errors += _body_problems(error.body, request.scope["route"].body_field)
    first = errors[0]
    detail = f"{first.get('pointer') or first.get('parameter')}: {first['detail']}"
    kind = PROBLEM_TYPES[SweepFileError]
    return problem(422, detail, instance=request.url.path, kind=kind, errors=errors)


async def on_http(request: Request, error: Exception) -> Response:
    """Respond to an error of the framework, such as an unknown path or a method that is not allowed."""
    if not isinstance(error, HTTPException):
        raise error
    path, method = request.url.path, request.method
    details = {404: f"there is nothing at {path}", 405: f"{path} does not support {method}"}
    detail = details.get(error.status_code, HTTPStatus(error.status_code).phrase)
    headers = {"Allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
    return problem(error.status_code, detail, instance=path, headers=headers)


async def on_fault(request: Request, _error: Exception) -> Response:
    """Respond to an unexpected error; the details are only in the log."""
    return problem(500, "internal error; the log of the service has the details", instance=request.url.path)


def _received(entry: Mapping[str, Any]) -> str:
    return "" if entry["type"] == "missing" else f" (received {brief(entry.get('input'))})"


def _body_problems(body: object, field: Any) -> list[dict[str, str]]:
    """List what is wrong with a body, with the same messages as for a sweep file."""
    model: type[BaseModel] = field.field_info.annotation
    try:
        model.model_validate(body)
    except ValidationError as error:
        found = validation_problems(error, body, model.model_json_schema(), most=_MAX_FIELD_PROBLEMS)
        return [{"pointer": pointer(c.path), "detail": f"{c.problem}; allowed: {c.allowed}"} for c in found]
    raise RuntimeError(f"{model.__name__} accepts a body that the framework refused")


def _methods(request: Request) -> list[str]:
    """List the methods of the path of a request; the framework lists only those of the first matching route."""
    tried = {method: {**request.scope, "method": method} for method in _METHODS}
    routes = request.app.routes
    found = [m for m, scope in tried.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)]
    return sorted([*found, *(["HEAD"] if "GET" in found else [])])


def _problems_of(error: AifsTuneError) -> Sequence[tuple[Sequence[str | int], str]]:
    return error.problems if isinstance(error, SweepFileError) else ()
