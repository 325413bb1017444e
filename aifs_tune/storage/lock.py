"""Who may write to a storage: one process at a time, told by a lock that ends with its process."""

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
    """The process that is writing to a storage."""

    pid: int
    host: str
    command: str
    since: str

    @staticmethod
    def this_process() -> LockHolder:
        command = " ".join(["aifs-tune", *sys.argv[1:3]]) if sys.argv[0].endswith("aifs-tune") else "python"
        return LockHolder(os.getpid(), socket.gethostname(), command, datetime.now(UTC).isoformat(timespec="seconds"))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.command}, since {self.since})"


class WriterLock(ABC):
    """Re-entrant in the thread that holds it; other threads of the process wait like other processes.

    ``shown`` is what messages call the storage; ``thread`` may be shared by locks that one thread at a time may hold.
    """

    def __init__(self, shown: str, thread: threading.RLock) -> None:
        self._shown, self._thread = shown, thread
        self.depth = 0
        """How often the thread that holds it has taken it."""

    def acquire(self, wait_s: float) -> None:
        """Take the lock or raise :class:`StorageBusyError` naming who holds it after ``wait_s`` seconds."""
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
        """Give it back once."""
        self.depth -= 1
        if self.depth == 0:
            self._give_back()
        self._thread.release()

    @abstractmethod
    def holder(self) -> LockHolder | None:
        """Who holds the lock now; None when it is free."""

    @abstractmethod
    def _take(self, wait_s: float) -> None:
        """Keep all other processes out, or raise as :meth:`acquire`."""

    @abstractmethod
    def _give_back(self) -> None:
        """Let other processes in."""


class FileLock(WriterLock):
    """An operating system lock beside the database; it ends with its process, however that ends."""

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

    def _take(self, wait_s: float) -> None:
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(f"cannot write beside {self._shown}: {error.strerror}") from error
        deadline = time.monotonic() + wait_s
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
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(vars(LockHolder.this_process())).encode(), 0)
        self._descriptor = descriptor

    def _give_back(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    @staticmethod
    def _read(descriptor: int) -> LockHolder | None:
        try:
            return LockHolder(**json.loads(os.pread(descriptor, 65536, 0)))
        except (ValueError, TypeError):
            return None
