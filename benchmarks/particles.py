"""Gammas kept among hadrons: a sweep of boosted trees, and scikit-learn's trees with their defaults, on the test part.

    python benchmarks/particles.py --data magic04.data --trials 32

It prints the share of the gammas that each model keeps at each share of the hadrons, with 95 % intervals of a bootstrap
of the test part, and the difference from the baseline with the interval of the same resamples:

- ``baseline``: scikit-learn's boosted trees with their defaults, fitted once to the training and validation parts
- ``default``: the first trial, the defaults of the sweep file, at its best epoch
- ``best``: the configuration that the validation part chose, trained again, at its best epoch
- ``finalised``: the same configuration, fitted to the training and validation parts as ``aifs-tune finalize`` does
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from held_out import predict_final
from numpy.typing import NDArray
from rich.console import Console
from sklearn.ensemble import HistGradientBoostingClassifier

import aifs_tune
from aifs_tune.analysis.bootstrap import Resampling
from aifs_tune.cli.progress import PlainLines
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.data import open_examples
from aifs_tune.data.examples import ExampleSet
from aifs_tune.data.signal import RATES, RankedSignal
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.data import SweepData, data_for
from aifs_tune.trainers.factory import make_trainer
from aifs_tune.trainers.predictions import read_predictions

Probabilities = NDArray[np.float32]


def fitted_once(examples: ExampleSet) -> Probabilities:
    """Predictions (n, classes) for the test part of the trees that one types first."""
    both = np.concatenate([examples.train, examples.val])
    inputs = examples.inputs[0]
    model = HistGradientBoostingClassifier(random_state=0).fit(inputs[both], examples.y_true[both])
    return np.asarray(model.predict_proba(inputs[examples.test]), np.float32)


def trained(spec: SweepSpec, data: SweepData, params: dict[str, Any]) -> tuple[Probabilities, int]:
    """Predictions for the test part of the best epoch of a training, and that epoch."""
    trainer: Any = make_trainer(spec, data.location, params=params, seed=1000, threads=1)
    for _ in range(spec.search.epochs):
        trainer.epoch()
    with tempfile.TemporaryDirectory() as folder:
        trainer.save_predictions(Path(folder))
        return read_predictions(Path(folder)).y_pred, trainer.best_epoch


def print_table(y_pred: dict[str, Probabilities], is_signal: NDArray[np.bool_], column: int) -> None:
    """Print the efficiency of each model at each rate, and the difference from the first model."""
    ranked = {name: RankedSignal(is_signal, each[:, column]) for name, each in y_pred.items()}
    first = next(iter(ranked))

    def scores(weights: NDArray[np.float64]) -> dict[str, float]:
        found = {name: each.efficiencies(weights, list(RATES)) for name, each in ranked.items()}
        values = {f"{name}@{rate}": found[name][i] for name in ranked for i, rate in enumerate(RATES)}
        less = {
            f"{name}-{first}@{rate}": found[name][i] - found[first][i]
            for name in ranked
            for i, rate in enumerate(RATES)
        }
        return values | less

    estimates = Resampling(2000).estimates(scores, len(is_signal), None)
    print("| model | " + " | ".join(f"at {100 * rate:g} %" for rate in RATES) + " |")
    print("|---" * (len(RATES) + 1) + "|")
    for name in ranked:
        print(f"| {name} | " + " | ".join(str(estimates[f"{name}@{rate}"]) for rate in RATES) + " |")
    for name in [each for each in ranked if each != first]:
        less = " | ".join(str(estimates[f"{name}-{first}@{rate}"]) for rate in RATES)
        print(f"| {name} less {first} | {less} |")


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--data", type=Path, required=True, help="the table magic04.data")
    cli.add_argument("--trials", type=int, help="default: what the sweep file has")
    cli.add_argument("--set", action="append", default=[], dest="overrides")
    args = cli.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sweep = aifs_tune.load_sweep("magic_gamma", data=args.data, overrides=args.overrides)
        told = PlainLines(Console(stderr=True))
        result = sweep.run(trials=args.trials, storage=f"sqlite:///{folder}/study.db", callback=told)
        spec = result.study.spec
        data = replace(data_for(spec, strict=False, callback=NullCallback()), files=None, near_duplicates=None)
        assert data.location is not None
        examples = open_examples(data.location)
        assert spec.data is not None
        assert spec.data.signal is not None
        column = examples.classes.index(spec.data.signal)
        best = dict(result.best.params)
        of_best, epoch = trained(spec, data, best)
        told_spec = spec.model_dump(mode="json")
        y_pred = {
            "baseline": fitted_once(examples),
            "default": trained(spec, data, dict(spec.space.default_params() or {}))[0],
            "best": of_best,
            "finalised": predict_final(told_spec, data, best, epoch, 2000),
        }
        is_signal = np.asarray(examples.y_true[examples.test] == column)
        print(
            f"{result.study.counts()} in {result.wall_s:.0f} s; best trial {result.best.number}: {best}, epoch {epoch}"
        )
        print(f"validation: default {result.study.trial(0).value:.3f}, best {result.best.value:.3f}")
        print(f"test: {int(is_signal.sum())} {spec.data.signal}, {int((~is_signal).sum())} others")
        print_table(y_pred, is_signal, column)


if __name__ == "__main__":
    main()
