"""Running the service: where it listens, to whom, and until when."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import resource
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from aifs_tune.errors import RequestError, WorkError
from aifs_tune.service.application import application
from aifs_tune.service.middleware import Access
from aifs_tune.service.problems import problem
from aifs_tune.service.sweep_processes import SweepProcesses
from aifs_tune.service.tokens import Caller, TokenStore
from aifs_tune.storage.storage import Storage

HEADERS_TIMEOUT_S = 10.0
"""How long a client may take from the first byte, or from connecting, to the end of a request's headers."""
MAX_CONNECTIONS = 4096


class H11TimeoutProtocol(H11Protocol):
    """As uvicorn's own, which waits without end for a first request."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._deadline = self.loop.call_later(HEADERS_TIMEOUT_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before or (before is not None and not before.response_complete):
            self._cancel_deadline()  # the headers are there
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADERS_TIMEOUT_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, and hang up."""
        answer = problem(400, "not a request of HTTP/1.1", instance="/")
        headers: list[tuple[bytes, bytes]] = [*answer.raw_headers, (b"connection", b"close")]
        events: list[Any] = [
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ]
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


MAX_HEADER_BYTES = 32 * 1024
_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class BindAddress:
    """Where a service listens: an address of this machine, and the names by which requests may call it."""

    family: socket.AddressFamily
    address: str
    port: int
    names: tuple[str, ...]

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self.address).is_loopback

    @property
    def is_unspecified(self) -> bool:
        """Whether every address of this machine leads to it."""
        return ipaddress.ip_address(self.address).is_unspecified


def resolve_bind_address(host: str, port: int) -> BindAddress:
    """The place that ``--host`` and ``--port`` name.

    Raises
    ------
    RequestError
        If the host is none of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise RequestError(f"--host: {host!r} is no address of this machine ({error})") from None
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    bind = BindAddress(family, str(address[0]), port, (host, str(address[0])))
    names = [*bind.names]
    if bind.is_loopback or bind.is_unspecified:
        names += _LOOPBACK
    if bind.is_unspecified:
        names.append(socket.gethostname())
        with suppress(OSError):
            names += [str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None)]
    return BindAddress(family, bind.address, port, tuple(dict.fromkeys(names)))


def origin_of(given: str) -> str:
    """An origin as browsers send it.

    Raises
    ------
    RequestError
        If it is none.
    """
    if not _ORIGIN.fullmatch(given.lower()):
        raise RequestError(
            f"--allow-origin: {given!r} is none; allowed: such as https://notes.lab or http://localhost:8888"
        )
    return given.lower()


def serve(
    storage: Storage,
    bind: BindAddress,
    *,
    allow_hosts: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
    require_token: bool = False,
    sweeps: Callable[[], SweepProcesses] | None = None,
    on_ready: Callable[[str], None],
) -> None:
    """Serve until this process is told to end. ``told`` hears the address once requests are taken.

    Who reaches a service that only this machine reaches may do everything without a token, unless ``require_token``,
    or ``allow_hosts``, which mean that others reach it through something else. Pages of ``allow_origins`` always need
    one. ``sweeps`` makes what starts sweeps.

    Raises
    ------
    RequestError
        If every request needs a token and there is no valid one, or an origin is none.
    WorkError
        If the address cannot be listened at.
    """
    origins = [origin_of(given) for given in allow_origins]
    token_store = TokenStore(storage)
    needs_token = require_token or bool(allow_hosts) or not bind.is_loopback
    if needs_token and not any(state == "valid" for _, state in token_store.tokens()):
        raise RequestError(
            f"serve: requests to {bind.address} need a token and there is no valid one; make one with: aifs-tune "
            "token create --project default --scope measure"
        )
    anonymous = None if needs_token else Caller(None, "manage")
    access = Access([*bind.names, *allow_hosts], origins, token_store, anonymous)
    ending = asyncio.Event()
    app = application(storage, access, ending=ending, sweeps=None if sweeps is None else sweeps())
    config = uvicorn.Config(
        app,
        http=H11TimeoutProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    _allow_open_files(2 * MAX_CONNECTIONS)
    with _listening(bind) as listener:
        server = _AnnouncingServer(config, lambda: on_ready(_url(listener)), ending)
        server.run(sockets=[listener])
    if not server.started:
        raise WorkError("the service could not start; what it says above is why")


class _AnnouncingServer(uvicorn.Server):
    """Says when it takes requests, and lets streams, which end never by themselves, end first when it ends."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None], ending: asyncio.Event) -> None:
        super().__init__(config)
        self._announce, self._ending = announce, ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending.set()
        await super().shutdown(sockets=sockets)


def _listening(bind: BindAddress) -> socket.socket:
    # with its protocol named, or asyncio leaves out TCP_NODELAY and each answer waits 40 ms
    listener = socket.socket(bind.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((bind.address, bind.port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise WorkError(f"cannot listen at {bind.address} port {bind.port}: {error}") from error
    return listener


def _url(listener: socket.socket) -> str:
    address, port = listener.getsockname()[:2]
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


def _allow_open_files(wanted: int) -> None:
    """Let idle sockets not use up the files that the storage needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard >= 0 else wanted, hard))
