"""A Ray cluster of several nodes on this machine, with a token."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

_RAY = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", "--disable-usage-stats")
_PORTS = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port", "runtime-env-agent-port")


_LOWEST_PORT, _HIGHEST_PORT = 20_000, 32_000
"""Ports that no system gives to an outgoing connection: one could take a free port before Ray listens on it."""


class Cluster:
    """A head with its dashboard, and nodes that join it; one CPU each."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.secrets = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, **environment, **self.secrets, "PATH": path}
        self._folder = tempfile.mkdtemp(prefix="ray")
        self.nodes: list[subprocess.Popen[str]] = []
        try:
            self._start_head()
        except AssertionError:  # another program was quicker to listen on a port, or the machine was too busy
            self.close()
            self._start_head()

    def join(self, **environment: str) -> None:
        """One more node, with something of its own in its environment."""
        self._start(f"--address=127.0.0.1:{self.gcs}", environment=environment)

    def kill_raylet(self, node: int) -> None:
        """SIGKILL: the node is gone, with its workers."""
        for process in psutil.Process(self.nodes[node].pid).children(recursive=True):
            if process.name() == "raylet":
                process.send_signal(signal.SIGKILL)
        self.nodes[node].wait(timeout=60)

    def kill_node(self, node: int) -> None:
        """SIGKILL to all of its processes, as when the machine loses its power."""
        process = psutil.Process(self.nodes[node].pid)
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL)
        self.nodes[node].wait(timeout=60)

    def logs(self) -> str:
        """All that jobs have written on these nodes."""
        return "".join(file.read_text() for file in Path(self._folder).rglob("job-driver-*"))

    def close(self) -> None:
        for node in reversed(self.nodes):
            if node.poll() is None:
                node.terminate()
        for node in self.nodes:
            node.wait(timeout=60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start_head(self) -> None:
        self.nodes = []
        with ExitStack() as reserved:
            self.gcs, self.dashboard = _free_port(reserved), _free_port(reserved)
        self.address = f"http://127.0.0.1:{self.dashboard}"
        head = [f"--port={self.gcs}", "--include-dashboard=true", f"--dashboard-port={self.dashboard}"]
        self._start("--head", *head)

    def _start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        with ExitStack() as reserved:
            ports = [f"--{name}={_free_port(reserved)}" for name in _PORTS]
        node = subprocess.Popen(
            [*_RAY, "--node-ip-address=127.0.0.1", f"--temp-dir={self._folder}/{len(self.nodes)}", *ports, *arguments],
            env={**self.environment, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.nodes.append(node)
        said = ""
        while "Ray runtime started" not in said:
            line = node.stdout.readline()
            assert line, f"ray start ended: {said}"
            said += line


def _free_port(reserved: ExitStack) -> int:
    """A port that nobody has, on any address of this machine, while ``reserved`` is open."""
    while True:
        free = reserved.enter_context(socket.socket())
        port = _LOWEST_PORT + secrets.randbelow(_HIGHEST_PORT - _LOWEST_PORT)
        with suppress(OSError):
            free.bind(("", port))
            return port
