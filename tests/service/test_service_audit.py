"""Tests of the audit log: what is in it, who sees it, and that no change is without its entry."""

from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy
from services import SPACE, Service, run_cli, storage_in

from aifs_tune.errors import StorageError
from aifs_tune.service.audit import Action, AuditLog
from aifs_tune.service.tokens import Caller, TokenStore
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import load_study

STUDY = "/v1/studies/{study}"
TRIAL = f"{STUDY}/trials/{{trial}}"
NEW = {"space": SPACE, "search": {"sampler": "random"}}
TELL = Action(
    Caller("default", "measure", "0" * 12, "furnace-2"), "::1", "default", "POST", f"{TRIAL}/tell", "crystals", 0
)


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> str:
    return storage_in(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def tokens(storage) -> dict[str, str]:
    token_store = TokenStore(Storage(storage, create=True))
    made = {scope: token_store.create("biology", scope, label=f"{scope} it") for scope in ("read", "measure", "manage")}
    made["other"] = token_store.create("physics", "manage")
    made["careless"] = token_store.create("careless", "manage", label=f"mine: {made['other']}")
    return made


@pytest.fixture(scope="module")
def service(storage, tokens):
    with Service(storage, "--require-token") as running:
        yield running


def sent(service, who: str, method: str, path: str, body: object = None, **headers: str) -> Any:
    with service.http(headers={"Authorization": f"Bearer {who}", **headers}) as http:
        return http.request(method, path, json=body)


def audit(service, who: str, **query: Any) -> dict[str, Any]:
    with service.http(headers={"Authorization": f"Bearer {who}"}) as http:
        return http.get("/v1/audit", params=query).json()


def test_each_change_is_an_entry_and_reading_is_none(service, tokens):
    began = datetime.now(UTC)
    manage, measure = tokens["manage"], tokens["measure"]
    there = "/v1/studies/furnace"
    for who, path, body in (
        (manage, "/v1/studies", {"name": "furnace", **NEW}),
        (measure, f"{there}/ask", {"n": 2}),
        (measure, f"{there}/trials/1/tell", {"value": 0.5}),
        (measure, f"{there}/attach", {"params": {"x": 0.2}, "value": 0.1}),
        (measure, f"{there}/note", {"text": "the lid was open"}),
        (manage, f"{there}/archive", {}),
    ):
        assert sent(service, who, "POST", path, body).status_code in (200, 201)
    for path in (there, f"{there}/trials", "/v1/audit"):
        assert sent(service, manage, "GET", path).status_code == 200
    found = audit(service, manage, study="furnace")
    assert [(e["label"], e["method"], e["route"], e["trial"], e["status"]) for e in found["entries"]] == [
        ("manage it", "POST", f"{STUDY}/archive", None, 200),
        ("measure it", "POST", f"{STUDY}/note", None, 200),
        ("measure it", "POST", f"{STUDY}/attach", 2, 201),
        ("measure it", "POST", f"{TRIAL}/tell", 1, 200),
        ("measure it", "POST", f"{STUDY}/ask", 1, 201),
        ("measure it", "POST", f"{STUDY}/ask", 0, 201),
        ("manage it", "POST", "/v1/studies", None, 201),
    ]
    assert {(e["project"], e["study"]) for e in found["entries"]} == {("biology", "furnace")}
    assert {e["address"] for e in found["entries"]} == {"127.0.0.1"}
    assert {e["token_id"] for e in found["entries"]} == {who.split("_")[1] for who in (manage, measure)}
    times = [datetime.fromisoformat(e["at"]) for e in found["entries"]]
    assert times == sorted(times, reverse=True)
    assert (times[-1] - began).total_seconds() > -0.001  # times have milliseconds
    assert times[0] <= datetime.now(UTC)
    assert all(e["at"].endswith("+00:00") for e in found["entries"])


def test_a_repeated_request_is_one_entry(service, tokens):
    sent(service, tokens["manage"], "POST", "/v1/studies", {"name": "repeated", **NEW})
    for _ in range(3):
        answer = sent(service, tokens["measure"], "POST", "/v1/studies/repeated/ask", {}, **{"Idempotency-Key": "one"})
        assert answer.json()["trials"][0]["trial"] == 0
    assert [e["trial"] for e in audit(service, tokens["manage"], study="repeated")["entries"]] == [0, None]


def test_refused_changes_are_entries(service, tokens):
    manage, measure = tokens["manage"], tokens["measure"]
    sent(service, manage, "POST", "/v1/studies", {"name": "refusing", **NEW})
    there = "/v1/studies/refusing"
    sent(service, measure, "POST", f"{there}/attach", {"params": {"x": 0.2}, "value": 0.1})
    refusals = [
        (measure, f"{there}/archive", {}, 403),
        (manage, f"{there}/delete", {"study": "refused"}, 422),
        (measure, f"{there}/trials/0/tell", {"value": 0.7}, 409),
        (measure, f"{there}/trials/0/tell", {"value": "much"}, 422),
        (measure, f"{there}/trials/7/tell", {"value": 0.7}, 404),
    ]
    for who, path, body, status in refusals:
        assert sent(service, who, "POST", path, body).status_code == status
    assert sent(service, "aifs_", "POST", f"{there}/archive", {}).status_code == 401
    found = audit(service, manage, study="refusing", limit=len(refusals))["entries"]
    assert [(e["token_id"], e["trial"], e["status"]) for e in reversed(found)] == [
        (who.split("_")[1], int(path.split("/")[-2]) if "trials" in path else None, status)
        for who, path, _, status in refusals
    ]


def test_names_that_are_not_valid_are_left_out(service, tokens):
    for path in ("a%0Ab/ask", "x%00/ask", f"{'n' * 101}/ask", "x/trials/-1/tell", "x/trials/99999999999999999999/tell"):
        assert sent(service, tokens["manage"], "POST", f"/v1/studies/{path}", {"value": 1.0}).status_code == 422
    found = audit(service, tokens["manage"], limit=5)["entries"]
    assert [(e["study"], e["trial"]) for e in found] == [("x", None)] * 2 + [(None, None)] * 3


def test_who_signs_in_and_out_is_told(service, tokens):
    with service.http(headers={"Origin": service.url}) as http:
        bearer = {"Authorization": f"Bearer {tokens['read']}"}
        assert http.put("/v1/session", headers=bearer).status_code == 204
        assert http.put("/v1/session?scope=manage", headers=bearer).status_code == 403
        assert http.delete("/v1/session").status_code == 204
    found = audit(service, tokens["manage"], limit=3)["entries"]
    assert [(e["method"], e["route"], e["label"], e["status"]) for e in found] == [
        ("DELETE", "/v1/session", "read it", 204),
        ("PUT", "/v1/session", "read it", 403),
        ("PUT", "/v1/session", "read it", 204),
    ]


def test_it_is_shown_by_pages_to_those_who_manage_the_project(service, tokens):
    for n in range(5):
        assert sent(service, tokens["other"], "POST", "/v1/studies", {"name": f"s{n}", **NEW}).status_code == 201
    pages, before = [], {}
    while before is not None:
        page = audit(service, tokens["other"], limit=2, **before)
        pages.append([e["study"] for e in page["entries"]])
        before = {"before": page["next"]} if page["next"] is not None else None
    assert pages == [["s4", "s3"], ["s2", "s1"], ["s0"]]
    assert audit(service, tokens["manage"], study="s0")["entries"] == []
    for who in ("read", "measure"):
        assert sent(service, tokens[who], "GET", "/v1/audit").status_code == 403
    for query in ("limit=0", "limit=1001", "before=0", "before=x", "study=%0A"):
        assert sent(service, tokens["manage"], "GET", f"/v1/audit?{query}").status_code == 422


def test_no_secret_of_a_token_is_in_it(service, tokens, storage):
    secret = tokens["other"].split("_", 2)[-1]
    careless = tokens["careless"]
    assert sent(service, careless, "POST", "/v1/studies", {"name": tokens["other"], **NEW}).status_code == 201
    assert sent(service, careless, "POST", f"/v1/studies/{tokens['other']}/ask", {}).status_code == 201
    assert sent(service, careless, "POST", f"/v1/studies/{tokens['other']}/trials/9/tell", {}).status_code == 404
    shown = "aifs_" + tokens["other"].split("_")[1] + "_..."
    assert [(e["study"], e["label"]) for e in audit(service, careless)["entries"]] == [(shown, f"mine: {shown}")] * 3
    with sqlite3.connect(storage.removeprefix("sqlite:///")) as database:
        rows = database.execute("SELECT * FROM aifs_tune_audit").fetchall()
    assert secret not in str(rows)
    assert "aifs_" in str(rows)


def test_changes_that_come_at_once_are_one_entry_each(service, tokens):
    sent(service, tokens["manage"], "POST", "/v1/studies", {"name": "crowd", **NEW})

    def attach(n: int) -> int:
        body = {"params": {"x": n / 100}, "value": float(n)}
        refused = sent(service, tokens["read"], "POST", "/v1/studies/crowd/attach", body).status_code
        assert refused == 403
        return sent(service, tokens["measure"], "POST", "/v1/studies/crowd/attach", body).json()["trial"]

    with ThreadPoolExecutor(8) as threads:
        trials = list(threads.map(attach, range(24)))
    entries = audit(service, tokens["manage"], study="crowd")["entries"]
    assert sorted(e["trial"] for e in entries if e["status"] == 201 and e["trial"] is not None) == sorted(trials)
    assert sum(e["status"] == 403 for e in entries) == 24


def test_there_is_no_change_without_its_entry(service, tokens, storage):
    sent(service, tokens["manage"], "POST", "/v1/studies", {"name": "whole", **NEW})
    body = {"params": {"x": 0.1}, "value": 1.0}
    file = storage.removeprefix("sqlite:///")
    with sqlite3.connect(file) as database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON aifs_tune_audit BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )
    try:
        assert sent(service, tokens["measure"], "POST", "/v1/studies/whole/attach", body).status_code == 503
        assert sent(service, tokens["read"], "POST", "/v1/studies/whole/attach", body).status_code == 403
    finally:
        with sqlite3.connect(file) as database:
            database.execute("DROP TRIGGER full")
    assert load_study("biology/whole", storage).all_trials() == []
    assert any("a refused request could not be added" in line for line in service.said)
    assert sent(service, tokens["measure"], "POST", "/v1/studies/whole/attach", body).json()["trial"] == 0


