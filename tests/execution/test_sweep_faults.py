"""Sweeps on a real Ray, with trainers that misbehave and drivers that die."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest
import yaml
from labs import command, ended, finished, storage_of, wait_for
from typed import CommandLine

from aifs_tune import load_sweep, resume
from aifs_tune.config.loading import load_sweep_file
from aifs_tune.errors import StorageError
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.open import start_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial

pytestmark = pytest.mark.usefixtures("one_ray")
FAULTS = ["hangs", "none", "raises", "nan", "infinite", "no metric", "no number", "memory", "exits", "dies"]


@pytest.fixture
def typed(lab, run: CommandLine, monkeypatch):
    """Types a command in the lab's folder, in this process, whose Ray it uses."""
    monkeypatch.syspath_prepend(str(lab))
    monkeypatch.setenv("AIFS_TUNE_STORAGE", storage_of(lab, None))
    return run


def test_every_kind_of_failure_is_recorded_and_the_sweep_goes_on(lab, typed):
    sweep = {
        "name": "faults",
        "trainer": "mylab:faulty",
        "objective": {"metric": "score", "mode": "max"},
        "search": {"trials": len(FAULTS), "epochs": 1, "epoch_timeout_s": 20, "sampler": "random", "workers": 2},
        "space": {"fault": {"type": "choice", "choices": FAULTS}},
    }
    (lab / "faults.yaml").write_text(yaml.safe_dump(sweep))
    study = start_study(Storage(f"sqlite:///{lab}/lab.db", create=True), load_sweep_file(lab / "faults.yaml"), "faults")
    for fault in FAULTS:
        study.enqueue({"fault": fault})
    ran = typed("run", "faults.yaml", "--study", "faults", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["n_trials"] == {"complete": 1, "pruned": 0, "failed": 9, "running": 0, "waiting": 0}
    reasons = {t.params["fault"]: t.reason for t in study.all_trials()}
    assert reasons.pop("none") is None
    expected = {
        "raises": "ValueError: the lamp broke (mylab.py:",
        "nan": "score is nan at epoch 1",
        "infinite": "score is inf at epoch 1",
        "no metric": "the objective 'score' was not reported; reported: other",
        "no number": "faulty returned 'very good' (str); allowed: a number",
        "memory": "MemoryError",
        "exits": "SystemExit: 3",
        "dies": "the worker process died",
        "hangs": "hung: no epoch ended for 20 s",
    }
    for fault, words in expected.items():
        assert words in (reasons[fault] or ""), (fault, reasons[fault])
    began = Counter(line.split(" ", 1)[1] for line in (lab / "ledger.txt").read_text().splitlines())
    assert began == Counter({**dict.fromkeys(FAULTS, 1), "dies": 2})


def test_a_worker_that_dies_between_two_trials_costs_none_of_them(lab, monkeypatch):
    monkeypatch.chdir(lab)
    monkeypatch.syspath_prepend(str(lab))
    killed: list[str] = []

    class Killer(NullCallback):
        def on_trial_complete(self, trial: Trial) -> None:
            if trial.number in (2, 5):
                killed.append(trial.worker)
                os.kill(int(trial.worker.split(":")[1]), signal.SIGKILL)

    sweep = load_sweep("slow.yaml", overrides=("search.scheduler=none",))
    result = sweep.run(trials=10, workers=1, storage=f"sqlite:///{lab}/lab.db", callback=Killer())
    assert len(set(killed)) == 2
    told = [(t.number, t.state, t.reason) for t in result.study.all_trials()]
    assert told == [(n, "complete", None) for n in range(10)]
    assert set(ended(lab).values()) == {1}


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, *(pytest.param(how, marks=pytest.mark.soak) for how in (signal.SIGINT, signal.SIGTERM))]
)
def test_a_stopped_sweep_resumes_without_losing_or_repeating_a_trial(lab, typed, how):
    driver = command(lab, "run", "slow.yaml")
    wait_for(lab, 4, driver)
    driver.send_signal(how)
    _, talk = driver.communicate(timeout=250)
    if how is not signal.SIGKILL:
        assert driver.returncode == 1
        assert "continue with: aifs-tune resume slow" in talk
        assert "Traceback" not in talk
    before = finished(lab)
    assert 4 <= len(before) < 16
    resumed = typed("resume", "slow", "--json")
    assert resumed.code == 0, resumed.err
    after = finished(lab)
    assert {number: after[number] for number in before} == before
    assert sorted(after) == list(range(16))
    assert sum(resumed.json["n_trials"].values()) == 16
    runs = ended(lab)
    complete_before = [seed for state, _, seed, _ in before.values() if state == "complete"]
    assert complete_before
    assert {runs[str(seed)] for seed in complete_before} == {1}
    assert typed("resume", "slow", "--json").code == 0
    assert finished(lab) == after


