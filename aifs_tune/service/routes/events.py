"""Route that streams the events of a study as server-sent events."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from starlette.types import Receive, Scope, Send

from aifs_tune.errors import AccessError, AifsTuneError
from aifs_tune.service.changes import ChangeFeed, Channel
from aifs_tune.service.context import ContextDep, ReadAccess, StrictRoute, error_responses
from aifs_tune.service.middleware import IS_HEAD_REQUEST, REAUTHENTICATE
from aifs_tune.service.routes.read import StudyName
from aifs_tune.service.schemas import responses as schemas

HEARTBEAT_S = 15.0
CHECK_INTERVAL_S = 1.0
"""Interval in seconds at which the token and the connection are checked."""
SEND_TIMEOUT_S = 30.0
"""Seconds within which a client must accept data."""
RETRY_MS = 2000
MAX_STREAM_S = 86_400

router = APIRouter(prefix="/v1", route_class=StrictRoute)

_EVENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": schemas.EventData.model_json_schema(),
        },
    },
    "required": ["data"],
}
_DESCRIBED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": _EVENT}}, "description": "A stream of events with this schema"}
}
_ID = Header(alias="Last-Event-ID", max_length=100, description="Id of the last event that the client received.")


@router.get("/studies/{study}/events", response_class=Response, responses={**_DESCRIBED, **error_responses(404)})
async def stream_events(
    study: StudyName,
    project: ReadAccess,
    context: ContextDep,
    after: Annotated[
        str | None,
        Query(max_length=100, description="Id of the last event, for clients that cannot set Last-Event-ID; 0: all."),
    ] = None,
    last: Annotated[str | None, _ID] = None,
    for_s: Annotated[
        float | None,
        Query(ge=0, le=MAX_STREAM_S, description="Seconds until the stream ends. Default: no limit."),
    ] = None,
) -> Response:
    """Changes of the trials of a study from now on, as server-sent events, whichever process writes them.

    The data of an event is JSON with ``trial``, ``state``, the newest ``epoch`` and ``value``, and ``n_trials`` by
    state. The first event has only ``study`` and ``n_trials``.
    """
    listener = asyncio.Event()
    channel = await context.changes.subscribe(project, study, listener)
    return EventStream(context.changes, channel, listener, after=last if last is not None else after, for_s=for_s)


class EventStream(Response):
    """Stream of the events of ``channel``; it ends with the client, the service or the token, or after ``for_s``."""

    media_type = "text/event-stream"

    def __init__(
        self, changes: ChangeFeed, channel: Channel, listener: asyncio.Event, *, after: str | None, for_s: float | None
    ) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._changes, self._channel, self._listener = changes, channel, listener
        self._after, self._for_s = after, for_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.create_task(self._wait_until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if not scope.get(IS_HEAD_REQUEST):
                await self._stream(scope, send, leaving)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:  # the client does not accept data any more
            pass
        finally:
            self._changes.unsubscribe(self._channel, self._listener)
            leaving.cancel()

    async def _stream(self, scope: Scope, send: Send, leaving: asyncio.Task[None]) -> None:
        channel, began, sent_at = self._channel, time.monotonic(), time.monotonic()
        position = channel.position_of(self._after)
        first_event = f"retry: {RETRY_MS}\n".encode() + channel.first_event(is_new=self._after is None)
        await _send(send, first_event)
        while True:
            self._listener.clear()
            events, position = channel.since(position), channel.last
            if events:
                await _send(send, b"".join(events))
                sent_at = time.monotonic()
            elif time.monotonic() - sent_at > HEARTBEAT_S:
                await _send(send, b": heartbeat\n\n")
                sent_at = time.monotonic()
            left_s = CHECK_INTERVAL_S if self._for_s is None else began + self._for_s - time.monotonic()
            if channel.is_over or leaving.done() or left_s <= 0 or not await _is_authorized(scope):
                return
            try:
                async with asyncio.timeout(min(CHECK_INTERVAL_S, left_s)):
                    await self._listener.wait()
            except TimeoutError:
                pass

    async def _wait_until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._listener.set()


async def _send(send: Send, body: bytes) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _is_authorized(scope: Scope) -> bool:
    """Return whether the token of the request is still valid."""
    try:
        await scope[REAUTHENTICATE]()
    except AccessError:
        return False
    except AifsTuneError:  # the storage is unavailable, which does not end the stream
        return True
    return True
