"""HTTP server of the service: bind address, connection limits, start and shutdown."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import resource
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from aifs_tune.errors import RequestError, WorkError
from aifs_tune.service.application import application
from aifs_tune.service.middleware import MAX_HEADER_BYTES, Access
from aifs_tune.service.problems import problem
from aifs_tune.service.sweep_processes import SweepProcesses
from aifs_tune.service.tls import RenewedTls, TlsFiles
from aifs_tune.service.tokens import Caller, TokenStore
from aifs_tune.storage.storage import Storage

if TYPE_CHECKING:
    from aifs_tune.service.openid import OpenId

HEADERS_TIMEOUT_S = 10.0
"""Seconds within which a client must send the headers, from connecting or from the first byte of a request."""
MAX_CONNECTIONS = 4096
RENEWAL_TICKS = 10
"""Ticks of uvicorn, each of 0.1 s, after which the files of the certificate are looked at again."""

_LOG = logging.getLogger("uvicorn.error")


class H11TimeoutProtocol(H11Protocol):
    """HTTP/1.1 protocol with a time limit for the headers; uvicorn's own waits forever for a first request."""

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
            self._cancel_deadline()  # the headers have arrived
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADERS_TIMEOUT_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Respond to what is not HTTP/1.1, and close the connection."""
        response = problem(400, "not an HTTP/1.1 request", instance="/")
        headers: list[tuple[bytes, bytes]] = [*response.raw_headers, (b"connection", b"close")]
        events: list[Any] = [
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        ]
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class BindAddress:
    """Address and port at which a service listens, and the host names that requests may use for it."""

    family: socket.AddressFamily
    address: str
    port: int
    names: tuple[str, ...]

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return ipaddress.ip_address(self.address).is_loopback

    @property
    def is_unspecified(self) -> bool:
        """Whether the service listens at every address of this machine, such as 0.0.0.0."""
        return ipaddress.ip_address(self.address).is_unspecified


def resolve_bind_address(host: str, port: int) -> BindAddress:
    """Resolve ``--host`` and ``--port``.

    Raises
    ------
    RequestError
        If the host is not an address of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise RequestError(f"--host: {host!r} is not an address of this machine ({error})") from None
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


def check_origin(given: str) -> str:
    """Return an origin as browsers send it.

    Raises
    ------
    RequestError
        If it is not an origin.
    """
    if not _ORIGIN.fullmatch(given.lower()):
        raise RequestError(
            f"--allow-origin: {given!r} is not an origin; allowed: such as https://notes.lab or http://localhost:8888"
        )
    return given.lower()


def check_proxy(given: str) -> str:
    """Return the address or network of a proxy.

    Raises
    ------
    RequestError
        If it is neither, or if it is every address.
    """
    try:
        is_one = ipaddress.ip_network(given).prefixlen > 0
    except ValueError:
        is_one = False
    if not is_one:
        raise RequestError(
            f"--trust-proxy: {given!r} is not the address of a proxy; allowed: such as 127.0.0.1 or 10.0.3.0/24"
        )
    return given


def serve(
    storage: Storage,
    bind: BindAddress,
    *,
    allow_hosts: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
    require_token: bool = False,
    tls: TlsFiles | None = None,
    trust_proxies: Sequence[str] = (),
    openid: OpenId | None = None,
    sweeps: Callable[[], SweepProcesses] | None = None,
    on_ready: Callable[[str], None],
) -> None:
    """Serve until this process gets a signal to end.

    Requests from this machine to a loopback address need no token and may do everything, unless ``require_token``,
    ``allow_hosts``, ``trust_proxies`` or ``openid`` is given. All other requests need a token, or a session.

    Parameters
    ----------
    storage
        The studies to serve.
    bind
        Where to listen.
    allow_hosts
        Further names by which the service is reached, for example through a proxy; all requests then need a token.
    allow_origins
        Other sites whose pages may use the service; their requests always need a token.
    require_token
        Whether all requests need a token.
    tls
        Certificate and key; None to speak HTTP without TLS.
    trust_proxies
        Addresses or networks of proxies whose headers ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed.
    openid
        Signs in people with the accounts of a provider; None if a session needs a token.
    sweeps
        Makes the object that starts sweeps; None if requests cannot start any.
    on_ready
        Called with the URL once the service accepts requests.

    Raises
    ------
    RequestError
        If every request needs a token and there is no valid one, or an origin or a proxy is not valid.
    WorkError
        If the service cannot listen at the address.
    """
    origins = [check_origin(given) for given in allow_origins]
    proxies = [check_proxy(given) for given in trust_proxies]
    token_store = TokenStore(storage)
    needs_token = require_token or bool(allow_hosts or proxies) or openid is not None or not bind.is_loopback
    if needs_token and openid is None and not any(state == "valid" for _, state in token_store.tokens()):
        raise RequestError(
            f"serve: requests to {bind.address} need a token and there is no valid one; make one with: aifs-tune "
            "token create --project default --scope measure"
        )
    anonymous = None if needs_token else Caller(None, "manage")
    access = Access([*bind.names, *allow_hosts], origins, token_store, anonymous)
    shutdown = asyncio.Event()
    app = application(storage, access, shutdown=shutdown, sweeps=None if sweeps is None else sweeps(), openid=openid)
    config = uvicorn.Config(
        app,
        http=H11TimeoutProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        server_header=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
    )
    _allow_open_files(2 * MAX_CONNECTIONS)
    with _listening(bind) as listener:
        scheme = "http" if tls is None else "https"
        server = _AnnouncingServer(config, lambda: on_ready(f"{scheme}://{_shown(listener)}"), shutdown, tls)
        server.run(sockets=[listener])
    if not server.started:
        raise WorkError("the service could not start; the messages above say why")


class _AnnouncingServer(uvicorn.Server):
    """Server that announces when it accepts requests, uses renewed certificates, and ends event streams before it shuts
    down."""

    def __init__(
        self, config: uvicorn.Config, announce: Callable[[], None], shutdown: asyncio.Event, tls: TlsFiles | None
    ) -> None:
        super().__init__(config)
        self._announce, self._shutdown, self._tls = announce, shutdown, tls
        self._renewed: RenewedTls | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._tls is not None and self.config.ssl is not None:
            self._renewed = RenewedTls(self._tls, self.config.ssl)
        await super().startup(sockets=sockets)
        if self.started:
            self._announce()

    async def on_tick(self, counter: int) -> bool:
        if self._renewed is not None and counter % RENEWAL_TICKS == 0:
            try:
                self._renewed.update()
            except RequestError as error:
                _LOG.warning("the old certificate stays in use: %s", error)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._shutdown.set()
        await super().shutdown(sockets=sockets)


def _listening(bind: BindAddress) -> socket.socket:
    # asyncio sets TCP_NODELAY only if the protocol is named; without it each response is delayed by 40 ms
    listener = socket.socket(bind.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((bind.address, bind.port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise WorkError(f"cannot listen at {bind.address} port {bind.port}: {error}") from error
    return listener


def _shown(listener: socket.socket) -> str:
    address, port = listener.getsockname()[:2]
    return f"{f'[{address}]' if ':' in address else address}:{port}"


def _allow_open_files(wanted: int) -> None:
    """Raise the limit of open files, so that idle sockets leave enough for the storage."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard >= 0 else wanted, hard))
