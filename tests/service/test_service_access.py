"""Tests of access to every route, with every kind of token and with forged headers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from services import SPACE, Service, read_problem, request_head, run_cli, storage_in, token

from aifs_tune.artifacts.logs import log_name
from aifs_tune.artifacts.trial_files import add_trial_file
from aifs_tune.client.client import Client
from aifs_tune.errors import AccessError, NotFoundError, RequestError, UnknownCallerError
from aifs_tune.publishing.publications import keep_publication
from aifs_tune.service.application import routes
from aifs_tune.service.server import resolve_bind_address, serve
from aifs_tune.service.tokens import Caller, TokenStore
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study

BODIES = {
    "/v1/studies": {"name": "fresh", "space": SPACE},
    "/v1/studies/{study}/enqueue": {"params": {"x": 0.5}},
    "/v1/studies/{study}/attach": {"params": {"x": 0.5}, "value": 1.0},
    "/v1/studies/{study}/trials/{trial}/report": {"epoch": 1, "metrics": {"value": 1.0}},
    "/v1/studies/{study}/note": {"text": "the lid was open"},
    "/v1/studies/{study}/trials/{trial}/note": {"text": "the lid was open"},
    "/v1/studies/{study}/publications": {"format": "html"},
    "/v1/sweeps": {"sweep": "broken"},
}
ROUTES = [
    (method.upper(), path)
    for path, methods in routes(None).openapi()["paths"].items()
    for method in methods
    if method in ("get", "post", "put", "patch", "delete")
]
ENDLESS = {"/v1/studies/{study}/events"}
READS = {("GET", path) for method, path in ROUTES if method == "GET" and path != "/v1/audit"} | {
    ("PUT", "/v1/session"),
    ("DELETE", "/v1/session"),
}
NOTES = "https://notes.lab"
MANAGES = {
    ("GET", "/v1/audit"),
    ("POST", "/v1/studies"),
    ("POST", "/v1/sweeps"),
    ("POST", "/v1/sweeps/{sweep}/stop"),
} | {("POST", f"/v1/studies/{{study}}/{verb}") for verb in ("archive", "delete", "publications")}
FILES = "/v1/studies/{study}/trials/{trial}/files"
CONTENT = b"\xff\xd8\xff a crucible"
PUBLICATION = "20260101T000000Z-00000000"
BROKEN = "name: broken\ntrainer: nosuch:train\nspace: {x: {type: float, low: 0, high: 1}}\n"
"""A sweep whose trainer does not exist."""


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> str:
    return storage_in(tmp_path_factory.mktemp("access"))


@pytest.fixture(scope="module")
def tokens(storage) -> dict[str, str]:
    token_store = TokenStore(Storage(storage, create=True))
    made = {scope: token_store.create("biology", scope) for scope in ("read", "measure", "manage")}
    made["other"] = token_store.create("physics", "manage")
    made["revoked"] = token_store.create("biology", "manage")
    token_store.revoke(made["revoked"].split("_")[1])
    made["expired"] = TokenStore(Storage(storage), clock=lambda: time.time() - 86400 * 2).create(
        "biology", "manage", expires_days=1
    )
    made["wrong"] = made["manage"][:-1] + ("A" if made["manage"][-1] != "A" else "B")
    made["garbage"] = "aifs_"
    return made


@pytest.fixture(scope="module")
def service(storage, tokens, tmp_path_factory):
    sweeps = tmp_path_factory.mktemp("sweeps")
    report = sweeps / "report.html"
    report.write_text("measured\n")
    (sweeps / "broken.yaml").write_text(BROKEN)
    with Service(storage, "--require-token", "--allow-origin", NOTES, "--sweeps", str(sweeps)) as running:
        with Client(running.url, tokens["manage"]) as client:
            study = client.open_study("secret", space=SPACE, sampler="random")
            study.tell(study.ask(), 0.5)
            secret = get_study(Storage(storage), "biology/secret")
            keep_publication(secret, report, "html", publication_id=PUBLICATION, trial=0)
            running.file = add_trial_file(secret, 0, "a.jpg", CONTENT).id
            log = Path(secret.artifacts) / log_name(0)
            log.parent.mkdir(parents=True)
            log.write_text("measured\n")
            running.sweep = client.start_sweep("broken").id
        yield running


def sent(service, method: str, path: str, **headers: str):
    with service.http() as http:
        body = body_of(method, path)
        return http.request(
            method, place(path, "secret", service.sweep, service.file), **body | {"headers": body["headers"] | headers}
        )


def place(path: str, study: str, sweep: str, file: str) -> str:
    filled = path.format(study=study, trial=0, sweep=sweep, publication=PUBLICATION, file=file)
    query = "?for_s=0" if path in ENDLESS else "?name=a.jpg" if path == FILES else ""
    return filled + query


def body_of(method: str, path: str) -> dict[str, Any]:
    """Body of a request with its headers, as httpx takes them."""
    if (method, path) == ("POST", FILES):
        return {"content": CONTENT, "headers": {"Content-Type": "application/octet-stream"}}
    return {"json": BODIES.get(path, {}) if method in ("POST", "PUT") else None, "headers": {}}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_route_refuses_callers_without_its_scope(method, path, service, tokens):
    for who in (None, "wrong", "expired", "revoked", "garbage"):
        headers = {} if who is None else {"Authorization": f"Bearer {tokens[who]}"}
        refused = sent(service, method, path, **headers)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer"), who
        assert "secret" not in refused.json()["detail"]
    assert sent(service, method, path, Authorization="Basic YTpi").status_code == 401
    allowed = {
        "read": (method, path) in READS,
        "measure": (method, path) not in MANAGES,
        "manage": True,
    }
    for who, is_allowed in allowed.items():
        response = sent(service, method, path, Authorization=f"Bearer {tokens[who]}")
        assert (response.status_code == 403) is not is_allowed, (who, response.text)
        assert response.status_code not in (401, 404, 500, 503), response.text


@pytest.mark.parametrize(("method", "path"), [(m, p) for m, p in ROUTES if "{" in p])
def test_a_study_of_another_project_seems_not_to_exist(method, path, service, tokens):
    with service.http(headers={"Authorization": f"Bearer {tokens['other']}"}) as http:
        there, nowhere = (
            http.request(method, place(path, study, sweep, service.file), **body_of(method, path))
            for study, sweep in (("secret", service.sweep), ("nosuch", "0" * 16))
        )
    assert there.status_code == nowhere.status_code == 404
    assert there.text.replace("secret", "nosuch").replace(service.sweep, "0" * 16) == nowhere.text
    assert "etag" not in there.headers
    assert [name for name, _ in there.headers.items()] == [name for name, _ in nowhere.headers.items()]


def test_a_name_that_another_project_has_is_free(service, tokens):
    with Client(service.url, tokens["other"]) as client:
        assert client.studies() == []
        study = client.open_study("secret", space={"y": SPACE["x"]}, sampler="random")
        assert study.counts()["complete"] == 0
        assert client.studies() == ["secret"]
        with pytest.raises(AccessError, match="this token is for project physics"):
            Client(service.url, tokens["other"], project="biology").studies()
    with Client(service.url, tokens["read"]) as client:
        assert client.study("secret").trial(0).value == 0.5
        with pytest.raises(AccessError, match="needed: measure"):
            client.study("secret").ask()
    with pytest.raises(UnknownCallerError, match="no token"):
        Client(service.url).studies()


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", "/v1/openapi.json")])
def test_a_page_of_another_site_gets_nothing(method, path, service, tokens):
    bearer = {"Authorization": f"Bearer {tokens['manage']}"}
    for forged in (
        {"Host": f"evil.example:{service.port}"},
        {"Host": f"127.0.0.1.evil.example:{service.port}"},
        {"Host": "127.0.0.1@evil.example"},
        {"Host": ""},
        {"Host": "["},
        {"Origin": "http://["},
        {"Origin": "http://evil.example"},
        {"Origin": f"http://127.0.0.1:{service.port + 1}"},
        {"Origin": "null"},
    ):
        refused = sent(service, method, path, **bearer, **forged)
        assert refused.status_code == 403, forged
        assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("path", sorted({path for method, path in ROUTES if method == "GET"}))
def test_head_opens_no_more_than_get(path, service, tokens):
    assert sent(service, "HEAD", path).status_code == 401
    for who in ("read", "other", "revoked"):
        bearer = {"Authorization": f"Bearer {tokens[who]}"}
        got, headed = (sent(service, method, path, **bearer) for method in ("GET", "HEAD"))
        assert (headed.status_code, headed.content) == (got.status_code, b"")
    assert sent(service, "HEAD", path, Host="evil.example").status_code == 403


@pytest.mark.parametrize(("method", "path"), [(m, p) for m, p in ROUTES if p != "/v1/session"])
def test_a_page_of_an_allowed_site_may_send_requests_and_read_responses(method, path, service, tokens):
    asks = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization"}
    preflight = sent(service, "OPTIONS", path, Origin=NOTES, **asks)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == NOTES
    assert method in preflight.headers["access-control-allow-methods"].split(", ")
    allowed = preflight.headers["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "content-type", "idempotency-key", "last-event-id"} <= set(allowed)
    answer = sent(service, method, path, Origin=NOTES, Authorization=f"Bearer {tokens['manage']}")
    assert answer.status_code not in (401, 403, 404, 500, 503)
    unknown = sent(service, method, path, Origin=NOTES)
    assert unknown.status_code == 401, "a page of another site has no anonymous access"
    for response in (answer, unknown):
        assert response.headers["access-control-allow-origin"] == NOTES
        assert "ETag" in response.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in response.headers
    for response in (preflight, answer, unknown, sent(service, method, path)):
        assert "Origin" in response.headers.get_list("vary", split_commas=True)
    for origin in ("https://notes.lab.evil.example", "http://notes.lab", "https://notes.lab:8443", "null"):
        refused = sent(service, "OPTIONS", path, Origin=origin, **asks)
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers


def test_its_own_pages_and_names_are_allowed(service, tokens):
    bearer = {"Authorization": f"Bearer {tokens['read']}"}
    for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
        host = f"{name}:{service.port}"
        assert sent(service, "GET", "/v1/studies", Host=host, Origin=f"http://{host}", **bearer).status_code == 200
    assert sent(service, "GET", "/v1/openapi.json").json()["openapi"].startswith("3.1")


def test_a_revoked_token_ends_within_a_second(service, storage):
    made = token(storage, "read", "biology")
    with Client(service.url, made) as client:
        assert "secret" in client.studies()
        assert run_cli("token", "revoke", made.split("_")[1], storage=storage).returncode == 0
        time.sleep(1.2)
        with pytest.raises(UnknownCallerError):
            client.studies()


def test_a_token_can_be_made_and_revoked_while_a_sweep_writes(tmp_path):
    storage = storage_in(tmp_path)
    with Storage(storage, create=True).writing():
        made = token(storage, "read")
        assert run_cli("token", "revoke", made.split("_")[1], storage=storage).returncode == 0
    with pytest.raises(UnknownCallerError):
        TokenStore(Storage(storage)).caller(made)


def test_the_stored_data_of_a_token_does_not_contain_its_secret(storage, tokens):
    content = b"".join(
        file.read_bytes() for file in sorted(Path(storage.removeprefix("sqlite:///")).parent.glob("lab.db*"))
    )
    listed = run_cli("token", "list", "--json", storage=storage)
    for made in tokens.values():
        secret = made.split("_", 2)[-1]
        if len(secret) > 8:
            assert secret.encode() not in content
            assert secret not in listed.stdout
    states = [entry["state"] for entry in json.loads(listed.stdout)]
    assert {"valid", "revoked", "expired"} == set(states)


def test_requests_of_this_machine_need_no_token_unless_others_can_reach_it(tmp_path):
    storage = storage_in(tmp_path)
    with Service(storage, "--allow-origin", NOTES) as running:
        for headers, status in (({}, 200), ({"Origin": running.url}, 200), ({"Origin": NOTES}, 401)):
            with running.http(headers=headers) as http:
                assert http.get("/v1/studies").status_code == status
        with Client(running.url) as client, Client(running.url, project="biology") as biology:
            client.open_study("mine", space=SPACE)
            assert (client.studies(), biology.studies()) == (["mine"], [])
        for header in ("Forwarded", "Via", "X-Forwarded-For"):
            with running.http(headers={header: "192.0.2.1"}) as http:
                assert http.get("/v1/studies").status_code == 401
        made = token(storage, "read")
        with pytest.raises(UnknownCallerError):
            Client(running.url, made[:-4] + "AAAA").studies()
        assert Client(running.url, made).studies() == ["mine"]


@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("0.0.0.0", {}),
        ("::", {}),
        ("127.0.0.1", {"require_token": True}),
        ("127.0.0.1", {"allow_hosts": ["tune.lab"]}),
    ],
)
def test_it_does_not_start_for_others_without_a_valid_token(host, options, tmp_path):
    storage = Storage(storage_in(tmp_path), create=True)
    long_ago = TokenStore(storage, clock=lambda: time.time() - 86400 * 2)
    long_ago.create("default", "manage", expires_days=1)
    with pytest.raises(RequestError, match="need a token and there is no valid one"):
        serve(storage, resolve_bind_address(host, 0), **options, on_ready=pytest.fail)


def test_the_command_says_how_to_make_one(tmp_path):
    refused = run_cli("serve", "--port", "0", "--host", "0.0.0.0", storage=storage_in(tmp_path))
    assert (refused.returncode, "aifs-tune token create" in refused.stderr) == (2, True), refused.stderr
    assert "Traceback" not in refused.stderr


def test_everywhere_with_a_token_and_under_another_name(tmp_path):
    storage = storage_in(tmp_path)
    made = token(storage, "manage")
    with Service(storage, "--host", "0.0.0.0", "--allow-host", "tune.lab") as running:
        running.host = "127.0.0.1"
        connection = running.socket()
        head = {"Host": "tune.lab", "Authorization": f"Bearer {made}", "Connection": "close"}
        connection.sendall(request_head(running, "/v1/studies/none", head, "GET").replace(b"Host: 127", b"X-Host: 127"))
        assert read_problem(connection)[0] == 404
        connection = running.socket()
        connection.sendall(request_head(running, "/v1/studies", {"Connection": "close"}, "GET"))
        assert read_problem(connection)[0] == 401


@pytest.mark.parametrize(
    "origin", ["*", "null", "notes.lab", "https://notes.lab/", "https://a@b", "ftp://x", "https://"]
)
def test_an_invalid_origin_is_refused(origin, tmp_path):
    storage = Storage(storage_in(tmp_path), create=True)
    with pytest.raises(RequestError, match="--allow-origin"):
        serve(storage, resolve_bind_address("127.0.0.1", 0), allow_origins=[origin], on_ready=pytest.fail)


def test_tokens_are_refused_with_the_reason(tmp_path):
    token_store = TokenStore(Storage(storage_in(tmp_path), create=True))
    for project, scope, more, said in (
        ("Biology", "read", {}, "project"),
        ("../x", "read", {}, "project"),
        ("biology", "admin", {}, "read, measure, manage"),
        ("biology", "read", {"expires_days": 0}, "expires-days"),
        ("biology", "read", {"expires_days": float("nan")}, "expires-days"),
        ("biology", "read", {"label": "a\nb"}, "label"),
    ):
        with pytest.raises(RequestError, match=said):
            token_store.create(project, scope, **more)
    with pytest.raises(NotFoundError, match="there are: none"):
        token_store.revoke("x")


def test_tokens_in_postgresql(postgres_url):
    now = 1_000_000.0
    token_store = TokenStore(Storage(postgres_url), clock=lambda: now)
    made = token_store.create("biology", "measure", expires_days=1, label="the <furnace>")
    assert token_store.caller(made) == Caller("biology", "measure")
    now += 86401
    with pytest.raises(UnknownCallerError):
        token_store.caller(made)
    ((listed, state),) = token_store.tokens()
    assert (listed.label, state) == ("the <furnace>", "expired")
