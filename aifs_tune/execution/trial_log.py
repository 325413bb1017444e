"""Logs of trials: what a trial printed, logged and warned, and the tracebacks of its errors.

A worker writes the log straight into a file, ``logs/trial-000007.txt`` in the artifacts of the study, so that nothing
of it is lost when the worker dies. With artifacts in an object store the file is on the worker's machine until the
trial ends. The last :data:`MAX_BYTES` are kept.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from aifs_tune.artifacts.logs import MAX_BYTES, log_name, save_log

_PACKAGE = str(Path(__file__).parents[1])


class TrialLog:
    """Log of the trial that a worker runs; :meth:`begin` directs the output of this process into it.

    Parameters
    ----------
    artifacts
        Artifact folder of the study, or its URL in an object store.
    takes_descriptors
        Whether all that this process and its children write goes into the log, as in a worker; otherwise a copy of
        what Python prints does.
    """

    def __init__(self, artifacts: Path | str, *, takes_descriptors: bool) -> None:
        self._artifacts, self._takes_descriptors = artifacts, takes_descriptors
        self._scratch = None if isinstance(artifacts, Path) else tempfile.TemporaryDirectory(prefix="aifs_tune_log_")
        folder = artifacts if isinstance(artifacts, Path) else Path(self._scratch.name)  # type: ignore[union-attr]
        self._folder = folder
        self._file: Path | None = None
        self._descriptor: int | None = None
        self._number = -1

    def begin(self, number: int) -> None:
        """Begin the log of trial ``number``; what an interrupted worker wrote stays before it."""
        self.end()
        self._number, self._file = number, self._folder / log_name(number)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError:  # a full or missing disk must not cost the trial
            self._file = self._descriptor = None
            return
        if self._takes_descriptors:
            _flush()
            for stream in (1, 2):
                os.dup2(self._descriptor, stream)

    def write(self, text: str) -> None:
        """Add ``text`` to the log."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.write(self._descriptor, text.encode(errors="replace"))

    def write_error(self, error: BaseException) -> None:
        """Add the traceback of an error, with its causes."""
        self.write(formatted(error))

    def trim(self) -> None:
        """Shorten a log that has become too long to its end."""
        if self._takes_descriptors:
            _flush()
        if self._file is None or self._descriptor is None:
            return
        with suppress(OSError):
            size = os.fstat(self._descriptor).st_size
            if size <= 2 * MAX_BYTES:
                return
            with self._file.open("rb+") as file:
                file.seek(size - MAX_BYTES)
                kept = file.read()
                file.seek(0)
                file.write(f"... {size - len(kept):,} bytes of output before this were not kept\n".encode())
                file.write(kept)
                file.truncate()

    def end(self) -> None:
        """End the log of the trial; an empty one leaves no file."""
        if self._descriptor is None or self._file is None:
            return
        self.trim()
        os.close(self._descriptor)
        self._descriptor = None
        with suppress(OSError):
            if self._file.stat().st_size == 0:
                self._file.unlink()
            elif not isinstance(self._artifacts, Path):
                save_log(self._artifacts, self._number, self._file.read_bytes()[-MAX_BYTES:])

    @contextmanager
    def copying(self) -> Iterator[None]:
        """Copy what Python prints inside into the log too; what a worker writes goes there anyway."""
        if self._takes_descriptors:
            yield
            return
        out, err = sys.stdout, sys.stderr
        if out is not None:
            sys.stdout = _copy_of(out, self.write)
        if err is not None:
            sys.stderr = _copy_of(err, self.write)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = out, err


_COPIES: dict[int, _Copy] = {}
"""Copies by the stream that they are of. They are kept: another thread may be printing into one at any time."""


def _copy_of(stream: TextIO, write: Callable[[str], None]) -> Any:
    found = _COPIES.get(id(stream))
    if found is None or found._stream is not stream:
        found = _COPIES[id(stream)] = _Copy(stream, write)
    found._write = write
    return found


class _Copy:
    """A stream whose text is also handed to ``write``."""

    def __init__(self, stream: TextIO, write: Callable[[str], None]) -> None:
        self._stream, self._write = stream, write

    def write(self, text: str) -> int:
        self._write(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # as copy asks for, before there is a stream
            raise AttributeError(name)
        return getattr(self._stream, name)


def formatted(error: BaseException) -> str:
    """The traceback of an error with its causes, without the frames of this package that called the user's code."""
    told = traceback.TracebackException.from_exception(error)
    seen: traceback.TracebackException | None = told
    while seen is not None:
        while len(seen.stack) > 1 and seen.stack[0].filename.startswith(_PACKAGE):
            del seen.stack[0]
        seen = seen.__cause__ or seen.__context__
    return "".join(told.format())


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
