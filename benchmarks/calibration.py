"""How often a confirmation calls a configuration better than the baseline: where none is, and where some are.

    python benchmarks/calibration.py
    python benchmarks/calibration.py --worlds ridge --kinds equal --sweeps 1000 --trials 128 --folds 10 --json

Each sweep is simulated whole. Trial 0 is the baseline. The best of its trials by validation, three by default, and
the baseline are trained again on fresh folds with fresh seeds and compared as ``aifs_tune.analysis.paired`` does it:
corrected resampled t test, Holm. Worlds:

    ridge     ridge regression on 10 of 20 columns that matter alike; each trial has columns of its own, so that
              trials differ in luck and in nothing else. Score: root mean squared error
    classes   the same with two classes, a ridge classifier (regression on +1 and -1) and accuracy
    seeds     ridge regression with the same columns in all trials, which differ in their seeds alone
    normal    no data: normal scores whose differences have between folds the correlation that the test assumes

In the first three each training leaves out a tenth of its examples by a seed, and folds are real: their training sets
overlap. In sweeps of the kind ``equal`` no trial differs from the baseline in truth. In ``different`` ones one trial
in eight has more columns (or a higher mean), and only such a one counts as found; the true difference is measured on
20,000 new examples. Folds test ``all`` examples that the sweep had, or ``unseen``: those alone on which no trial was
chosen, the validation part being trained on. Beside it: how often the best by validation would claim to be better by
itself, and how often Student's paired test on the same folds would. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from aifs_tune.analysis.paired import compare_all
from aifs_tune.analysis.scores import Scores, Split
from aifs_tune.analysis.tests import holm, resampled_t

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
COLUMNS, USED = 20, 10
EXTRA = {"ridge": (0, 3, 6), "classes": (0, 4, 8), "seeds": (0, 1, 2), "normal": (0, 1, 2)}
"""Columns that a better trial has more than the others; of ``normal`` standard deviations of a score."""
FOLDS = ("all", "unseen")


@dataclass(frozen=True)
class Settings:
    """What every sweep of a run has in common."""

    trials: int
    top: int
    examples: int
    validation: float
    folds: int
    repeats: int
    seed: int
    noise: float = 1.0


class Columns:
    """A world with data; a configuration is the columns that it may use."""

    def __init__(self, name: str, extra: int, settings: Settings, rng: np.random.Generator) -> None:
        self.of_classes, self.rng, self.noise = name == "classes", rng, settings.noise
        self.mode: Literal["max", "min"] = "max" if self.of_classes else "min"
        self.features, self.answers = self.examples(settings.examples)
        drawn = [rng.permutation(COLUMNS) for _ in range(settings.trials)]
        self.columns = [
            (drawn[0] if name == "seeds" else drawn[i])[: USED + extra * is_better(i)] for i in range(settings.trials)
        ]

    def examples(self, n: int) -> tuple[Floats, Floats]:
        features = self.rng.normal(size=(n, COLUMNS))
        signal = features.sum(axis=1) / np.sqrt(COLUMNS)
        if self.of_classes:
            return features, np.sign(1 / (1 + np.exp(-2 * signal)) - self.rng.random(n))
        return features, signal + self.noise * self.rng.normal(size=n)

    def trained(self, trial: int, train: Ints) -> Ridge:
        """A model of one trial, trained on nine tenths of ``train`` that a fresh seed draws."""
        kept = self.rng.choice(train, int(0.9 * len(train)), replace=False)
        return Ridge(self.features[np.ix_(kept, self.columns[trial])], self.answers[kept])

    def score(self, trial: int, train: Ints, test: Ints) -> float:
        return self.score_of(trial, self.trained(trial, train), self.features[test], self.answers[test])

    def score_of(self, trial: int, model: Ridge, features: Floats, answers: Floats) -> float:
        guesses = model.predict(features[:, self.columns[trial]])
        if self.of_classes:
            return float(np.mean((guesses > 0) == (answers > 0)))
        return float(np.sqrt(np.mean((guesses - answers) ** 2)))


class Ridge:
    """Ridge regression with a penalty of 1 and a free intercept: scikit-learn's, without what it checks at each fit,
    which takes longer than the fit."""

    def __init__(self, features: Floats, answers: Floats) -> None:
        self._mean, self._level = features.mean(axis=0), answers.mean()
        centred = features - self._mean
        penalised = centred.T @ centred + np.eye(features.shape[1])
        self._slopes = np.linalg.solve(penalised, centred.T @ (answers - self._level))

    def predict(self, features: Floats) -> Floats:
        return np.asarray(self._level + (features - self._mean) @ self._slopes)


class Normal:
    """A world without data: a trial's scores share a part in all folds, so that they correlate as the test assumes."""

    mode: Literal["max", "min"] = "max"

    def __init__(self, name: str, extra: int, settings: Settings, rng: np.random.Generator) -> None:
        share = 1 / settings.folds
        self.rng, self.own = rng, np.sqrt(1 - share)
        self.levels = [extra * is_better(i) + np.sqrt(share) * float(rng.normal()) for i in range(settings.trials)]
        self.means = [extra * float(is_better(i)) for i in range(settings.trials)]

    def validation(self) -> list[float]:
        return [mean + float(self.rng.normal()) for mean in self.means]

    def score(self, trial: int, train: Ints, test: Ints) -> float:
        return self.levels[trial] + self.own * float(self.rng.normal())