def test_questions_are_answered_while_a_sweep_runs_and_a_second_writer_is_refused(lab, typed):
    driver = command(lab, "run", "slow.yaml", "--trials", "400")
    wait_for(lab, 4, driver)
    answers = {}
    for words in (
        ("best", "slow", "--json"),
        ("status", "slow", "--json"),
        ("trials", "slow", "--format", "json"),
        ("studies", "--json"),
    ):
        asked = typed(*words)
        assert asked.code == 0, asked.err
        answers[words[0]] = asked.json
    assert answers["best"]["value"] is not None
    assert {"complete", "running"} <= {trial["state"] for trial in answers["trials"]}
    assert answers["status"]["writer"]["pid"] == driver.pid
    assert answers["studies"][0]["study"] == "slow"
    second = typed("run", "slow.yaml")
    assert second.code == 1
    assert f"is being written by process {driver.pid}" in second.err
    assert typed("stop", "slow").code == 0
    _, talk = driver.communicate(timeout=250)
    assert driver.returncode == 1
    assert "resume slow" in talk


@pytest.mark.parametrize("call", ["report", *(pytest.param(call, marks=pytest.mark.soak) for call in ("ask", "tell"))])
def test_a_storage_that_stops_taking_results_stops_the_sweep(lab, monkeypatch, call):
    monkeypatch.chdir(lab)
    monkeypatch.syspath_prepend(str(lab))
    url = f"sqlite:///{lab}/lab.db"
    healthy, calls = getattr(StudyRecord, call), itertools.count()

    def full(self, *args, **kwargs):
        if next(calls) >= 3:
            raise StorageError("lab.db: database or disk is full")
        return healthy(self, *args, **kwargs)

    with monkeypatch.context() as broken:
        broken.setattr(StudyRecord, call, full)
        with pytest.raises(StorageError, match="disk is full"):
            load_sweep("slow.yaml").run(trials=8, storage=url)
    before = finished(lab)
    assert get_study(Storage(url), "slow").counts()["running"] == 0
    result = resume("slow", storage=url)
    assert {number: finished(lab)[number] for number in before} == before
    assert sum(result.study.counts().values()) == 8


