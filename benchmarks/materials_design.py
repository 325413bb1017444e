"""How many alloys must be melted to find the strongest one of a table: by design, greedily, or at random.

python benchmarks/materials_design.py steel_strength.csv [--target "yield strength"] [--seeds 20] [--batch 4] [--json]

The results of all rows are hidden but those of ten random rows among the weaker half. In each round a batch of rows is
"melted": their results are taken from the table. ``design`` calibrates and chooses as aifs-tune design does,
``greedy`` takes the largest expected values of the same models, ``random`` any. Models are trees (15 times 20
extremely randomised ones), each on two thirds of the rows known, as networks would take hours. Counted are the melts
beside the first ten until the best row is found, and until one of the best five is.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from aifs_tune.analysis.design.acquisition import Acquisition, Measured, Posterior, choose
from aifs_tune.analysis.design.calibration import calibrate
from aifs_tune.analysis.design.ensemble import left_out_of
from aifs_tune.analysis.design.goals import Goals, Objective
from aifs_tune.analysis.design.proposer import distances

N_FIRST = 10
N_BEST = 5
MODELS = 15
METHODS = ("design", "greedy", "random")

Floats = NDArray[np.float64]


def next_rows(
    method: str, inputs: Floats, values: Floats, known: list[int], rest: list[int], batch: int, seed: int
) -> list[int]:
    """The rows of ``rest`` that a method melts next."""
    random = np.random.default_rng([seed, len(known)])
    if method == "random":
        return [int(row) for row in random.permutation(rest)[:batch]]
    groups = [str(row) for row in known]
    left_out = left_out_of(groups, MODELS, random)
    predicted = []
    for i, out in enumerate(left_out):
        rows = np.array(known)[~out]
        trees = ExtraTreesRegressor(20, min_samples_leaf=1, random_state=1000 * seed + i)
        predicted.append(trees.fit(inputs[rows], values[rows]).predict(inputs))
    every = np.array(predicted)
    if method == "greedy":
        mean = every.mean(axis=0)[rest]
        return [rest[i] for i in np.argsort(-mean, kind="stable")[:batch]]
    unseen = np.where(left_out, every[:, known], np.nan)
    errors, spreads = np.nanmean(unseen, axis=0) - values[known], np.nanstd(unseen, axis=0, ddof=1)
    calibration = calibrate("value", "", errors, spreads, groups)
    length, _ = distances(inputs[known].astype(np.float32), groups)
    posterior = Posterior(every[:, rest, None], inputs[rest], [calibration], length)
    goals = Goals((Objective("value", 1),))
    acquisition = Acquisition(goals, ["value"], Measured(values[known][:, None]), random)
    return [rest[i] for i in choose(posterior, acquisition, batch)]


def melts(job: tuple[str, int, Floats, Floats, int]) -> dict[str, Any]:
    """Melts of one method with one seed until the best row, and one of the best five, is found."""
    method, seed, inputs, values, batch = job
    order = np.argsort(-values, kind="stable")
    weak = order[len(order) // 2 :]
    known = [int(row) for row in np.random.default_rng(seed).permutation(weak)[:N_FIRST]]
    best, best_five = int(order[0]), {int(row) for row in order[:N_BEST]}
    n_melts, found_five = 0, None
    while True:
        rest = [row for row in range(len(values)) if row not in set(known)]
        for row in next_rows(method, inputs, values, known, rest, batch, seed):
            n_melts += 1
            known.append(row)
            if found_five is None and row in best_five:
                found_five = n_melts
            if row == best:
                return {"method": method, "seed": seed, "best": n_melts, "best_five": found_five}


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("table", type=Path)
    cli.add_argument("--columns", default="c,mn,si,cr,ni,mo,v,n,nb,co,w,al,ti")
    cli.add_argument("--target", default="yield strength")
    cli.add_argument("--seeds", type=int, default=20)
    cli.add_argument("--batch", type=int, default=4)
    cli.add_argument("--workers", type=int, default=2)
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()
    frame = pd.read_csv(args.table)
    raw = frame[args.columns.split(",")].to_numpy(np.float64)
    inputs, values = (raw - raw.mean(axis=0)) / raw.std(axis=0), frame[args.target].to_numpy(np.float64)
    jobs = [(method, seed, inputs, values, args.batch) for method in METHODS for seed in range(args.seeds)]
    with ProcessPoolExecutor(args.workers) as pool:
        runs = list(pool.map(melts, jobs))
    rows = []
    for method in METHODS:
        own = [run for run in runs if run["method"] == method]
        row: dict[str, Any] = {"method": method}
        for what in ("best", "best_five"):
            row[what] = [float(np.quantile([run[what] for run in own], q)) for q in (0.5, 0.25, 0.75)]
        rows.append(row)
    if args.json:
        print(json.dumps({"seeds": args.seeds, "batch": args.batch, "methods": rows, "runs": runs}, indent=2))
        return
    n_rest = len(values) - N_FIRST
    print(f"melts until found, of {n_rest}: median (quartiles) of {args.seeds} seeds, {args.batch} a round")
    for row in rows:
        one, five = (f"{m:.0f} ({low:.0f} to {high:.0f})" for m, low, high in (row["best"], row["best_five"]))
        print(f"{row['method']:8} the best: {one:20} one of the best five: {five}")


if __name__ == "__main__":
    main()
