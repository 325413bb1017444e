"""Tests of browser sessions, the data of charts, and the read-only Optuna Dashboard."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import optuna
import pytest
from services import SPACE, Service, storage_in

from aifs_tune.analysis.study_tables import analyse
from aifs_tune.client.client import Client
from aifs_tune.errors import AccessError, ServiceError
from aifs_tune.publishing.summary import studies_summary
from aifs_tune.service import sessions
from aifs_tune.service.charts import Importance, Importances
from aifs_tune.service.project_view import ProjectView
from aifs_tune.service.sessions import Sessions
from aifs_tune.service.tokens import Caller, TokenStore
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study, study_names
from aifs_tune.study.open import start_study

CHARTS = ("progress", "history", "curves", "importance", "workers")


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> str:
    return storage_in(tmp_path_factory.mktemp("charts"))


@pytest.fixture(scope="module")
def tokens(storage) -> dict[str, str]:
    token_store = TokenStore(Storage(storage, create=True))
    made = {project: token_store.create(project, "manage") for project in ("default", "biology", "physics")}
    return {**made, "short": token_store.create("biology", "read")}


@pytest.fixture(scope="module")
def service(storage, tokens):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    Storage(storage, create=True)
    optuna.create_study(storage=storage, study_name="foreign")
    with Service(storage, "--require-token") as running:
        for project in ("default", "biology"):
            with Client(running.url, tokens[project]) as client:
                study = client.open_study(f"own-{project}", space=SPACE, sampler="random")
                for i, trial in enumerate(study.ask_batch(8)):
                    study.report(trial, 1, {"value": i / 8}, worker=f"furnace {i % 2}")
                    if i < 6:
                        study.tell(trial, i / 8)
                study.tell(6, state="failed", reason="the lid fell off")
        yield running


@contextmanager
def signed_in(service, made: str) -> Iterator[httpx.Client]:
    with service.http(headers={"Origin": service.url}) as http:
        started = http.put("/v1/session", headers={"Authorization": f"Bearer {made}"})
        assert started.status_code == 204, started.text
        yield http


def test_a_session_is_a_cookie_with_read_access(service, tokens):
    with signed_in(service, tokens["biology"]) as http:
        (cookie,) = http.cookies.jar
        assert tokens["biology"] not in cookie.value
        assert len(cookie.value) >= 43
        told = http.put("/v1/session", headers={"Authorization": f"Bearer {tokens['biology']}"})
        attributes = told.headers["set-cookie"].lower()
        assert "httponly" in attributes
        assert "samesite=strict" in attributes
        assert "secure" not in attributes
        headers = {"Authorization": f"Bearer {tokens['biology']}", "Origin": service.url.replace("http:", "https:")}
        assert "; secure" in service.http().put("/v1/session", headers=headers).headers["set-cookie"].lower()
        caller = http.get("/v1/caller").json()
        assert caller == {"project": "biology", "is_fixed": True, "scope": "read", "authenticated_by": "session"}
        assert [line["study"] for line in http.get("/v1/studies").json()["studies"]] == ["own-biology"]
        assert http.get("/v1/studies/own-default").status_code == 404
        for method, path in (
            ("POST", "/v1/studies/own-biology/ask"),
            ("POST", "/v1/studies/own-biology/trials/7/tell"),
        ):
            refused = http.request(method, path, json={})
            assert (refused.status_code, "this token may read" in refused.text) == (403, True), refused.text
        refused = http.put("/v1/session")  # a session does not prolong itself
        assert (refused.status_code, "a session starts with a token" in refused.text) == (403, True)
        again = http.put("/v1/session", headers={"Authorization": f"Bearer {tokens['biology']}"})
        assert again.status_code == 204  # the first one was replaced, and is over
        assert service.http(cookies={cookie.name: cookie.value}).get("/v1/caller").status_code == 401


def test_a_trial_outside_the_limits_is_never_drawn_as_the_best(tmp_path):
    with Service(storage_in(tmp_path)) as running, Client(running.url) as client, running.http() as http:
        study = client.open_study("press", space=SPACE, metric="yield", sampler="random", limits=["pressure <= 3"])
        for value, pressure in ((0.5, 1.0), (0.9, 4.0), (0.7, 2.0)):
            trial = study.ask()
            study.report(trial, 1, {"yield": value, "pressure": pressure})
            study.tell(trial, {"yield": value, "pressure": pressure})
        history, curves = (http.get(f"/v1/studies/press/{part}").json() for part in ("history", "curves"))
        assert [best["trial"] for best in history["best"]] == [0, 2]
        assert [trial["counts"] for trial in history["trials"]] == [True, False, True]
        assert [curve["counts"] for curve in curves["curves"]] == [True, False, True]


def test_a_session_may_what_was_asked_for_and_its_token_may(service, tokens):
    headers = {"Authorization": f"Bearer {tokens['biology']}", "Origin": service.url}
    with service.http() as http:
        may = http.get("/v1/caller", headers=headers).json()["scope"]
        assert http.put("/v1/session?scope=everything", headers=headers).status_code == 422
        for scope in ("measure", "manage"):
            started = http.put(f"/v1/session?scope={scope}", headers=headers)
            if scope == "manage" and may == "measure":
                assert (started.status_code, "needed: manage" in started.text) == (403, True)
                continue
            assert started.status_code == 204
            assert http.get("/v1/caller").json()["scope"] == scope
            refused = http.post("/v1/studies/own-biology/note", json={"text": "x"})  # a page of another site could
            assert (refused.status_code, "Origin" in refused.text) == (403, True)
            noted = http.post("/v1/studies/own-biology/note", json={"text": "x"}, headers={"Origin": service.url})
            assert noted.status_code == 200


def test_other_sites_cannot_use_a_session(service, tokens):
    with signed_in(service, tokens["biology"]) as http:
        for site in ("cross-site", "same-site"):
            assert http.get("/v1/studies", headers={"Sec-Fetch-Site": site}).status_code == 401
        assert http.get("/v1/studies", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
        cookies = dict(http.cookies)
        with service.http(cookies=cookies) as silent:
            assert silent.delete("/v1/session").status_code == 403
        with service.http(cookies=cookies, headers={"Origin": "http://evil.example"}) as evil:
            assert evil.delete("/v1/session").status_code == 403
            assert evil.get("/v1/studies").status_code == 403
        assert http.get("/v1/studies").status_code == 200


def test_signing_out_and_revoking_end_a_session(service, tokens, storage):
    made = tokens["short"]
    with signed_in(service, made) as first, signed_in(service, made) as second:
        kept = dict(first.cookies)
        assert first.delete("/v1/session").status_code == 204
        assert service.http(cookies=kept).get("/v1/studies").status_code == 401
        assert second.get("/v1/studies").status_code == 200
        TokenStore(Storage(storage)).revoke(made.split("_")[1])
        time.sleep(1.2)
        assert second.get("/v1/studies").status_code == 401


def test_sessions_expire_and_are_limited_in_number(tmp_path, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 3)
    token_store, now = TokenStore(Storage(storage_in(tmp_path), create=True)), 0.0
    caller = token_store.caller(token_store.create("biology", "manage"))
    held = Sessions(token_store, clock=lambda: now)
    idle, used = held.start(caller), held.start(caller)
    assert held.caller(used) == Caller("biology", "read")
    while now < sessions.MAX_SESSION_S - sessions.IDLE_S / 2:
        now += sessions.IDLE_S / 2
        assert held.caller(used) is not None
    assert held.caller(idle) is None
    now += sessions.IDLE_S / 2 + 1
    assert held.caller(used) is None
    many = []
    for _ in range(5):
        now += 1
        many.append(held.start(caller))
    assert [held.caller(one) is not None for one in many] == [False, False, True, True, True]
    assert held.caller("") is None
    with pytest.raises(AccessError, match="who has a token"):
        held.start(Caller(None, "manage"))


def test_pages_are_public_without_data_and_the_dashboard_leads_to_sign_in(service):
    with service.http() as http:
        for path in ("/", "/sign-in", "/studies/own-biology", "/studies/nosuch", "/page/style.css", "/page/study.js"):
            page = http.get(path)
            assert page.status_code == 200, path
            assert "own-biology" not in page.text
            policy = page.headers.get_list("content-security-policy")
            assert len(policy) == 1
            assert "script-src 'self';" in policy[0]
            assert "unsafe" not in policy[0]
            assert "frame-ancestors 'none'" in policy[0]
            assert page.headers["x-content-type-options"] == "nosniff"
            assert page.headers["referrer-policy"] == "same-origin"
            assert http.get(path, headers={"If-None-Match": page.headers["etag"]}).status_code == 304
            assert http.get(path, headers={"Host": "evil.example"}).status_code == 403
            assert http.post(path, json={}).status_code == 405
        assert http.get("/studies/own-biology").content == http.get("/studies/nosuch").content
        for path in ("/page/nosuch.js", "/page/..%2Ftokens.py", "/page/", "/page/%2e%2e/tokens.py", "/page/study.js/x"):
            assert http.get(path).status_code == 404, path
        led = http.get("/dashboard/studies/1", headers={"Accept": "text/html,*/*"})
        assert (led.status_code, led.headers["location"]) == (303, "/sign-in?next=/dashboard/studies/1")
        assert http.get("/dashboard").status_code == 401
        assert http.get("/api/studies").status_code == 401


def test_charts_show_what_was_measured(service, tokens):
    with service.http(headers={"Authorization": f"Bearer {tokens['biology']}"}) as http:
        answers = {}
        for chart in CHARTS:
            found = http.get(f"/v1/studies/own-biology/{chart}")
            assert found.status_code == 200, found.text
            assert found.headers["etag"]
            answers[chart] = found.json()
        progress = answers["progress"]
        assert progress["n_trials"] == {"complete": 6, "pruned": 0, "failed": 1, "running": 1, "waiting": 0}
        assert progress["failures"] == [{"reason": "the lid fell off", "n": 1, "first": 6}]
        assert [trial["trial"] for trial in progress["running"]] == [7]
        assert [entry["value"] for entry in answers["history"]["best"]] == [i / 8 for i in range(6)]
        assert [entry["order"] for entry in answers["history"]["trials"]] == [1, 2, 3, 4, 5, 6]
        assert answers["curves"]["curves"][3]["points"] == [[1, 3 / 8]]
        assert answers["importance"]["objectives"][0]["importance"] == []
        assert answers["importance"]["remark"] == "6 of at least 8 required trials are complete"
        assert [worker["worker"] for worker in answers["workers"]["workers"]] == ["furnace 0", "furnace 1"]
        assert answers["workers"]["n_started"] == 8
        few = http.get("/v1/studies/own-biology/history?limit=2").json()
        assert (few["n_ended"], [t["trial"] for t in few["trials"]]) == (6, [4, 5])
        curves = http.get("/v1/studies/own-biology/curves?limit=3").json()
        assert (curves["n_curves"], [c["trial"] for c in curves["curves"]]) == (8, [3, 4, 5])
        assert len(http.get("/v1/studies/own-biology/workers?limit=3").json()["workers"][0]["spans"]) < 3
        for chart in ("history", "curves", "workers"):
            assert http.get(f"/v1/studies/own-biology/{chart}?limit=0").status_code == 422


def test_the_dashboard_shows_only_the_studies_of_the_project_and_is_read_only(service, tokens, storage):
    before = {name: get_study(Storage(storage), name).counts() for name in ("own-default", "biology/own-biology")}
    for project, seen in (("biology", ["own-biology"]), ("default", ["own-default"]), ("physics", [])):
        with signed_in(service, tokens[project]) as http:
            listed = http.get("/api/studies").json()["study_summaries"]
            assert [study["study_name"] for study in listed] == seen
            if not seen:
                continue
            (own,) = [study["study_id"] for study in listed]
            found = http.get(f"/api/studies/{own}")
            assert (found.status_code, len(found.json()["trials"])) == (200, 8)
            assert "aifs_tune:" not in found.text
            for other in {1, 2, 3} - {own}:
                for path in (f"/api/studies/{other}", f"/api/studies/{other}/param_importances", f"/csv/{other}"):
                    assert http.get(path).status_code == 404, path
            for method, path, body in (
                ("POST", f"/api/studies/{own}/rename", {"study_name": "x"}),
                ("DELETE", f"/api/studies/{own}", {}),
                ("POST", "/api/studies", {"study_name": "x", "directions": ["minimize"]}),
                ("PUT", f"/api/studies/{own}/note", {"version": 1, "body": "x"}),
                ("POST", "/api/trials/8/tell", {"state": "Fail"}),
                ("POST", f"/api/artifacts/{own}", {"file": "data:,x", "filename": "x"}),
            ):
                refused = http.request(method, path, json=body)
                assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json"), path
    with service.http(headers={"Authorization": f"Bearer {tokens['default']}"}) as http:  # a token that may manage
        refused = http.delete("/api/studies/2")
        assert (refused.status_code, "read-only" in refused.json()["detail"]) == (403, True)
        page = http.get("/dashboard")
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert len(page.headers.get_list("content-security-policy")) == 1
        assert http.get("/dashboard", headers={"Host": "evil.example"}).status_code == 403
        for path in ("/static/../_app.py", "/static/..%2F_app.py", "/static/%2e%2e%2f_app.py"):
            assert http.get(path).status_code in (403, 404), path
    for name, counts in before.items():
        assert get_study(Storage(storage), name).counts() == counts
    assert study_names(Storage(storage)) == ["biology/own-biology", "foreign", "own-default"]


def test_importances_are_computed_once_and_one_at_a_time(url):
    storage = Storage(url, create=True)
    study, other = (start_study(storage, _spec(), name) for name in ("lab", "other"))
    for i in range(8):
        study.attach({"x": i / 8}, i / 8)
    importances = Importances(timeout_s=0.01)
    first = importances.of(study)
    assert (first[0], [row["parameter"] for row in first[1].rows["value"]]) == (8, ["x"])
    assert importances.of(study) is first
    study.attach({"x": 0.5}, 0.5)
    with importances._computing:
        assert importances.of(study) is first
        with pytest.raises(ServiceError, match="try again"):
            importances.of(other)
    assert importances.of(study)[0] == 9
    assert importances.of(other) == (0, Importance({}, "0 of at least 8 required trials are complete"))


def test_reading_pages_does_not_delay_measurements(service, tokens):
    client = Client(service.url, tokens["default"])
    study = client.open_study("busy", space=SPACE, sampler="random")
    n_seen = 0
    with ThreadPoolExecutor(1) as pool, signed_in(service, tokens["default"]) as http:
        measuring = pool.submit(lambda: [study.tell(study.ask(), 0.5) for _ in range(20)])
        while not measuring.done():
            found = {
                line["study_name"]: line["study_id"] for line in http.get("/api/studies").json()["study_summaries"]
            }
            assert http.get(f"/api/studies/{found['busy']}").status_code == 200
            assert http.get("/v1/studies/busy/history").status_code == 200
            n_seen += 1
        assert len(measuring.result()) == 20
    assert n_seen > 0


def test_a_project_view_refuses_every_write(url):
    storage = Storage(url, create=True)
    study = start_study(storage, _spec(), "lab", project="biology")
    study.tell(study.ask(), 0.5)
    view = ProjectView(storage, "biology")
    (seen,) = view.get_all_studies()
    assert view.get_study_id_from_name("lab") == seen._study_id == study.id
    assert view.get_trial(1).number == 0
    writes = [name for name in optuna.storages.BaseStorage.__abstractmethods__ if not name.startswith("get_")]
    assert len(writes) >= 10
    for name in writes:
        with pytest.raises(AccessError, match="read-only"):
            getattr(view, name)(study.id, "x", "y")
    with pytest.raises(AccessError):
        optuna.create_study(storage=view, study_name="other")
    for other in (ProjectView(storage, "physics"), ProjectView(storage, "default")):
        assert other.get_all_studies() == []
        for ask in (other.get_study_name_from_id, other.get_all_trials, other.get_study_user_attrs, other.get_trial):
            with pytest.raises(KeyError):
                ask(study.id)
        with pytest.raises(KeyError):
            other.get_study_id_from_name("lab")
    assert [s.study_name for s in ProjectView(storage, None).get_all_studies()] == ["biology/lab"]


def _spec():
    from aifs_tune.study.open import instrument_spec

    return instrument_spec("lab", {"objective": {"metric": "value"}, "space": SPACE, "search": {"sampler": "random"}})


def test_a_study_that_cannot_be_read_is_named_and_hides_no_other(tmp_path):
    url = f"sqlite:///{tmp_path}/lab.db"
    for name in ("lab", "junk"):
        start_study(Storage(url, create=True), _spec(), name)
    with sqlite3.connect(tmp_path / "lab.db") as database:
        database.execute(
            "UPDATE study_user_attributes SET value_json = '{}' WHERE key = 'aifs_tune:spec' "
            "AND study_id = (SELECT study_id FROM studies WHERE study_name = 'junk')"
        )
    with Service(url) as running, Client(running.url) as client:
        assert client.studies() == ["lab"]
        lab, junk = studies_summary(client)
        assert (lab["study"], junk["study"]) == ("lab", "junk")
        assert junk["problem"] == "the sweep file that the study keeps cannot be read"
        assert running.http().get("/v1/studies/lab").status_code == 200


def test_the_importance_of_the_page_is_that_of_python_and_of_the_command(service, tokens, storage, run):
    study = get_study(Storage(storage), "own-default")
    for i in range(6):
        study.attach({"x": i / 6}, i / 6)
    expected = analyse(study).importance()
    assert len(expected) == 1
    with signed_in(service, tokens["default"]) as http:
        (told,) = http.get("/v1/studies/own-default/importance").json()["objectives"]
    assert told["importance"] == expected[["parameter", "importance", "low", "high"]].to_dict("records")
    printed = run("importance", "own-default", "--json", "--storage", storage).json["importance"]
    assert [row["importance"] for row in printed] == [row["importance"] for row in told["importance"]]
    with Client(service.url, tokens["default"]) as client:
        assert analyse(client.study("own-default")).importance().equals(expected)
