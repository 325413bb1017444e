"""Objects and dependencies that the routes share: studies, reader threads, the writer thread and access checks."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import Field, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response as PlainResponse

from aifs_tune.errors import AccessError, AifsTuneError, ServiceError
from aifs_tune.service.audit import Action, AuditLog
from aifs_tune.service.changes import ChangeFeed
from aifs_tune.service.charts import Importances
from aifs_tune.service.idempotency import StoredResponse, WriteRequest, idempotent_response
from aifs_tune.service.middleware import CALLER
from aifs_tune.service.problems import MEDIA_TYPE
from aifs_tune.service.publisher import Publisher
from aifs_tune.service.schemas.trials_query import MAX_TRIAL_NUMBER
from aifs_tune.service.strict_json import encoded, read_json
from aifs_tune.service.study_cache import StudyCache
from aifs_tune.service.study_list import StudyList
from aifs_tune.service.tokens import Caller, Scope
from aifs_tune.service.writer import Writer
from aifs_tune.storage.projects import DEFAULT_PROJECT, PROJECT_PATTERN, STUDY_PATTERN, stored_name
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import Storage
from aifs_tune.study.record import StudyRecord

T = TypeVar("T")

_LOG = logging.getLogger("uvicorn.error")

READERS = 8
MAX_WAITING_READERS = 256
MAX_WAITING_CHECKS = 16
RESPONSE_TIMEOUT_S = 30.0
"""Seconds a response may take; a write that has begun is completed even after that."""
PROJECT_HEADER = "Aifs-Tune-Project"
MAX_ADDRESS_LENGTH = 64
"""Maximum length of an address in the audit log; the name of a network interface can make one longer."""


class AppContext:
    """State of the application: the studies of ``storage``, read by several threads and written by one."""

    def __init__(self, storage: Storage) -> None:
        self.storage, self.studies = storage, StudyCache(storage)
        self.writer_studies = StudyCache(storage, is_only_writer=True)
        self.study_list = StudyList(storage, self.studies)
        self.writer = Writer(storage)
        self.audit = AuditLog(storage)
        self.changes = ChangeFeed(self)
        self.importances = Importances()
        self.publisher = Publisher(storage)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="aifs-tune reader")
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="aifs-tune checker")
        self._n_waiting = self._n_checks = 0

    async def read(self, query: Callable[[], T]) -> T:
        """Run ``query`` in a reader thread; it runs to its end even if the request is given up.

        Raises
        ------
        ServiceError
            If too many queries are waiting.
        """
        if self._n_waiting >= MAX_WAITING_READERS:
            raise ServiceError(f"the maximum of {MAX_WAITING_READERS} waiting reads is reached; try again")
        self._n_waiting += 1
        try:
            return await asyncio.wrap_future(self._readers.submit(self._call, query))
        finally:
            self._n_waiting -= 1

    async def check(self, parse: Callable[[], T]) -> T:
        """Run ``parse``, which computes for long on a large document, in a thread beside readers and writer.

        Raises
        ------
        ServiceError
            If too many documents are waiting.
        """
        if self._n_checks >= MAX_WAITING_CHECKS:
            raise ServiceError(f"the maximum of {MAX_WAITING_CHECKS} waiting documents is reached; try again")
        self._n_checks += 1
        try:
            return await asyncio.wrap_future(self._checker.submit(parse))
        finally:
            self._n_checks -= 1

    def close(self) -> None:
        """Complete all waiting writes, then end the threads."""
        self.writer.close()
        self.publisher.close()
        self._checker.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def data_version(self) -> str:
        """Return :meth:`Storage.data_version`."""
        return await self.read(self.storage.data_version)

    def _call(self, query: Callable[[], T]) -> T:
        with translated_database_errors(self.storage.shown):
            return query()

    async def read_study(self, project: str, name: str, query: Callable[[StudyRecord], T]) -> T:
        """Run ``query`` on a study in a reader thread."""
        return await self.read(lambda: query(self.studies.study(project, name)))

    async def write(
        self, write_request: WriteRequest, name: str, work: Callable[[StudyRecord], Any], *, status: int = 200
    ) -> PlainResponse:
        """Respond with the result of ``work`` on a study once it is on disk, or with the stored response of its key."""
        project = write_request.action.project

        def respond() -> StoredResponse:
            content = work(self.writer_studies.study(project, name))
            made = content.get("trials", [content]) if status == 201 else ()
            return StoredResponse(status, encoded(content), trials=tuple(trial["trial"] for trial in made))

        await self.read_study(project, name, lambda _: None)
        return await self.write_new(write_request, name, respond)

    async def write_new(
        self, write_request: WriteRequest, name: str, respond: Callable[[], StoredResponse]
    ) -> PlainResponse:
        """Do the same as :meth:`write` for a study that may not exist yet."""
        stored = await self.writer.write(
            stored_name(write_request.action.project, name),
            lambda: idempotent_response(self.storage, write_request, respond),
        )
        return PlainResponse(stored.body, stored.status, media_type="application/json")

    async def record(self, action: Action, status: int) -> None:
        """Add an action to the audit log that writes nothing else in the storage."""
        await self.read(lambda: self.audit.record(action, status))


def require_scope(scope: Scope) -> Callable[..., str]:
    """Make a dependency that checks the caller's scope and returns the project of the request."""

    def project_of(
        request: Request,
        project: Annotated[
            str | None,
            Header(
                alias=PROJECT_HEADER,
                pattern=PROJECT_PATTERN,
                description=f"The project, for requests without a token. Default: {DEFAULT_PROJECT}.",
            ),
        ] = None,
    ) -> str:
        caller: Caller = request.scope[CALLER]
        if not caller.may(scope):
            raise AccessError(f"this token may {caller.scope}; needed: {scope}")
        if caller.project is not None and project not in (None, caller.project):
            raise AccessError(f"{PROJECT_HEADER}: this token is for project {caller.project}")
        return caller.project or project or DEFAULT_PROJECT

    return project_of