def test_the_command_prints_the_entries(service, tokens, storage):
    sent(service, tokens["manage"], "POST", "/v1/studies", {"name": "printed", **NEW})
    sent(service, tokens["measure"], "POST", "/v1/studies/printed/ask", {})
    words = ("audit", "--project", "biology", "--study", "printed")
    asked, made = run_cli(*words, storage=storage).stdout.splitlines()
    assert asked.split("  ")[1:] == [
        "biology",
        f"{tokens['measure'].split('_')[1]} measure it",
        "127.0.0.1",
        f"POST {STUDY}/ask",
        "printed",
        "trial 0",
        "201",
    ]
    assert made.endswith("POST /v1/studies  printed  201")
    listed = json.loads(run_cli(*words, "--limit", "1", "--json", storage=storage).stdout)
    assert listed == audit(service, tokens["manage"], study="printed", limit=1)["entries"]
    assert run_cli("audit", "--project", "nosuch", storage=storage).stdout == ""


def test_a_caller_without_a_token_is_told(tmp_path):
    storage = storage_in(tmp_path)
    with Service(storage) as running, running.http() as http:
        assert http.post("/v1/studies", json={"name": "mine", **NEW}).status_code == 201
        elsewhere = {"Aifs-Tune-Project": "biology"}
        assert http.post("/v1/studies/none/ask", json={}, headers=elsewhere).status_code == 404
        assert [e["token_id"] for e in http.get("/v1/audit").json()["entries"]] == [None]
        assert [e["status"] for e in http.get("/v1/audit", headers=elsewhere).json()["entries"]] == [404]
    assert "default  no token  127.0.0.1  POST /v1/studies  mine  201" in run_cli("audit", storage=storage).stdout


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request, tmp_path) -> Storage:
    if request.param == "sqlite":
        return Storage(storage_in(tmp_path), create=True)
    return Storage(request.getfixturevalue("postgres_url"))


