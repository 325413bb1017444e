"""The process beside that of a sweep: it keeps the end of what the sweep says and how it ended, whatever becomes of the
service.

    python -m aifs_tune.service.sweep_supervisor FOLDER

``FOLDER`` has ``asked.json``, the command, and another one that stops what it began, or none: then it is interrupted.
``stop`` in the folder asks for that, the other files are made here. This process holds the lock of ``lock`` for as long
as it lives.
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
"""Bytes; then it becomes the older half, in place of the one before."""
POLL_S = 0.2
STOP_S = 120.0
"""How long a sweep that is to stop may take to put its trials back."""
_DRAIN_S = 2.0
_SET_DEATH_SIGNAL = 1


@dataclass(frozen=True)
class Ended:
    """How the process of a sweep ended; ``exit_code`` is below zero for a signal, None if it was never begun."""

    exit_code: int | None
    was_stopped: bool
    at: float


def older(log: Path) -> Path:
    """Where the half before the last is."""
    return log.with_name(log.name + ".1")


def is_alive(folder: Path) -> bool:
    """Whether the supervisor of this folder is at work."""
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
    """Run the command of ``folder`` to its end; nothing if that was begun before."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(20):  # somebody may be looking whether it is held
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
        preexec_fn=_stops_with_this_process,
    )
    reader = threading.Thread(target=_keep, args=(process.stdout, folder / LOG), daemon=True)
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
    reader.join(_DRAIN_S)  # a process of Ray that is still there may hold the other end
    return process.returncode


def _keep(stream: IO[bytes], log: Path) -> None:
    """Write what comes, and of much the end."""
    descriptor = stream.fileno()
    while piece := os.read(descriptor, 65536):
        if log.exists() and log.stat().st_size + len(piece) > MAX_LOG_BYTES:
            log.replace(older(log))
        with log.open("ab") as file:
            file.write(piece)


def _stops_with_this_process() -> None:
    """Have the kernel interrupt the sweep, as Ctrl-C does, should its supervisor be killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGINT)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]))
