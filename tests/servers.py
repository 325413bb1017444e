"""A real PostgreSQL that is stopped, crashes and comes back."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import Any

import psutil


def stop(server: Any) -> None:
    """As an administrator does: what was written is on the disk."""
    server._stop()


def crash(server: Any) -> None:
    """As when its machine fails: what was not committed is gone, the numbers of its transactions too."""
    process = psutil.Process(server.get_pid())
    process.send_signal(signal.SIGQUIT)
    process.wait(timeout=60)


def revive(server: Any, *, within_s: float = 120.0) -> None:
    """Start it again and wait until it answers: recovery takes longer on a busy disk than the wheel waits."""
    until = time.monotonic() + within_s
    while True:
        try:
            server.ensure_postgres_running()
            return
        except (subprocess.SubprocessError, AssertionError):  # the wheel asserts that it is ready
            if time.monotonic() > until:
                raise
