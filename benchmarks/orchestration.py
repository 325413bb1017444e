"""What a sweep costs beside the training: trials a second that compute nothing, and the driver's share of a core.

    python benchmarks/orchestration.py TRIVIAL_SWEEP.py --trials 400 --repeats 3

TRIVIAL_SWEEP.py is a Ray Tune sweep that takes ``--trials N --workers W [--reuse]`` and prints one JSON object
with ``trials_per_s``; its trials and ours report three times. Both count from after the start of Ray to the last
result, the start of worker processes included. Ours is in SQLite then: the database is opened again and
counted. The driver's share is measured on trials that report every 0.2 s, on two workers: ten reports a second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

LAB = """
import time

def instant(x):
    for _ in range(3):
        yield (x - 0.3) ** 2

def slow(x, epochs):
    for _ in range(epochs):
        time.sleep(0.2)
        yield (x - 0.3) ** 2
"""
SWEEP = """
name: {function}
trainer: lab:{function}
objective: {{metric: loss, mode: min}}
search: {{sampler: {sampler}, scheduler: none, epochs: {epochs}}}
space:
  x: {{type: float, low: 0.0, high: 1.0, default: 0.5}}
"""
GOAL_TRIALS_PER_S, GOAL_SHARE = 40, 0.05


def answer_of(command: list[str], folder: str) -> dict:
    """The JSON object that a command prints."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ})
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout[done.stdout.index("{") :])


def ours(function: str, trials: int, epochs: int, workers: int, sampler: str = "tpe") -> dict:
    """The profile of a sweep of our own, whose trials are in the database when it has ended."""
    from aifs_tune.storage.storage import Storage
    from aifs_tune.study.index import get_study

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "lab.py").write_text(LAB)
        Path(folder, "sweep.yaml").write_text(SWEEP.format(function=function, epochs=epochs, sampler=sampler))
        url = f"sqlite:///{folder}/lab.db"
        command = [
            sys.executable,
            "-m",
            "aifs_tune.cli.main",
            "run",
            "sweep.yaml",
            "--storage",
            url,
            "--profile",
            "--json",
        ]
        answer = answer_of([*command, "--trials", str(trials), "--workers", str(workers)], folder)
        stored = get_study(Storage(url), function).all_trials()
        assert [(t.state, t.epochs) for t in stored] == [("complete", epochs)] * trials
    return answer["profile"]


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("trivial", type=Path)
    cli.add_argument("--trials", type=int, default=400)
    cli.add_argument("--fresh-trials", type=int, default=20, help="of the baseline with a process for each trial")
    cli.add_argument("--workers", type=int, default=2)
    cli.add_argument("--repeats", type=int, default=3)
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()

    trivial = [sys.executable, str(args.trivial.resolve()), "--workers", str(args.workers)]
    rates: dict[str, list[float]] = {"Tune, a process a trial": [], "Tune, reused actors": [], "ours": []}
    shares = []
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            found = answer_of([*trivial, "--trials", str(args.fresh_trials)], folder)
            rates["Tune, a process a trial"].append(found["trials_per_s"])
            found = answer_of([*trivial, "--trials", str(args.trials), "--reuse"], folder)
            rates["Tune, reused actors"].append(found["trials_per_s"])
        profile = ours("instant", args.trials, 3, args.workers)
        rates["ours"].append(args.trials / profile["stages_s"]["trials"])
        shares.append(ours("slow", 2 * args.workers, 40, args.workers))
    share = statistics.median(profile["driver_share_of_a_core"] for profile in shares)
    reports = statistics.median(profile["reports_per_s"] for profile in shares)
    medians = {who: round(statistics.median(found), 2) for who, found in rates.items()}
    answer = {
        "trials": args.trials,
        "workers": args.workers,
        "trials_per_s": medians,
        "runs": {who: [round(rate, 2) for rate in found] for who, found in rates.items()},
        "driver_share_of_a_core": share,
        "reports_per_s": reports,
    }
    if args.json:
        print(json.dumps(answer))
        return
    print(f"trials that compute nothing, {args.workers} workers, medians of {args.repeats}")
    for who, rate in medians.items():
        print(f"{who:24} {rate:7.2f} trials/s")
    print(f"goal {GOAL_TRIALS_PER_S} trials/s: {'met' if medians['ours'] >= GOAL_TRIALS_PER_S else 'missed'}")
    is_met = "met" if share < GOAL_SHARE else "missed"
    print(f"driver: {share:.1%} of a core at {reports:.1f} reports/s (goal under 5 %: {is_met})")


if __name__ == "__main__":
    main()
