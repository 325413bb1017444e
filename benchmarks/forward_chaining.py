"""How often a confirmation on folds that follow each other in time calls one of two equal configurations better.

Each series is simulated: an answer that depends on three columns, and noise that remembers (an autoregression). Two
configurations see these columns and ten others each, which say nothing; they are equal in truth. Both are trained on
what lies before each block and tested on it, as `confirm` does for data in time, and compared by the corrected test,
with n_test / n_train from the sizes of the folds; Student's t test of the same differences stands beside it.

    python benchmarks/forward_chaining.py --series 1000
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from scipy import stats

from aifs_tune.analysis.tests import resampled_t
from aifs_tune.config.data import Fold
from aifs_tune.data.split import forward_folds

N, N_OTHERS = 300, 10


def remembering(random: np.random.Generator, memory: float, *shape: int) -> np.ndarray:
    """Autoregressions of order one along the first axis, with variance 1."""
    drawn = random.normal(size=shape)
    for i in range(1, shape[0]):
        drawn[i] = memory * drawn[i - 1] + np.sqrt(1 - memory**2) * drawn[i]
    return drawn


def differences(random: np.random.Generator, memory: float, folds: int, repeats: int) -> tuple[np.ndarray, float]:
    """Of the mean absolute errors of the two on each fold, and n_test / n_train."""
    features = remembering(random, memory, N, 3 + 2 * N_OTHERS)
    answers = features[:, :3].sum(axis=1) + remembering(random, memory, N, 1)[:, 0]
    undivided = {"train": np.arange(N, dtype=np.int32), "val": np.empty(0, np.int32), "test": np.empty(0, np.int32)}
    times, labels, found, n_train, n_test = np.arange(N, dtype=float), ["all"] * N, [], 0, 0
    for repeat in range(repeats):
        for index in range(folds):
            fold = Fold(index=index, of=folds, seed=repeat, among="train")
            parts = forward_folds(fold, undivided, times, "here", labels=labels)
            errors = []
            for first in (3, 3 + N_OTHERS):
                seen = features[:, [0, 1, 2, *range(first, first + N_OTHERS)]]
                train, test = parts["train"], parts["test"]
                square = seen[train].T @ seen[train] + np.eye(seen.shape[1])
                slopes = np.linalg.solve(square, seen[train].T @ answers[train])
                errors.append(np.abs(seen[test] @ slopes - answers[test]).mean())
            found.append(errors[0] - errors[1])
            n_train, n_test = n_train + len(parts["train"]), n_test + len(parts["test"])
    return np.array(found), n_test / n_train


def rates(memory: float, folds: int, repeats: int, n_series: int, seed: int) -> dict[str, Any]:
    told: dict[str, Any] = {"memory": memory, "folds": folds, "repeats": repeats, "series": n_series}
    hits = {"corrected": 0, "student": 0}
    for number in range(n_series):
        random = np.random.default_rng([seed, number, round(100 * memory)])
        found, ratio = differences(random, memory, folds, repeats)
        hits["corrected"] += resampled_t(found, ratio).p <= 0.05
        hits["student"] += resampled_t(found, 0.0).p <= 0.05
    for name, n in hits.items():
        low, high = stats.binomtest(int(n), n_series).proportion_ci(0.95, method="wilson")
        told[name] = [int(n) / n_series, float(low), float(high)]
    return told


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--series", type=int, default=1000, help="of each kind")
    cli.add_argument("--seed", type=int, default=0)
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()
    found = [rates(memory, 5, repeats, args.series, args.seed) for repeats in (1, 2) for memory in (0.0, 0.5, 0.9)]
    if args.json:
        print(json.dumps(found))
        return
    print("memory | repeats x folds | called different, corrected test | Student's t test; rates in %, [95 %]")
    for one in found:
        cells = [" ".join(f"{100 * value:.1f}" for value in one[name]) for name in ("corrected", "student")]
        print(f"{one['memory']} | {one['repeats']} x {one['folds']} | {cells[0]} | {cells[1]}")


if __name__ == "__main__":
    main()
