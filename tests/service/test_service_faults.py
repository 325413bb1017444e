"""Tests of lost responses, repeated requests and a killed service: each acknowledged result is stored once."""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from servers import revive, stop
from services import SPACE, Service, storage_in

from aifs_tune.client.client import Client
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study

JSON = {"Content-Type": "application/json"}


class Careless:
    """A client in a bad network, which repeats some requests, drops some connections, and records what was
    acknowledged."""

    def __init__(self, service: Service, seed: int, *, twice: float, cut: float) -> None:
        self._service, self._draw, self._twice, self._cut = service, random.Random(seed), twice, cut
        self._http = service.http()
        self.results: list[tuple[int, float]] = []
        self.times: list[float] = []
        self.n_sent: Counter[str] = Counter()

    def post(self, path: str, body: object) -> dict:
        headers = JSON | {"Idempotency-Key": uuid.UUID(int=self._draw.getrandbits(128)).hex}
        content = json.dumps(body).encode()
        if self._draw.random() < self._cut:
            self.n_sent["cut"] += 1
            self._hang_up(path, content, headers)
        first = self._answered(path, content, headers)
        if self._draw.random() < self._twice:
            self.n_sent["twice"] += 1
            again = self._answered(path, content, headers)
            assert (again.status_code, again.content) == (first.status_code, first.content)
            other = self._http.post(path, content=b'{"n": 7}', headers=headers)
            assert other.status_code == 422
        return first.json()

    def _answered(self, path: str, content: bytes, headers: dict[str, str]) -> httpx.Response:
        until = time.monotonic() + 120
        while True:
            began = time.monotonic()
            response = self._http.post(path, content=content, headers=headers)
            if response.status_code != 503:
                assert response.is_success, response.text
                self.times.append(time.monotonic() - began)
                return response
            self.n_sent["busy"] += 1
            assert time.monotonic() < until, response.text
            time.sleep(0.2)

    def _hang_up(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        connection = self._service.socket()
        lines = [f"POST {path} HTTP/1.1", f"Host: {self._service.host}:{self._service.port}"]
        lines += [f"{k}: {v}" for k, v in headers.items()] + [f"Content-Length: {len(content)}", "", ""]
        connection.sendall("\r\n".join(lines).encode() + content)
        connection.close()

    def work(self, n_trials: int) -> Careless:
        for _ in range(n_trials):
            (trial,) = self.post("/v1/studies/f9/ask", {})["trials"]
            value = self._draw.random()
            told = self.post(f"/v1/studies/f9/trials/{trial['trial']}/tell", {"value": value})
            self.results.append((told["trial"], told["value"]))
        return self


def lost_and_doubled(storage: str, *, clients: int, trials: int) -> None:
    with Service(storage) as service:
        with Client(service.url) as client:
            client.open_study("f9", space=SPACE, sampler="random")
        workers = [Careless(service, seed, twice=0.3, cut=0.1) for seed in range(clients)]
        began = time.monotonic()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(lambda worker: worker.work(trials), workers))
        wall_s = time.monotonic() - began
    acknowledged = dict(result for worker in workers for result in worker.results)
    assert len(acknowledged) == clients * trials
    stored = {trial.number: trial.value for trial in get_study(Storage(storage), "f9").all_trials()}
    assert stored == acknowledged
    sent = sum((worker.n_sent for worker in workers), Counter())
    assert sent["twice"] > 0.2 * clients * trials
    assert sent["cut"] > 0.05 * clients * trials
    times = sorted(t for worker in workers for t in worker.times)
    quantiles = statistics.quantiles(times, n=100)
    sys.stderr.write(
        f"\n{clients} clients x {trials}: {len(times)} answers in {wall_s:.1f} s, p50 {1e3 * quantiles[49]:.1f} ms, "
        f"p99 {1e3 * quantiles[98]:.1f} ms, {dict(sent)}\n"
    )


@pytest.mark.parametrize("where", ["sqlite", "postgres"])
def test_lost_and_repeated_requests_store_each_result_once(where, tmp_path, request):
    if where == "postgres":
        lost_and_doubled(request.getfixturevalue("postgres_url"), clients=4, trials=8)
    else:
        lost_and_doubled(storage_in(tmp_path), clients=8, trials=20)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_at_full_count(tmp_path):
    lost_and_doubled(storage_in(tmp_path), clients=64, trials=100)