def test_entries_are_added_at_once_and_never_changed(opened):
    log = AuditLog(opened)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda status: log.record(TELL, status), range(200, 240)))
    entries = log.entries("default", study="crystals")
    assert sorted(entry.status for entry in entries) == list(range(200, 240))
    assert [entry.id for entry in entries] == sorted((entry.id for entry in entries), reverse=True)
    for statement in ("UPDATE aifs_tune_audit SET status = 200", "DELETE FROM aifs_tune_audit WHERE id = 1"):
        with (
            pytest.raises(sqlalchemy.exc.SQLAlchemyError, match="stand as they are"),
            opened.rdb.engine.begin() as connection,
        ):
            connection.execute(sqlalchemy.text(statement))
    assert log.entries() == entries
    AuditLog(opened)  # as the next service does
    assert log.entries(before=entries[-2].id) == entries[-1:]


def test_an_entry_that_cannot_be_written_is_an_error(tmp_path):
    opened = Storage(storage_in(tmp_path), create=True)
    log = AuditLog(opened)
    with opened.rdb.engine.begin() as connection:
        connection.execute(sqlalchemy.text("DROP TABLE aifs_tune_audit"))
    with pytest.raises(StorageError, match="no such table"):
        log.record(TELL, 200)
    with pytest.raises(StorageError, match="no such table"):
        log.entries()
