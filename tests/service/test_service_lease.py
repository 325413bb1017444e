"""Tests of leases through the service, and of the command line with a remote service."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from records import open_record
from services import SPACE, Service, storage_in

from aifs_tune.client.client import Client
from aifs_tune.errors import ConflictError, UnknownCallerError
from aifs_tune.service.tokens import TokenStore
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.lease import MIN_LEASE_S
from aifs_tune.study.trial import Event

NONE = {"complete": 0, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> str:
    return storage_in(tmp_path_factory.mktemp("lease"))


@pytest.fixture(scope="module")
def service(storage):
    with Service(storage) as running:
        yield running


@pytest.fixture
def client(service):
    with Client(service.url, retry_timeout_s=10) as made:
        yield made


def overdue(storage: str, name: str):
    """The same study a day later."""
    later = Storage(storage, clock=lambda: datetime.now(UTC).timestamp() + 86_400)
    return get_study(later, name)


def test_a_lease_is_the_same_through_the_client(service, storage, client):
    there = client.open_study("whole", space=SPACE, sampler="random")
    trial = there.ask(label="A-17", owner="furnace-2", lease_s=3600)
    batch = there.ask_batch(2, labels=["B-1", "B-2"], owner="robot")
    here = get_study(Storage(storage), "whole")
    assert there.all_trials() == here.all_trials()
    assert [trial, *batch] == here.all_trials()
    assert trial.lease.due_at - datetime.now(UTC) > timedelta(minutes=50)
    longer = there.renew(trial, 7200)
    assert longer.lease.due_at > trial.lease.due_at
    assert there.renew(trial).lease.lease_s == 7200


def test_a_late_result_is_stored_or_refused_if_superseded(service, storage, client):
    there = client.open_study("late", space=SPACE, sampler="random")
    welcome, late = there.ask(lease_s=3600), there.ask(label="A-17", lease_s=3600)
    tomorrow = overdue(storage, "late")
    assert [t.lease.is_overdue for t in tomorrow.all_trials()] == [True, True]
    assert there.tell(welcome, 0.5).state == "complete"
    tomorrow.storage.wait_s = 30.0
    again = tomorrow.ask(owner="furnace-1")
    assert (again.params, there.trial(late).superseded_by) == (late.params, again.number)
    with pytest.raises(ConflictError, match=f"superseded by trial {again.number} .* as a new trial with the params"):
        there.tell(late, 0.25)
    with service.http() as http:
        refused = http.post(f"/v1/studies/late/trials/{late.number}/tell", json={"value": 0.25})
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:aifs-tune:conflict")
        params = json.loads(refused.json()["detail"].partition("the params ")[2])
        assert http.post("/v1/studies/late/attach", json={"params": params, "value": 0.25}).status_code == 201
    assert there.counts() == NONE | {"complete": 2, "failed": 1, "running": 1}


def test_leases_are_listed(service, storage, client):
    there = client.open_study("listed", space=SPACE, sampler="random")
    there.ask(label="A-1", owner="robot", lease_s=MIN_LEASE_S)
    there.ask(label="A-2", owner="robot")
    there.ask()
    with service.http() as http:

        def numbers(**asked: object) -> list[int]:
            found = http.get("/v1/studies/listed/trials", params=asked).json()["trials"]
            return [trial["trial"] for trial in found]

        assert numbers(owner="robot") == [0, 1]
        assert numbers(owner="robot", limit=1, after=0) == [1]
        assert numbers(label="A-2", state="running") == [1]
        assert numbers(owner="nobody") == []
        while not numbers(overdue=True):  # the shortest lease is a second
            pass
        assert numbers(overdue=True) == [0]
        events = http.get("/v1/studies/listed/events", params={"after": "0", "for_s": 0}).text
        assert events.count('"is_overdue":true') == 1
        for body, said in (
            ({"lease_s": 0}, "#/lease_s"),
            ({"lease_s": "3d"}, "#/lease_s"),
            ({"label": ""}, "#/label"),
            ({"owner": "a\nb"}, "#/owner"),
            ({"n": 2, "labels": ["x"]}, "one for each, or none"),
        ):
            refused = http.post("/v1/studies/listed/ask", json=body)
            assert (refused.status_code, said in refused.text) == (422, True), refused.text
        hostile = '<script>alert(1)</script> =cmd|" /C calc"!A0'
        made = http.post("/v1/studies/listed/ask", json={"label": hostile, "owner": "../../etc/passwd"})
        assert made.json()["trials"][0]["lease"]["label"] == hostile


def test_trials_as_parquet(service, client):
    there = client.open_study("columns", space=SPACE, sampler="random")
    there.tell(there.ask(label="A-1", owner="robot", lease_s=3600), 0.5)
    there.ask_batch(3)
    with service.http() as http:
        by_name = http.get("/v1/studies/columns/trials?format=parquet&limit=3")
        by_accept = http.get("/v1/studies/columns/trials?limit=3", headers={"Accept": "application/vnd.apache.parquet"})
        assert by_name.headers["content-type"] == by_accept.headers["content-type"] == "application/vnd.apache.parquet"
        rest = http.get(by_name.links["next"]["url"])
    pages = [pd.read_parquet(io.BytesIO(response.content)) for response in (by_accept, rest)]
    pd.testing.assert_frame_equal(pages[0], there.trials[:3], check_dtype=False)
    assert list(pages[1]["trial"]) == [3]
    assert pages[0].loc[0, "due_at"] == there.trial(0).lease.due_at


def test_a_client_gets_events(storage, client, tmp_path):
    there = client.open_study("told", space=SPACE, sampler="random")
    there.tell(there.ask(), 0.5)
    events = there.events(after="0")
    counts = NONE | {"complete": 1}
    assert next(events) == Event(counts)
    assert next(events) == Event(counts, trial=0, state="complete", value=0.5)
    there.ask()
    assert next(events) == Event(counts | {"running": 1}, trial=1, state="running")
    events.close()


def test_events_continue_after_a_restart_of_the_service(tmp_path):
    storage = storage_in(tmp_path)
    with Service(storage) as first:
        client = Client(first.url, retry_timeout_s=60)
        there = client.open_study("again", space=SPACE, sampler="random")
        events = there.events()
        assert next(events).trial is None
        there.ask()
        assert next(events).trial == 0
        first.kill()
        get_study(Storage(storage), "again").tell(0, 0.5)
        with Service(storage, port=first.port):
            assert next(events).trial is None
            assert next(events) == Event(NONE | {"complete": 1}, trial=0, state="complete", value=0.5)
        events.close()


SCENE = (
    "ask crystals --sweep crystal_growth --label A-17 --owner furnace-2 --lease 3d",
    "report crystals 0 1 0.5",
    "report crystals 0 2 --metric yield=0.75 --metric heat=3",
    "tell crystals 0",
    "tell crystals 0 0.25",
    "ask crystals --sweep crystal_growth --lease 2h",
    "renew crystals 1 --lease 5h",
    "renew crystals 0",
    "tell crystals 1 --failed cracked",
    "tell crystals 99 1.0",
    "ask crystals --owner robot",
    "ask crystals --lease 3y",
    "best crystals --json",
    "best crystals --top 2 --json",
    "best crystals",
    "best nobody --json",
    "trials crystals --format json",
    "trials crystals --format json --owner furnace-2 --state complete",
    "trials crystals --format json --overdue",
    "trials crystals --format csv",
    "trials crystals --format parquet",
    "studies --json",
    "studies",
)
MOMENT = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?( UTC|\+00:00)?"


def test_commands_print_the_same_for_a_local_and_a_remote_study(run, monkeypatch, tmp_path):
    def said(line: str) -> tuple[int, str]:
        code, out, _ = run(*line.split())
        return code, re.sub(MOMENT, "MOMENT", out)

    here = [said(line) for line in SCENE]
    own = storage_in(tmp_path)
    made = TokenStore(Storage(own, create=True)).create("default", "manage")
    with Service(own, "--require-token") as running:
        monkeypatch.setenv("AIFS_TUNE_URL", running.url)
        (tmp_path / "token").write_text(made + "\n")
        monkeypatch.setenv("AIFS_TUNE_TOKEN_FILE", str(tmp_path / "token"))
        there = [said(line) for line in SCENE]
    for line, one, other in zip(SCENE, here, there, strict=True):
        assert one == other, line
    assert [code for code, _ in here] == [0, 0, 0, 0, 2, 0, 0, 2, 0, 2, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0]
    assert "A-17" in here[19][1]


def test_commands_print_the_same_for_a_sweep_of_another_machine(run, monkeypatch, service, storage):
    here = open_record("swept", space=SPACE, storage=storage, metric="loss", mode="min", sampler="random")
    here.storage.wait_s = 30.0
    first, second = here.ask(sweep="one"), here.ask(sweep="one")
    here.report(first, 1, {"loss": 1.0}, seconds=0.5, worker="here:1", checkpoint={"state.json": "0a" * 32})
    here.report(second, 1, {"loss": 2.0})
    here.change(first, epoch=2, params={"x": 0.5}, source=second)
    here.report(first, 2, {"loss": 0.5}, seconds=0.5)
    here.tell(first, weights={"best.weights.h5": "0b" * 32})
    here.tell(second, state="pruned", reason="stopped early")
    here.request_trials(8)
    lines = [
        "best swept --json",
        "best swept --top 3 --yaml",
        "best swept",
        "trials swept",
        "trials swept --format json",
    ]
    lines += ["trials swept --format csv --state pruned", "studies --json"]
    local = [run(*line.split(), "--storage", storage) for line in lines]
    monkeypatch.setenv("AIFS_TUNE_URL", service.url)
    assert [run(*line.split()) for line in lines] == local
    assert json.loads(local[0][1])["replay"][1] == {"epoch": 2, "params": {"x": 0.5}}


def test_a_late_result_on_the_command_line(run, monkeypatch, service, client):
    client.open_study("typed", space=SPACE, sampler="random")
    monkeypatch.setenv("AIFS_TUNE_URL", service.url)
    assert run("ask", "typed", "--label", "A-17", "--lease", "1s")[0] == 0
    while json.loads(run("trials", "typed", "--overdue", "--format", "json")[1]) == []:
        pass
    assert "A-17" in run("trials", "typed", "--overdue")[1]
    again = json.loads(run("ask", "typed", "--owner", "robot")[1])
    assert (again["trial"], again["lease"]["supersedes"]) == (1, 0)
    for words in (("tell", "typed", "0", "0.5"), ("report", "typed", "0", "1", "0.5"), ("renew", "typed", "0")):
        code, out, err = run(*words)
        assert (code, out, "superseded by trial 1" in err, "attach it" in err) == (2, "", True, True)


def test_a_repeated_request_gets_the_same_lease(service, client):
    client.open_study("twice", space=SPACE, sampler="random")
    with service.http() as http:
        for path, body in (
            ("ask", {"n": 2, "labels": ["A", "B"], "owner": "robot", "lease_s": 60}),
            ("trials/0/renew", {"lease_s": 3600}),
            ("trials/1/renew", {}),
        ):
            key = {"Idempotency-Key": path}
            first, again = (http.post(f"/v1/studies/twice/{path}", json=body, headers=key) for _ in range(2))
            assert (again.status_code, again.content) == (first.status_code, first.content)
            other = http.post(f"/v1/studies/twice/{path}", json={**body, "lease_s": 61}, headers=key)
            assert other.status_code == 422
    assert client.study("twice").counts()["running"] == 2


def test_the_precedence_of_storage_and_service_options(run, monkeypatch, service, client, tmp_path):
    client.open_study("there", space=SPACE)
    monkeypatch.setenv("AIFS_TUNE_URL", service.url)
    listed = json.loads(run("studies", "--json")[1])
    assert "there" in [line["study"] for line in listed]
    own = storage_in(tmp_path)
    Storage(own, create=True).close()
    assert json.loads(run("studies", "--json", "--storage", own)[1]) == [], "--storage comes first"
    monkeypatch.setenv("AIFS_TUNE_STORAGE", own)
    code, _, err = run("studies")
    assert (code, "both set" in err) == (2, True)
    monkeypatch.delenv("AIFS_TUNE_STORAGE")
    monkeypatch.setenv("AIFS_TUNE_TOKEN", "aifs_wrong")
    code, _, err = run("best", "there")
    assert (code, "not valid" in err, "aifs_wrong" in err) == (2, True, False)
    monkeypatch.setenv("AIFS_TUNE_TOKEN_FILE", str(tmp_path / "none"))
    assert "both set" in run("studies")[2]
    monkeypatch.delenv("AIFS_TUNE_TOKEN")
    code, _, err = run("studies")
    assert (code, "cannot be read" in err) == (2, True)
    monkeypatch.delenv("AIFS_TUNE_TOKEN_FILE")
    monkeypatch.setenv("AIFS_TUNE_PROJECT", "biology")
    assert json.loads(run("studies", "--json")[1]) == []
    monkeypatch.setenv("AIFS_TUNE_URL", "tune.lab:8000")
    assert "not an address" in run("studies")[2]


def test_a_sweep_file_with_a_trainer_is_refused_by_a_service(run, monkeypatch, service):
    monkeypatch.setenv("AIFS_TUNE_URL", service.url)
    code, out, err = run("ask", "sky", "--sweep", "quick_sky")
    assert (code, out, "is not a key of a study" in err) == (2, "", True), err


def test_events_end_with_the_token(tmp_path):
    own = storage_in(tmp_path)
    made = TokenStore(Storage(own, create=True)).create("default", "manage")
    with Service(own, "--require-token") as running, Client(running.url, made, retry_timeout_s=5) as client:
        events = client.open_study("mine", space=SPACE).events()
        next(events)
        TokenStore(Storage(own)).revoke(made.split("_")[1])
        with pytest.raises(UnknownCallerError):
            list(events)
