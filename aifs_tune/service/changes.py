"""Change feed of studies: detect new results, whichever process writes them, and keep them for event streams."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from aifs_tune.errors import AifsTuneError, NotFoundError, ServiceError
from aifs_tune.service.strict_json import encoded
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import STATES, TrialProgress

POLL_S = 0.25
"""Interval in seconds at which the storage is checked for new writes."""
REFRESH_S = 15.0
"""Interval in seconds at which trials are read even without a write, because leases expire without one."""
MAX_KEPT_EVENTS = 2000
"""Number of events kept per study for clients that reconnect."""
CHANNEL_TTL_S = 60.0
"""Seconds for which a study without subscribers is still followed, so that a client that reconnects misses nothing."""
MAX_STREAMS = 128
MAX_STREAMS_PER_PROJECT = 64

_LOG = logging.getLogger("uvicorn.error")


class StudyReader(Protocol):
    """Access to studies that the change feed needs; both methods may block and may raise :class:`AifsTuneError`."""

    async def data_version(self) -> str:
        """Return :meth:`aifs_tune.storage.storage.Storage.data_version`."""
        ...

    async def read_study(self, project: str, name: str, query: Callable[[StudyRecord], Any], /) -> Any:
        """Return what ``query`` returns for a study."""
        ...


class Channel:
    """Events of one study, numbered from 1; used from the event loop only."""

    def __init__(self, project: str, name: str) -> None:
        self.project, self.name = project, name
        self.last = 0
        self.known: Sequence[TrialProgress] = ()
        self.is_over = False
        self.listeners: set[asyncio.Event] = set()
        self.left_at = time.monotonic()
        self.lock = asyncio.Lock()
        self._is_begun = False
        self._id = secrets.token_hex(4)
        self._kept: deque[bytes] = deque(maxlen=MAX_KEPT_EVENTS)

    def take(self, trial_progress: Sequence[TrialProgress]) -> None:
        """Store an event for each trial that changed; the first call only sets the starting point."""
        if not self._is_begun:
            self.known, self._is_begun = trial_progress, True
            return
        if len(trial_progress) < len(self.known):  # the study was deleted and another one has its name
            self.end()
            return
        changed = [n for n, trial in enumerate(trial_progress) if n >= len(self.known) or trial != self.known[n]]
        self.known = trial_progress
        if changed:
            counts = self.counts()
            for number in changed:
                self.last += 1
                self._kept.append(_event(self._event_data(number, counts), self.id_at(self.last)))
            self.wake()

    def counts(self) -> dict[str, int]:
        """Return the number of trials in each state."""
        states = [trial.state for trial in self.known]
        return {state: states.count(state) for state in STATES}

    def id_at(self, position: int) -> str:
        """Return the id of the event at ``position``."""
        return f"{self._id}-{position}"

    def position_of(self, given: str | None) -> int | None:
        """Return the position of the event with id ``given``, or of the newest event without an id.

        None if the id is unknown or its event is no longer kept.
        """
        if given is None:
            return self.last
        own, _, number = given.partition("-")
        is_own = own == self._id and number.isascii() and number.isdigit()
        return int(number) if is_own and self.last - len(self._kept) <= int(number) <= self.last else None

    def first_event(self, *, is_new: bool) -> bytes:
        """Return the first event of a stream; only a new client gets an id with it."""
        data = {"study": self.name, "n_trials": self.counts()}
        return _event(data, self.id_at(self.last) if is_new else None)

    def since(self, position: int | None) -> list[bytes]:
        """Return the events after ``position``; one event per trial if the position is None or no longer kept."""
        if position is not None and self.last - position <= len(self._kept):
            missed = self.last - position
            return list(self._kept)[len(self._kept) - missed :]
        counts, ids = self.counts(), [None] * (len(self.known) - 1) + [self.id_at(self.last)]
        return [_event(self._event_data(n, counts), ids[n]) for n in range(len(self.known))]

    def wake(self) -> None:
        """Notify all listeners."""
        for listener in self.listeners:
            listener.set()

    def end(self) -> None:
        """End all streams of this study."""
        self.is_over = True
        self.wake()

    def _event_data(self, number: int, counts: dict[str, int]) -> dict[str, Any]:
        trial = self.known[number]
        data = {"study": self.name, "trial": number, "state": trial.state}
        measured = {key: x for key, x in (("epoch", trial.epoch), ("value", trial.value)) if x is not None}
        overdue = {"is_overdue": True} if trial.is_overdue else {}
        return {**data, **measured, **overdue, "n_trials": counts}


class ChangeFeed:
    """Channels of all studies with subscribers, and the one task that polls the storage for them."""

    def __init__(self, reader: StudyReader) -> None:
        self._reader = reader
        self._channels: dict[tuple[str, str], Channel] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_over = False

    async def subscribe(self, project: str, name: str, listener: asyncio.Event) -> Channel:
        """Set ``listener`` whenever the study changes, until :meth:`unsubscribe`.

        Raises
        ------
        ServiceError
            If too many streams are open or the service is shutting down.
        NotFoundError
            If there is no such study.
        """
        self._check_capacity(project)
        key = project, name
        channel = self._channels.get(key)
        if channel is None or channel.is_over:
            channel = self._channels[key] = Channel(project, name)
        await self._refresh(channel)
        self._check_capacity(project)
        channel.listeners.add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return channel

    def unsubscribe(self, channel: Channel, listener: asyncio.Event) -> None:
        """Stop setting ``listener``."""
        channel.listeners.discard(listener)
        channel.left_at = time.monotonic()

    def end(self) -> None:
        """End all streams and refuse new ones."""
        self._is_over = True
        for channel in self._channels.values():
            channel.end()

    async def close(self) -> None:
        """End all streams and the polling task."""
        self.end()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _check_capacity(self, project: str) -> None:
        counts = {channel: len(channel.listeners) for channel in self._channels.values()}
        own = sum(n for channel, n in counts.items() if channel.project == project)
        if self._is_over or sum(counts.values()) >= MAX_STREAMS or own >= MAX_STREAMS_PER_PROJECT:
            raise ServiceError("too many event streams are open, or the service is shutting down; try again")

    async def _run(self) -> None:
        data_version, read_at, problem = "", 0.0, ""
        while not self._is_over and self._has_channels():
            try:
                new = await self._reader.data_version()
                if new != data_version or time.monotonic() - read_at > REFRESH_S:
                    read_at = time.monotonic()
                    for channel in list(self._channels.values()):
                        with suppress(NotFoundError):
                            await self._refresh(channel)
                    data_version = new  # it was read before the trials: later writes are seen in the next turn
                problem = ""
            except AifsTuneError as error:  # the storage is unavailable or the readers are busy: the streams wait
                if str(error) != problem:
                    problem = str(error)
                    _LOG.warning("events: %s", error)
            await asyncio.sleep(POLL_S)

    async def _refresh(self, channel: Channel) -> None:
        async with channel.lock:  # one at a time, so that an older reading never replaces a newer one
            try:
                channel.take(await self._reader.read_study(channel.project, channel.name, StudyRecord.trial_progress))
            except NotFoundError:
                channel.end()
                raise

    def _has_channels(self) -> bool:
        """Drop channels without recent subscribers; return whether any channel is left."""
        long_ago = time.monotonic() - CHANNEL_TTL_S
        for key, channel in list(self._channels.items()):
            if channel.is_over or (not channel.listeners and channel.left_at < long_ago):
                del self._channels[key]
        return bool(self._channels)


def _event(data: dict[str, Any], event_id: str | None) -> bytes:
    head = b"" if event_id is None else f"id: {event_id}\n".encode()
    return head + b"data: " + encoded(data) + b"\n\n"
