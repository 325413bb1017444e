"""What changes in the studies that somebody watches, whichever process writes it."""

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
"""How often the storage is asked whether anything was written."""
REFRESH_S = 15.0
"""How often trials are looked at though nothing was: a lease runs out by itself."""
MAX_KEPT_EVENTS = 2000
"""Changes of a study that are remembered for clients that come back."""
CHANNEL_TTL_S = 60.0
"""For how long a study is watched that nobody watches any more: who comes back has missed nothing."""
MAX_STREAMS = 128
MAX_STREAMS_PER_PROJECT = 64

_LOG = logging.getLogger("uvicorn.error")


class StudyReader(Protocol):
    """What the watch needs of a desk; it may take a while, and both raise :class:`AifsTuneError`."""

    async def data_version(self) -> str:
        """See :meth:`aifs_tune.storage.storage.Storage.data_version`."""
        ...

    async def read_study(self, project: str, name: str, question: Callable[[StudyRecord], Any], /) -> Any: ...


class Channel:
    """The changes of one study, numbered from 1; changed in the event loop alone."""

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
        """Note what differs from what was known; what was there when the watch began is no change."""
        if not self._is_begun:
            self.known, self._is_begun = trial_progress, True
            return
        if len(trial_progress) < len(self.known):  # another study of that name
            self.end()
            return
        changed = [n for n, glance in enumerate(trial_progress) if n >= len(self.known) or glance != self.known[n]]
        self.known = trial_progress
        if changed:
            counts = self.counts()
            for number in changed:
                self.last += 1
                self._kept.append(_event(self._told(number, counts), self.id_at(self.last)))
            self.wake()

    def counts(self) -> dict[str, int]:
        """How many trials are in each state."""
        states = [glance.state for glance in self.known]
        return {state: states.count(state) for state in STATES}

    def id_at(self, position: int) -> str:
        return f"{self._id}-{position}"

    def position_of(self, given: str | None) -> int | None:
        """Where a client is that has had the event ``given``, or none yet; None if that is not known any more."""
        if given is None:
            return self.last
        own, _, number = given.partition("-")
        is_own = own == self._id and number.isascii() and number.isdigit()
        return int(number) if is_own and self.last - len(self._kept) <= int(number) <= self.last else None

    def first_event(self, *, is_new: bool) -> bytes:
        """The first event of a stream; it has an id only for who has none yet."""
        told = {"study": self.name, "n_trials": self.counts()}
        return _event(told, self.id_at(self.last) if is_new else None)

    def since(self, position: int | None) -> list[bytes]:
        """The events after ``position``; all trials as they are now where it is not known."""
        if position is not None and self.last - position <= len(self._kept):
            missed = self.last - position
            return list(self._kept)[len(self._kept) - missed :]
        counts, ids = self.counts(), [None] * (len(self.known) - 1) + [self.id_at(self.last)]
        return [_event(self._told(n, counts), ids[n]) for n in range(len(self.known))]

    def wake(self) -> None:
        for listener in self.listeners:
            listener.set()

    def end(self) -> None:
        """Let all streams end."""
        self.is_over = True
        self.wake()

    def _told(self, number: int, counts: dict[str, int]) -> dict[str, Any]:
        glance = self.known[number]
        told = {"study": self.name, "trial": number, "state": glance.state}
        known = {key: x for key, x in (("epoch", glance.epoch), ("value", glance.value)) if x is not None}
        overdue = {"overdue": True} if glance.is_overdue else {}
        return {**told, **known, **overdue, "n_trials": counts}


class ChangeFeed:
    """The channels that are open, and the one task that fills them while there are any."""

    def __init__(self, reader: StudyReader) -> None:
        self._reader = reader
        self._channels: dict[tuple[str, str], Channel] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_over = False

    async def subscribe(self, project: str, name: str, listener: asyncio.Event) -> Channel:
        """Have ``listener`` set whenever the study changes, until :meth:`leave`.

        Raises
        ------
        ServiceError
            If as many listen as may; NotFoundError if there is no such study.
        """
        self._check_capacity(project)
        key = project, name
        channel = self._channels.get(key)
        if channel is None or channel.is_over:
            channel = self._channels[key] = Channel(project, name)
        await self._look(channel)
        self._check_capacity(project)
        channel.listeners.add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return channel

    def unsubscribe(self, channel: Channel, listener: asyncio.Event) -> None:
        channel.listeners.discard(listener)
        channel.left_at = time.monotonic()

    def end(self) -> None:
        """Let all streams end, and take no new ones."""
        self._is_over = True
        for channel in self._channels.values():
            channel.end()

    async def close(self) -> None:
        """End the task."""
        self.end()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _check_capacity(self, project: str) -> None:
        counts = {channel: len(channel.listeners) for channel in self._channels.values()}
        own = sum(n for channel, n in counts.items() if channel.project == project)
        if self._is_over or sum(counts.values()) >= MAX_STREAMS or own >= MAX_STREAMS_PER_PROJECT:
            raise ServiceError("as many streams of events are open as may be, or the service is ending; try again")

    async def _run(self) -> None:
        data_version, looked_at, trouble = "", 0.0, ""
        while not self._is_over and self._are_watched():
            try:
                new = await self._reader.data_version()
                if new != data_version or time.monotonic() - looked_at > REFRESH_S:
                    looked_at = time.monotonic()
                    for channel in list(self._channels.values()):
                        with suppress(NotFoundError):
                            await self._look(channel)
                    data_version = new  # read before the trials: what was written since is noticed the next time
                trouble = ""
            except AifsTuneError as error:  # the storage is away, or too many read: the streams wait
                if str(error) != trouble:
                    trouble = str(error)
                    _LOG.warning("events: %s", error)
            await asyncio.sleep(POLL_S)

    async def _look(self, channel: Channel) -> None:
        async with channel.lock:  # one after another, or what was read first could be taken last
            try:
                channel.take(await self._reader.read_study(channel.project, channel.name, StudyRecord.trial_progress))
            except NotFoundError:
                channel.end()
                raise

    def _are_watched(self) -> bool:
        """Whether any channel is left, once those are dropped that nobody comes back to."""
        long_ago = time.monotonic() - CHANNEL_TTL_S
        for key, channel in list(self._channels.items()):
            if channel.is_over or (not channel.listeners and channel.left_at < long_ago):
                del self._channels[key]
        return bool(self._channels)


def _event(told: dict[str, Any], event_id: str | None) -> bytes:
    head = b"" if event_id is None else f"id: {event_id}\n".encode()
    return head + b"data: " + encoded(told) + b"\n\n"
