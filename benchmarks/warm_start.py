"""What a warm start gains and what it can lose: sweeps that begin with an earlier study against cold ones.

    python benchmarks/warm_start.py LCBENCH.py --half record --tasks 4 --seeds 2

Each task of the LCBench surrogate is searched cold, and warm from the study of an earlier sweep (``--earlier``
trainings, with another seed):

    same       of the same task
    related    of the other task whose scores rank configurations most alike
    unrelated  of the one that ranks them least alike
    negated    of the same task, which looked for the worst: its best are the worst here
    moved      of the same task with each parameter turned round in its range, so that the optimum is elsewhere

The regret is that of benchmarks/search_quality.py, after 5, 10, 20 and 40 full trainings in virtual time with four
workers. ``gain`` is the cold regret less the warm one, paired by task and seed, with its standard error over tasks.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np  # noqa: E402  (reads the number of threads when it is imported)
from search.ours import OurSearch  # noqa: E402
from search.tables import CurveTable, LCBenchTable, random_params  # noqa: E402
from search.virtual_time import simulate  # noqa: E402

from aifs_tune.study.record import StudyRecord  # noqa: E402
from aifs_tune.study.warm_start import warm_start  # noqa: E402

KINDS = ("same", "related", "unrelated", "negated", "moved")
KEPT: list[OurSearch] = []
"""Searches whose folders are still read."""
WORKERS = 4
N_COMPARED = 150
"""Random configurations by whose scores tasks are compared."""


class Negated:
    """A task whose best configurations are the worst of another one."""

    def __init__(self, table: CurveTable) -> None:
        self._table, self.name, self.epochs, self.space = table, f"-{table.name}", table.epochs, table.space

    def curve(self, params: Mapping[str, Any]) -> np.ndarray:
        return -self._table.curve(params)


class Moved:
    """A task with each of its parameters turned round in its range, its logarithm where that is searched."""

    def __init__(self, table: CurveTable) -> None:
        self._table, self.name, self.epochs, self.space = table, f"~{table.name}", table.epochs, table.space

    def curve(self, params: Mapping[str, Any]) -> np.ndarray:
        return self._table.curve({name: self._turned(name, value) for name, value in params.items()})

    def _turned(self, name: str, value: Any) -> Any:
        parameter = self.space[name]
        low, high = parameter.extremes
        turned = low * high / value if getattr(parameter, "log", False) else low + high - value
        return round(turned) if parameter.type == "int" else min(max(turned, low), high)


@lru_cache(maxsize=64)
def _table(source: Path, task: str) -> LCBenchTable:
    return LCBenchTable(source, task)


@lru_cache(maxsize=64)
def _scale(source: Path, task: str) -> tuple[float, float]:
    return _table(source, task).reference()


@lru_cache(maxsize=1)
def task_similarity(source: Path) -> tuple[list[str], np.ndarray]:
    """All tasks and the rank correlation of each two, by the best scores of random configurations."""
    tasks, rng = LCBenchTable.tasks(source), np.random.default_rng(7)
    configurations = [random_params(_table(source, tasks[0]).space, rng) for _ in range(N_COMPARED)]
    best = np.array([[_table(source, task).curve(params).max() for params in configurations] for task in tasks])
    return tasks, np.corrcoef(best.argsort(1).argsort(1))


def neighbours(source: Path, task: str, among: Sequence[str]) -> tuple[tuple[str, float], tuple[str, float]]:
    """The tasks of ``among`` that are most and least like ``task``, with their rank correlations."""
    tasks, alike = task_similarity(source)
    of_others = [(float(alike[tasks.index(task), tasks.index(other)]), other) for other in among if other != task]
    (most, nearest), (least, farthest) = max(of_others), min(of_others)
    return (nearest, most), (farthest, least)


def earlier_table(source: Path, task: str, kind: str, among: Sequence[str]) -> CurveTable:
    if kind == "same":
        return _table(source, task)
    if kind in ("negated", "moved"):
        return (Negated if kind == "negated" else Moved)(_table(source, task))
    (nearest, _), (farthest, _) = neighbours(source, task, among)
    return _table(source, nearest if kind == "related" else farthest)


def earlier_study(table: CurveTable, seed: int, trainings: int) -> StudyRecord:
    """That of a sweep of so many trainings, or of twice as many and so on until a trial is complete."""
    while True:
        search = OurSearch(table, seed)
        simulate(table, search, workers=WORKERS, epochs=trainings * table.epochs)
        if search.study.find_best() is not None:
            KEPT.append(search)
            return search.study
        trainings *= 2


def one_run(job: tuple[Path, str, str, int, int, tuple[int, ...], tuple[str, ...]]) -> dict[str, Any]:
    """One sweep, as a row."""
    source, task, kind, seed, earlier, budgets, among = job
    table, (best, median) = _table(source, task), _scale(source, task)
    search = OurSearch(table, seed)
    if kind != "cold":
        warm_start(search.study, earlier_study(earlier_table(source, task, kind, among), seed + 1000, earlier))
    trajectory = simulate(table, search, workers=WORKERS, epochs=max(budgets) * table.epochs)
    weights = list(search.study.transfer_weights().values())
    return {
        "task": task,
        "kind": kind,
        "seed": seed,
        "regret": [(best - trajectory.best_at(budget * table.epochs)) / (best - median) for budget in budgets],
        "weight": weights[0] if weights else None,
        "ms_asking": 1e3 * trajectory.asking_s / trajectory.proposals,
    }


def summary(kind: str, rows: Sequence[dict[str, Any]], cold: Mapping[tuple[str, int], list[float]]) -> dict[str, Any]:
    tasks = sorted({row["task"] for row in rows})
    regret = np.array([np.maximum(row["regret"], 0.0) for row in rows])
    gains = {task: [] for task in tasks}
    for row in rows:
        without = np.maximum(cold[row["task"], row["seed"]], 0.0)
        gains[row["task"]].append(without - np.maximum(row["regret"], 0.0))
    by_task = np.array([np.mean(gains[task], axis=0) for task in tasks])
    several = len(tasks) > 1
    error = by_task.std(0, ddof=1) / np.sqrt(len(tasks)) if several else np.full(regret.shape[1], np.nan)
    weights = [row["weight"] for row in rows if row["weight"] is not None]
    return {
        "kind": kind,
        "runs": len(rows),
        "regret": regret.mean(0).tolist(),
        "gain": by_task.mean(0).tolist(),
        "standard_error": error.tolist(),
        "worst_gain": by_task.min(0).tolist(),
        "dropped": sum(weight == 0.0 for weight in weights) if weights else None,
        "ms_asking": float(np.mean([row["ms_asking"] for row in rows])),
    }


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("source", type=Path, help="lcbench.py of the surrogate")
    cli.add_argument("--half", choices=["design", "record"], default="design")
    cli.add_argument("--tasks", type=int, default=4, help="spread over the half")
    cli.add_argument("--seeds", type=int, default=2)
    cli.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    cli.add_argument("--earlier", type=int, default=20, help="full trainings of the earlier sweep")
    cli.add_argument("--budgets", type=int, nargs="+", default=[5, 10, 20, 40])
    cli.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()
    half = tuple(LCBenchTable.tasks(args.source)[args.half == "record" :: 2])
    tasks = [half[round(i)] for i in np.linspace(0, len(half) - 1, args.tasks)]
    wanted = [
        (args.source, task, kind, seed, args.earlier, tuple(args.budgets), half)
        for seed in range(args.seeds)
        for task in tasks
        for kind in ("cold", *args.kinds)
    ]
    rows = []
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for row in pool.imap_unordered(one_run, wanted):
            rows.append(row)
            print(f"\r{len(rows)} of {len(wanted)} sweeps", end="", file=sys.stderr)
    print(file=sys.stderr)
    cold = {(row["task"], row["seed"]): row["regret"] for row in rows if row["kind"] == "cold"}
    kinds = ("cold", *args.kinds)
    entries = [summary(kind, [row for row in rows if row["kind"] == kind], cold) for kind in kinds]
    alike = {task: neighbours(args.source, task, half) for task in tasks}
    if args.json:
        print(json.dumps({"tasks": tasks, "seeds": args.seeds, "neighbours": alike, "kinds": entries, "rows": rows}))
        return
    for task, ((nearest, most), (farthest, least)) in alike.items():
        print(f"task {task}: most like {nearest} ({most:.2f}), least like {farthest} ({least:.2f})")
    heads = " | ".join(f"after {budget}".ljust(28) for budget in args.budgets)
    print(f"{'':10} {heads} | dropped  | ms/ask; regret, gain ± error, worst task")
    for entry in entries:
        cells = " | ".join(
            f"{regret:.3f} {gain:+.3f} ± {error:.3f} {worst:+.3f}"
            for regret, gain, error, worst in zip(
                entry["regret"], entry["gain"], entry["standard_error"], entry["worst_gain"], strict=True
            )
        )
        dropped = "" if entry["dropped"] is None else f"{entry['dropped']} of {entry['runs']}"
        print(f"{entry['kind']:10} {cells} | {dropped:8} | {entry['ms_asking']:.0f}")


if __name__ == "__main__":
    main()
