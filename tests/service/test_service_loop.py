"""Tests of ask, report and tell through a real service, with Client and with plain HTTP."""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from records import open_record
from services import SPACE, Service, run_cli, storage_in

import aifs_tune
from aifs_tune import Client
from aifs_tune.config.loading import find_sweep_file
from aifs_tune.errors import ConflictError, NotFoundError, RequestError, ServiceError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.open import open_study

TELL = "/v1/studies/raw/trials/0/tell"
QUESTION = {"name": "raw", "space": SPACE, "search": {"sampler": "random"}}


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> str:
    return storage_in(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def service(storage):
    with Service(storage) as running:
        yield running


@pytest.fixture
def client(service):
    with Client(service.url) as made:
        yield made


def furnace(x: float) -> float:
    return -((x - 0.3) ** 2)


def closed_loop(study) -> None:
    """What a notebook does with a study, local or remote."""
    for _ in range(8):
        trial = study.ask()
        study.report(trial, 1, {"yield": furnace(**trial.params) - 1, "heat": None}, seconds=0.5, worker="here:1")
        study.report(trial, 2, {"yield": furnace(**trial.params), "heat": 3.0}, seconds=0.5)
        study.tell(trial)
    study.tell(study.ask(), state="failed", reason="the lamp\n<b>broke</b>")
    assert study.tell(study.ask(), float("nan")).reason.startswith("value nan")
    assert study.tell(study.ask(), {"yield": None, "heat": float("inf")}).state == "failed"
    study.attach({"x": np.float32(0.3125)}, np.float32(5.0))
    study.enqueue({"x": 0.5})


@pytest.mark.parametrize("where", ["sqlite", "postgres"])
def test_the_same_loop_local_and_remote(where, tmp_path, client, request):
    if where == "postgres":
        with Service(request.getfixturevalue("postgres_url")) as other, Client(other.url) as elsewhere:
            _is_the_same_loop(elsewhere, tmp_path)
    else:
        _is_the_same_loop(client, tmp_path)


def _is_the_same_loop(client: Client, tmp_path) -> None:
    asked = {"space": SPACE, "metric": "yield", "sampler": "random", "seed": 7}
    here = open_study("loop", storage=storage_in(tmp_path), **asked)
    there = client.open_study("loop", **asked)
    assert there.front == here.front == []
    for study in (here, there):
        closed_loop(study)
    assert [t.number for t in there.front] == [t.number for t in here.front] == [11]
    assert there.counts() == here.counts() == {"complete": 9, "pruned": 0, "failed": 3, "running": 0, "waiting": 1}
    assert there.best.params == {"x": 0.3125}
    assert [t.number for t in there.best_trials(3)] == [t.number for t in here.best_trials(3)]
    times = ["started_at", "finished_at", "reason"]
    pd.testing.assert_frame_equal(there.trials.drop(columns=times), here.trials.drop(columns=times))
    assert there.curve(3) == here.curve(3)
    assert there.trial(9).is_finished
    assert there.trial(9).started_at is not None
    assert "loop" in client.studies()


def test_nothing_of_a_trial_is_lost_on_the_way(storage, client):
    here = open_record("whole", space=SPACE, storage=storage, metric="yield", sampler="random")
    first, second = here.ask(), here.ask()
    here.report(first, 1, {"yield": 1.0}, seconds=0.5, worker="here:1", checkpoint={"state.json": "0a" * 32})
    here.report(second, 1, {"yield": 2.0})
    here.change(first, epoch=2, params={"x": 0.5}, source=second)
    here.report(first, 2, {"yield": 3.0}, seconds=0.5)
    here.tell(first, seconds=1.0, weights={"best.weights.h5": "0b" * 32})
    there = client.study("whole")
    assert there.all_trials() == here.all_trials()
    assert [there.curve(n) for n in range(2)] == [here.curve(n) for n in range(2)]


def test_repeated_and_contradicting_results(client):
    study = client.open_study("rules", space=SPACE, sampler="random")
    trial = study.ask()
    assert study.tell(trial, 0.5) == study.tell(trial, 0.5)
    with pytest.raises(ConflictError, match="the first result stands"):
        study.tell(trial, 0.75)
    with pytest.raises(ConflictError, match="exists with a different space"):
        client.open_study("rules", space={"y": SPACE["x"]})
    with pytest.raises(NotFoundError, match="no study 'nobody'"):
        client.study("nobody")
    with pytest.raises(NotFoundError, match="no trial 99"):
        study.trial(99)
    with pytest.raises(RequestError, match="is not allowed; allowed: a number from 0 to 1"):
        study.enqueue({"x": 2.0})
    with pytest.raises(RequestError, match="neither a number nor text"):
        study.enqueue({"x": object()})
    cancelled = study.cancel(study.ask(), "out of flux")
    assert (cancelled.state, cancelled.reason) == ("failed", "out of flux")
    assert study.cancel(study.enqueue({"x": 0.5})).reason == "cancelled"


def test_a_sweep_file_without_a_trainer_starts_a_study(service):
    document = yaml.safe_load(find_sweep_file("crystal_growth").read_text())
    with service.http() as http:
        made = http.post("/v1/studies", json=document)
        assert made.status_code == 201, made.text
        (asked,) = http.post("/v1/studies/crystal-growth/ask").json()["trials"]
        assert asked["params"]["temperature"] == 1000


def test_studies_of_other_tools_are_not_touched(service, storage, client):
    optuna.create_study(storage=storage, study_name="theirs")
    assert "theirs" not in client.studies()
    with pytest.raises(NotFoundError):
        client.study("theirs")
    with pytest.raises(ConflictError, match="another tool"):
        client.open_study("theirs", space=SPACE)


def test_several_objectives(client):
    study = client.open_study("front", space=SPACE, metric="yield", trade_off={"cost": "min"}, sampler="random")
    for yielded, cost in ((1.0, 5.0), (0.5, 1.0), (0.25, 2.0)):
        study.tell(study.ask(), {"yield": yielded, "cost": cost})
    assert [trial.values for trial in study.front] == [{"yield": 1.0, "cost": 5.0}, {"yield": 0.5, "cost": 1.0}]
    with pytest.raises(RequestError, match="does not say which objective"):
        study.tell(study.ask(), 0.5)


def test_options_of_a_sampler_travel(client, service):
    sampler = {"name": "tpe", "options": {"n_startup_trials": 20}}
    study = client.open_study("options", space=SPACE, sampler=sampler)
    told = httpx.get(f"{service.url}/v1/studies/options").json()
    assert told["search"]["sampler"] == sampler
    assert study.spec.search.sampler.options == {"n_startup_trials": 20}
    study.tell(study.ask(), 0.5)
    for wrong, words in (
        ({"name": "tpe", "options": {"n_startup": 3}}, "n_startup: is no option of tpe"),
        ("mylab:Sampler", "is a class"),
        ("optunahub:samplers/auto_sampler", "is a class"),
    ):
        with pytest.raises(RequestError, match=words):
            client.open_study("wrong", space=SPACE, sampler=wrong)
    assert httpx.get(f"{service.url}/v1/studies/wrong").status_code == 404


def test_notes_are_told_and_kept_over_http(service, storage, client):
    study = client.open_study("noted", space=SPACE, sampler="random")
    study.tell(study.ask(), 0.5)
    assert (study.note, study.trial_notes) == (None, {})
    study.set_note("first run\nwith the new crucible: größer")
    study.set_note("the lid was open", 0)
    local = aifs_tune.load_study("noted", storage)
    for each in (study, local):
        assert (each.note, each.trial_notes) == ("first run\nwith the new crucible: größer", {0: "the lid was open"})
        assert list(each.trials["note"]) == ["the lid was open"]
    local.set_note("", 0)
    assert study.trial_notes == {}
    with pytest.raises(RequestError, match="2000"):
        study.set_note("x" * 2_001)
    with pytest.raises(RequestError):
        study.set_note("\x1b[31m")
    with pytest.raises(NotFoundError, match="no trial 99"):
        study.set_note("x", 99)
    study.set_note("again", 0)
    assert "again" in httpx.get(f"{service.url}/v1/studies/noted/trials?format=csv").text


def test_the_trials_of_a_batch_differ(client):
    study = client.open_study("batch", space={**SPACE, "y": SPACE["x"]}, seed=3)
    for _ in range(3):
        trial = study.ask()
        study.tell(trial, furnace(trial.params["x"]))
    batch = study.ask_batch(6)
    assert [trial.number for trial in batch] == [3, 4, 5, 6, 7, 8]
    points = {(round(trial.params["x"], 2), round(trial.params["y"], 2)) for trial in batch}
    assert len(points) == 6


def test_a_request_with_a_key_is_carried_out_once(service):
    with service.http() as http:
        made = http.post("/v1/studies", json=QUESTION, headers={"Idempotency-Key": "make"})
        assert (made.status_code, made.headers["location"]) == (201, "/v1/studies/raw")
        again = http.post("/v1/studies", json=QUESTION, headers={"Idempotency-Key": "make"})
        assert (again.status_code, again.content) == (201, made.content)
        assert http.post("/v1/studies", json=QUESTION).status_code == 200
        key = {"Idempotency-Key": "ask-1"}
        first = http.post("/v1/studies/raw/ask", json={"n": 2}, headers=key)
        assert http.post("/v1/studies/raw/ask", json={"n": 2}, headers=key).content == first.content
        assert http.post("/v1/studies/raw/ask", content=b'{ "n" : 2 }', headers=key | JSON).content == first.content
        for path, body in (("/v1/studies/raw/ask", {"n": 3}), ("/v1/studies/raw/trials/0/tell", {"value": 1.0})):
            other = http.post(path, json=body, headers=key)
            assert (other.status_code, "another request" in other.json()["detail"]) == (422, True)
        told = http.post("/v1/studies/raw/trials/0/tell", json={"value": 1.0}, headers={"Idempotency-Key": "tell"})
        assert (
            http.post("/v1/studies/raw/trials/0/tell", json={"value": 1.0}, headers={"Idempotency-Key": "tell"}).content
            == told.content
        )
        assert http.get("/v1/studies/raw").json()["n_trials"]["running"] == 1
        for key in ("", "x" * 256, "a b", "ü".encode()):
            assert http.post("/v1/studies/raw/ask", headers={"Idempotency-Key": key}).status_code == 422
        elsewhere = {"Idempotency-Key": "make", "Aifs-Tune-Project": "biology"}
        assert http.post("/v1/studies", json=QUESTION, headers=elsewhere).status_code == 201


JSON = {"Content-Type": "application/json"}


def test_pages_formats_and_tags(service, client):
    study = client.open_study("pages", space=SPACE, sampler="random")
    for i, trial in enumerate(study.ask_batch(5)[:3]):
        study.tell(trial, float(i))
    with service.http() as http:
        first = http.get("/v1/studies/pages/trials", params={"limit": 2}).json()
        assert ([t["trial"] for t in first["trials"]], first["next"]) == ([0, 1], 1)
        running = http.get("/v1/studies/pages/trials", params={"after": 1, "state": "running"}).json()
        assert ([t["trial"] for t in running["trials"]], running["next"]) == ([3, 4], None)
        page = http.get("/v1/studies/pages/trials?limit=2", headers={"Accept": "text/csv"})
        assert page.headers["content-type"].startswith("text/csv")
        following = httpx.URL(page.links["next"]["url"])
        rest = http.get(following, headers={"Accept": "text/csv"})
        assert list(pd.read_csv(io.StringIO(page.text + rest.text.split("\n", 1)[1]))["trial"]) == [0, 1, 2, 3]
        assert http.get("/v1/studies/pages/trials?format=csv").text.startswith("trial,state,value")
        assert http.get("/v1/studies/pages/trials?format=xml").status_code == 422
        for path in ("/v1/studies/pages", "/v1/studies/pages/trials/0"):
            tag = http.get(path).headers["etag"]
            assert http.get(path, headers={"If-None-Match": tag}).status_code == 304
            assert http.get(path, headers={"If-None-Match": '"another"'}).status_code == 200
        tag = http.get("/v1/studies/pages").headers["etag"]
        study.tell(3, 9.0)
        assert http.get("/v1/studies/pages", headers={"If-None-Match": tag}).json()["value"] == 9.0
        names = [line["study"] for line in http.get("/v1/studies", params={"limit": 1}).json()["studies"]]
        assert len(names) == 1
        assert names[0] not in [
            line["study"] for line in http.get("/v1/studies", params={"after": names[0]}).json()["studies"]
        ]


def test_every_error_is_a_problem_that_names_the_field(service):
    with service.http() as http:
        for response, status, said in (
            (http.get("/v1/nowhere"), 404, "/v1/nowhere"),
            (http.delete("/v1/studies"), 405, "DELETE"),
            (http.get("/v1/studies/raw/trials/none"), 422, "trial"),
            (http.post("/v1/studies/raw/ask", json={"n": 65}), 422, "#/n"),
            (http.post("/v1/studies/raw/ask", json={"m": 1}), 422, "#/m"),
            (
                http.post("/v1/studies", json={**QUESTION, "space": {"x": {"type": "float", "low": 2, "high": 1}}}),
                422,
                "x",
            ),
            (http.post("/v1/studies", json={**QUESTION, "trainer": "cnn"}), 422, "#/trainer"),
            (http.post("/v1/studies", json={**QUESTION, "search": {"sampler": "os:system"}}), 422, "#/search/sampler"),
            (http.post("/v1/studies", json={**QUESTION, "search": {"scheduler": "asha"}}), 422, "#/search/scheduler"),
            (http.post(TELL, json={"value": "x"}), 422, "#/value: 'x' is not a number; allowed: a number or a mapping"),
            (http.post(TELL, json={"stat": "failed"}), 422, "#/stat: unknown key 'stat', did you mean state?; allowed"),
            (http.post(TELL), 422, "#: no value given; allowed: a mapping with some of value, state"),
            (http.post("/v1/studies", json=[1]), 422, "mapping"),
            (http.post("/v1/studies", content=b"{", headers=JSON), 422, "not JSON"),
            (http.post("/v1/studies", content=b"x", headers={"Content-Type": "text/plain"}), 415, "application/json"),
            (http.get("/v1/studies/other/best"), 404, "other"),
        ):
            told = response.json()
            assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
            assert {"type", "title", "status", "detail", "instance"} <= set(told)
            assert (told["status"], told["instance"]) == (status, response.request.url.path)
            assert said in response.text, response.text
            assert "Traceback" not in response.text
        assert http.delete("/v1/studies").headers["allow"] == "GET, HEAD, POST"


def test_the_command_line_can_write_while_the_service_is_busy(service, storage, client):
    study = client.open_study("between", space=SPACE, sampler="random")
    n_asked = 0
    with ThreadPoolExecutor(1) as pool:
        command = pool.submit(run_cli, "ask", "between", storage=storage)
        while not command.done():  # requests come all the time; it has its turn all the same
            study.ask()
            n_asked += 1
    assert command.result().returncode == 0, command.result().stderr
    assert study.counts()["running"] == n_asked + 1
    assert run_cli("tell", "between", "0", "0.5", storage=storage).returncode == 0
    assert study.best.value == 0.5


def test_a_sweep_that_holds_the_lock_is_named_and_reading_goes_on(service, storage, client):
    study = client.open_study("busy", space=SPACE, sampler="random")
    study.tell(study.ask(), 0.5)
    time.sleep(1.5)
    with Storage(storage).writing("busy"), Client(service.url, retry_timeout_s=0.5) as hasty:
        with pytest.raises(aifs_tune.AifsTuneError, match="is being written by process"):
            hasty.study("busy").ask()
        with service.http() as http:
            busy = http.post("/v1/studies/busy/ask")
            assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")
        assert hasty.study("busy").best.value == 0.5
    assert study.ask().number == 1
    assert get_study(Storage(storage), "busy").counts()["running"] == 1


def test_an_unreachable_service_is_waited_for_and_then_named(caplog, monkeypatch):
    monkeypatch.setattr("aifs_tune.client.transport._SAID_FROM_S", 0.15)
    with (
        Client("http://127.0.0.1:9", retry_timeout_s=0.4) as client,
        pytest.raises(ServiceError, match="cannot be reached"),
    ):
        client.studies()
    assert [record.getMessage().partition("; ")[2] for record in caplog.records] == ["trying again for up to 0 s"]
    with pytest.raises(RequestError, match="not an address"):
        Client("tune.lab:8000")


def test_it_ends_on_a_signal(tmp_path):
    with Service(storage_in(tmp_path)) as running:
        with Client(running.url) as client:
            client.open_study("end", space=SPACE, sampler="random").ask()
        assert running.stop() == 0
    assert get_study(Storage(storage_in(tmp_path)), "end").counts()["running"] == 1