def is_better(trial: int) -> bool:
    """Whether this trial is of those that may be better in truth; trial 0, the baseline, is not."""
    return trial % 8 == 5


def world_of(name: str, extra: int, settings: Settings, rng: np.random.Generator) -> Columns | Normal:
    return (Normal if name == "normal" else Columns)(name, extra, settings, rng)


def splits_of(tested: Ints, always: Ints, settings: Settings, rng: np.random.Generator) -> list[tuple[Ints, Ints]]:
    """Repeated K-fold over ``tested``; ``always`` is trained on in every fold."""
    found = []
    for _ in range(settings.repeats):
        parts = np.array_split(rng.permutation(tested), settings.folds)
        for k, test in enumerate(parts):
            others = [part for j, part in enumerate(parts) if j != k]
            found.append((np.concatenate([*others, always]), test))
    return found


def one_sweep(number: int, *, name: str, extra: int, settings: Settings) -> dict[str, Any]:
    """A sweep and its confirmation, by either way of folding."""
    rng = np.random.default_rng([settings.seed, number])
    world = world_of(name, extra, settings, rng)
    order = rng.permutation(settings.examples)
    n_validation = round(settings.validation * settings.examples)
    held, train = order[:n_validation], order[n_validation:]
    trials = range(settings.trials)
    found = world.validation() if isinstance(world, Normal) else [world.score(i, train, held) for i in trials]
    gains = (np.array(found) - found[0]) * (1 if world.mode == "max" else -1)
    chosen = [int(i) for i in np.argsort(-gains, kind="stable") if i != 0][: settings.top]
    nobody: Ints = np.array([], dtype=np.int64)
    row: dict[str, Any] = {"raw": bool(gains[chosen[0]] > 0), "raw_gain": float(gains[chosen[0]])}
    for way, tested, always in zip(FOLDS, (order, train), (nobody, held), strict=True):
        if way == "all" or name != "normal":
            row[way] = confirmed(world, chosen, splits_of(tested, always, settings, rng), extra > 0)
    return row


def confirmed(
    world: Columns | Normal, chosen: list[int], splits: list[tuple[Ints, Ints]], some_differ: bool
) -> dict[str, Any]:
    """Whether a confirmation calls one of ``chosen`` better or worse, and rightly so; and Student's test."""
    values = {str(i): np.array([world.score(i, train, test) for train, test in splits]) for i in [0, *chosen]}
    sizes = [Split(0, k, len(train), len(test)) for k, (train, test) in enumerate(splits)]
    found = compare_all(Scores("score", world.mode, sizes, values), "0")
    sign = 1 if world.mode == "max" else -1
    students = [resampled_t(sign * (values[str(i)] - values["0"]), 0.0) for i in chosen]
    student_p = holm(np.array([test.p for test in students]))
    better = [int(one.name) for one in found if one.verdict == "better"]
    return {
        "better": any(is_better(i) or not some_differ for i in better),
        "wrong": some_differ and any(not is_better(i) for i in better),
        "worse": any(one.verdict == "worse" for one in found),
        "student": any(p <= 0.05 and test.mean > 0 for p, test in zip(student_p, students, strict=True)),
        "gain": found[0].difference,
    }


