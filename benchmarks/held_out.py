"""A sweep, then its best configuration and a baseline on the part that no trial ever saw.

    python benchmarks/held_out.py celestial_cnn --data DATA --trials 24 --epochs 8 --seeds 5 --set 'data.group_by=...'
    python benchmarks/held_out.py gene_expression --seeds 5

The best configuration is the one the validation part chose. Both configurations are then trained afresh with
the same seeds, the best epoch of each run is again chosen by the validation part, and that epoch's weights
are measured on the test part: mean, standard deviation over the seeds, and the difference of the pairs. The
baseline is the default configuration of the sweep file, its first trial; with ``--baseline trainer`` it is the
defaults of the trainer's own parameters, for the cnn those of the published example, and with ``--baseline trees``
boosted trees as scikit-learn has them, on the same table. Two configurations are compared, not 24: the test part is
used once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

import aifs_tune
from aifs_tune.listener import Silent
from aifs_tune.progress import PlainLines
from aifs_tune.sweep_data import SweepData, data_for
from aifs_tune.sweep_file import parse_sweep
from aifs_tune.trainers.by_name import find_family, make_trainer


def score(spec: dict[str, Any], data: SweepData, params: dict[str, Any], seed: int) -> dict[str, float]:
    """Train one configuration with one seed and measure its best epoch on the test part."""
    sweep = parse_sweep(spec)
    folds = [location for location, _ in data.divisions]
    trainer: Any = make_trainer(sweep, data.location, folds=folds, params=params, seed=seed, threads=1)
    for _ in range(sweep.search.epochs):
        trainer.epoch()
    measured = {name.removeprefix("test_"): value for name, value in trainer.evaluate("test").items()}
    return {"epoch": trainer.best_epoch, "val": trainer.best_value, **measured}


def boosted(spec: dict[str, Any]) -> dict[str, Any]:
    """The same question put to boosted trees, ten an epoch."""
    kept = {name: spec[name] for name in ("version", "name", "data", "objective")}
    search = {"epochs": spec["search"]["epochs"]}
    return {**kept, "trainer": "boosting", "search": search, "space": {"trees": 10}}


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("sweep")
    cli.add_argument("--data", type=Path, help="as for aifs-tune run; default: what the sweep file has")
    cli.add_argument("--baseline", choices=["file", "trainer", "trees"], default="file")
    cli.add_argument("--trials", type=int, help="default: what the sweep file has")
    cli.add_argument("--epochs", type=int, help="default: what the sweep file has")
    cli.add_argument("--seeds", type=int, default=5)
    cli.add_argument("--set", action="append", default=[], dest="overrides")
    cli.add_argument("--storage", help="sqlite:///FILE to keep the study; default: thrown away")
    args = cli.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        sweep = aifs_tune.load_sweep(args.sweep, data=args.data, overrides=args.overrides)
        result = sweep.run(
            trials=args.trials,
            epochs=args.epochs,
            storage=args.storage or f"sqlite:///{folder}/study.db",
            listener=PlainLines(Console(stderr=True)),
        )
        spec = result.study.spec
        if find_family(spec) is None or spec.data is None:
            sys.exit(f"{args.sweep}: its trainer has no test part")
        data = replace(data_for(spec, strict=False, listener=Silent()), files=None, near_duplicates=None)
        baseline = spec.space.default_params() if args.baseline == "file" else {}
        configurations: dict[str, dict[str, Any]] = {"best": dict(result.best.params), "baseline": dict(baseline or {})}
        trained = {"best": spec.model_dump(mode="json")}
        trained["baseline"] = boosted(trained["best"]) if args.baseline == "trees" else trained["best"]
        jobs = [
            (trained[who], data, params, 1000 + seed)
            for who, params in configurations.items()
            for seed in range(args.seeds)
        ]
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            scored = list(pool.map(score, *zip(*jobs, strict=True)))
    runs = {"best": scored[: args.seeds], "baseline": scored[args.seeds :]}
    scores = [name for name in scored[0] if name not in ("epoch", "val")]
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
            s: (statistics.mean(d), statistics.stdev(d))
            for s in scores
            if (d := [b[s] - a[s] for b, a in zip(runs["best"], runs["baseline"], strict=True)])
        },
        "runs": runs,
    }
    json.dump(summary, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
