"""Tests of signing in with the accounts of a real, small OpenID Connect provider."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from browsers import chromium
from services import SPACE, Service, run_cli, storage_in
from starlette.requests import Request

from aifs_tune.cli.main import main
from aifs_tune.errors import AccessError, RequestError
from aifs_tune.service.application import routes
from aifs_tune.service.middleware import Access, add_middleware
from aifs_tune.service.sessions import IDLE_S, MAX_ACCOUNT_SESSION_S, Sessions
from aifs_tune.service.tokens import Caller, TokenStore, make_tables
from aifs_tune.storage.storage import Storage

pytest.importorskip("authlib")
mock = pytest.importorskip("oidc_provider_mock")

from aifs_tune.service.openid import (  # noqa: E402 - only where Authlib is
    SIGN_IN_TTL_S,
    OpenId,
    Wanted,
    load_openid_settings,
)

RIGHTS = """
  - {claim: groups, value: furnace, project: biology, scope: measure}
  - {claim: groups, value: heads, project: biology, scope: manage}
  - {claim: groups, value: heads, project: physics, scope: read}
  - {claim: email, value: ada@lab.example, project: default, scope: manage}
"""
ACCOUNTS = {
    "measurer": {"email": "m@lab.example", "email_verified": True, "groups": ["furnace", "choir"]},
    "head": {"email": "h@lab.example", "email_verified": True, "groups": ["furnace", "heads"]},
    "ada": {"email": "ada@lab.example", "email_verified": True},
    "liar": {"email": "ada@lab.example", "email_verified": False},
    "unsaid": {"email": "ada@lab.example"},
    "guest": {"groups": "choir"},
}


def provider_of(**options: Any) -> Any:
    accounts = [mock.User(sub=sub, claims=claims) for sub, claims in ACCOUNTS.items()]
    return mock.run_server_in_thread(user_claims=accounts, require_nonce=True, **options)


def write_settings(folder: Path, port: int, *, rights: str = RIGHTS, more: str = "") -> Path:
    (folder / "secret").write_text("the secret\n")
    file = folder / "openid.yaml"
    file.write_text(
        f"issuer: http://localhost:{port}\nclient_id: aifs-tune\nclient_secret_file: secret\n{more}rights:{rights}"
    )
    return file


@pytest.fixture(scope="module")
def provider():
    with provider_of() as running:
        yield running


@pytest.fixture(scope="module")
def service(provider, tmp_path_factory):
    folder = tmp_path_factory.mktemp("openid")
    with Service(storage_in(folder), "--openid", str(write_settings(folder, provider.server_port))) as running:
        running.storage = storage_in(folder)
        yield running


def begun(http: httpx.Client, **query: str) -> str:
    """Where the browser is sent to."""
    led = http.get("/sign-in/openid", params=query)
    assert led.status_code == 302, led.text
    return led.headers["location"]


def consented(authorize: str, **form: str) -> str:
    """Where the provider sends the browser back to."""
    back = httpx.post(authorize, data=form)
    assert back.status_code == 302, back.text
    return back.headers["location"]


def signed_in(http: httpx.Client, sub: str, **query: str) -> httpx.Response:
    return http.get(consented(begun(http, **query), sub=sub))


def refused(answer: httpx.Response) -> str:
    assert (answer.status_code, "set-cookie" in answer.headers) == (303, False)
    target = urlsplit(answer.headers["location"])
    assert (target.netloc, target.path) == ("", "/sign-in")
    return parse_qs(target.query)["refused"][0]


def test_an_account_has_the_rights_of_its_groups(service):
    with service.http(headers={"Origin": service.url}) as http:
        answer = signed_in(http, "measurer", next="/studies/furnace", scope="measure")
        assert (answer.status_code, answer.headers["location"]) == (303, "/studies/furnace")
        session = next(line for line in answer.headers.get_list("set-cookie") if "Max-Age=604800" in line)
        assert {"HttpOnly", "SameSite=strict"} <= set(session.split("; "))
        assert http.get("/v1/caller").json() == {
            "project": "biology",
            "is_fixed": True,
            "scope": "measure",
            "authenticated_by": "session",
        }
        assert http.post("/v1/studies/nosuch/ask", json={}).status_code == 404
        assert http.post("/v1/studies", json={"name": "furnace", "space": SPACE}).status_code == 403
        assert http.get("/v1/studies", headers={"Aifs-Tune-Project": "physics"}).status_code == 403
        with service.http() as without_origin:
            without_origin.cookies = http.cookies
            assert without_origin.post("/v1/studies/nosuch/ask", json={}).status_code == 403
        assert http.delete("/v1/session").status_code == 204
        assert http.get("/v1/caller").status_code == 401
    printed = run_cli("audit", "--project", "biology", storage=service.storage).stdout
    assert "  m@lab.example  127.0.0.1  GET /sign-in/openid/callback  303\n" in printed
    assert "  m@lab.example  127.0.0.1  POST /v1/studies  403\n" in printed


def test_the_highest_right_in_a_project_counts_and_a_project_is_chosen_among_several(service):
    with service.http(headers={"Origin": service.url}) as http:
        answer = signed_in(http, "head", scope="manage")
        assert refused(answer) == "project"
        assert parse_qs(urlsplit(answer.headers["location"]).query)["projects"] == ["biology,physics"]
        assert http.get("/v1/caller").status_code == 401
        assert signed_in(http, "head", scope="manage", project="biology").headers["location"] == "/"
        assert http.post("/v1/studies", json={"name": "made", "space": SPACE}).status_code == 201
        assert refused(signed_in(http, "head", scope="manage", project="physics")) == "scope"
        signed_in(http, "head", project="physics")
        assert [http.get("/v1/caller").json()[key] for key in ("project", "scope")] == ["physics", "read"]


@pytest.mark.parametrize(
    ("sub", "query", "reason"),
    [
        ("guest", {}, "rights"),
        ("stranger", {}, "rights"),
        ("measurer", {"project": "physics"}, "rights"),
        ("measurer", {"scope": "manage"}, "scope"),
        ("liar", {}, "rights"),
        ("unsaid", {}, "rights"),
    ],
)
def test_an_account_without_the_right_is_led_back(sub, query, reason, service):
    with service.http() as http:
        assert refused(signed_in(http, sub, **query)) == reason
        assert http.get("/v1/caller").status_code == 401


def test_a_verified_address_has_its_right(service):
    with service.http() as http:
        signed_in(http, "ada", scope="manage")
        assert [http.get("/v1/caller").json()[key] for key in ("project", "scope")] == ["default", "manage"]


def test_what_is_not_the_end_of_a_sign_in_of_this_browser_is_refused(service):
    with service.http() as http, service.http() as other:
        denied = http.get(consented(begun(http), action="deny"))
        assert refused(denied) == "account"
        back = consented(begun(http), sub="ada")
        assert refused(other.get(back)) == "account", "another browser has no cookie"
        begun(other)
        assert refused(other.get(back)) == "account", "it has that of another sign-in"
        assert http.get(back).headers["location"] == "/"
        assert refused(http.get(back)) == "account", "it ends once"
        for query in ("", "?code=x", "?code=x&state=y", "?error=access_denied&state=y"):
            begun(http)
            assert refused(http.get(f"/sign-in/openid/callback{query}")) == "account"
        code = parse_qs(urlsplit(consented(begun(http), sub="ada")).query)["code"][0]
        state = parse_qs(urlsplit(begun(http)).query)["state"][0]
        swapped = http.get("/sign-in/openid/callback", params={"code": code, "state": state})
        assert refused(swapped) == "account", "the ID token has the nonce of another sign-in"
    assert any("did not confirm the account" in line for line in service.said)
    assert not any("Traceback" in line for line in service.said)


@pytest.mark.parametrize(
    "query",
    [
        {"next": "https://evil.example/"},
        {"next": "//evil.example"},
        {"next": "/\\evil.example"},
        {"next": "/a b"},
        {"next": ""},
        {"scope": "own"},
        {"project": "../x"},
    ],
)
def test_it_leads_nowhere_else(query, service):
    with service.http() as http:
        assert http.get("/sign-in/openid", params=query).status_code == 422


@asynccontextmanager
async def served(folder: Path, settings: Path | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service in this process."""
    storage = Storage(storage_in(folder), create=True)
    make_tables(storage)
    token_store = TokenStore(storage)
    app, sessions = routes(storage), Sessions(token_store)
    app.state.sessions = sessions
    app.state.openid = None if settings is None else OpenId(load_openid_settings(settings))
    middleware = add_middleware(app, Access(["lab"], [], token_store, None), sessions)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(middleware), base_url="http://lab") as http,
    ):
        yield http


