"""Request loop of a worker process.

Each line on standard input is a JSON list of requests. Each request is answered on standard output by two lengths,
JSON and bytes. An empty response says that the worker is ready. Unlike a process of :mod:`multiprocessing`, the worker
does not import the main module of its parent, shares no threads and unpickles nothing.
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

Payload = bytes | bytearray | memoryview
Response = tuple[dict[str, Any], Payload]
"""Header of JSON values, and bytes."""


def serve_requests(answer: Callable[[Any], Response]) -> None:
    """Answer requests until standard input ends; a request that takes too long ends the process by SIGALRM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries that print must not write between the responses.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _write(output, ({}, b""))
    for line in sys.stdin.buffer:
        for request in json.loads(line):
            signal.alarm(REQUEST_TIMEOUT_S)
            response = answer(request)
            signal.alarm(0)
            _write(output, response)


def open_lock(file: str | Path) -> int:
    """Open the lock file that processes share, and return its descriptor."""
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)


def _write(output: BinaryIO, response: Response) -> None:
    header, payload = response
    text = json.dumps(header).encode()
    output.write(LENGTHS.pack(len(text), len(payload)) + text)
    output.write(payload)
    output.flush()
