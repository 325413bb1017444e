"""Pool of worker processes; a request that crashes its process fails alone."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from typing import Any, cast

from aifs_tune.data.worker_loop import LENGTHS, REQUEST_TIMEOUT_S, Response
from aifs_tune.errors import WorkError

_CHUNK = 16
_CHUNKS_EACH = 4
_MIN_REQUESTS = 200
_MAX_PROCESSES = 8
_TRIES = 2
"""Number of crashed processes after which a request fails; the first crash may have another cause."""


@dataclass(frozen=True)
class WorkerDied:
    """Result of a request that crashes its process; ``how`` says how the process ended."""

    how: str


def n_workers(n_requests: int, processes: int | None) -> int:
    """Return the number of worker processes to start; 0 means that this process does the work.

    None for ``processes`` means one for each CPU, at most 8, and 0 for fewer than 200 requests.
    """
    if processes is None:
        processes = 0 if n_requests < _MIN_REQUESTS else min(_n_cpus(), _MAX_PROCESSES)
    return min(processes, n_requests)


def run_requests(
    requests: Sequence[Any], command: Sequence[str], n: int, *, does: str
) -> Generator[tuple[int, Response | WorkerDied], None, None]:
    """Yield the index of a request and the response to it, in the order in which they are ready.

    ``requests`` are JSON values. ``command`` is a module that calls
    :func:`~aifs_tune.data.worker_loop.serve_requests`, and its arguments; it runs in ``n`` processes. ``does`` says
    in messages what it does. A worker waits until its last response was taken, so responses do not pile up. Closing
    the generator stops the processes.

    Raises
    ------
    WorkError
        If no process can be started.
    """
    pool = _Pool(requests, command, n, f"the process that {does} did not start")
    try:
        yield from pool.run()
    finally:
        pool.stop()


def _n_cpus() -> int:
    """Return the number of CPUs that this process may use, or of all CPUs if the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Pool:
    """Sends chunks of requests to workers and replaces workers that die."""

    def __init__(self, requests: Sequence[Any], command: Sequence[str], n: int, refusal: str) -> None:
        self._all_requests, self._command, self._n, self._refusal = requests, command, n, refusal
        indices = range(len(requests))
        size = max(1, min(_CHUNK, len(requests) // (_CHUNKS_EACH * n)))
        self._chunks: deque[Sequence[int]] = deque(indices[start : start + size] for start in indices[::size])
        self._deaths: dict[int, int] = {}
        self._workers: list[_Worker] = []
        self._ready = selectors.DefaultSelector()

    def run(self) -> Iterator[tuple[int, Response | WorkerDied]]:
        for _ in range(self._n):
            self._start()
        while self._workers:
            for key, _ in self._ready.select():
                worker: _Worker = key.data
                answer = worker.answer()
                if answer is None:
                    yield from self._replace(worker)
                elif not worker.is_started:
                    worker.is_started = True
                    self._next(worker)
                else:
                    yield worker.pending.popleft(), answer
                    if not worker.pending:
                        self._next(worker)

    def stop(self) -> None:
        for worker in self._workers:
            worker.end()
        self._ready.close()

    def _start(self) -> None:
        try:
            worker = _Worker(self._all_requests, self._command)
        except OSError as error:
            raise WorkError(f"{self._refusal}: {error.strerror}") from None
        self._workers.append(worker)
        self._ready.register(worker.descriptor, selectors.EVENT_READ, worker)

    def _next(self, worker: _Worker) -> None:
        if self._chunks:
            worker.send(self._chunks.popleft())
        else:
            self._remove(worker)

    def _remove(self, worker: _Worker) -> None:
        self._ready.unregister(worker.descriptor)
        self._workers.remove(worker)
        worker.end()

    def _replace(self, worker: _Worker) -> Iterator[tuple[int, WorkerDied]]:
        """Replace a dead worker; its current request is retried, or fails after too many crashes."""
        self._remove(worker)
        code = worker.process.returncode
        if not worker.is_started:
            raise WorkError(f"{self._refusal}: {sys.executable} {_died(code)}")
        if worker.pending:
            culprit, *rest = worker.pending
            self._deaths[culprit] = self._deaths.get(culprit, 0) + 1
            if self._deaths[culprit] < _TRIES:
                rest.insert(0, culprit)
            else:
                yield culprit, WorkerDied(_died(code))
            if rest:
                self._chunks.appendleft(rest)
        if self._chunks:
            self._start()


def _died(code: int) -> str:
    if code == -signal.SIGALRM:
        return f"took more than {REQUEST_TIMEOUT_S} s"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


class _Worker:
    """A worker process; ``pending`` are its unanswered requests in order, ``is_started`` is True once it is ready."""

    def __init__(self, requests: Sequence[Any], command: Sequence[str]) -> None:
        self._all_requests = requests
        self.pending: deque[int] = deque()
        self.is_started = False
        paths = [path for path in sys.path if path]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", *command],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._requests, self._answers = self.process.stdin, cast(FileIO, self.process.stdout)  # without a buffer
        self.descriptor = self._answers.fileno()

    def send(self, chunk: Sequence[int]) -> None:
        self.pending.extend(chunk)
        line = memoryview(json.dumps([self._all_requests[i] for i in chunk]).encode() + b"\n")
        try:
            while line:
                line = line[self._requests.write(line) :]
        except BrokenPipeError:
            return  # the worker died; its output ends as well, and answer() returns None

    def answer(self) -> Response | None:
        """Read the next response; None if the process has died."""
        lengths = self._read(LENGTHS.size)
        if len(lengths) < LENGTHS.size:
            return None
        n_text, n_payload = LENGTHS.unpack(lengths)
        text, payload = self._read(n_text), self._read(n_payload)
        if len(text) < n_text or len(payload) < n_payload:
            return None
        return json.loads(text), payload

    def end(self) -> None:
        """Kill the process if it is still running, and wait for it."""
        self._requests.close()
        self._answers.close()
        self.process.kill()
        self.process.wait()

    def _read(self, size: int) -> bytearray:
        content, n = bytearray(size), 0
        view = memoryview(content)
        while n < size and (more := self._answers.readinto(view[n:])):
            n += more
        view.release()
        return content if n == size else content[:n]
