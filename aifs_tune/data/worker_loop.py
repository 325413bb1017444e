"""The side of a worker process: lines of JSON come, each a list of jobs, and each job is answered by two lengths, JSON
and bytes.

An empty answer says that it is ready. Its parent may be any program: unlike the processes of :mod:`multiprocessing` it
does not import the parent's main module, shares no threads and unpickles nothing.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

LENGTHS = struct.Struct(">IQ")
REQUEST_TIMEOUT_S = 60

Response = tuple[dict[str, Any], bytes]
"""JSON values and bytes."""


def serve_requests(answer: Callable[[Any], Response]) -> None:
    """Answer until standard input ends. A job that takes too long ends the process by SIGALRM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries that print must not write between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _write(answers, ({}, b""))
    for line in sys.stdin.buffer:
        for request in json.loads(line):
            signal.alarm(REQUEST_TIMEOUT_S)
            answered = answer(request)
            signal.alarm(0)
            _write(answers, answered)


def open_lock(file: str | Path) -> int:
    """A descriptor for the ``lock`` that processes share."""
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)


def _write(answers: BinaryIO, answered: Response) -> None:
    told, payload = answered
    text = json.dumps(told).encode()
    answers.write(LENGTHS.pack(len(text), len(payload)) + text)
    answers.write(payload)
    answers.flush()
