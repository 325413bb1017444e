"""Tests of hostile requests: too large, too deep, too slow, or with harmful text."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time

import httpx
import psutil
import pytest
from services import SPACE, Service, read_problem, request_head, storage_in

from aifs_tune.client.client import Client
from aifs_tune.errors import RequestError
from aifs_tune.service import context
from aifs_tune.service.application import routes
from aifs_tune.service.context import StudyCache
from aifs_tune.service.middleware import Access, add_middleware
from aifs_tune.service.sessions import Sessions
from aifs_tune.service.strict_json import read_json
from aifs_tune.service.tokens import Caller, TokenStore, make_tables
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import open_study

JSON = {"Content-Type": "application/json"}
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(storage_in(tmp_path_factory.mktemp("limits"))) as running:
        with Client(running.url) as client:
            study = client.open_study("lab", space=SPACE, sampler="random")
            study.tell(study.ask(), 0.5)
        yield running


def streamed(service, chunks, headers) -> tuple[int, dict, int]:
    """Status, problem, and how many bytes were sent before the service would take no more."""
    connection, n_sent = service.socket(), 0
    connection.sendall(request_head(service, "/v1/studies", headers))
    try:
        for chunk in chunks:
            connection.sendall(chunk)
            n_sent += len(chunk)
    except OSError:
        pass
    return *read_problem(connection), n_sent


def test_large_bodies_are_refused_at_once_and_memory_stays(service):
    process = psutil.Process(service.process.pid)
    before = process.memory_info().rss
    chunk = b"x" * 65536
    declared = streamed(service, (chunk for _ in range(16384)), JSON | {"Content-Length": "1073741824"})
    framed = b"%x\r\n%s\r\n" % (len(chunk), chunk)
    chunked = streamed(service, (framed for _ in range(16384)), JSON | {"Transfer-Encoding": "chunked"})
    for status, told, n_sent in (declared, chunked):
        assert (status, told["status"]) == (413, 413)
        assert n_sent < 64 * MIB  # what the sockets' buffers took, not a gigabyte
    bomb = gzip.compress(b"[" * MIB)
    status, told, _ = streamed(service, [bomb], JSON | {"Content-Encoding": "gzip", "Content-Length": str(len(bomb))})
    assert (status, "identity" in told["detail"]) == (415, True)
    deep = b"[" * 100_000 + b"]" * 100_000
    for body in (deep, b'{"name":' * 10_000 + b"1" + b"}" * 10_000, b"[1" + b",1" * 400_000 + b"]", b"1" * 500_000):
        status, told, _ = streamed(service, [body], JSON | {"Content-Length": str(len(body))})
        assert (status, told["title"]) == (422, "Invalid request")
    assert process.memory_info().rss - before < 50 * MIB


def test_idle_sockets_use_little_memory_and_other_clients_continue(service):
    process = psutil.Process(service.process.pid)
    before = process.memory_info().rss
    idle = [service.socket() for _ in range(1000)]
    for connection in idle[:300]:
        connection.sendall(b"POST /v1/studies HTTP/1.1\r\nHost: 127.")
    for connection in idle[300:400]:
        connection.sendall(request_head(service, "/v1/studies", JSON | {"Content-Length": "1000"}) + b"{")
    times = []
    with Client(service.url) as client:
        study = client.study("lab")
        for _ in range(50):
            began = time.monotonic()
            trial = study.ask()
            study.tell(trial, 0.25)
            times.append(time.monotonic() - began)
    assert sorted(times)[-1] < 2.0, times  # two requests each
    assert process.memory_info().rss - before < 50 * MIB
    until = time.monotonic() + 25
    for connection in idle:  # the service closes the connection, or responds with status 408
        connection.settimeout(max(0.1, until - time.monotonic()))
        received = connection.recv(65536)
        assert received == b"" or b" 408 " in received.split(b"\r\n", 1)[0]
        connection.close()


def test_a_request_that_is_not_http_gets_a_problem(service):
    connection = service.socket()
    connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    assert read_problem(connection)[0] == 400
    connection = service.socket()
    connection.sendall(b"GET /v1/studies HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n")
    assert read_problem(connection)[0] in (400, 431)  # whether all of it came at once


def test_headers_that_come_at_once_have_the_same_limit(service):
    host = f"Host: 127.0.0.1:{service.port}\r\n".encode()
    for n_bytes, status in ((30_000, 200), (40_000, 431), (60_000, 431)):
        connection = service.socket()
        connection.sendall(b"GET /v1/studies HTTP/1.1\r\n" + host + b"X: " + b"y" * n_bytes + b"\r\n\r\n")
        found = read_problem(connection)[0]
        assert found == status or (status == 431 and found == 400), (n_bytes, found)


def test_a_body_whose_length_is_said_in_two_ways_closes_the_connection(service):
    connection = service.socket()
    head = f"POST /v1/studies HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nContent-Type: application/json\r\n"
    both = f"{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/health HTTP/1.1\r\n\r\n"
    connection.sendall(both.encode())
    status, told = read_problem(connection)
    assert (status, "cannot be combined" in told["detail"]) == (400, True)
    connection.settimeout(10)
    assert connection.recv(65536) == b""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"n": NaN}', "NaN"),
        (b'{"n": -Infinity}', "-Infinity"),
        (b'{"n": 1e999}', "1e999"),
        (b'{"n": 1, "n": 2}', "given twice"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b"\xff", "UTF-8"),
        (b"[" * 65 + b"]" * 65, "levels"),
        (b"[" * 100_000, "levels"),
        (b"[" + b"0," * 10_000 + b"0]", "10000 values"),
        (b"9" * 5000, "too long"),
        (b"{} {}", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_ambiguous_json_is_refused(body, said):
    with pytest.raises(RequestError, match=said):
        read_json(body)


def test_unambiguous_json_is_read():
    assert read_json(b"[" * 64 + b"]" * 64) is not None
    data = {"a": [1, 2.5, None, True, "\u00fc\0\U0001f52d"], "b": {"": {}}}
    assert read_json(json.dumps(data).encode()) == data


class Hanging(StudyCache):
    """A cache of a database that does not respond until ``goes_on`` is set."""

    goes_on = threading.Event()

    def study(self, project, name):
        self.goes_on.wait()
        return super().study(project, name)


def test_a_response_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(context, "StudyCache", Hanging)
    monkeypatch.setattr(context, "RESPONSE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(context, "READERS", 1)
    storage = Storage(storage_in(tmp_path), create=True)
    study = open_study("lab", space=SPACE, storage=storage.url, sampler="random")
    make_tables(storage)

    async def scene() -> None:
        app = routes(storage)
        token_store = TokenStore(storage)
        access = Access(["lab"], [], token_store, Caller(None, "manage"))
        middleware = add_middleware(app, access, Sessions(token_store))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(middleware), base_url="http://lab") as http,
        ):
            for asked in (http.get("/v1/studies/lab"), http.post("/v1/studies/lab/ask"), http.get("/v1/studies/lab")):
                late = await asked
                assert (late.status_code, late.headers["retry-after"]) == (503, "1")
                assert "no response within 0.3 s" in late.json()["detail"]
            Hanging.goes_on.set()
            until = time.monotonic() + 20
            while (answer := await http.post("/v1/studies/lab/ask")).status_code == 503:
                assert time.monotonic() < until
            assert answer.json()["trials"][0]["trial"] == 0, "the requests that were given up had not begun"

    asyncio.run(scene())
    assert study.counts()["running"] == 1


HOSTILE = [
    "'; DROP TABLE studies; --",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "a\0b",
    "a\r\nSet-Cookie: x=1",
    "=cmd|' /C calc'!A0",
    "\u202egnp.exe",
    "{{7*7}}",
]


@pytest.mark.parametrize("where", ["sqlite", "postgres"])
def test_hostile_text_is_stored_verbatim_or_refused(where, service, request):
    if where == "postgres":
        with Service(request.getfixturevalue("postgres_url")) as other:
            with Client(other.url) as client:
                client.open_study("lab", space=SPACE, sampler="random")
            _is_verbatim_or_refused(other)
    else:
        _is_verbatim_or_refused(service)


def _is_verbatim_or_refused(service) -> None:
    with service.http() as http:
        for text in HOSTILE:
            for body in (
                {"name": text, "space": SPACE},
                {"name": "x", "space": {text: SPACE["x"]}},
                {"name": "x", "space": SPACE, "constraints": [text]},
                {"name": "x", "space": SPACE, "search": {"sampler": text}},
            ):
                assert http.post("/v1/studies", json=body).status_code == 422, body
            space = {"kind": {"type": "choice", "choices": [text, "other"]}}
            name = f"study-{HOSTILE.index(text)}"
            made = http.post("/v1/studies", json={"name": name, "space": space, "description": text})
            assert made.status_code == (201 if text.isprintable() else 422), (text, made.text)
            if made.status_code == 201:
                assert http.post(f"/v1/studies/{name}/enqueue", json={"params": {"kind": text}}).status_code == 201
                (asked,) = http.post(f"/v1/studies/{name}/ask").json()["trials"]
                assert asked["params"] == {"kind": text}
            number = http.post("/v1/studies/lab/ask").json()["trials"][0]["trial"]
            told = http.post(f"/v1/studies/lab/trials/{number}/tell", json={"state": "failed", "reason": text})
            assert told.json()["reason"] == text
            assert http.get(f"/v1/studies/lab/trials/{number}").json()["reason"] == text
            assert told.headers["content-type"] == "application/json"
            assert told.headers["x-content-type-options"] == "nosniff"
            odd = http.post("/v1/studies/lab/attach", json={"params": {"x": 0.5}, "value": {"value": 1.0, text: 2.0}})
            assert odd.status_code == (201 if text.isprintable() else 422)
            if odd.status_code == 201:
                assert odd.json()["metrics"][text] == 2.0
        for path in ("%2e%2e%2f%2e%2e%2fetc%2fpasswd", "a%00b", "%3Cscript%3E", "a%0d%0ab", ".."):
            assert http.get(f"/v1/studies/{path}").status_code in (404, 422)
