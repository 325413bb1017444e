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
- ``plain``: of tables, series and frames, scikit-learn's boosted trees with their defaults, fitted once to the
  training and validation parts together: the two lines that one types first
- ``ridge``: as ``plain``, a ridge regression of numbers, whose penalty leaving out one row at a time chooses
- ``forest``: of images, a random forest on grey levels and dark spots, fitted to the training and validation parts
- ``cnn``: of images, the published example's network with a learning rate of 1e-3, for as many epochs

With ``--final K`` the best configuration is also trained as ``aifs-tune finalize`` trains it: on the training and
validation parts together, for the median of the best epochs of the runs above, and its last epoch is measured
(``final``); then the mean prediction of every K of these models, each with the next seeds (``final x K``). The first of
these means has 95 % intervals too (``intervals``), from test examples resampled by whole groups. A forecast of
quantiles keeps the predictions of its median alone, so final models have no scores of quantiles.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from baselines.by_name import OF_KIND, check_baseline, other_trainer
from baselines.forest import score_forest
from baselines.linear import score_linear
from baselines.plain import measure_test, score_plain, score_ridge
from numpy.typing import NDArray
from rich.console import Console

import aifs_tune
from aifs_tune.analysis import evaluate_classes, evaluate_values
from aifs_tune.cli.progress import PlainLines
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.sweep import Refit, SweepSpec
from aifs_tune.data import open_examples, open_images
from aifs_tune.errors import RequestError
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.data import SweepData, data_for
from aifs_tune.execution.finalize import final_spec
from aifs_tune.trainers.factory import find_trainer_entry, make_trainer
from aifs_tune.trainers.network.metrics import measure
from aifs_tune.trainers.predictions import read_predictions

_REFITTED = {"plain": score_plain, "ridge": score_ridge}


def score(spec: dict[str, Any], data: SweepData, params: dict[str, Any], seed: int) -> dict[str, float]:
    """Train one configuration with one seed and measure its best epoch on the test part."""
    sweep = parse_sweep(spec)
    folds = [location for location, _ in data.splits]
    trainer: Any = make_trainer(sweep, data.location, folds=folds, params=params, seed=seed, threads=1)
    for _ in range(sweep.search.epochs):
        trainer.epoch()
    measured = {name.removeprefix("test_"): value for name, value in trainer.evaluate("test").items()}
    return {"epoch": trainer.best_epoch, "val": trainer.best_value, **measured}


def predict_final(
    spec: dict[str, Any], data: SweepData, params: dict[str, Any], epochs: int, seed: int
) -> NDArray[np.float32]:
    """Train one configuration on the training and validation parts, and predict the test part."""
    sweep = final_spec(parse_sweep(spec), (Refit(params=params, epoch=epochs),))
    trainer: Any = make_trainer(sweep, data.location, params=params, seed=seed, threads=1)
    for _ in range(epochs):
        trainer.epoch()
    with tempfile.TemporaryDirectory() as folder:
        trainer.save_predictions(Path(folder))
        return read_predictions(Path(folder)).y_pred


def scores_of(location: Path, kind: str, y_pred: NDArray[np.float32]) -> dict[str, float]:
    """Metrics of predictions of the test part: probabilities, then numbers in their units."""
    if kind == "images":
        images = open_images(location)
        return measure(images.labels[images.test], np.log(np.maximum(y_pred, np.finfo(np.float32).tiny)))
    examples = open_examples(location)
    n_classes = len(examples.classes)
    centres, scales = (np.array([getattr(one, name) for one in examples.targets]) for name in ("centre", "scale"))
    logs = np.log(np.maximum(y_pred[:, :n_classes], np.finfo(np.float32).tiny))
    return measure_test(examples, np.concatenate([logs, (y_pred[:, n_classes:] - centres) / scales], axis=1))


def train_final(
    told: dict[str, Any], data: SweepData, best: dict[str, Any], runs: Sequence[dict[str, float]], size: int, kind: str
) -> tuple[dict[str, list[dict[str, float]]], dict[str, Any]]:
    """Scores of final models on the test part: alone, and the mean of ``size``, as many of each as there are runs.

    And the scores of the first mean with their intervals.
    """
    assert data.location is not None
    epochs, n = math.ceil(statistics.median(run["epoch"] for run in runs)), len(runs)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        started = [pool.submit(predict_final, told, data, best, epochs, 2000 + seed) for seed in range(n + size - 1)]
        found = [run.result() for run in started]
    means = [np.mean(found[i : i + size], axis=0, dtype=np.float64).astype(np.float32) for i in range(n)]
    named = {"final": found[:n]} | ({f"final x {size}": means} if size > 1 else {})
    scores = {name: [scores_of(data.location, kind, each) for each in these] for name, these in named.items()}
    return scores, intervals_of(data, means[0], kind)


