"""Several hosts on this machine: Linux namespaces, joined by a switch that can be slow, lossy or cut. Needs root.

Each host has a name, an address, processes, ``/run`` and ``/tmp/ray`` of its own, a user ``ray`` (with root's rights)
and an sshd. The rest of the file system is this machine's: ``/run/shared`` is one folder for all of them.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil

NETWORK = "10.201.7"
OUTSIDE = f"{NETWORK}.254"
"""This machine, as the hosts see it."""
SHARED = "/run/shared"
_PATH = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
_TUNSETIFF, _TAP_WITHOUT_HEADER = 0x400454CA, 0x1002
_LARGEST_PACKET = 9000  # few large frames: the switch is a Python program

_BOOT = """
set -e
hostname {name}
mount -t tmpfs tmpfs /run
mkdir -p /run/shared /run/sshd
cp -r {folder}/home /run/home
mkdir /run/home/.ssh
touch /run/home/.bashrc
mount --bind {shared} /run/shared
mkdir -p /tmp/ray
mount -t tmpfs -o size={disk_mb}m tmpfs /tmp/ray
cp {folder}/key /run/home/.ssh/id_rsa && cp {folder}/key.pub /run/home/.ssh/authorized_keys
cp {folder}/hosts /run/hosts && mount --bind /run/hosts /etc/hosts
cp {folder}/passwd /run/passwd && mount --bind /run/passwd /etc/passwd
printf 'StrictHostKeyChecking no\\nUserKnownHostsFile /dev/null\\nLogLevel ERROR\\n' > /run/home/.ssh/config
chmod -R go= /run/home
ip link set lo up
touch /run/up
sleep infinity &
wait  # and reap what others leave, as the first process does
"""
_SSHD = """
Port 22
HostKey {folder}/key
AuthorizedKeysFile /run/home/.ssh/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin yes
PidFile none
SetEnv {environment}
"""


def missing(*programs: str) -> list[str]:
    """What this machine lacks for hosts with these programs."""
    needed = ("ip", "nsenter", "setpriv", "unshare", "ssh", "sshd", "ssh-keygen", "rsync", *programs)
    lacks = [name for name in needed if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    if not os.access("/dev/net/tun", os.W_OK):
        lacks.append("root on Linux with /dev/net/tun")
    return lacks


class Host:
    """One of them; ``run`` types a command there as the user ``ray``."""

    def __init__(self, name: str, address: str, init: int, environment: Mapping[str, str]) -> None:
        self.name, self.address, self._init, self._environment = name, address, init, environment

    def popen(self, *words: str, environment: Mapping[str, str] | None = None, **how: Any) -> subprocess.Popen[str]:
        enter = ["nsenter", f"--target={self._init}", "--net", "--uts", "--mount", "--pid", "--wdns=/run/home"]
        known = {"HOME": "/run/home", "USER": "ray", "PATH": _PATH, "LANG": "C.UTF-8", **self._environment}
        return subprocess.Popen([*enter, *words], env={**known, **(environment or {})}, text=True, **how)

    def run(self, *words: str, environment: Mapping[str, str] | None = None, timeout_s: float = 300) -> str:
        """What the command wrote on both streams; fails if the command does."""
        ran = self.popen(*words, environment=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            said, _ = ran.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            ran.kill()
            raise
        assert ran.returncode == 0, f"{' '.join(words)} on {self.name}: {said}"
        return said

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self._init).children(recursive=True)


class Hosts:
    """Hosts with these names, until ``close``.

    ``environment`` is that of every command typed there, ``files`` are in each home, ``disk_mb`` is the size of
    ``/tmp/ray``.
    """

    def __init__(
        self,
        names: Sequence[str],
        environment: Mapping[str, str],
        *,
        files: Mapping[str, str] | None = None,
        disk_mb: int = 1024,
    ) -> None:
        self._environment = environment
        self._closing = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="aifs_tune_hosts_"))
        self._closing.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.folder.chmod(0o755)
        self.shared = self.folder / "shared"
        self.shared.mkdir()
        addresses = {name: f"{NETWORK}.{position}" for position, name in enumerate(names, start=1)}
        self._files(addresses, environment, files or {})
        self._names = list(names)
        try:
            self._start(addresses, disk_mb)
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def network(self, *, delay_s: float = 0.0, loss: float = 0.0, cut: Sequence[str] = ()) -> None:
        """From now on frames arrive so much later, so many are lost, and these hosts are unplugged."""
        settings = {"delay_s": delay_s, "loss": loss, "cut": [self._names.index(name) for name in cut]}
        assert self._switch.stdin is not None
        self._switch.stdin.write(json.dumps(settings) + "\n")
        self._switch.stdin.flush()

    def relay(self, port: int, socket_file: str) -> None:
        """Hosts reach a socket file of this machine as ``OUTSIDE:port``."""
        listening = socket.create_server((OUTSIDE, port))
        self._closing.callback(listening.close)
        self._closing.callback(listening.shutdown, socket.SHUT_RDWR)  # accept() would keep the port otherwise
        threading.Thread(target=_accept, args=(listening, socket_file), daemon=True).start()

    def close(self) -> None:
        self._closing.close()

    def _files(self, addresses: Mapping[str, str], environment: Mapping[str, str], files: Mapping[str, str]) -> None:
        (self.folder / "home").mkdir()
        for name, text in files.items():
            (self.folder / "home" / name).write_text(text)
        keygen = ["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", str(self.folder / "key")]
        subprocess.run(keygen, check=True)
        lines = ["127.0.0.1 localhost", f"{OUTSIDE} outside", *(f"{at} {name}" for name, at in addresses.items())]
        (self.folder / "hosts").write_text("\n".join(lines) + "\n")
        (self.folder / "passwd").write_text(
            f"ray:x:0:0::/run/home:/bin/bash\n{Path('/etc/passwd').read_text()}"  # the first one with an id counts
        )
        pairs = " ".join(f'"{name}={value}"' for name, value in {"PATH": _PATH, **environment}.items())
        (self.folder / "sshd").write_text(_SSHD.format(folder=self.folder, environment=pairs))

    def _start(self, addresses: Mapping[str, str], disk_mb: int) -> None:
        devices = [self._device(position) for position in range(len(addresses) + 1)]
        for device in devices:
            self._closing.callback(os.close, device)
        self._switch = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("switch.py")), *map(str, devices)],
            pass_fds=devices,
            stdin=subprocess.PIPE,
            text=True,
        )
        self._closing.callback(self._switch.wait)
        self._closing.callback(self._switch.kill)
        _ip("address", "add", f"{OUTSIDE}/24", "dev", _device_name(len(addresses)))
        _ip("link", "set", _device_name(len(addresses)), "mtu", str(_LARGEST_PACKET), "up")
        self._hosts = {}
        for position, (name, address) in enumerate(addresses.items()):
            init = self._boot(name, disk_mb)
            _ip("link", "set", _device_name(position), "netns", str(init))
            host = self._hosts[name] = Host(name, address, init, self._environment)
            host.run("ip", "address", "add", f"{address}/24", "dev", _device_name(position))
            host.run("ip", "link", "set", _device_name(position), "mtu", str(_LARGEST_PACKET), "up")
            host.popen("/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "sshd"), stderr=subprocess.DEVNULL)

    def _boot(self, name: str, disk_mb: int) -> int:
        """The process that is the first of a new host."""
        text = _BOOT.format(name=name, folder=self.folder, shared=self.shared, disk_mb=disk_mb)
        spaces = ["--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        outer = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", *spaces, "bash", "-c", text], env={"PATH": _PATH}
        )
        self._closing.callback(outer.wait)
        self._closing.callback(outer.kill)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for init in psutil.Process(outer.pid).children():
                if Path(f"/proc/{init.pid}/root/run/up").exists():
                    return init.pid
            assert outer.poll() is None, f"host {name} did not start"
            time.sleep(0.02)
        raise AssertionError(f"host {name} did not start")

    def _device(self, position: int) -> int:
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", _device_name(position).encode(), _TAP_WITHOUT_HEADER))
        return device


def _device_name(position: int) -> str:
    return f"aifstap{position}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _accept(listening: socket.socket, socket_file: str) -> None:
    with suppress(OSError):  # closed
        while True:
            near, _ = listening.accept()
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(socket_file)
            except OSError:
                near.close()
                continue
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
