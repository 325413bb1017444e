"""A sweep, then its best configuration and a baseline on the part that no trial ever saw.

    python benchmarks/held_out.py celestial_cnn --data DATA --trials 24 --epochs 8 --seeds 5 --set 'data.group_by=...'
    python benchmarks/held_out.py gene_expression --seeds 5

The best configuration is the one the validation part chose. Both configurations are then trained afresh with
the same seeds, the best epoch of each run is again chosen by the validation part, and that epoch's weights
are measured on the test part: mean, standard deviation over the seeds, and the difference of the pairs. Two
configurations are compared, not 24: the test part is used once. ``--baseline`` names one or several of

- ``file``: the default configuration of the sweep file, its first trial
- ``trainer``: the defaults of the trainer's own parameters, for the cnn those of the published example
- ``linear``: of tables, series and frames, a ridge regression, of classes a logistic regression, on all numbers of
  an example; the validation part chooses the penalty. It draws nothing at random: one fit stands for all seeds
- ``trees``: of tables, boosted trees as scikit-learn has them
- ``cnn``: of images, the published example's network with a learning rate of 1e-3, for as many epochs
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from baselines.by_name import OF_KIND, check_baseline, other_trainer
from baselines.linear import score_linear
from rich.console import Console

import aifs_tune
from aifs_tune.cli.progress import PlainLines
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import RequestError
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.data import SweepData, data_for
from aifs_tune.trainers.factory import find_trainer_entry, make_trainer


def score(spec: dict[str, Any], data: SweepData, params: dict[str, Any], seed: int) -> dict[str, float]:
    """Train one configuration with one seed and measure its best epoch on the test part."""
    sweep = parse_sweep(spec)
    folds = [location for location, _ in data.splits]
    trainer: Any = make_trainer(sweep, data.location, folds=folds, params=params, seed=seed, threads=1)
    for _ in range(sweep.search.epochs):
        trainer.epoch()
    measured = {name.removeprefix("test_"): value for name, value in trainer.evaluate("test").items()}
    return {"epoch": trainer.best_epoch, "val": trainer.best_value, **measured}


def train(
    spec: SweepSpec, data: SweepData, best: dict[str, Any], baselines: Sequence[str], n_seeds: int
) -> dict[str, list[dict[str, float]]]:
    """What the best configuration and each baseline have on the test part, a run for each seed."""
    told = spec.model_dump(mode="json")
    compared = {"best": (told, best)}
    for name in baselines:
        if name in ("trees", "cnn"):
            compared[name] = other_trainer(name, spec)
        elif name != "linear":
            compared[name] = told, dict(spec.space.default_params() or {}) if name == "file" else {}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        runs = {
            who: [pool.submit(score, trained, data, params, 1000 + seed) for seed in range(n_seeds)]
            for who, (trained, params) in compared.items()
        }
        if "linear" in baselines:
            runs["linear"] = [pool.submit(score_linear, told, str(data.location))] * n_seeds
        return {who: [run.result() for run in started] for who, started in runs.items()}


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("sweep")
    cli.add_argument("--data", type=Path, help="as for aifs-tune run; default: what the sweep file has")
    choices = ["file", "trainer", *OF_KIND]
    cli.add_argument("--baseline", choices=choices, default=["file"], nargs="+", help="one or several: see above")
    cli.add_argument("--trials", type=int, help="default: what the sweep file has")
    cli.add_argument("--epochs", type=int, help="default: what the sweep file has")
    cli.add_argument("--seeds", type=int, default=5)
    cli.add_argument("--set", action="append", default=[], dest="overrides")
    cli.add_argument("--storage", help="sqlite:///FILE to keep the study; default: thrown away")
    args = cli.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        sweep = aifs_tune.load_sweep(args.sweep, data=args.data, overrides=args.overrides)
        trainer_entry = find_trainer_entry(sweep.spec)
        if trainer_entry is None:
            sys.exit(f"{args.sweep}: its trainer has no test part")
        try:
            for name in args.baseline:
                check_baseline(name, trainer_entry.kind)
        except RequestError as error:
            sys.exit(str(error))
        result = sweep.run(
            trials=args.trials,
            epochs=args.epochs,
            storage=args.storage or f"sqlite:///{folder}/study.db",
            callback=PlainLines(Console(stderr=True)),
        )
        spec = result.study.spec
        data = replace(data_for(spec, strict=False, callback=NullCallback()), files=None, near_duplicates=None)
        runs = train(spec, data, dict(result.best.params), args.baseline, args.seeds)
    scores = [name for name in runs["best"][0] if name not in ("epoch", "val")]
    summary: dict[str, Any] = {
        "sweep": args.sweep,
        "data": args.data.name if args.data else None,
        "trials": sum(result.study.counts().values()),
        "epochs": spec.search.epochs,
        "wall_s": round(result.wall_s, 1),
        "n_trials": result.study.counts(),
        "best_trial": result.best.to_json(),
        "first_trial": result.study.trial(0).to_json(),
        "test": {
            who: {s: (statistics.mean(r[s] for r in rows), statistics.stdev(r[s] for r in rows)) for s in scores}
            for who, rows in runs.items()
        },
        "pairs": {
            name: {
                s: (statistics.mean(d), statistics.stdev(d))
                for s in scores
                if (d := [b[s] - a[s] for b, a in zip(runs["best"], runs[name], strict=True)])
            }
            for name in args.baseline
        },
        "runs": runs,
    }
    json.dump(summary, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