class Ledger:
    """What was acknowledged, written to disk before the next request."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = open(file, "a+"), threading.Lock()  # noqa: SIM115 - closed with the process

    def note(self, entry: object) -> None:
        with self._lock:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def entries(self) -> list:
        self._file.seek(0)
        return [json.loads(line) for line in self._file]


@pytest.mark.parametrize("where", ["sqlite", "postgres"])
def test_a_killed_service_loses_nothing_that_it_acknowledged(where, tmp_path, request):
    storage = storage_in(tmp_path) if where == "sqlite" else request.getfixturevalue("postgres_url")
    ledger, ended = Ledger(tmp_path / "ledger"), threading.Event()
    service = Service(storage)
    with Client(service.url) as client:
        client.open_study("killed", space=SPACE, sampler="random")

    def work(seed: int) -> None:
        draw = random.Random(seed)
        with httpx.Client(base_url=service.url, timeout=10) as http:
            while not ended.is_set():
                path, body = "/v1/studies/killed/ask", {"n": 1 + draw.randrange(2)}
                if told := _sent(http, path, body, draw, ledger, ended):
                    for trial in told["trials"]:
                        path = f"/v1/studies/killed/trials/{trial['trial']}/tell"
                        _sent(http, path, {"value": draw.random()}, draw, ledger, ended)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        time.sleep(random.uniform(0.8, 1.5))
        service.kill()
        again = Service(storage, port=service.port)
        service.process = again.process
    time.sleep(0.5)
    ended.set()
    for thread in threads:
        thread.join()
    with service.http() as http:
        entries = ledger.entries()
        assert len(entries) > 10
        for path, body, key, status, answer in random.Random(0).sample(entries, min(40, len(entries))):
            response = http.post(path, json=body, headers={"Idempotency-Key": key})
            assert (response.status_code, response.text) == (status, answer)
    service.stop()
    study = get_study(Storage(storage), "killed")
    told = {json.loads(answer)["trial"]: json.loads(answer)["value"] for path, *_, answer in entries if "tell" in path}
    stored = {trial.number: trial.value for trial in study.all_trials() if trial.state == "complete"}
    assert told.items() <= stored.items()
    assert len(stored) - len(told) <= 3  # told, stored, killed before the answer, ended before it was asked again
    asked = [t["trial"] for path, *_, answer in entries if "ask" in path for t in json.loads(answer)["trials"]]
    assert len(asked) == len(set(asked))
    if where == "sqlite":
        import sqlite3

        (answer,) = sqlite3.connect(tmp_path / "lab.db").execute("PRAGMA integrity_check").fetchone()
        assert answer == "ok"


def test_a_database_that_restarts_is_waited_for(postgres, postgres_url):
    told: dict[int, float] = {}

    def work() -> None:
        for i in range(60):
            trial = study.ask()
            told[trial.number] = study.tell(trial, float(i)).value

    with Service(postgres_url) as service, Client(service.url, retry_timeout_s=120) as client:
        study = client.open_study("restarts", space=SPACE, sampler="random")
        thread = threading.Thread(target=work)
        thread.start()
        while len(told) < 10:
            time.sleep(0.01)
        stop(postgres)
        try:
            with service.http() as http:
                for path in ("", "/restarts", "/restarts/best", "/restarts/trials", "/restarts/trials/0"):
                    away = http.get(f"/v1/studies{path}")
                    assert (away.status_code, away.headers["retry-after"]) == (503, "1"), away.text
        finally:
            revive(postgres)
        thread.join()
        assert {trial.number: trial.value for trial in study.all_trials()} == told
    assert len(told) == 60


def _sent(http, path, body, draw, ledger, ended) -> dict | None:
    """The answer, once there is one, as it stands in the ledger; None if the test ends before."""
    key = uuid.UUID(int=draw.getrandbits(128)).hex
    while not ended.is_set():
        try:
            response = http.post(path, json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if response.status_code == 503:
            time.sleep(0.05)
            continue
        assert response.is_success, response.text
        ledger.note([path, body, key, response.status_code, response.text])
        return response.json()
    return None
