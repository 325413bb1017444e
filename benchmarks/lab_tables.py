"""How good after few measurements: our sampler against others on measured tables of real experiments.

    python benchmarks/lab_tables.py LABS/ --seeds 10
    python benchmarks/lab_tables.py LABS/ --tables dye_lasers lnp3 --methods aifs tpe gp --batch 4

LABS is a folder with ``spaces.json`` (``{TABLE: {"space": {...}}}``) and a CSV file for each table, whose last column
is the value, larger is better. A configuration that is not in a table is given the nearest row; each row is given once.
Every method asks, measures and is told, 40 times; with ``--batch N`` it asks N times before it is told. The first
measurements are the method's own choice. Normalised regret is (best of the table - best so far) / (best - median).
Standard errors are over tables. The worst is the table with the largest regret at the end. ms/ask is processor time of
a proposal in one thread, the mean over the runs.

With ``--descriptors FOLDER``, ``aifs`` gets the numbers of FOLDER/TABLE.PARAMETER.csv, where there is such a file.

``aifs`` is the sampler of a sweep file. ``random``, ``tpe`` and ``gp`` are Optuna's own, with their defaults; ``gp``
needs ``pip install 'aifs-tune[bench]'``. ``botorch`` is BoTorch as Optuna's integration offers it, with its defaults;
it needs ``pip install botorch optuna-integration``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np  # noqa: E402  (reads the number of threads when it is imported)
import optuna  # noqa: E402
from optuna.samplers import BaseSampler  # noqa: E402
from search.tables import LabTable  # noqa: E402

from aifs_tune.config.descriptors import read_descriptors  # noqa: E402
from aifs_tune.samplers.proposer import Proposer  # noqa: E402
from aifs_tune.study.open import instrument_spec  # noqa: E402

FIRST_SEED = 100
"""The sampler was designed with seeds below this."""
BUDGETS = (10, 20, 40)


class Job(NamedTuple):
    folder: Path
    table: str
    method: str
    seed: int
    batch: int
    descriptors: Path | None


class Row(NamedTuple):
    job: Job
    regret: list[float]
    ms_asking: float


def _aifs(table: LabTable, seed: int, descriptors: Path | None) -> Callable[[int], BaseSampler]:
    space = dict(table.document)
    for name in space if descriptors is not None else ():
        if (file := descriptors / f"{table.name}.{name}.csv").exists():
            space[name] = {**space[name], "descriptors": file}
    document = {"space": read_descriptors(space), "search": {"sampler": "aifs", "seed": seed}}
    proposer = Proposer(instrument_spec("lab", document))
    return proposer.sampler


def _gp(seed: int) -> BaseSampler:
    return optuna.samplers.GPSampler(seed=seed)


def _botorch(seed: int) -> BaseSampler:
    from optuna_integration import BoTorchSampler

    sampler: BaseSampler = BoTorchSampler(seed=seed)
    return sampler


RIVALS: dict[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "gp": _gp,
    "botorch": _botorch,
}
METHODS = ["aifs", *RIVALS]


def one_run(job: Job) -> Row:
    """One method on one table with one seed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    table = LabTable(job.folder, job.table)
    if job.method == "aifs":
        sampler_for = _aifs(table, job.seed, job.descriptors)
    else:
        rival = RIVALS[job.method](job.seed)
        sampler_for = lambda _number: rival  # noqa: E731
    study, values, asking_s = optuna.create_study(direction="maximize"), [], 0.0
    while len(values) < BUDGETS[-1]:
        asked = []
        for _ in range(min(job.batch, BUDGETS[-1] - len(values))):
            study.sampler = sampler_for(len(study.trials))
            began = time.process_time()
            trial = study.ask()
            asked.append((trial, table.space.suggest(trial)))
            asking_s += time.process_time() - began
        for trial, params in asked:
            values.append(table.value(params))
            study.tell(trial, values[-1])
    best, median = table.reference()
    regret = [(best - max(values[:budget])) / (best - median) for budget in BUDGETS]
    return Row(job, regret, 1e3 * asking_s / len(values))


def summary(method: str, rows: list[Row]) -> dict[str, Any]:
    """The line of one method."""
    tables = sorted({row.job.table for row in rows})
    regret = np.array([np.mean([row.regret for row in rows if row.job.table == table], axis=0) for table in tables])
    error = regret.std(0, ddof=1) / np.sqrt(len(tables)) if len(tables) > 1 else np.full(len(BUDGETS), np.nan)
    worst = int(np.argmax(regret[:, -1]))
    return {
        "method": method,
        "regret": regret.mean(0).tolist(),
        "standard_error": error.tolist(),
        "worst": [float(regret[worst, -1]), tables[worst]],
        "by_table": dict(zip(tables, regret.tolist(), strict=True)),
        "ms_asking": float(np.mean([row.ms_asking for row in rows])),
        "runs": len(rows),
    }


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("folder", type=Path)
    cli.add_argument("--tables", nargs="+", default=None)
    cli.add_argument("--methods", nargs="+", default=["aifs", "random", "tpe"], choices=METHODS)
    cli.add_argument("--seeds", type=int, default=10)
    cli.add_argument("--first-seed", type=int, default=FIRST_SEED)
    cli.add_argument("--batch", type=int, default=1, help="measurements that are asked for before one is told")
    cli.add_argument("--descriptors", type=Path, default=None, help="folder of CSV files, TABLE.PARAMETER.csv")
    cli.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    cli.add_argument("--json", action="store_true")
    given = cli.parse_args()
    tables = given.tables or sorted(LabTable.names(given.folder))
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    jobs = [
        Job(given.folder, t, method, seed, given.batch, given.descriptors)
        for method in given.methods
        for t in tables
        for seed in seeds
    ]
    with ProcessPoolExecutor(given.processes) as pool:
        rows = list(pool.map(one_run, jobs))
    entries = [summary(method, [row for row in rows if row.job.method == method]) for method in given.methods]
    if given.json:
        print(json.dumps({"batch": given.batch, "seeds": given.seeds, "tables": tables, "methods": entries}))
        return
    print(f"{len(tables)} tables, {given.seeds} seeds, {given.batch} at a time; regret ± standard error over tables")
    heads = " | ".join(f"after {budget}".ljust(13) for budget in BUDGETS)
    print(f"{'':10} {heads} | worst at the end       | ms/ask | {' '.join(table[:9].ljust(9) for table in tables)}")
    for entry in entries:
        cells = " | ".join(f"{r:.3f} ± {e:.3f}" for r, e in zip(entry["regret"], entry["standard_error"], strict=True))
        worst = f"{entry['worst'][0]:.3f} {entry['worst'][1]}"
        of_each = " ".join(f"{entry['by_table'][table][-1]:<9.3f}" for table in tables)
        print(f"{entry['method']:10} {cells} | {worst:22} | {entry['ms_asking']:6.0f} | {of_each}")


if __name__ == "__main__":
    main()