def test_a_provider_that_is_away_or_sends_old_tokens_is_told(tmp_path):
    async def answers_of(path: str) -> httpx.Response:
        async with served(tmp_path, file) as http:
            led = await http.get(path)
            return led if led.status_code == 303 else await http.get(consented(led.headers["location"], sub="ada"))

    with provider_of(access_token_max_age=timedelta(hours=-1)) as outdated:
        file = write_settings(tmp_path, outdated.server_port)
        assert refused(asyncio.run(answers_of("/sign-in/openid"))) == "account", "the ID token has expired"
    assert refused(asyncio.run(answers_of("/sign-in/openid?next=/studies/x"))) == "provider"


def test_a_service_without_a_provider_offers_none(tmp_path):
    async def scene() -> None:
        async with served(tmp_path, None) as http:
            assert (await http.get("/sign-in/options")).json() == {"openid": None}
            for path in ("/sign-in/openid", "/sign-in/openid/callback"):
                assert (await http.get(path)).status_code == 404

    asyncio.run(scene())


def test_a_missing_package_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "aifs_tune.service.openid")
    monkeypatch.setitem(sys.modules, "authlib.common.errors", None)
    words = ["serve", "--openid", str(write_settings(tmp_path, 1)), "--storage", storage_in(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["aifs-tune", *words])
    with pytest.raises(SystemExit):
        main()
    assert "authlib is not installed; install it with: pip install 'aifs-tune[openid]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("issuer: http://localhost:1", "issuer: http://login.lab", "not an issuer"),
        ("issuer: http://localhost:1", "issuer: https://login.lab/?a=b", "not an issuer"),
        ("issuer: http://localhost:1", "issuer: login.lab", "not an issuer"),
        ("client_id: aifs-tune\n", "", "client_id"),
        ("client_id", "client", "client"),
        ("scope: measure", "scope: own", r"rights\[0\].scope|rights.0.scope"),
        ("project: biology, scope: measure", "project: Biology, scope: measure", "project"),
        (RIGHTS, " []\n", "rights"),
        ("rights:", "rights: {", "YAML"),
    ],
)
def test_settings_that_are_not_valid_are_refused(old, new, said, tmp_path):
    file = write_settings(tmp_path, 1)
    assert load_openid_settings(file).issuer == "http://localhost:1"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(RequestError, match=said) as caught:
        load_openid_settings(file)
    assert str(file) in str(caught.value)


