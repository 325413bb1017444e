"""What a proposal costs on one core, in a study that has many finished trials.

    python benchmarks/proposal_cost.py --trials 500 5000 --repeats 9

The trials are of seven parameters and were stopped after 1, 2, 4, 8 or 20 epochs. Eight others run. Each sampler is
asked as the product asks it, in memory. The first proposal fits the kernel afresh and reads all trials; the others are
what a sweep pays.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from typing import Any

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import numpy as np  # noqa: E402  (reads the number of threads when it is imported)
import optuna  # noqa: E402

from aifs_tune.config.search import SearchSpec  # noqa: E402
from aifs_tune.config.sweep import SweepSpec  # noqa: E402
from aifs_tune.samplers.proposer import Proposer  # noqa: E402

GOALS_MS = {500: 100.0, 5000: 500.0}
SPACE = {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(5)} | {
    "units": {"type": "int", "low": 16, "high": 1024, "log": True},
    "optimizer": {"type": "choice", "choices": ["adam", "adamw", "sgd"]},
}


def value(params: dict[str, Any], epoch: int) -> float:
    off = sum((params[f"x{i}"] - 0.2 * i) ** 2 for i in range(5)) + 0.1 * (params["optimizer"] == "sgd")
    return -off - abs(np.log(params["units"] / 200)) / 10 - 1.0 / epoch


def filled(spec: SweepSpec, n_trials: int) -> optuna.Study:
    """A study of ``n_trials`` random finished trials."""
    study, rng = optuna.create_study(direction="maximize"), np.random.default_rng(0)
    random = optuna.samplers.RandomSampler(seed=0)
    for _ in range(n_trials):
        study.sampler = random
        trial = study.ask()
        spec.space.suggest(trial)
        epochs = int(rng.choice([1, 2, 4, 8, 20]))
        for epoch in range(1, epochs + 1):
            trial.report(value(trial.params, epoch), epoch)
        stopped = epochs < 20
        state = optuna.trial.TrialState.PRUNED if stopped else optuna.trial.TrialState.COMPLETE
        study.tell(trial, None if stopped else value(trial.params, epochs), state=state)
    return study


def measured(name: str, n_trials: int, repeats: int) -> dict[str, Any]:
    spec = SweepSpec(name="cost", trainer="cost:curve", space=SPACE, search=SearchSpec(sampler=name, epochs=20))
    study, proposer, taken = filled(spec, n_trials), Proposer(spec), []
    for _ in range(repeats + 8):
        began = time.perf_counter()
        study.sampler = proposer.sampler(len(study.get_trials(deepcopy=False)))
        spec.space.suggest(study.ask())
        taken.append(1e3 * (time.perf_counter() - began))
    return {
        "sampler": name,
        "trials": n_trials,
        "first_ms": taken[0],
        "median_ms": statistics.median(taken[8:]),
        "longest_ms": max(taken[8:]),
        "goal_ms": GOALS_MS.get(n_trials) if name == "aifs" else None,
    }


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--trials", type=int, nargs="+", default=[500, 5000])
    cli.add_argument("--samplers", nargs="+", default=["aifs", "tpe"])
    cli.add_argument("--repeats", type=int, default=9)
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = [measured(name, n_trials, args.repeats) for n_trials in args.trials for name in args.samplers]
    if args.json:
        print(json.dumps(rows))
        return
    print(f"{'sampler':8} {'trials':>7} {'first ms':>9} {'median ms':>10} {'longest ms':>11}")
    for row in rows:
        goal = "" if row["goal_ms"] is None else f"  goal {row['goal_ms']:g}"
        times = f"{row['first_ms']:9.0f} {row['median_ms']:10.1f} {row['longest_ms']:11.1f}"
        print(f"{row['sampler']:8} {row['trials']:7} {times}{goal}")


if __name__ == "__main__":
    main()
