"""Who may write to a storage: one process at a time, told by a lock that ends with its process."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from aifs_tune.errors import StorageBusyError, StorageError


class WriterLock(Protocol):
    """Re-entrant in the thread that holds it; other threads of the process wait like other processes."""

    @property
    def depth(self) -> int:
        """How often the thread that holds it has taken it."""
        ...

    def acquire(self, wait_s: float) -> None:
        """Take the lock or raise :class:`StorageBusyError` naming who holds it after ``wait_s`` seconds."""
        ...

    def release(self) -> None:
        """Give it back once."""
        ...

    def owner(self) -> Owner | None:
        """Who holds the lock now; None when it is free."""
        ...


@dataclass(frozen=True)
class Owner:
    """The process that is writing to a storage."""

    pid: int
    host: str
    command: str
    since: str

    @staticmethod
    def this_process() -> Owner:
        command = " ".join(["aifs-tune", *sys.argv[1:3]]) if sys.argv[0].endswith("aifs-tune") else "python"
        return Owner(os.getpid(), socket.gethostname(), command, datetime.now(UTC).isoformat(timespec="seconds"))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.command}, since {self.since})"


class FileLock:
    """An operating system lock beside the database; it ends with its process, however that ends.

    Re-entrant in the thread that holds it; other threads of the process wait like other processes.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._thread = threading.RLock()
        self._descriptor: int | None = None
        self.depth = 0

    def acquire(self, wait_s: float) -> None:
        """Take the lock or raise :class:`StorageBusyError` naming who holds it after ``wait_s`` seconds."""
        if not self._thread.acquire(timeout=wait_s):
            raise StorageBusyError(f"{self._file.with_suffix('')} is being written by another thread of this process")
        try:
            if self._descriptor is None:
                self._descriptor = self._lock(wait_s)
        except BaseException:
            self._thread.release()
            raise
        self.depth += 1

    def release(self) -> None:
        self.depth -= 1
        if self.depth == 0 and self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None
        self._thread.release()

    def owner(self) -> Owner | None:
        """Who holds the lock now; None when it is free."""
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

    def _lock(self, wait_s: float) -> int:
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(f"cannot write beside {self._file.with_suffix('')}: {error.strerror}") from error
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                owner = self._read(descriptor)
                os.close(descriptor)
                who = str(owner) if owner else "another process"
                raise StorageBusyError(f"{self._file.with_suffix('')} is being written by {who}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(vars(Owner.this_process())).encode(), 0)
        return descriptor

    @staticmethod
    def _read(descriptor: int) -> Owner | None:
        try:
            return Owner(**json.loads(os.pread(descriptor, 65536, 0)))
        except (ValueError, TypeError):
            return None
