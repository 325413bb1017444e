"""Tests of sweeps that are started, followed and stopped over HTTP and continue without the service."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from labs import ended, make_lab
from services import Service, storage_in

from aifs_tune.client.client import Client
from aifs_tune.errors import ConflictError, NotFoundError, RequestError
from aifs_tune.service import sweep_supervisor as supervisor
from aifs_tune.service.audit import Action, AuditLog
from aifs_tune.service.idempotency import WriteRequest
from aifs_tune.service.sweep_processes import SweepProcesses
from aifs_tune.service.tokens import Caller, make_tables
from aifs_tune.storage.storage import Storage


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Path:
    """A folder of sweep files and the module of their trainer; that of ``gone`` does not exist."""
    lab = make_lab(tmp_path_factory.mktemp("lab"))
    (lab / "gone.yaml").write_text((lab / "slow.yaml").read_text().replace("mylab:slow", "nosuch:train"))
    return lab


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> str:
    return storage_in(tmp_path_factory.mktemp("storage"))


@pytest.fixture(scope="module")
def service(lab, storage) -> Iterator[Service]:
    with Service(storage, "--sweeps", str(lab)) as running:
        yield running


def until(holds: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def folder_of(storage: str, sweep_id: str) -> Path:
    return Storage(storage).artifacts / "sweeps" / sweep_id


def test_a_sweep_of_a_project_is_started_once_and_ends(service, lab, storage):
    with Client(service.url, project="biology") as client:
        assert client.sweep_files() == ["gone", "slow"]
        body = {"sweep": "slow", "study": "first", "trials": 3, "epochs": 2, "workers": 2, "seed": 7}
        with service.http(headers={"Aifs-Tune-Project": "biology", "Idempotency-Key": "one"}) as http:
            answers = [http.post("/v1/sweeps", json=body) for _ in range(3)]
            other = http.post("/v1/sweeps", json={**body, "trials": 4})
        assert {(a.status_code, a.text, a.headers["location"]) for a in answers} == {
            (202, answers[0].text, f"/v1/sweeps/{answers[0].json()['id']}")
        }
        assert other.status_code == 422
        (sweep,) = client.sweeps()
        with pytest.raises(ConflictError, match="at most 1"):
            client.start_sweep("slow", study="second")
        with pytest.raises(ConflictError, match="'first' is running"):
            client.start_sweep("slow", study="first")
        assert sweep.wait(120) == "succeeded", sweep.log
        assert (sweep.exit_code, "best" in sweep.log) == (0, True)
        study = client.study("first")
        assert study.counts()["complete"] == 3
        assert {trial.epochs for trial in study.all_trials()} == {2}
        assert answers[0].json()["overrides"] == {"trials": 3, "epochs": 2, "workers": 2, "seed": 7}
    with Client(service.url) as others:
        assert (others.studies(), others.sweeps()) == ([], [])
        with pytest.raises(NotFoundError):
            others.sweep(sweep.id)
    assert set(ended(lab).values()) == {1}
    assert len(ended(lab)) == 3


def test_a_sweep_survives_the_service_and_can_be_stopped(lab, tmp_path):
    storage = storage_in(tmp_path)
    with Service(storage, "--sweeps", str(lab)) as service, Client(service.url) as client:
        sweep = client.start_sweep("slow", trials=200)
        assert sweep.study == "slow"
        until(lambda: "slow" in client.studies() and client.study("slow").counts()["complete"] >= 2)
        service.kill()
    with Service(storage, "--sweeps", str(lab)) as service, Client(service.url) as client:
        before = client.study("slow").counts()["complete"]
        (sweep,) = client.sweeps()
        assert sweep.state == "running"
        until(lambda: client.study("slow").counts()["complete"] > before)
        sweep.stop()
        sweep.stop()
        assert sweep.wait(120) == "stopped"
        assert client.study("slow").counts()["running"] == 0
        assert "resume" in sweep.log
        sweep.stop()
        assert sweep.state == "stopped"
        study = client.study("slow")
        trial = study.enqueue({"x": 0.5})
        assert trial.state == "waiting", "nothing holds the lock of the storage"
        zombies = [child for child in psutil.Process(service.process.pid).children() if child.status() == "zombie"]
        assert zombies == []


def test_a_sweep_that_cannot_be_started_gives_the_reason(service, lab):
    (lab / "other.yaml").write_text("name: other\nspace: {x: 1.0}\n")
    (lab / "bad.yaml").write_text("name: bad\ntrainer: mylab:slow\nspaces: {}\n")
    outside = lab.parent / "outside.yaml"
    outside.write_text((lab / "slow.yaml").read_text())
    with Client(service.url) as client, service.http() as http:
        assert client.sweep_files() == ["gone", "slow"]
        for name in ("outside", "quick_sky", "nosuch"):
            with pytest.raises(NotFoundError, match="there are: bad, gone, other, slow"):
                client.start_sweep(name)
        for name in ("../outside", "../outside.yaml", str(outside), "slow.yaml/../slow", "", "slow\n", ".."):
            assert http.post("/v1/sweeps", json={"sweep": name}).status_code == 422, name
        for more in ({"data": "/etc"}, {"trainer": "os:system"}, {"trials": 0}, {"overrides": []}, {"study": "a/b"}):
            assert http.post("/v1/sweeps", json={"sweep": "slow", **more}).status_code == 422, more
        with pytest.raises(RequestError, match="no trainer"):
            client.start_sweep("other")
        bad = http.post("/v1/sweeps", json={"sweep": "bad"})
        assert (bad.status_code, "spaces" in bad.text, str(lab) in bad.text) == (422, True, False)
        failed = client.start_sweep("gone")
        assert (failed.wait(60), failed.exit_code) == ("failed", 2)
        assert "nosuch" in failed.log
        again = client.start_sweep("gone")
        assert (failed.study, again.study) == ("slow", "slow-2")
        again.wait(60)
        assert [sweep.id for sweep in client.sweeps()] == [again.id, failed.id]
        first = http.get("/v1/sweeps?limit=1").json()
        second = http.get(f"/v1/sweeps?limit=1&after={first['next']}").json()
        assert [page["sweeps"][0]["id"] for page in (first, second)] == [again.id, failed.id]
        assert second["next"] is None


def test_without_a_folder_there_are_no_sweeps(tmp_path):
    storage = storage_in(tmp_path)
    with Service(storage) as service, service.http() as http:
        for method, path in (("GET", ""), ("POST", ""), ("GET", f"/{'0' * 16}"), ("POST", f"/{'0' * 16}/stop")):
            refused = http.request(method, f"/v1/sweeps{path}", json={"sweep": "slow"} if not path else None)
            assert (refused.status_code, "--sweeps" in refused.json()["detail"]) == (404, True)
    with pytest.raises(RequestError, match="is not a folder"):
        SweepProcesses(Storage(storage), tmp_path / "nosuch")
    with pytest.raises(RequestError, match="allowed: 1"):
        SweepProcesses(Storage(storage), tmp_path, at_once=2)
    with pytest.raises(RequestError, match="a storage in PostgreSQL"):
        SweepProcesses(Storage(storage), tmp_path, cluster=["--address", "http://head:8265"])


def write_command(folder: Path, script: str) -> None:
    """Write a Python script as the command of a folder's supervisor."""
    words = [sys.executable, "-c", script]
    (folder / supervisor.COMMAND).write_text(json.dumps({"command": words, "stop_command": None, "cwd": str(folder)}))


