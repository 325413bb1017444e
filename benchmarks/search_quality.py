"""How good and how soon: our search against those that are used today, on tables of learning curves in virtual time.

    python benchmarks/search_quality.py LCBENCH.py --half record --seeds 5
    python benchmarks/search_quality.py CURVES/ --seeds 5
    python benchmarks/search_quality.py LCBENCH.py CURVES/ --half record --methods aifs random+asha

LCBENCH.py reads the LCBench surrogate: ``tasks()`` names its tasks. Every second task was used to design our sampler
(``--half design``), the others for the record only. CURVES is a folder of JSON files with measured curves, or one such
file; ``search/tables.py`` says how. Each row of a table is given to one trial. The figures are printed for each family
of tasks, the beginning of a file's name up to ``_``, and for all.

An epoch takes one unit of time; budgets count full trainings. Normalised regret is (best - best so far) / (best -
median). Best and median are those of a table's rows, or of 1,000 random configurations of the surrogate: below 0 is
better than these, and the clipped one counts 0 then, and 1 above 1. Standard errors are those of the clipped one over
tasks. The speed-up is the whole budget
over that at which the final value of random + ASHA with the same seed was reached, the geometric mean over runs; a run
that never reaches it counts as 1. Worst is the largest clipped regret at the end over that of random + ASHA, on any one
task. Top 10 is the share of a table's ten best rows that were proposed, and the share of these that were stopped before
the last epoch, or still ran. Computing is processor time a proposal: of asking alone (ms/ask), and of all else that the
method does, storing and deciding to stop included (ms/all).

Rivals need ``pip install 'aifs-tune[bench]'``. With ``--keep FILE`` each finished run is added to FILE and not run
again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from search.ours import SEARCHES, OurSearch
from search.rivals import RIVALS
from search.tables import JsonTable, LCBenchTable
from search.virtual_time import simulate

BASE = "random+asha"
METHODS = {name: partial(OurSearch, **search) for name, search in SEARCHES.items()}
DEFAULT = ["aifs", BASE, "tpe+asha", "tpe", "tpe+asha4", "qmc+asha", "gp+asha4", "dehb", "syne-kde", "smac"]


def open_table(source: Path, task: str) -> JsonTable | LCBenchTable:
    return JsonTable(source, task) if source.suffix == ".json" else LCBenchTable(source, task)


def task_names(source: Path, half: str) -> list[tuple[Path, str]]:
    """The tasks of ``source``, each with the file that has it."""
    if source.is_dir():
        return [(file, file.stem) for file in sorted(source.glob("*.json"))]
    if source.suffix == ".json":
        return [(source, source.stem)]
    names = LCBenchTable.tasks(source)
    return [(source, name) for name in {"all": names, "design": names[::2], "record": names[1::2]}[half]]


def family_of(source: Path, task: str) -> str:
    return task.partition("_")[0] if source.suffix == ".json" else "lcbench"


@lru_cache(maxsize=4)
def _reference(source: Path, task: str) -> tuple[float, float]:
    return open_table(source, task).reference()


def one_run(job: tuple[Path, str, str, int, int, tuple[int, ...]]) -> dict[str, Any]:
    """One method on one task with one seed, as a row: regret at each budget, and when each best value was reached."""
    source, task, method, seed, workers, budgets = job
    table, (best, median) = open_table(source, task), _reference(source, task)
    made = METHODS[method](table, seed) if method in METHODS else RIVALS[method](table, seed, workers)
    trajectory = simulate(table, made, workers=workers, epochs=max(budgets) * table.epochs)
    regret = [(best - trajectory.best_at(budget * table.epochs)) / (best - median) for budget in budgets]
    top = None
    if isinstance(table, JsonTable):
        proposed = {row for row in table.rows.values() if row in table.top}
        full = {table.rows[params] for params in trajectory.full}
        top = [len(proposed) / len(table.top), len(proposed - full) / max(1, len(proposed))]
    return {
        "family": family_of(source, task),
        "task": task,
        "method": method,
        "seed": seed,
        "workers": workers,
        "budgets": list(budgets),
        "regret": regret,
        "n_epochs": [n_epochs / table.epochs for n_epochs in trajectory.n_epochs],
        "best": trajectory.best,
        "top": top,
        "proposals": trajectory.proposals,
        "asking_s": trajectory.asking_s,
        "seconds": trajectory.seconds,
        "longest_s": trajectory.longest_s,
    }


def speed_ups(rows: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]]) -> tuple[float, float] | None:
    """Geometric mean of how many times sooner the final value of ``base`` was reached, and the share of runs that
    did."""
    final = {(row["task"], row["seed"]): row["best"][-1] for row in base}
    sooner = []
    for row in rows:
        target = final.get((row["task"], row["seed"]))
        if target is not None:
            reached = [n_epochs for n_epochs, best in zip(row["n_epochs"], row["best"], strict=True) if best >= target]
            sooner.append(row["budgets"][-1] / reached[0] if reached else None)
    if not sooner:
        return None
    logs = [np.log(times) if times is not None else 0.0 for times in sooner]
    return float(np.exp(np.mean(logs))), sum(times is not None for times in sooner) / len(sooner)


def summary(method: str, rows: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]]) -> dict[str, Any]:
    tasks = sorted({row["task"] for row in rows})
    regret = np.array([np.mean([row["regret"] for row in rows if row["task"] == task], axis=0) for task in tasks])
    clipped = [np.mean([np.clip(row["regret"], 0, 1) for row in rows if row["task"] == task], axis=0) for task in tasks]
    error = (
        np.std(clipped, axis=0, ddof=1) / np.sqrt(len(tasks)) if len(tasks) > 1 else np.full(regret.shape[1], np.nan)
    )
    worst = None
    if base:
        last = {t: np.mean([float(np.clip(r["regret"][-1], 0, 1)) for r in base if r["task"] == t]) for t in tasks}
        worst = max((float(clipped[i][-1] - last[task]), task) for i, task in enumerate(tasks))
    found, tops = speed_ups(rows, base), [row["top"] for row in rows if row["top"] is not None]
    return {
        "method": method,
        "runs": len(rows),
        "tasks": len(tasks),
        "budgets": rows[0]["budgets"],
        "regret": regret.mean(0).tolist(),
        "clipped": np.mean(clipped, axis=0).tolist(),
        "standard_error": error.tolist(),
        "speed_up": None if found is None else found[0],
        "reached": None if found is None else found[1],
        "worst_over_random": worst,
        "ms_asking": 1e3 * sum(r["asking_s"] for r in rows) / sum(r["proposals"] for r in rows),
        "ms_per_proposal": 1e3 * sum(r["seconds"] for r in rows) / sum(r["proposals"] for r in rows),
        "seconds_per_run": sum(r["seconds"] for r in rows) / len(rows),
        "longest_s": max(r["longest_s"] for r in rows),
        "top": [float(np.mean(kind)) for kind in zip(*tops, strict=True)] if tops else None,
    }


def show(entry: dict[str, Any]) -> str:
    cells = [
        f"{regret:6.3f} {clipped:.3f} ± {error:.3f}"
        for regret, clipped, error in zip(entry["regret"], entry["clipped"], entry["standard_error"], strict=True)
    ]
    times = "" if entry["speed_up"] is None else f"{entry['speed_up']:5.2f} {100 * entry['reached']:4.0f} %"
    worst = "" if entry["worst_over_random"] is None else "{:+.2f} {}".format(*entry["worst_over_random"])[:19]
    top = "" if entry["top"] is None else "{:3.0f} % {:3.0f} %".format(*(100 * share for share in entry["top"]))
    own = f"{entry['ms_asking']:6.0f} {entry['ms_per_proposal']:6.0f}"
    cost = f"{own} {entry['seconds_per_run']:6.1f} {entry['longest_s']:5.2f}"
    return f"{entry['method']:14} {' | '.join(cells)} | {times:12} | {worst:19} | {top:11} | {cost} | {entry['runs']:4}"


def finished(keep: Path | None) -> Iterator[dict[str, Any]]:
    if keep is not None and keep.exists():
        yield from (json.loads(line) for line in keep.read_text().splitlines())


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("sources", type=Path, nargs="+", help="lcbench.py of the surrogate, JSON files, folders of them")
    cli.add_argument("--half", choices=["design", "record", "all"], default="design", help="of the surrogate's tasks")
    cli.add_argument("--tasks", nargs="+", default=None, help="only these")
    cli.add_argument("--methods", nargs="+", default=DEFAULT, choices=[*METHODS, *RIVALS], metavar="METHOD")
    cli.add_argument("--seeds", type=int, default=3)
    cli.add_argument("--workers", type=int, default=8)
    cli.add_argument("--budgets", type=int, nargs="+", default=[2, 5, 10, 20], help="in full trainings, rising")
    cli.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    cli.add_argument("--keep", type=Path, default=None)
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()
    budgets = tuple(args.budgets)
    tasks = [
        found
        for source in args.sources
        for found in task_names(source, "all" if args.tasks else args.half)
        if args.tasks is None or found[1] in args.tasks
    ]
    if unknown := sorted(set(args.tasks or ()) - {task for _, task in tasks}):
        cli.error(f"no source has the tasks {', '.join(unknown)}")
    wanted = [
        (source, task, method, seed, args.workers, budgets)
        for method in args.methods
        for source, task in tasks
        for seed in range(args.seeds)
    ]
    rows = {_key(row): row for row in finished(args.keep)}
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(threads, "1")  # of the processes below: a proposal's cost is that of one core
    missing = [job for job in wanted if (*job[1:5], budgets) not in rows]
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for done, row in enumerate(pool.imap_unordered(one_run, missing), 1):
            rows[_key(row)] = row
            print(f"\r{done} of {len(missing)} runs", end="", file=sys.stderr)
            if args.keep is not None:
                with args.keep.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(file=sys.stderr)
    mine = [rows[*job[1:5], budgets] for job in wanted]
    families = list(dict.fromkeys(row["family"] for row in mine))
    answer = {
        name: summaries(args.methods, [row for row in mine if name in ("all", row["family"])])
        for name in ([*families, "all"] if len(families) > 1 else families)
    }
    if args.json:
        names = [task for _, task in tasks]
        print(json.dumps({"workers": args.workers, "seeds": args.seeds, "tasks": names, "families": answer}))
        return
    heads = " | ".join(f"after {budget} trainings".ljust(20) for budget in budgets)
    for name, entries in answer.items():
        print(f"{name}: {entries[0]['tasks']} tasks, {args.seeds} seeds, {args.workers} workers; ", end="")
        print("regret, clipped to [0, 1], ± standard error")
        print(
            f"{'':14} {heads} | sooner       | worst               | top 10      | ms/ask ms/all  s/run longest | runs"
        )
        print("\n".join(show(entry) for entry in entries), end="\n\n")


def summaries(methods: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each method did on the tasks of ``rows``."""
    by_method = {method: [row for row in rows if row["method"] == method] for method in methods}
    return [summary(method, by_method[method], by_method.get(BASE, [])) for method in methods]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["task"], row["method"], row["seed"], row["workers"], tuple(row["budgets"])


if __name__ == "__main__":
    main()
