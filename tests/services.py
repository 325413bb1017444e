"""A real service in a process of its own."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

SPACE = {"x": {"type": "float", "low": 0.0, "high": 1.0}}


def run_cli(*words: str, storage: str) -> subprocess.CompletedProcess[str]:
    """``aifs-tune`` with these words."""
    return subprocess.run(
        [sys.executable, "-m", "aifs_tune", *words, "--storage", storage],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def token(storage: str, scope: str, project: str = "default", *more: str) -> str:
    """A new one."""
    done = run_cli("token", "create", "--project", project, "--scope", scope, *more, storage=storage)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Service:
    """``aifs-tune serve`` on a free port; its stderr is kept in ``said``."""

    def __init__(self, storage: str, *words: str, port: int = 0) -> None:
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "aifs_tune", "serve", "--port", str(port), "--storage", storage, *words],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.match(r"serving at (https?://(.*):(\d+));", line):
                self.url, self.host, self.port = found[1], found[2].strip("[]"), int(found[3])
                break
        else:
            raise AssertionError("".join(self.said))
        threading.Thread(target=lambda: self.said.extend(self.process.stderr or ()), daemon=True).start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Stop the service with SIGTERM; return its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=60)

    def http(self, *, verify: Any = False, **options: Any) -> httpx.Client:
        """A client; without ``verify`` it has no certificates of authorities, which take longer than a request."""
        return httpx.Client(base_url=self.url, timeout=60, verify=verify, **options)

    def socket(self) -> socket.socket:
        """A connection on which anything can be said."""
        made = socket.create_connection((self.host, self.port), timeout=30)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def read_problem(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and problem of the answer on a connection, read to its end."""
    received = b""
    while True:
        try:
            chunk = connection.recv(65536)
        except ConnectionError:
            break
        received += chunk
        if not chunk or (b"\r\n\r\n" in received and received.endswith(b"}")):
            break
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def request_head(
    service: Service, path: str, headers: Mapping[str, str] | Iterable[tuple[str, str]] = (), method: str = "POST"
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {service.host}:{service.port}"]
    lines += [f"{name}: {value}" for name, value in dict(headers).items()]
    return "\r\n".join([*lines, "", ""]).encode()


def storage_in(folder: Path) -> str:
    return f"sqlite:///{folder}/lab.db"