def test_the_supervisor_keeps_the_end_of_the_log_and_the_exit_code(tmp_path):
    lines = ("import sys", "for n in range(300_000): print('line', n)", "sys.stdout.flush()")
    script = "\n".join((*lines, "print('the end', file=sys.stderr)", "sys.exit(5)"))
    folder = tmp_path / "sweep"
    folder.mkdir()
    write_command(folder, script)
    supervisor.supervise(folder)
    log = folder / supervisor.LOG
    assert log.stat().st_size + supervisor.older(log).stat().st_size <= 2 * supervisor.MAX_LOG_BYTES
    assert log.read_text().endswith("line 299999\nthe end\n")
    ended = json.loads((folder / supervisor.ENDED).read_bytes())
    assert (ended["exit_code"], ended["was_stopped"]) == (5, False)
    began = (folder / supervisor.BEGAN).stat()
    supervisor.supervise(folder)
    assert (folder / supervisor.BEGAN).stat() == began, "it never runs twice"


def test_an_accepted_sweep_starts_with_the_next_service_and_ends_with_its_supervisor(lab, tmp_path, monkeypatch):
    storage = Storage(storage_in(tmp_path), create=True)
    make_tables(storage)
    monkeypatch.setattr(SweepProcesses, "_launch", lambda *_: None)  # as if the service was killed before it
    action = Action(Caller("default", "manage"), None, "default", "POST", "/v1/sweeps")
    request = WriteRequest(action, "/v1/sweeps", None, "k")
    started = json.loads(SweepProcesses(storage, lab).start(request, "gone", None, {}).body)
    assert started["state"] == "pending"
    assert [entry.study for entry in AuditLog(storage).entries()] == [started["study"]]
    monkeypatch.undo()
    folder = folder_of(storage.url, started["id"])
    write_command(folder, "import time\nprint('asleep', flush=True)\ntime.sleep(3600)")
    processes = SweepProcesses(storage, lab)
    until(lambda: processes.sweep("default", started["id"])["log"] == "asleep\n")
    assert processes.sweep("default", started["id"])["state"] == "running"
    watcher = psutil.Process(int((folder / supervisor.BEGAN).read_text()))
    (driver,) = watcher.children()
    watcher.kill()
    until(lambda: not driver.is_running() or driver.status() == "zombie")
    until(lambda: processes.sweep("default", started["id"])["state"] == "failed")
    lost = processes.sweep("default", started["id"])
    assert (lost["state"], lost["exit_code"]) == ("failed", None)
    assert SweepProcesses(storage, lab).sweep("default", started["id"])["state"] == "failed", "it is not begun again"
