"""Sweeps as jobs of a real Ray cluster with two nodes and a token, against a real PostgreSQL."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from clusters import Cluster
from labs import command, ended, finished
from servers import crash, revive

from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import find_study, get_study


@pytest.fixture
def cluster(lab: Path) -> Iterator[Cluster]:
    """Two nodes; what trials do is written to the lab's ledger."""
    two = Cluster({"LEDGER": str(lab / "ledger.txt")})
    try:
        two.join()
        yield two
        logging.getLogger(__name__).warning(two.logs())  # shown if the test fails
    finally:
        two.close()


def until(holds: Callable[[], object], seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_submitted_sweep_survives_the_death_of_worker_node_server_and_driver(lab, cluster, postgres, postgres_url):
    there = ("--address", cluster.address)
    known = {**cluster.secrets, "AIFS_TUNE_ARTIFACTS": str(lab / "artifacts")}

    def run_cli(*words: str) -> tuple[int, str, str]:
        ran = command(lab, *words, url=postgres_url, environment=known)
        said, talk = ran.communicate(timeout=120)
        return ran.returncode, said, talk

    settings = ("--set", "search.scheduler=none", "--set", "search.worker_retries=3")
    sent = ("submit", "slow.yaml", "--trials", "40", "--epochs", "12", "--strict", *settings)
    code, said, talk = run_cli(*sent, *there, "--json")
    assert code == 0, talk
    assert "INFO" not in talk
    answer = json.loads(said)
    assert (answer["job"], answer["attempt"], answer["is_new"]) == ("slow-1", 1, True)
    again = json.loads(run_cli(*sent, *there, "--json")[1])
    assert (again["job"], again["is_new"]) == ("slow-1", False), "submitted twice is submitted once"

    seen: dict[int, tuple] = {}

    def have_finished(n_trials: int) -> Callable[[], bool]:
        def holds() -> bool:
            stored = finished(lab, postgres_url)
            assert seen.items() <= stored.items(), "what was stored stays what it was"
            seen.update(stored)
            return len(seen) >= n_trials

        return holds

    def study():
        return get_study(Storage(postgres_url), "slow")

    until(have_finished(5))
    workers: list[str] = []
    until(
        lambda: workers.extend(t.worker for t in study().all_trials() if t.state == "running" and t.worker) or workers
    )
    os.kill(int(workers[0].split(":")[1]), signal.SIGKILL)

    until(have_finished(10))
    code, said, talk = run_cli("best", "slow", "--json")
    assert code == 0, talk
    assert json.loads(said)["n_trials"]["complete"] >= 10
    cluster.kill_raylet(1)
    cluster.join()

    until(have_finished(16))
    crash(postgres)
    revive(postgres)

    until(have_finished(22))
    status = json.loads(run_cli("status", "slow", *there, "--json")[1])
    assert (status["job"]["job"], status["job"]["state"]) == ("slow-1", "running")
    have_finished(22)()
    stored = {str(seed) for _, _, seed, _ in seen.values()}
    os.kill(status["writer"]["pid"], signal.SIGKILL)
    until(lambda: json.loads(run_cli("status", "slow", *there, "--json")[1])["job"]["state"] == "failed")
    assert study().counts()["complete"] < 40

    code, said, talk = run_cli("resume", "slow", *there)
    assert (code, said) == (0, "slow-2\n"), talk
    code, said, talk = run_cli("logs", "slow", *there, "--follow")
    assert code == 0, talk
    assert "best: trial" in said
    assert have_finished(40)()
    assert {trial.state for trial in study().all_trials()} == {"complete"}
    n_ended = ended(lab)
    assert set(n_ended) == {str(seed) for _, _, seed, _ in seen.values()}
    ran_twice = [seed for seed, n in n_ended.items() if n > 1]
    assert not stored & set(ran_twice), "what was stored is never run again"
    assert len(ran_twice) <= 2, "only what was in flight when the driver died was run again"
    told = cluster.logs()
    assert "slow" in told
    assert cluster.secrets["RAY_AUTH_TOKEN"] not in told


@pytest.mark.soak
def test_a_study_goes_on_in_another_cluster_when_the_head_dies(lab, cluster, postgres_url):
    known = {"AIFS_TUNE_ARTIFACTS": str(lab / "artifacts")}

    def run_cli(where: Cluster, *words: str) -> str:
        environment = known | where.secrets
        ran = command(lab, *words, "--address", where.address, url=postgres_url, environment=environment)
        said, talk = ran.communicate(timeout=120)
        assert ran.returncode == 0, talk
        return said

    run_cli(cluster, "submit", "slow.yaml", "--set", "search.scheduler=none")
    until(lambda: len(finished(lab, postgres_url)) >= 4)
    cluster.kill_node(0)
    before = finished(lab, postgres_url)
    assert len(before) < 16
    other = Cluster({"LEDGER": str(lab / "ledger.txt")})
    try:
        run_cli(other, "resume", "slow")
        run_cli(other, "logs", "slow", "--follow")
    finally:
        other.close()
    after = finished(lab, postgres_url)
    assert before.items() <= after.items()
    assert [state for state, *_ in after.values()] == ["complete"] * 16


@pytest.mark.soak
def test_nodes_that_join_are_used_at_once(lab, postgres_url):
    one = Cluster({"LEDGER": str(lab / "ledger.txt")})
    known = one.secrets | {"AIFS_TUNE_ARTIFACTS": str(lab / "artifacts")}
    try:
        words = ("submit", "slow.yaml", "--epochs", "100", "--set", "search.scheduler=none", "--address", one.address)
        sent = command(lab, *words, url=postgres_url, environment=known)
        _, talk = sent.communicate(timeout=120)
        assert sent.returncode == 0, talk
        until(lambda: len(finished(lab, postgres_url)) >= 1)
        study = get_study(Storage(postgres_url), "slow")
        assert study.counts()["running"] <= 1
        one.join()
        until(lambda: study.counts()["running"] == 2, seconds=30)
        until(lambda: len({t.worker for t in study.all_trials() if t.state == "running" and t.worker}) == 2, seconds=30)
    finally:
        one.close()


@pytest.mark.soak
def test_a_cluster_is_used_with_its_token_alone(lab, cluster, postgres_url):
    known = {**cluster.secrets, "AIFS_TUNE_ARTIFACTS": str(lab / "artifacts")}
    wrong = {**known, "RAY_AUTH_TOKEN": "0" * 32}

    def run_cli(environment: dict[str, str], *words: str, url: str = postgres_url) -> tuple[int, str]:
        ran = command(lab, *words, "--address", cluster.address, url=url, environment=environment)
        said, talk = ran.communicate(timeout=120)
        return ran.returncode, said + talk

    code, talk = run_cli(wrong, "submit", "slow.yaml")
    assert code == 1
    assert f"the cluster at {cluster.address} refused the token" in talk
    assert "0" * 32 not in talk
    for environment, words, url, told in (
        (known, ("logs", "slow"), postgres_url, "has no job of a study 'slow'"),
        (known, ("submit", "slow.yaml"), "sqlite:///lab.db", "'sqlite' is a file on this machine"),
        (
            known,
            ("submit", "slow.yaml"),
            postgres_url.replace("postgres:", "postgres:geheim"),
            "the URL has a password",
        ),
        (known | {"AIFS_TUNE_ARTIFACTS": ""}, ("submit", "slow.yaml"), postgres_url, "AIFS_TUNE_ARTIFACTS: not set"),
        (
            known | {"AIFS_TUNE_ARTIFACTS": "https://lab"},
            ("submit", "slow.yaml"),
            postgres_url,
            "is not a supported URL",
        ),
        (known, ("submit", "slow.yaml", "--data", "survey"), postgres_url, "not a path that all nodes have"),
        (known, ("submit", "slow.yaml", "--include", "nothing.csv"), postgres_url, "nothing.csv: no such file to send"),
    ):
        code, talk = run_cli(environment, *words, url=url)
        assert (code, told in talk) == (2, True), talk
        assert "geheim" not in talk
    code, talk = run_cli(known, "submit", "slow.yaml", "--trials", "400", "--study", "long")
    assert code == 0, talk
    until(lambda: has_finished_trials(postgres_url, "long"))
    code, talk = run_cli(known, "stop", "long")
    assert code == 0, talk
    until(lambda: json.loads(run_cli(known, "status", "long", "--json")[1])["job"]["state"] == "stopped")
    assert get_study(Storage(postgres_url), "long").counts()["running"] == 0, "it put back what was in flight"


def has_finished_trials(url: str, name: str) -> bool:
    """Whether a study is there and has complete trials."""
    study = find_study(Storage(url), name)
    return study is not None and study.counts()["complete"] > 0


def test_a_cluster_without_a_token_is_refused(lab):
    class Open(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Open)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    ran = command(lab, "submit", "slow.yaml", "--address", address)
    _, talk = ran.communicate(timeout=60)
    server.shutdown()
    assert ran.returncode == 2
    assert f"the cluster at {address} asks for no token" in talk
