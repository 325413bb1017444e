"""Particles in a calorimeter: one network for species and numbers, one for each, and boosted trees, on the test part.

    python benchmarks/showers.py --events 4000 --seeds 5

All are of the same simulated showers, with the same parts and the defaults of the sweep file ``particles``:

- ``trees``: scikit-learn's boosted trees with their defaults, a classifier and a regressor for each number, fitted once
  to the training and validation parts
- ``sum``: the energy alone, as the sum of all layers times the factor that fits the training and validation parts best
- ``two networks``: one that learns the species, and one that learns the numbers
- ``one network``: both together, for each ``values_weight``

The best epoch of each training is chosen by the validation part. A muon has no numbers. Given are mean and standard
deviation over the seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from baselines.plain import score_plain_of

import aifs_tune
from aifs_tune.data import prepare_table
from aifs_tune.data.examples import ExampleSet
from aifs_tune.trainers.models.mlp import MlpTrainer

COLUMNS = ("accuracy", "macro_f1", "rmse_energy", "rmse_start")
WEIGHTS = (0.1, 1.0, 10.0)

Scores = Mapping[str, float]


def scores_of_sum(examples: ExampleSet) -> Scores:
    """Error of the energy as a multiple of the sum of the layers."""
    (columns, target), both = (examples.facts["columns"], examples.targets[0]), [*examples.train, *examples.val]
    scales, centres = (np.array([column[name] for column in columns]) for name in ("scale", "centre"))
    total = (examples.inputs[0] * scales + centres).sum(axis=1)
    energy = examples.numbers[:, 0] * target.scale + target.centre
    known = np.array([row for row in both if not np.isnan(energy[row])])
    factor = (total[known] @ energy[known]) / (total[known] @ total[known])
    errors = (factor * total - energy)[examples.test]
    return {"test_rmse_energy": float(np.sqrt(np.nanmean(errors**2)))}


def scores_of_network(
    examples: ExampleSet, params: Mapping[str, Any], seed: int, metric: str, mode: Any, epochs: int
) -> Scores:
    """Scores of the best epoch of a training."""
    trainer = MlpTrainer(examples, params, seed=seed, metric=metric, mode=mode, epochs=epochs, threads=1)
    for _ in range(epochs):
        trainer.epoch()
    return trainer.evaluate("test")


def numbers_alone(examples: ExampleSet) -> ExampleSet:
    """The examples that have numbers, without their classes."""
    known = ~np.isnan(examples.numbers).all(axis=1)
    parts: dict[str, Any] = {part: (rows := getattr(examples, part))[known[rows]] for part in ("train", "val", "test")}
    return replace(examples, y_true=examples.numbers, classes=(), **parts)


def print_row(name: str, runs: Sequence[Scores]) -> None:
    """Print the mean and the standard deviation of each score."""
    cells = []
    for column in COLUMNS:
        values = [run[f"test_{column}"] for run in runs if f"test_{column}" in run]
        spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
        cells.append(f"{np.mean(values):.3f}{spread}" if values else "-")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--events", type=int, default=4000)
    cli.add_argument("--seeds", type=int, default=5)
    cli.add_argument("--epochs", type=int, default=100)
    args = cli.parse_args()
    spec = aifs_tune.load_sweep("particles", overrides=[f"data.table.showers.events={args.events}"]).spec
    assert spec.data is not None
    examples, params = prepare_table(spec.data).examples, dict(spec.space.default_params() or {})
    print(f"{len(examples.train)} train, {len(examples.val)} validation, {len(examples.test)} test")
    print(f"| model | {' | '.join(COLUMNS)} |\n|---{'|---' * len(COLUMNS)}|")
    print_row("trees", [{f"test_{name}": value for name, value in score_plain_of(examples).items()}])
    print_row("sum", [scores_of_sum(examples)])
    of_classes = replace(examples, y_true=examples.labels, targets=())
    seeds, best = range(args.seeds), ("val_macro_f1", "max", args.epochs)
    of_numbers = numbers_alone(examples)
    two = [
        {
            **scores_of_network(of_classes, params, seed, *best),
            **scores_of_network(of_numbers, params, seed, "val_loss", "min", args.epochs),
        }
        for seed in seeds
    ]
    print_row("two networks", two)
    for weight in WEIGHTS:
        runs = [scores_of_network(examples, params | {"values_weight": weight}, seed, *best) for seed in seeds]
        print_row(f"one network, values_weight {weight:g}", runs)


if __name__ == "__main__":
    main()
