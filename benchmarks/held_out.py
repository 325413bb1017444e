"""A sweep, then its best configuration and the published settings on the part that no trial ever saw.

    python benchmarks/held_out.py celestial_cnn DATA --trials 24 --epochs 8 --seeds 5 --set 'data.group_by=...'

The best configuration is the one the validation part chose. Both configurations are then trained afresh with
the same seeds, the best epoch of each run is again chosen by the validation part, and that epoch's weights
are measured on the test part: mean, standard deviation over the seeds, and the difference of the pairs. The
published settings are those of the example that the CNN comes from, the defaults of its parameters. Two
configurations are compared, not 24: the test part is used once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

import aifs_tune
from aifs_tune.data import open_images, prepare_images
from aifs_tune.progress import PlainLines
from aifs_tune.trainers.cnn_params import CnnParams

SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "auc")


def score(location: str, params: Mapping[str, Any], seed: int, epochs: int, metric: str, mode: str) -> dict:
    """Train one configuration with one seed and measure its best epoch on the test part."""
    from aifs_tune.trainers.cnn import CnnTrainer

    trainer = CnnTrainer(open_images(Path(location)), params, seed=seed, metric=metric, mode=mode, threads=1)
    for _ in range(epochs):
        trainer.epoch()
    measured = {name.removeprefix("test_"): value for name, value in trainer.evaluate("test").items()}
    return {"epoch": trainer.best_epoch, "val": trainer.best_value, **measured}


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("sweep")
    cli.add_argument("data", type=Path)
    cli.add_argument("--trials", type=int, default=24)
    cli.add_argument("--epochs", type=int, default=8)
    cli.add_argument("--seeds", type=int, default=5)
    cli.add_argument("--set", action="append", default=[], dest="overrides")
    cli.add_argument("--storage", help="sqlite:///FILE to keep the study; default: thrown away")
    args = cli.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        sweep = aifs_tune.load_sweep(args.sweep, data=args.data.resolve(), overrides=args.overrides)
        result = sweep.run(
            trials=args.trials,
            epochs=args.epochs,
            storage=args.storage or f"sqlite:///{folder}/study.db",
            listener=PlainLines(Console(stderr=True)),
        )
        spec = result.study.spec
        assert spec.data is not None
        prepared = prepare_images(spec.data)
        configurations: dict[str, dict[str, Any]] = {"best": dict(result.best.params), "published": asdict(CnnParams())}
        jobs = [
            (str(prepared.location), params, 1000 + seed, args.epochs, spec.objective.metric, spec.objective.mode)
            for params in configurations.values()
            for seed in range(args.seeds)
        ]
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            scored = list(pool.map(score, *zip(*jobs, strict=True)))
    runs = {"best": scored[: args.seeds], "published": scored[args.seeds :]}
    summary: dict[str, Any] = {
        "data": args.data.name,
        "sizes": {part: len(getattr(prepared.images, part)) for part in ("train", "val", "test")},
        "trials": args.trials,
        "epochs": args.epochs,
        "wall_s": round(result.wall_s, 1),
        "n_trials": result.study.counts(),
        "best_trial": result.best.to_json(),
        "first_trial": result.study.trial(0).to_json(),
        "test": {
            who: {s: (statistics.mean(r[s] for r in rows), statistics.stdev(r[s] for r in rows)) for s in SCORES}
            for who, rows in runs.items()
        },
        "pairs": {
            s: (statistics.mean(d), statistics.stdev(d))
            for s in SCORES
            if (d := [b[s] - a[s] for b, a in zip(runs["best"], runs["published"], strict=True)])
        },
        "runs": runs,
    }
    json.dump(summary, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