def true_difference(name: str, extra: int, settings: Settings, *, n_draws: int = 100) -> float:
    """By how much a better trial's expected score is better than the baseline's, both trained as in a fold of all."""
    if extra == 0 or name == "normal":
        return float(extra)
    n_train, gains = settings.examples - settings.examples // settings.folds, []
    for number in range(n_draws):
        world = Columns(name, extra, settings, np.random.default_rng([settings.seed, 1 << 20, number]))
        features, answers = world.examples(20_000)
        train = np.arange(n_train)
        first, better = (world.score_of(i, world.trained(i, train), features, answers) for i in (0, 5))
        gains.append((better - first) * (1 if world.mode == "max" else -1))
    return float(np.mean(gains))


def rate(rows: list[dict[str, Any]], way: str | None, key: str) -> dict[str, float]:
    hits = sum(bool((row if way is None else row[way])[key]) for row in rows)
    low, high = stats.binomtest(hits, len(rows)).proportion_ci(0.95, method="wilson")
    return {"rate": hits / len(rows), "low": float(low), "high": float(high)}


def summary(name: str, extra: int, rows: list[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    return {
        "world": name,
        "true_difference": true_difference(name, extra, settings),
        "sweeps": len(rows),
        "raw": rate(rows, None, "raw"),
        "raw_gain": float(np.mean([row["raw_gain"] for row in rows])),
        "confirmed": {
            way: {key: rate(rows, way, key) for key in ("better", "wrong", "worse", "student")}
            | {"gain": float(np.mean([row[way]["gain"] for row in rows]))}
            for way in FOLDS
            if way in rows[0]
        },
    }


def show(entry: dict[str, Any], way: str) -> str:
    found = entry["confirmed"][way]
    truth = "equal" if entry["true_difference"] == 0 else f"{entry['true_difference']:+.3f}"
    cells = [f"{entry['world']:8} {truth:>7} {way:6} {_percent(entry['raw'])} {entry['raw_gain']:+.3f}"]
    cells += [f"{_percent(found['student'])}", f"{_percent(found['better'])} {found['gain']:+.3f}"]
    return " | ".join([*cells, f"{_percent(found['worse'])}", f"{_percent(found['wrong'])}"])


def _percent(found: dict[str, float]) -> str:
    return f"{100 * found['rate']:5.1f} [{100 * found['low']:4.1f}, {100 * found['high']:4.1f}]"


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--worlds", nargs="+", choices=list(EXTRA), default=list(EXTRA))
    cli.add_argument("--sweeps", type=int, default=400, help="of each kind")
    cli.add_argument("--trials", type=int, default=32)
    cli.add_argument("--top", type=int, default=3)
    cli.add_argument("--examples", type=int, default=300)
    cli.add_argument("--validation", type=float, default=0.25, help="share of the examples")
    cli.add_argument("--folds", type=int, default=5)
    cli.add_argument("--repeats", type=int, default=2)
    cli.add_argument("--seed", type=int, default=0)
    cli.add_argument("--noise", type=float, default=1.0, help="of regression, beside a signal of 1")
    cli.add_argument("--kinds", nargs="+", choices=["equal", "different"], default=["equal", "different"])
    cli.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()
    named = ("trials", "top", "examples", "validation", "folds", "repeats", "seed", "noise")
    settings = Settings(**{name: getattr(args, name) for name in named})
    entries = []
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(threads, "1")  # of the processes below
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for name in args.worlds:
            for extra in EXTRA[name]:
                if ("different" if extra else "equal") not in args.kinds:
                    continue
                sweep = partial(one_sweep, name=name, extra=extra, settings=settings)
                rows = pool.map(sweep, range(args.sweeps), chunksize=8)
                entries.append(summary(name, extra, rows, settings))
                print(f"{name}, {extra} more: {len(rows)} sweeps", file=sys.stderr)
    if args.json:
        print(json.dumps({"settings": vars(args), "rows": entries}))
        return
    print(f"{args.trials} trials, best {args.top} confirmed on {args.repeats} x {args.folds} folds; rates in %, [95 %]")
    heads = ["world      truth folds  best by validation     its gain", "Student's test    ", "called better      gain"]
    print(" | ".join([*heads, "called worse      ", "wrongly better"]))
    print("\n".join(show(entry, way) for entry in entries for way in entry["confirmed"]))


if __name__ == "__main__":
    main()
