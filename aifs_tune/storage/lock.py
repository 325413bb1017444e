"""Writer lock of a storage: one process at a time may write, and the lock ends with its process."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aifs_tune.errors import StorageBusyError, StorageError


@dataclass(frozen=True)
class LockHolder:
    """Process that holds a writer lock."""

    pid: int
    host: str
    command: str
    since: str

    @staticmethod
    def this_process() -> LockHolder:
        """Describe the current process."""
        command = " ".join(["aifs-tune", *sys.argv[1:3]]) if sys.argv[0].endswith("aifs-tune") else "python"
        return LockHolder(os.getpid(), socket.gethostname(), command, datetime.now(UTC).isoformat(timespec="seconds"))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.command}, since {self.since})"


class WriterLock(ABC):
    """Writer lock, re-entrant in the thread that holds it; other threads wait like other processes.

    ``shown`` is the name of the storage in messages. Locks that share ``thread`` are held by one thread at a time.
    """

    def __init__(self, shown: str, thread: threading.RLock) -> None:
        self._shown, self._thread = shown, thread
        self.depth = 0
        """Number of times that the holding thread has acquired the lock."""

    def acquire(self, wait_s: float) -> None:
        """Acquire the lock, or raise :class:`StorageBusyError` with its holder after ``wait_s`` seconds."""
        if not self._thread.acquire(timeout=wait_s):
            raise StorageBusyError(f"{self._shown} is being written by another thread of this process")
        try:
            if self.depth == 0:
                self._take(wait_s)
        except BaseException:
            self._thread.release()
            raise
        self.depth += 1

    def release(self) -> None:
        """Release the lock once."""
        self.depth -= 1
        if self.depth == 0:
            self._give_back()
        self._thread.release()

    @abstractmethod
    def holder(self) -> LockHolder | None:
        """Return the process that holds the lock; None if it is free."""

    @abstractmethod
    def _take(self, wait_s: float) -> None:
        """Lock out all other processes, or raise as :meth:`acquire`."""

    @abstractmethod
    def _give_back(self) -> None:
        """Let other processes acquire the lock."""


class FileLock(WriterLock):
    """Lock of the operating system on a file next to the database; it ends with its process, even after a crash."""

    def __init__(self, file: Path) -> None:
        super().__init__(str(file.with_suffix("")), threading.RLock())
        self._file = file
        self._descriptor = -1

    def holder(self) -> LockHolder | None:
        try:
            descriptor = os.open(self._file, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._read(descriptor)
        finally:
            os.close(descriptor)
        return None

    def renew(self) -> bool:
        """Acquire the lock again if somebody deleted its file, and return whether that was so."""
        if self._is_in_place(self._descriptor):
            return False
        os.close(self._descriptor)
        self._take(0.0)
        return True

    def _take(self, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while not self._took(deadline):
            pass

    def _took(self, deadline: float) -> bool:
        """Acquire the lock; return whether its file is still there, so that others see it."""
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise StorageError(
                f"{self._shown}: nothing can be stored here, because the lock file beside it cannot be written "
                f"({error.strerror}); results can be read, and to add some, copy the file to a folder of yours"
            ) from error
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                holder = self._read(descriptor)
                os.close(descriptor)
                who = str(holder) if holder else "another process"
                raise StorageBusyError(f"{self._shown} is being written by {who}") from None
            except OSError as error:
                os.close(descriptor)
                raise StorageError(
                    f"{self._shown}: the file system of this folder has no locks ({error.strerror or error}), so that "
                    "two programs could write at the same time; allowed: a folder on a local disk, or PostgreSQL"
                ) from error
        if not self._is_in_place(descriptor):
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(vars(LockHolder.this_process())).encode(), 0)
        self._descriptor = descriptor
        return True

    def _is_in_place(self, descriptor: int) -> bool:
        """Whether the file of the lock is the one that is open."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._file))
        except OSError:
            return False

    def _give_back(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    @staticmethod
    def _read(descriptor: int) -> LockHolder | None:
        try:
            holder = LockHolder(**json.loads(os.pread(descriptor, 65536, 0)))
        except (ValueError, TypeError):
            return None
        is_whole = type(holder.pid) is int and holder.pid > 1  # others can write the file, and a signal goes there
        return holder if is_whole and all(isinstance(vars(holder)[key], str) for key in ("host", "since")) else None