def test_the_example_of_the_page_is_valid(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "how_to" / "service.md").read_text()
    (example,) = re.findall(r"```text\n(issuer:.*?)```", page, re.DOTALL)
    (tmp_path / "openid.yaml").write_text(example)
    settings = load_openid_settings(tmp_path / "openid.yaml")
    assert (settings.scopes, len(settings.rights)) == (["email"], 2)
    assert settings.client_secret_file == tmp_path / "openid_secret"


def test_files_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(RequestError, match=r"--openid: .*none\.yaml cannot be read"):
        load_openid_settings(tmp_path / "none.yaml")
    settings = load_openid_settings(write_settings(tmp_path, 1))
    (tmp_path / "secret").unlink()
    with pytest.raises(RequestError, match=r"--openid: .*secret cannot be read"):
        OpenId(settings)


def test_sign_ins_end_after_a_while_and_are_bounded(provider, tmp_path, monkeypatch):
    monkeypatch.setattr("aifs_tune.service.openid.MAX_SIGN_INS", 2)
    now = 0.0
    settings = load_openid_settings(write_settings(tmp_path, provider.server_port))
    openid = OpenId(settings, clock=lambda: now)

    async def begin(n: int) -> list[str]:
        wanted = Wanted("/", "read", None)
        return [
            (await openid.begin(Request({"type": "http", "headers": []}), "http://lab/back", wanted))[0]
            for _ in range(n)
        ]

    first, second, last = asyncio.run(begin(3))
    assert openid.wanted(second).page == openid.wanted(last).page == "/"
    with pytest.raises(AccessError, match="has not begun in this browser"):
        openid.wanted(first)
    now = SIGN_IN_TTL_S + 1
    with pytest.raises(AccessError, match="took too long"):
        openid.wanted(last)


def test_a_session_of_an_account_ends_after_hours(tmp_path):
    now = 0.0
    sessions = Sessions(TokenStore(Storage(storage_in(tmp_path), create=True)), clock=lambda: now)
    session = sessions.start(Caller("biology", "measure", label="m@lab.example"), "measure")
    while now < MAX_ACCOUNT_SESSION_S:
        assert sessions.caller(session) == Caller("biology", "measure")
        now += IDLE_S / 10
    now = MAX_ACCOUNT_SESSION_S + 1
    assert sessions.caller(session) is None
    with pytest.raises(AccessError, match="a token or an account"):
        sessions.start(Caller(None, "manage"))


def test_a_person_signs_in_with_a_browser(service, provider):
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{service.url}/sign-in?next=/")
        page.get_by_label("look", exact=True).check()
        page.get_by_role("link", name="Sign in at localhost").click()
        page.get_by_role("button", name="head", exact=True).click()
        page.get_by_role("alert").get_by_text("several projects").wait_for()
        page.get_by_role("link", name="Sign in at localhost for biology").click()
        page.get_by_role("button", name="head", exact=True).first.click()
        page.get_by_role("button", name="Sign out").wait_for()
        assert page.url == f"{service.url}/"
        cookies = {cookie["name"]: cookie for cookie in page.context.cookies(service.url)}
        assert [(cookie["httpOnly"], cookie["sameSite"]) for cookie in cookies.values()] == [(True, "Strict")]
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/sign-in")