def test_a_timeout_ends_a_sweep_that_can_be_resumed(lab, typed):
    study = start_study(Storage(storage_of(lab, None), create=True), load_sweep_file(lab / "slow.yaml"), "slow")
    with study.storage.writing("slow"):
        trial = study.ask()
        study.report(trial, 1, {"score": 0.5})
        study.tell(trial)
    ran = typed("run", "slow.yaml", "--study", "slow", "--timeout", "0.001", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["n_trials"]["complete"] >= 1
    assert ran.json["n_trials"]["running"] == 0
    assert "trials have ended. Continue with: " in ran.err


def test_a_sweep_without_a_complete_trial_is_failed_work(lab, typed):
    (lab / "broken.yaml").write_text(
        "name: broken\ntrainer: mylab:faulty\nobjective: {metric: score}\n"
        "search: {trials: 2, epochs: 1}\nspace: {fault: raises}\n"
    )
    ran = typed("run", "broken.yaml", "--json")
    assert (ran.code, ran.out) == (1, "")
    assert "no trial is complete (2 failed)" in ran.err


def test_a_sweep_joins_a_cluster_that_runs_already(lab, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=1"]
    head = subprocess.Popen(
        [*ray, f"--port={port}", "--include-dashboard=false", "--disable-usage-stats"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while "Ray runtime started" not in (line := head.stdout.readline()):
            assert line, "ray start ended"
        there = ("run", "slow.yaml", "--trials", "3", "--address", f"127.0.0.1:{port}", "--json")
        refused = command(lab, *there)
        _, talk = refused.communicate(timeout=250)
        assert refused.returncode == 2
        assert "RAY_AUTH_MODE=disabled joins a cluster that asks for no token" in talk
        ran = command(lab, *there, "--allow-unauthenticated")
        answer, talk = ran.communicate(timeout=250)
        assert ran.returncode == 0, talk
        assert "1 at a time" in talk
        assert json.loads(answer)["n_trials"]["complete"] >= 1
        assert head.poll() is None
        alone = command(lab, "run", "slow.yaml", "--trials", "2")
        _, talk = alone.communicate(timeout=250)
        assert alone.returncode == 0, talk
        assert "2 at a time" in talk
    finally:
        head.terminate()
        head.wait(timeout=60)
    ran = command(lab, "run", "slow.yaml", "--address", f"127.0.0.1:{port}", "--allow-unauthenticated")
    _, talk = ran.communicate(timeout=250)
    assert ran.returncode == 1
    assert f"cannot join Ray at 127.0.0.1:{port}" in talk


def test_a_worker_that_is_told_to_end_is_no_failure_of_its_trial(lab):
    """As batch systems do with all processes of a job that loses its machine."""
    driver = command(lab, "run", "slow.yaml", "--trials", "4", "--epochs", "60", "--set", "search.scheduler=none")
    wait_for(lab, 1, driver)
    study, worker = get_study(Storage(storage_of(lab, None)), "slow"), None
    while worker is None:
        worker = next((t.worker for t in study.all_trials() if t.state == "running" and t.worker), None)
        assert driver.poll() is None
    os.kill(int(worker.split(":")[1]), signal.SIGTERM)
    _, talk = driver.communicate(timeout=120)
    assert driver.returncode == 0, talk
    assert "is tried again from its last checkpoint" in talk
    assert [trial.state for trial in study.all_trials()] == ["complete"] * 4


@pytest.mark.parametrize(
    ("process", "n_kills"),
    [
        pytest.param("gcs_server", 1, marks=pytest.mark.soak),
        pytest.param("gcs_server", 5, marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
        pytest.param("raylet", 5, marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
def test_a_sweep_whose_ray_dies_says_how_to_go_on_and_loses_nothing(lab, process, n_kills):
    before: dict[int, tuple] = {}
    for kill in range(n_kills):
        begin = ("run", "slow.yaml", "--trials", str(40 * n_kills), "--set", "search.scheduler=none")
        words = ("resume", "slow") if kill else begin
        driver = command(lab, *words)
        wait_for(lab, len(before) + 2, driver)
        for child in psutil.Process(driver.pid).children(recursive=True):
            if child.name() == process:
                child.kill()
        _, talk = driver.communicate(timeout=60)
        assert driver.returncode == 1, talk
        assert f"({process}) of Ray has ended, and this sweep with it; finished trials are stored. Continue" in talk
        now = finished(lab)
        assert before.items() <= now.items()
        before = now
    last = command(lab, "resume", "slow")
    _, talk = last.communicate(timeout=400)
    assert last.returncode == 0, talk
    after = finished(lab)
    assert before.items() <= after.items()
    assert sorted(after) == list(range(40 * n_kills))
    assert sum(n - 1 for n in ended(lab).values()) <= 2 * n_kills, "only what was in flight is repeated"


@pytest.mark.parametrize(
    ("n_trials", "n_kills"), [pytest.param(400, 50, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
def test_a_driver_killed_again_and_again_loses_and_repeats_nothing(lab, n_trials, n_kills):
    """Prints how long each resumed sweep took to its first new result."""
    moments = random.Random(0)
    before: dict[int, tuple] = {}
    ready_s = []
    for kill in range(n_kills):
        began = time.monotonic()
        words = ("resume", "slow") if kill else ("run", "slow.yaml", "--trials", str(n_trials))
        driver = command(lab, *words)
        wait_for(lab, len(before) + 1, driver)
        ready_s.append(time.monotonic() - began)
        time.sleep(moments.uniform(0.0, 0.8))
        driver.send_signal(signal.SIGKILL)
        driver.communicate(timeout=250)
        now = finished(lab)
        assert before.items() <= now.items()
        before = now
    last = command(lab, "resume", "slow")
    _, talk = last.communicate(timeout=600)
    assert last.returncode == 0, talk
    after = finished(lab)
    assert before.items() <= after.items()
    assert sorted(after) == list(range(n_trials))
    n_ended = ended(lab)
    complete = [str(seed) for state, _, seed, _ in after.values() if state == "complete"]
    again = sum(n_ended[seed] - 1 for seed in complete)
    told = f"{n_kills} kills: lost 0, trained to the end again {again}; to the first new result of each resumed sweep"
    sys.stdout.write(f"\n{told} median {statistics.median(ready_s):.1f} s, worst {max(ready_s):.1f} s\n")
    assert again <= 2 * n_kills, "only what was in flight is repeated"
