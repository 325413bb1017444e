"""Many image files to pixels, in several processes; a file that kills its process costs that file alone."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from aifs_tune.data.decode import ChangedFileError, Decoded, DecodeSettings, Facts, decode_file
from aifs_tune.data.decode_worker import FILE_TIMEOUT_S, FRAME
from aifs_tune.data.folder import shown
from aifs_tune.errors import DataError, WorkError

_WORKER = "aifs_tune.data.decode_worker"
_CHUNK = 16
_FEW_FILES = 200
_MOST_PROCESSES = 8
_TRIES = 2
"""Processes that a file may end before it is given up: the first may have died of something else."""

Source = tuple[str, str]
"""Path and digest of a file."""


def decode_all(
    sources: Sequence[Source],
    settings: DecodeSettings,
    *,
    lock_file: Path,
    processes: int | None = None,
    worker: str = _WORKER,
) -> Generator[tuple[int, Decoded], None, None]:
    """Index into ``sources`` and what became of that file, in the order they are ready.

    ``processes`` None takes one for each CPU up to 8, and decodes fewer than 200 files right here.
    ``worker`` is the module that runs in each process. Closing the generator ends the processes.

    Raises
    ------
    DataError
        If a file changed since its digest was taken.
    WorkError
        If no process can be started.
    """
    if processes is None and len(sources) < _FEW_FILES:
        for i, (path, digest) in enumerate(sources):
            try:
                yield i, decode_file(path, digest, settings)
            except ChangedFileError as error:
                raise _changed(path, str(error)) from None
        return
    n = processes or min(_n_cpus(), _MOST_PROCESSES)
    pool = _Pool(sources, [worker, json.dumps(asdict(settings)), str(lock_file)])
    try:
        yield from pool.run(min(n, -(-len(sources) // _CHUNK)))
    finally:
        pool.stop()


def _n_cpus() -> int:
    """CPUs that this process may use; not every system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _changed(path: str, how: str) -> DataError:
    return DataError(f"{shown(path)} {how}; run again when the data folder stays as it is")


class _Pool:
    """Hands chunks of files to workers and replaces those that die."""

    def __init__(self, sources: Sequence[Source], command: Sequence[str]) -> None:
        self._sources, self._command = sources, command
        indices = range(len(sources))
        self._chunks: deque[Sequence[int]] = deque(indices[start : start + _CHUNK] for start in indices[::_CHUNK])
        self._deaths: dict[int, int] = {}
        self._workers: list[_Worker] = []
        self._ready = selectors.DefaultSelector()

    def run(self, n: int) -> Iterator[tuple[int, Decoded]]:
        for _ in range(n):
            self._start()
        while self._workers:
            for key, _ in self._ready.select():
                worker: _Worker = key.data
                answer = worker.answer()
                if answer is None:
                    yield from self._bury(worker)
                elif answer[1] is None:
                    self._next(worker)
                else:
                    yield answer[0], answer[1]
                    if not worker.pending:
                        self._next(worker)

    def stop(self) -> None:
        for worker in self._workers:
            worker.end()
        self._ready.close()

    def _start(self) -> None:
        worker = _Worker(self._sources, self._command)
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

    def _bury(self, worker: _Worker) -> Iterator[tuple[int, Decoded]]:
        """Give up the file that a dead worker was decoding, or let it be tried once more; start another worker."""
        self._remove(worker)
        code = worker.process.returncode
        if not worker.is_started:
            raise WorkError(f"the process that decodes images does not start: {sys.executable} {_died(code)}")
        if worker.pending:
            culprit, *rest = worker.pending
            self._deaths[culprit] = self._deaths.get(culprit, 0) + 1
            if self._deaths[culprit] < _TRIES:
                rest.insert(0, culprit)
            else:
                yield culprit, Decoded(Facts(problem=f"ends the process that decodes it ({_died(code)})"))
            if rest:
                self._chunks.appendleft(rest)
        if self._chunks:
            self._start()


def _died(code: int) -> str:
    if code == -signal.SIGALRM:
        return f"it took more than {FILE_TIMEOUT_S} s"
    return f"it ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"


class _Worker:
    """One process; ``pending`` are the files it has not answered, in order."""

    def __init__(self, sources: Sequence[Source], command: Sequence[str]) -> None:
        self._sources = sources
        self.pending: deque[int] = deque()
        self.is_started = False
        paths = [path for path in sys.path if path]
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", *command],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
        except OSError as error:
            raise WorkError(f"the process that decodes images does not start: {error.strerror}") from None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._requests, self._answers = self.process.stdin, self.process.stdout
        self.descriptor = self._answers.fileno()

    def send(self, chunk: Sequence[int]) -> None:
        self.pending.extend(chunk)
        line = memoryview(json.dumps([self._sources[i] for i in chunk]).encode() + b"\n")
        try:
            while line:
                line = line[self._requests.write(line) :]
        except BrokenPipeError:
            return  # it died; its answers end as well, and there that is seen

    def answer(self) -> tuple[int, Decoded | None] | None:
        """A file and what became of it; (-1, None) once it is ready; None if the process has died."""
        lengths = self._read(FRAME.size)
        if len(lengths) < FRAME.size:
            return None
        n_text, n_pixels = FRAME.unpack(lengths)
        text, payload = self._read(n_text), self._read(n_pixels)
        if len(text) < n_text or len(payload) < n_pixels:
            return None
        header: dict[str, Any] = json.loads(text)
        if not self.is_started:
            self.is_started = True
            return -1, None
        i = self.pending.popleft()
        if "changed" in header:
            raise _changed(self._sources[i][0], header["changed"])
        facts = Facts(**header["facts"])
        if header["pixels"] is None:
            return i, Decoded(facts)
        dtype, *shape = header["pixels"]
        return i, Decoded(facts, np.frombuffer(payload, dtype=np.dtype(dtype)).reshape(shape))

    def end(self) -> None:
        """Kill the process if it still runs, and wait for it."""
        self._requests.close()
        self._answers.close()
        self.process.kill()
        self.process.wait()

    def _read(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size and (part := self._answers.read(size - len(parts))):
            parts += part
        return bytes(parts)
