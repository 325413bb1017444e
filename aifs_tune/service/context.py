"""What the routes share: who asks for which project, reading in threads, writing in one."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request, Response
from fastapi.routing import APIRoute
from starlette.responses import Response as PlainResponse

from aifs_tune.errors import AccessError, NotFoundError, ServiceError
from aifs_tune.service.changes import ChangeFeed
from aifs_tune.service.charts import Importances
from aifs_tune.service.idempotency import StoredResponse, WriteRequest, idempotent_response
from aifs_tune.service.middleware import CALLER
from aifs_tune.service.problems import MEDIA_TYPE
from aifs_tune.service.strict_json import encoded, read_json
from aifs_tune.service.tokens import Caller, Scope
from aifs_tune.service.writer import Writer
from aifs_tune.storage.projects import DEFAULT_PROJECT, PROJECT_PATTERN, name_in, stored_name
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import find_study, study_names
from aifs_tune.study.record import StudyRecord


class StudyCache:
    """Opened studies, which remember what they read of their finished trials.

    ``is_only_writer``: a study stays what it was while the lock is held, and is not looked up again.
    """

    def __init__(self, storage: Storage, *, is_only_writer: bool = False) -> None:
        self._storage, self._is_only_writer = storage, is_only_writer
        self._open: dict[str, tuple[int, StudyRecord]] = {}

    def study(self, project: str, name: str) -> StudyRecord:
        """An existing study; a :class:`NotFoundError` says the same whether another project has one or nobody."""
        stored, n_acquired = stored_name(project, name), self._storage.n_acquired
        kept = self._open.get(stored)
        if kept is not None and self._is_only_writer and kept[0] == n_acquired:
            return kept[1]
        found = find_study(self._storage, stored)
        if found is None:
            self._open.pop(stored, None)
            raise NotFoundError(f"no study {name!r} in this project")
        if kept is not None and kept[1].id == found.id and kept[1].spec == found.spec:
            found = kept[1]
        self._open[stored] = n_acquired, found
        return found

    def put(self, study: StudyRecord) -> None:
        """Keep a study that was just started or opened."""
        self._open[study.name] = self._storage.n_acquired, study

    def page(self, project: str, *, after: str, limit: int) -> tuple[list[tuple[str, StudyRecord]], bool]:
        """Up to ``limit`` studies of a project by name, those after ``after``; and whether there are more."""
        names = sorted(name for stored in study_names(self._storage) if (name := name_in(project, stored)) is not None)
        found: list[tuple[str, StudyRecord]] = []
        for name in names:
            if name <= after:
                continue
            try:
                study = self.study(project, name)
            except NotFoundError:  # another tool made it, or it was deleted just now
                continue
            if len(found) == limit:
                return found, True
            found.append((name, study))
        return found, False


T = TypeVar("T")

READERS = 8
MAX_WAITING_READERS = 256
RESPONSE_TIMEOUT_S = 30.0
"""How long an answer may take; what was to be written is carried out all the same if it has begun."""
PROJECT_HEADER = "Aifs-Tune-Project"


class AppContext:
    """The studies of ``storage``, read by several threads and written by one."""

    def __init__(self, storage: Storage) -> None:
        self.storage, self.studies = storage, StudyCache(storage)
        self.writer_studies = StudyCache(storage, is_only_writer=True)
        self.writer = Writer(storage)
        self.changes = ChangeFeed(self)
        self.importances = Importances()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="aifs-tune reader")
        self._n_waiting = 0

    async def read(self, question: Callable[[], T]) -> T:
        """What ``question`` returns, asked in a thread, which it keeps even if nobody waits for it any more;
        :class:`ServiceError` while too many wait."""
        if self._n_waiting >= MAX_WAITING_READERS:
            raise ServiceError(f"{MAX_WAITING_READERS} questions wait, as many as may; try again")
        self._n_waiting += 1
        try:
            return await asyncio.wrap_future(self._readers.submit(self._call, question))
        finally:
            self._n_waiting -= 1

    def close(self) -> None:
        """Carry out what waits to be written, and end."""
        self.writer.close()
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def data_version(self) -> str:
        """See :meth:`Storage.data_version`."""
        return await self.read(self.storage.data_version)

    def _call(self, question: Callable[[], T]) -> T:
        with translated_database_errors(self.storage.shown):
            return question()

    async def read_study(self, project: str, name: str, question: Callable[[StudyRecord], T]) -> T:
        """What ``question`` returns of a study."""
        return await self.read(lambda: question(self.studies.study(project, name)))

    async def write(
        self, write_request: WriteRequest, name: str, work: Callable[[StudyRecord], Any], *, status: int = 200
    ) -> PlainResponse:
        """Answer with what ``work`` does to a study, which is on disk by then, or did when this was asked before."""
        await self.read_study(write_request.project, name, lambda _: None)
        return await self.write_new(
            write_request,
            name,
            lambda: StoredResponse(status, encoded(work(self.writer_studies.study(write_request.project, name)))),
        )

    async def write_new(
        self, write_request: WriteRequest, name: str, answer: Callable[[], StoredResponse]
    ) -> PlainResponse:
        """As :meth:`write`, of a study that may not be there yet."""
        told = await self.writer.write(
            stored_name(write_request.project, name), lambda: idempotent_response(self.storage, write_request, answer)
        )
        return PlainResponse(told.body, told.status, media_type="application/json")


def require_scope(scope: Scope) -> Callable[..., str]:
    """A dependency that gives the project of a request whose caller may do as much."""

    def project_of(
        request: Request,
        project: Annotated[
            str | None,
            Header(
                alias=PROJECT_HEADER,
                pattern=PROJECT_PATTERN,
                description=f"Without a token: whose studies; absent: {DEFAULT_PROJECT}.",
            ),
        ] = None,
    ) -> str:
        caller: Caller = request.scope[CALLER]
        if not caller.may(scope):
            raise AccessError(f"this token may {caller.scope}; needed: {scope}")
        if caller.project is not None and project not in (None, caller.project):
            raise AccessError(f"{PROJECT_HEADER}: this token is for {caller.project}")
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
        description="The same request with the same key is carried out once, and answered alike.",
    ),
]


def get_context(request: Request) -> AppContext:
    """The desk of the application."""
    context: AppContext = request.app.state.context
    return context


ContextDep = Annotated[AppContext, Depends(get_context)]


def make_write_request(project: str, request: Request, key: str | None) -> WriteRequest:
    """A request that writes, as it came."""
    return WriteRequest(project, request.method, request.url.path, getattr(request, "parsed", None), key)


def with_etag(request: Request, answer: Any) -> Response:
    """``answer`` with its ETag; 304 if the client has it already."""
    body = encoded(answer)
    tag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    known = [entry.strip().removeprefix("W/") for entry in request.headers.get("if-none-match", "").split(",")]
    if tag in known or "*" in known:
        return Response(status_code=304, headers={"ETag": tag})
    return Response(body, media_type="application/json", headers={"ETag": tag})


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the description: the errors that a route answers with, besides those of all."""
    entry = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    every = (401, 403, 422, 500, 503, *statuses)
    return {status: {**entry, "description": f"Problem details of status {status}"} for status in sorted(every)}


class _StrictRequest(Request):
    parsed: Any = None

    async def json(self) -> Any:
        return self.parsed


class StrictRoute(APIRoute):
    """A route whose body is read by :mod:`aifs_tune.service.strict_json`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle: Callable[[Request], Awaitable[Response]] = super().get_route_handler()

        async def strict(request: Request) -> Response:
            read = _StrictRequest(request.scope, request.receive)
            body = await read.body()
            if body:
                read.parsed = read_json(body)
            try:
                async with asyncio.timeout(RESPONSE_TIMEOUT_S):
                    return await handle(read)
            except TimeoutError:
                raise ServiceError(
                    f"no answer within {RESPONSE_TIMEOUT_S:g} s; the request may still be carried out. Send it again; "
                    "a request that writes needs the same Idempotency-Key"
                ) from None

        return strict
