"""How often the 95 % intervals of test scores contain the true score, by simulation.

    python benchmarks/coverage.py --runs 400

Models of known quality answer test sets of a few sizes: each class is recognised with its own probability, and the
probabilities that the model states are those with which it is right. The true score is that of 200,000 examples.
``percentile`` is the interval of bootstrap percentiles, what ``evaluate_classes`` had before. ``none`` is the share of
runs in which both ends of the interval are the same.
"""

from __future__ import annotations

import argparse
import os

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np  # noqa: E402  (reads the number of threads when it is imported)
from numpy.typing import NDArray  # noqa: E402

from aifs_tune.analysis import Resampling, evaluate_classes  # noqa: E402
from aifs_tune.analysis.classification import ClassScores, Reliability  # noqa: E402

CASES = {
    "2 classes, .98, n 100": ((0.5, 0.5), (0.98, 0.98), 100),
    "2 classes, .95, n 50": ((0.5, 0.5), (0.95, 0.95), 50),
    "2 classes, .87, n 119": ((0.5, 0.5), (0.87, 0.87), 119),
    "2 classes, 9 to 1, n 100": ((0.9, 0.1), (0.97, 0.8), 100),
    "5 classes, .9, n 200": ((0.2,) * 5, (0.9, 0.95, 0.99, 0.8, 0.9), 200),
    "3 classes, .7, n 300": ((0.5, 0.3, 0.2), (0.7, 0.7, 0.7), 300),
}
"""Shares of the classes, probability that each is recognised, number of test examples."""
SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "auc", "brier")


def drawn(case: str, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """True classes (n,) and probabilities (n, k) of a model that states how sure it is."""
    shares, right, _ = CASES[case]
    k = len(shares)
    y_true = rng.choice(k, n, p=shares)
    is_right = rng.random(n) < np.array(right)[y_true]
    answer = np.where(is_right, y_true, (y_true + rng.integers(1, k, n)) % k)
    sure = np.clip(rng.normal(np.where(is_right, 0.9, 0.75), 0.08), 1 / k + 0.02, 0.99)
    probabilities = np.repeat(((1 - sure) / (k - 1))[:, None], k, axis=1)
    probabilities[np.arange(n), answer] = sure
    return y_true, probabilities


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--runs", type=int, default=400)
    cli.add_argument("--draws", type=int, default=400)
    given = cli.parse_args()
    print(f"{given.runs} test sets each; share of 95 % intervals that contain the true score, and their mean width")
    print(f"{'':26} {'':18} {'ours':>14} {'percentile':>16} {'none':>6}")
    for case, (shares, _, n) in CASES.items():
        rng = np.random.default_rng(0)
        names = [str(i) for i in range(len(shares))]
        large = evaluate_classes(*drawn(case, 200_000, rng), classes=names, resampling=Resampling(0))
        truth = {name: large.scores[name].value or 0.0 for name in SCORES}
        ours: dict[str, list[tuple[float, float]]] = {name: [] for name in SCORES}
        theirs: dict[str, list[tuple[float, float]]] = {name: [] for name in SCORES}
        for run in range(given.runs):
            y_true, probabilities = drawn(case, n, rng)
            settings = Resampling(given.draws, seed=run)
            found = evaluate_classes(y_true, probabilities, classes=names, resampling=settings)
            plain = settings.estimates(scores_of(y_true, probabilities), n, None)
            for name in SCORES:
                for kept, estimate in ((ours, found.scores[name]), (theirs, plain[name])):
                    if estimate.low is not None and estimate.high is not None:
                        kept[name].append((estimate.low, estimate.high))
        for name in SCORES:
            cells = [cell(np.array(kept[name]), truth[name]) for kept in (ours, theirs)]
            ends = np.array(theirs[name])
            print(f"{case:26} {name:18} {cells[0]:>14} {cells[1]:>16} {np.mean(ends[:, 0] == ends[:, 1]):6.3f}")


def cell(ends: NDArray[np.float64], truth: float) -> str:
    """Coverage and mean width."""
    return f"{np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])):.3f} {np.mean(ends[:, 1] - ends[:, 0]):.3f}"


def scores_of(y_true: NDArray[np.int64], probabilities: NDArray[np.float64]) -> ClassScores:
    predicted = probabilities.argmax(axis=1)
    reliability = Reliability(probabilities[np.arange(len(y_true)), predicted], predicted == y_true, 10)
    return ClassScores(y_true, predicted, probabilities, reliability)


if __name__ == "__main__":
    main()
