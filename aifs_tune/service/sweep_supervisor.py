"""Supervisor process of one sweep, which keeps its log and its exit code even if the service ends.

    python -m aifs_tune.service.sweep_supervisor FOLDER

``command.json`` in ``FOLDER`` has the command of the sweep and the command that stops it; without the latter, the sweep
is interrupted with SIGINT. The service creates the file ``stop`` to stop the sweep. The supervisor writes the other
files, and holds a lock on the file ``lock`` while it runs.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import IO

from aifs_tune._util.atomic_files import write_file

COMMAND, BEGAN, LOCK, STOP, ENDED, LOG = "command.json", "began", "lock", "stop", "ended.json", "log"
MAX_LOG_BYTES = 512 * 1024
"""Maximum size of a log file; a full one replaces the older file."""
POLL_S = 0.2
STOP_S = 120.0
"""Seconds within which a sweep must stop before it is killed."""
_DRAIN_S = 2.0
_SET_DEATH_SIGNAL = 1


@dataclass(frozen=True)
class Ended:
    """End of the process of a sweep; ``exit_code`` is negative for a signal, None if the process was never started."""

    exit_code: int | None
    was_stopped: bool
    at: float


def older(log: Path) -> Path:
    """Return the path of the older log file."""
    return log.with_name(log.name + ".1")


def is_alive(folder: Path) -> bool:
    """Return whether the supervisor of this folder is running."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def supervise(folder: Path) -> None:
    """Run the command of ``folder`` to its end, unless it was started before."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(20):  # another process may be testing the lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.05)
    else:
        return
    if (folder / BEGAN).exists():
        return
    write_file(folder / BEGAN, str(os.getpid()).encode())
    is_to_stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_to_stop.set())
    exit_code = None if (folder / STOP).exists() else _exit_code(folder, is_to_stop)
    ended = {"exit_code": exit_code, "was_stopped": is_to_stop.is_set() or exit_code is None, "at": time.time()}
    write_file(folder / ENDED, json.dumps(ended).encode())


def _exit_code(folder: Path, is_to_stop: threading.Event) -> int:
    command = json.loads((folder / COMMAND).read_bytes())
    process = subprocess.Popen(
        command["command"],
        cwd=command["cwd"],
        stdin=DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
        preexec_fn=_stop_with_supervisor,
    )
    reader = threading.Thread(target=_write_log, args=(process.stdout, folder / LOG), daemon=True)
    reader.start()
    stops_at: float | None = None
    while process.poll() is None:
        if stops_at is None and (is_to_stop.is_set() or (folder / STOP).exists()):
            is_to_stop.set()
            stops_at = time.monotonic()
            if command["stop_command"] is None:
                process.send_signal(signal.SIGINT)
            else:
                subprocess.Popen(
                    command["stop_command"], cwd=command["cwd"], stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
                )
        if stops_at is not None and time.monotonic() - stops_at > STOP_S:
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(POLL_S)
    reader.join(_DRAIN_S)  # a Ray process that still runs may keep the pipe open
    return process.returncode


def _write_log(stream: IO[bytes], log: Path) -> None:
    """Write the output to the log, of which only the end is kept."""
    descriptor = stream.fileno()
    while piece := os.read(descriptor, 65536):
        if log.exists() and log.stat().st_size + len(piece) > MAX_LOG_BYTES:
            log.replace(older(log))
        with log.open("ab") as file:
            file.write(piece)


def _stop_with_supervisor() -> None:
    """Make the kernel interrupt the sweep, as Ctrl-C does, if its supervisor is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGINT)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]))
