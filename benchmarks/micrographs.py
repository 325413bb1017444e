"""Grain size and pore fraction of simulated micrographs: counted by rules, and predicted by a CNN, on the test part.

    python benchmarks/micrographs.py --images 960 --seeds 3 --epochs 30

- ``constant``: the mean of the training part
- ``rules``: boundaries that test lines cross (intercept counting as in ASTM E112), and the share of dark pixels. A
  straight line, fitted to the training part, calibrates both; of a grid of blurs and levels the pair with the smallest
  mean absolute error on the validation part is used
- ``cnn``: cnn_values with its defaults and both flips, on both numbers; the validation part chooses the epoch

Specimens stay in one part. Errors are mean absolute ones. Classes are compared by benchmarks/held_out.py.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from baselines.counting import crossings_per_px, dark_share
from numpy.typing import NDArray

from aifs_tune.config.data import Simulate
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.data import open_examples, simulate_micrographs
from aifs_tune.data.examples import ExampleSet
from aifs_tune.data.sources import prepare
from aifs_tune.trainers.factory import make_trainer

TARGETS = {"intercept_px": {"unit": "px", "role": "length"}, "pore_fraction": {"role": "scalar"}}

Floats = NDArray[np.float64]
Rule = Callable[[Floats, float, float], float]


def spec_of(manifest: Path, epochs: int) -> SweepSpec:
    """The sweep of the CNN on a manifest."""
    frames = {"manifest": str(manifest), "path": "image", "group": "specimen", "stretch": "linear", "targets": TARGETS}
    return parse_sweep(
        {
            "name": "micrograph-numbers",
            "trainer": {"name": "cnn_values"},
            "data": {"frames": frames},
            "objective": {"metric": "val_loss", "mode": "min"},
            "search": {"epochs": epochs},
            "space": {"horizontal_flip": True, "vertical_flip": True},
        }
    )


def values_of(examples: ExampleSet, column: int) -> Floats:
    """True values of a target in its unit."""
    target = examples.targets[column]
    return np.asarray(examples.y_true[:, column] * target.scale + target.centre, np.float64)


def counted(rule: Rule, seen: Floats, y_true: Floats, examples: ExampleSet, grid: list[Any], inverse: bool) -> float:
    """Mean absolute error of a rule on the test part, with the blur and level of a grid that are best for validation.

    An intercept is the inverse of what is counted.
    """
    best = (np.inf, np.nan)
    wanted = 1 / y_true if inverse else y_true
    for blur, level in grid:
        count = np.array([rule(image, blur, level) for image in seen])
        if np.ptp(count[examples.train]) == 0:
            continue  # the level is so high that nothing is counted
        slope, offset = np.polyfit(count[examples.train], wanted[examples.train], 1)
        y_pred = slope * count + offset
        errors = np.abs((1 / np.maximum(y_pred, wanted.min() / 2) if inverse else y_pred) - y_true)
        best = min(best, (float(errors[examples.val].mean()), float(errors[examples.test].mean())))
    return best[1]


def of_cnn(spec: SweepSpec, location: Path, seed: int) -> dict[str, float]:
    """Scores of the CNN on the test part."""
    trainer: Any = make_trainer(spec, location, params=spec.space.default_params() or {}, seed=seed, threads=2)
    for _ in range(spec.search.epochs):
        trainer.epoch()
    return dict(trainer.evaluate("test"))


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--images", type=int, default=960)
    cli.add_argument("--size", type=int, default=48)
    cli.add_argument("--difficulty", type=float, default=0.5)
    cli.add_argument("--epochs", type=int, default=30)
    cli.add_argument("--seeds", type=int, default=3)
    args = cli.parse_args()
    asked = Simulate(what="micrographs", images=args.images, size=args.size, difficulty=args.difficulty)
    spec = spec_of(simulate_micrographs(asked), args.epochs)
    assert spec.data is not None
    location = prepare(spec.data, "frames", strict=True, tell=print, progress=lambda *_: None).location
    examples = open_examples(location)
    seen = np.asarray(examples.inputs[0][..., 0], np.float64)
    spread = float(seen[examples.train].std())
    rules: tuple[tuple[Rule, bool], ...] = ((crossings_per_px, True), (dark_share, False))
    grid = list(itertools.product((0.5, 0.8, 1.2, 1.6), np.linspace(0.2, 3.0, 15) * spread))
    for column, (name, (rule, inverse)) in enumerate(zip(TARGETS, rules, strict=True)):
        y_true = values_of(examples, column)
        constant = float(np.abs(y_true[examples.test] - y_true[examples.train].mean()).mean())
        print(f"{name}: constant {constant:.4f}, rules {counted(rule, seen, y_true, examples, grid, inverse):.4f}")
    begun = time.monotonic()
    runs = [of_cnn(spec, location, seed) for seed in range(args.seeds)]
    for name in TARGETS:
        errors = [run[f"test_mae_{name}"] for run in runs]
        print(f"{name}: cnn {statistics.fmean(errors):.4f} +- {statistics.stdev(errors):.4f}, {args.seeds} seeds")
    print(f"{(time.monotonic() - begun) / args.seeds:.0f} s a training")


if __name__ == "__main__":
    main()
