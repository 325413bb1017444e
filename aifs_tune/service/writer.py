"""Writer thread of the service, which carries out requests one after another under the writer's lock."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from aifs_tune.errors import AifsTuneError, ServiceError, StorageBusyError
from aifs_tune.storage.lock import WriterLock
from aifs_tune.storage.storage import Storage

T = TypeVar("T")

MAX_WAITING = 256
IDLE_S = 1.0
"""Seconds without a write after which the lock is released."""
MAX_HOLD_S = 5.0
"""Seconds after which the lock is released in any case, so that a waiting command can take it."""
PAUSE_S = 0.15
"""Seconds to wait before the lock is taken again."""
LOCK_TIMEOUT_S = 1.0
"""Seconds to wait for a lock; after a failure, writes that need it are refused at once for as long again."""
MAX_HELD_LOCKS = 4
"""Maximum number of locks held at a time; in PostgreSQL each study has one, and each lock takes a connection."""

_LOG = logging.getLogger("uvicorn.error")


@dataclass
class _Held:
    lock_context: AbstractContextManager[None]
    since: float
    used: float


class Writer:
    """Thread that carries out all writes."""

    def __init__(self, storage: Storage, *, max_waiting: int = MAX_WAITING) -> None:
        self._storage, self._max_waiting = storage, max_waiting
        self._jobs: queue.SimpleQueue[tuple[str, Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._n_waiting = 0
        self._held: dict[WriterLock, _Held] = {}
        self._refused: dict[WriterLock, tuple[float, StorageBusyError]] = {}
        self._thread = threading.Thread(target=self._run, name="aifs-tune writer", daemon=True)
        self._thread.start()

    async def write(self, study: str, body: Callable[[], T]) -> T:
        """Run ``body`` in one transaction on ``study``, and return its result once it is on disk.

        Raises
        ------
        ServiceError
            If too many requests are waiting.
        StorageBusyError
            If another process is writing to the study.
        """
        if self._n_waiting >= self._max_waiting:
            raise ServiceError(f"the maximum of {self._n_waiting} waiting writes is reached; try again")
        future: Future[T] = Future()
        self._n_waiting += 1
        try:
            self._jobs.put((study, body, future))
            return await asyncio.wrap_future(future)
        finally:
            self._n_waiting -= 1

    def close(self) -> None:
        """Complete all waiting writes, release the locks and end the thread."""
        self._jobs.put(None)
        self._thread.join()

    # -- called in the thread -------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=0.1 if self._held else None)
            except queue.Empty:
                self._release_idle(idle_s=IDLE_S)
                continue
            if job is None:
                self._release_idle(idle_s=0.0)
                return
            study, body, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._carry_out(study, body))
            except BaseException as error:  # noqa: BLE001 - the caller that waits gets it
                future.set_exception(error)

    def _carry_out(self, study: str, body: Callable[[], T]) -> T:
        self._release_idle(idle_s=IDLE_S)
        self._hold(study)
        return self._storage.transact(body, study)

    def _hold(self, study: str) -> None:
        """Acquire the lock of ``study``, or keep it; in SQLite it is that of all studies."""
        lock, now = self._storage.lock(study), time.monotonic()
        held = self._held.get(lock)
        if held is not None and now - held.since < MAX_HOLD_S:
            held.used = now
            return
        if held is not None:
            self._release(lock)
            time.sleep(PAUSE_S)
        until, refusal = self._refused.get(lock, (0.0, None))
        if refusal is not None and now < until:
            raise StorageBusyError(str(refusal))
        while len(self._held) >= MAX_HELD_LOCKS:
            self._release(min(self._held, key=lambda other: self._held[other].used))
        lock_context = self._storage.writing(study, wait_s=LOCK_TIMEOUT_S)
        try:
            lock_context.__enter__()
        except StorageBusyError as error:
            self._refused[lock] = time.monotonic() + LOCK_TIMEOUT_S, error
            raise
        self._refused.pop(lock, None)
        self._held[lock] = _Held(lock_context, time.monotonic(), time.monotonic())

    def _release_idle(self, *, idle_s: float) -> None:
        now = time.monotonic()
        for lock, held in list(self._held.items()):
            if now - held.used >= idle_s:
                self._release(lock)

    def _release(self, lock: WriterLock) -> None:
        try:
            self._held.pop(lock).lock_context.__exit__(None, None, None)
        except AifsTuneError as error:
            _LOG.warning("a lock could not be released: %s", error)