ReadAccess = Annotated[str, Depends(require_scope("read"))]
MeasureAccess = Annotated[str, Depends(require_scope("measure"))]
ManageAccess = Annotated[str, Depends(require_scope("manage"))]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="A repeated request with the same key is carried out once and gets the same response.",
    ),
]


def get_context(request: Request) -> AppContext:
    """Return the context of the application."""
    context: AppContext = request.app.state.context
    return context


ContextDep = Annotated[AppContext, Depends(get_context)]


def make_write_request(project: str, request: Request, key: str | None) -> WriteRequest:
    """Collect what identifies a request that writes."""
    return WriteRequest(action_of(request, project), request.url.path, getattr(request, "parsed", None), key)


def action_of(request: Request, project: str | None = None) -> Action:
    """Return what the audit log says of a request, whose ``project`` is None if it was refused."""
    caller: Caller = request.scope[CALLER]
    if project is None:
        given = request.headers.get(PROJECT_HEADER, "")
        project = caller.project or (given if re.fullmatch(PROJECT_PATTERN, given) else DEFAULT_PROJECT)
    study, route = request.path_params.get("study", ""), request.scope["route"].path_format
    return Action(
        caller,
        _address_of(request),
        project,
        request.method,
        route,
        study if re.fullmatch(STUDY_PATTERN, study) else None,
        _trial_number(request.path_params.get("trial")),
    )


def _address_of(request: Request) -> str | None:
    """Return the address of the client; None if a proxy says something that is not one."""
    try:
        return str(ip_address(request.client.host if request.client else ""))[:MAX_ADDRESS_LENGTH]
    except ValueError:
        return None


_TRIAL_NUMBER: TypeAdapter[int | None] = TypeAdapter(Annotated[int, Field(ge=0, le=MAX_TRIAL_NUMBER)] | None)


def _trial_number(text: str | None) -> int | None:
    try:
        return _TRIAL_NUMBER.validate_python(text)
    except ValidationError:
        return None


async def _record_refusal(request: Request, error: Exception) -> None:
    """Add a request to the audit log that was to change something and was refused, unless it is told to come again."""
    status = 500
    if isinstance(error, AifsTuneError):
        status = error.http_status
    elif isinstance(error, HTTPException):
        status = error.status_code
    elif isinstance(error, RequestValidationError):
        status = 422
    if request.method == "GET" or status == 503:
        return
    try:
        await get_context(request).record(action_of(request), status)
    except AifsTuneError as problem:
        _LOG.warning("audit log: a refused request could not be added: %s", problem)


def with_etag(request: Request, content: Any) -> Response:
    """Respond with ``content`` as JSON and its ETag, or with status 304 if the client has it already."""
    body = encoded(content)
    tag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    return not_modified(request, tag) or Response(body, media_type="application/json", headers={"ETag": tag})


def not_modified(request: Request, tag: str) -> Response | None:
    """Return the response with status 304 if the client has the content with this ETag already, else None."""
    known = [entry.strip().removeprefix("W/") for entry in request.headers.get("if-none-match", "").split(",")]
    return Response(status_code=304, headers={"ETag": tag}) if tag in known or "*" in known else None


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the error responses of a route for OpenAPI: those with ``statuses`` and those of every route."""
    entry = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    every = (401, 403, 422, 500, 503, *statuses)
    return {status: {**entry, "description": f"Problem details of status {status}"} for status in sorted(every)}


_JSON = "application/json"


class _StrictRequest(Request):
    parsed: Any = None

    async def json(self) -> Any:
        return self.parsed


class StrictRoute(APIRoute):
    """Route whose body, if it is JSON, is parsed by :mod:`aifs_tune.service.strict_json`, and whose refusals are in the
    audit log."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle: Callable[[Request], Awaitable[Response]] = super().get_route_handler()

        async def strict(request: Request) -> Response:
            read = _StrictRequest(request.scope, request.receive)
            try:
                body = await read.body()
                if body and read.headers.get("content-type", "").lower().startswith(_JSON):
                    read.parsed = read_json(body)
                async with asyncio.timeout(RESPONSE_TIMEOUT_S):
                    return await handle(read)
            except TimeoutError:
                raise ServiceError(
                    f"no response within {RESPONSE_TIMEOUT_S:g} s; the request may still be carried out. Send it "
                    "again; use the same Idempotency-Key if it writes"
                ) from None
            except Exception as error:
                await _record_refusal(read, error)
                raise

        return strict