def intervals_of(data: SweepData, y_pred: NDArray[np.float32], kind: str) -> dict[str, Any]:
    """Scores on the test part with their intervals: of classes, or of each number in its unit."""
    assert data.location is not None
    held = open_images(data.location) if kind == "images" else open_examples(data.location)
    groups = None
    if data.files is not None and None not in data.files.group:
        group_of = dict(zip(data.files.example, data.files.group, strict=True))
        groups = [group_of[row] for row in held.test.tolist()]
    counts = {"n": len(held.test), "groups": groups and len(set(groups))}
    if held.classes:
        of_classes = evaluate_classes(
            held.labels[held.test], y_pred[:, : len(held.classes)], classes=held.classes, groups=groups
        )
        return of_classes.to_dict()["scores"] | counts
    centres, scales = (np.array([getattr(one, name) for one in held.targets]) for name in ("centre", "scale"))
    units = {target.name: target.unit or "" for target in held.targets}
    found = evaluate_values(held.y_true[held.test] * scales + centres, y_pred, targets=units, groups=groups)
    return {one.name: one.to_dict()["scores"] | counts for one in found}


def train(
    spec: SweepSpec, data: SweepData, best: dict[str, Any], baselines: Sequence[str], n_seeds: int
) -> dict[str, list[dict[str, float]]]:
    """What the best configuration and each baseline have on the test part, a run for each seed."""
    told = spec.model_dump(mode="json")
    compared = {"best": (told, best)}
    for name in baselines:
        if name in ("trees", "cnn"):
            compared[name] = other_trainer(name, spec)
        elif name not in ("linear", "forest", *_REFITTED):
            compared[name] = told, dict(spec.space.default_params() or {}) if name == "file" else {}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        runs = {
            who: [pool.submit(score, trained, data, params, 1000 + seed) for seed in range(n_seeds)]
            for who, (trained, params) in compared.items()
        }
        if "linear" in baselines:
            runs["linear"] = [pool.submit(score_linear, told, str(data.location))] * n_seeds
        if "forest" in baselines:
            runs["forest"] = [pool.submit(score_forest, str(data.location), 1000 + seed) for seed in range(n_seeds)]
        for name in sorted(_REFITTED.keys() & set(baselines)):
            runs[name] = [pool.submit(_REFITTED[name], str(data.location))] * n_seeds
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
    cli.add_argument("--final", type=int, metavar="K", help="also train final models, alone and as means of K")
    cli.add_argument("--set", action="append", default=[], dest="overrides")
    cli.add_argument("--storage", help="sqlite:///FILE to keep the study; default: thrown away")
    args = cli.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        sweep = aifs_tune.load_sweep(args.sweep, data=args.data, overrides=args.overrides)
        trainer_entry = find_trainer_entry(sweep.spec)
        if trainer_entry is None:
            sys.exit(f"{args.sweep}: its trainer has no test part")
        learned, kind = sweep.spec.data, trainer_entry.kind
        assert learned is not None
        both = learned.has_classes(kind) and bool(learned.targets(kind))
        try:
            for name in args.baseline:
                check_baseline(name, kind, both=both)
        except RequestError as error:
            sys.exit(str(error))
        result = sweep.run(
            trials=args.trials,
            epochs=args.epochs,
            storage=args.storage or f"sqlite:///{folder}/study.db",
            callback=PlainLines(Console(stderr=True)),
        )
        spec = result.study.spec
        prepared = data_for(spec, strict=False, callback=NullCallback())
        data = replace(prepared, files=None, near_duplicates=None)
        intervals: dict[str, Any] = {}
        runs = train(spec, data, dict(result.best.params), args.baseline, args.seeds)
        if args.final:
            told = spec.model_dump(mode="json")
            best = dict(result.best.params)
            final, intervals = train_final(told, prepared, best, runs["best"], args.final, kind)
            runs |= final
        scores = {who: [name for name in rows[0] if name not in ("epoch", "val")] for who, rows in runs.items()}
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
                who: {
                    s: (statistics.mean(r[s] for r in rows), statistics.stdev(r[s] for r in rows)) for s in scores[who]
                }
                for who, rows in runs.items()
            },
            "pairs": {
                name: {
                    s: (statistics.mean(d), statistics.stdev(d))
                    for s in scores["best"]
                    if s in scores[name] and (d := [b[s] - a[s] for b, a in zip(runs["best"], runs[name], strict=True)])
                }
                for name in runs
                if name != "best"
            },
            "intervals": intervals,
            "runs": runs,
        }
    json.dump(summary, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
