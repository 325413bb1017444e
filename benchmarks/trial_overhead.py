"""What a trial costs beside the function: ``aifs_tune.tune`` in this process against Optuna's ``study.optimize``.

    python benchmarks/trial_overhead.py --trials 500 --repeats 3

Both run the same function of three parameters, which takes no time, with one SQLite file each on the same disk, and
take turns. Two samplers each: random ones, which cost next to nothing, and TPE. ``reports`` is the number of values
that a trial reports before its result. The last row is the sampler that ``aifs_tune.tune`` has by default.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import optuna  # noqa: E402  (NumPy reads the number of threads when it is imported)

import aifs_tune  # noqa: E402

SPACE = {
    "x": {"type": "float", "low": 0.0, "high": 1.0},
    "rate": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "n": {"type": "int", "low": 1, "high": 64},
}


def value(x: float, rate: float, n: int) -> float:
    return (x - 0.3) ** 2 + abs(rate - 1e-3) + n / 64


def with_optuna(n_trials: int, sampler: str, reports: int, folder: str) -> None:
    """Run ``n_trials`` trials of Optuna's own loop."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    chosen = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}[sampler](seed=0)
    study = optuna.create_study(storage=f"sqlite:///{folder}/optuna.db", sampler=chosen, direction="minimize")

    def objective(trial: optuna.Trial) -> float:
        found = value(
            trial.suggest_float("x", 0.0, 1.0),
            trial.suggest_float("rate", 1e-5, 1e-1, log=True),
            trial.suggest_int("n", 1, 64),
        )
        for step in range(1, reports + 1):
            trial.report(found + 1 / step, step)
        return found

    study.optimize(objective, n_trials=n_trials)
    assert len(study.trials) == n_trials


def with_tune(n_trials: int, sampler: str, reports: int, folder: str) -> None:
    """Run ``n_trials`` trials of :func:`aifs_tune.tune` in this process."""

    def reporting(x: float, rate: float, n: int, trial: aifs_tune.trainers.RunningTrial) -> None:
        found = value(x, rate, n)
        for step in range(1, reports + 1):
            trial.report(found + 1 / step)

    result = aifs_tune.tune(
        reporting if reports else value,
        SPACE,
        trials=n_trials,
        epochs=max(1, reports),
        mode="min",
        sampler=sampler,
        scheduler="none",
        storage=f"sqlite:///{folder}/tune.db",
    )
    assert result.study.counts()["complete"] == n_trials


def ms_per_trial(run: Callable[[int, str, int, str], None], n_trials: int, sampler: str, reports: int) -> float:
    """Milliseconds of one trial, in an empty database."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run(n_trials, sampler, reports, folder)
        return 1e3 * (time.perf_counter() - began) / n_trials


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--trials", type=int, default=500)
    cli.add_argument("--repeats", type=int, default=3)
    given = cli.parse_args()
    for run in (with_optuna, with_tune):  # what is imported late is not counted
        ms_per_trial(run, 3, "random", 0)
    for sampler, reports in (("random", 0), ("random", 5), ("tpe", 0), ("aifs", 0)):
        found: dict[str, list[float]] = {"optuna": [], "aifs_tune": []}
        for _ in range(given.repeats):
            found["optuna"].append(
                ms_per_trial(with_optuna, given.trials, "tpe" if sampler == "aifs" else sampler, reports)
            )
            found["aifs_tune"].append(ms_per_trial(with_tune, given.trials, sampler, reports))
        medians = {name: statistics.median(each) for name, each in found.items()}
        row = {"sampler": sampler, "reports": reports, "trials": given.trials}
        row |= {f"{name}_ms": round(each, 2) for name, each in medians.items()}
        print(json.dumps({**row, "ratio": round(medians["aifs_tune"] / medians["optuna"], 3)}), flush=True)


if __name__ == "__main__":
    main()
