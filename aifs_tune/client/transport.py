"""Transport: HTTP requests to a service, repeated until they are answered."""

from __future__ import annotations

import json
import logging
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aifs_tune._util.scalars import brief, number
from aifs_tune.errors import PROBLEM_TYPES, AifsTuneError, RequestError, ServiceError, StorageError, SweepFileError

if TYPE_CHECKING:
    import httpx


_LOG = logging.getLogger("aifs_tune.client")
_FAMILIES = {uri: family for family, (uri, _) in PROBLEM_TYPES.items()}
_FAMILIES[PROBLEM_TYPES[SweepFileError][0]] = RequestError  # the document came from this process, not from a file
_MIN_PAUSE_S, _MAX_PAUSE_S = 0.1, 5.0
_SAID_FROM_S = 1.0
"""Pause between two tries from which on a warning says what is waited for."""
_SILENT_S = 45.0
"""A stream is opened again after so long without a line; the service sends one at least every 15 s."""


class Transport:
    """Connection to one service, for use by several threads.

    Raises
    ------
    RequestError
        If ``url`` is not an HTTP address, or httpx is not installed.
    """

    def __init__(self, url: str, headers: Mapping[str, str], *, retry_timeout_s: float, timeout_s: float) -> None:
        try:
            import httpx
        except ModuleNotFoundError:
            raise RequestError("Client: httpx is not installed (pip install 'aifs-tune[service]')") from None
        if not url.startswith(("http://", "https://")):
            raise RequestError(f"Client: {url!r} is not an address; allowed: http://HOST:PORT or https://HOST")
        self.url, self._retry_timeout_s = url.rstrip("/"), retry_timeout_s
        self._lost = httpx.TransportError
        uses_tls = self.url.startswith("https://")  # reading the certificates takes longer than a request
        self._http = httpx.Client(base_url=self.url, headers=dict(headers), timeout=timeout_s, verify=uses_tls)

    def read(self, path: str, **query: str | int) -> Any:
        """GET ``path`` and return the JSON of the response."""
        return self._answer(lambda: self._http.get(path, params=query))

    def write(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST to ``path`` and return the JSON of the response. The service carries the request out once, even if it is
        sent several times."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        try:
            content = json.dumps(body, allow_nan=False, default=_to_builtin).encode()
        except (TypeError, ValueError) as error:
            raise RequestError(f"{path}: {error}; allowed: finite numbers and text") from None
        headers["Content-Type"] = "application/json"
        return self._answer(lambda: self._http.post(path, content=content, headers=headers))

    def stream_events(self, path: str, *, after: str | None) -> Iterator[dict[str, Any]]:
        """Yield the events of ``path`` that follow the id ``after``, without end. A broken stream continues where
        it stopped."""
        until, pause_s, last = time.monotonic() + self._retry_timeout_s, _MIN_PAUSE_S, after
        while True:
            headers = {} if last is None else {"Last-Event-ID": last}
            trouble: AifsTuneError | None = None
            try:
                with self._http.stream("GET", path, headers=headers, timeout=_SILENT_S) as response:
                    if not response.is_success:
                        response.read()
                        trouble = _error_in(response)
                    for event_id, data in _events(response.iter_lines()) if trouble is None else ():
                        until, pause_s = time.monotonic() + self._retry_timeout_s, _MIN_PAUSE_S
                        last = event_id or last
                        yield data
            except self._lost as error:
                trouble = ServiceError(f"{self.url} cannot be reached: {error or type(error).__name__}")
            if trouble is not None and not isinstance(trouble, ServiceError | StorageError):
                raise trouble
            pause_s = self._paused(trouble or ServiceError(f"{self.url} closes every event stream"), until, pause_s)

    def _paused(self, trouble: AifsTuneError, until: float, pause_s: float) -> float:
        """Wait before the next try and return the next pause; raise ``trouble`` if ``until`` would pass."""
        if time.monotonic() + pause_s > until:
            raise trouble
        if pause_s / 2 < _SAID_FROM_S <= pause_s:
            _LOG.warning("%s; trying again for up to %.0f s", trouble, until - time.monotonic())
        time.sleep(pause_s * random.uniform(0.5, 1.0))  # so that many clients do not retry at the same moment
        return min(_MAX_PAUSE_S, 2 * pause_s)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _answer(self, send: Callable[[], httpx.Response]) -> Any:
        until, pause_s = time.monotonic() + self._retry_timeout_s, _MIN_PAUSE_S
        while True:
            try:
                response = send()
            except self._lost as error:
                reason = f"{self.url} cannot be reached: {error or type(error).__name__}"
                trouble: AifsTuneError = ServiceError(reason)
            else:
                if response.is_success:
                    return response.json()
                trouble = _error_in(response)
                if response.status_code != 503:
                    raise trouble
            pause_s = self._paused(trouble, until, pause_s)


def _events(lines: Iterable[str]) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Yield the id (None if it has none) and the data of server-sent events with one data line each."""
    event_id: str | None = None
    for line in lines:
        if line.startswith("id: "):
            event_id = line.removeprefix("id: ")
        elif line.startswith("data: "):
            yield event_id, json.loads(line.removeprefix("data: "))
            event_id = None


def _to_builtin(value: object) -> int | float:
    """Convert a number of another library, such as NumPy, to a Python number."""
    found = number(value)
    if found is None:
        raise TypeError(f"{brief(value)} is neither a number nor text")
    return found


def _error_in(response: httpx.Response) -> AifsTuneError:
    """The error of a response that reports a failure."""
    try:
        told = response.json()
        family, detail = _FAMILIES.get(told["type"]), str(told["detail"])
    except (ValueError, KeyError, TypeError):  # the answer came from a proxy, not from the service
        family, detail = None, response.text[:200]
    where = f"{response.request.method} {response.request.url.path}"
    if family is None:
        family = RequestError if 400 <= response.status_code < 500 else ServiceError
        detail = f"{where} was answered {response.status_code}: {detail}"
    return family(detail)
