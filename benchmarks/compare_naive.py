"""Our sweep against the sweep that is written today, on the same images, trials, epochs and cores, in one run.

    python benchmarks/compare_naive.py DATA NAIVE_SWEEP.py --trials 6 --epochs 4

DATA has train/ and val/ with one folder a class. NAIVE_SWEEP.py is a script that takes
``DATA --trials N --epochs E --size PX --workers W`` and prints one JSON object with ``wall_s``. Wall seconds
are those of the whole command, process start included. Each repeat runs both, in turn, with another seed of the search;
medians are compared.
Our cache of decoded images is emptied before each run. Ours runs twice: with as many trials as theirs, each to its
last epoch; and with early stopping and as much time as theirs took, until a trial has reached their best ``val_loss``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).resolve().parent
EARLY = ["search.sampler=aifs", "search.scheduler=aifs"]
GOALS = {"wall": 4.0, "time_to_their_best": 4.0}


def timed(command: list[str], folder: str) -> tuple[float, dict]:
    """Wall seconds of a command and the JSON object it prints last."""
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "AIFS_TUNE_CACHE": folder}
    )
    wall_s = time.perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    return wall_s, json.loads(done.stdout[done.stdout.index("{") :])


def seconds_to(target: float, url: str, began: datetime) -> float | None:
    """Seconds from ``began`` to the end of the first epoch whose objective is at most ``target``; None for never."""
    from aifs_tune.storage.storage import Storage
    from aifs_tune.study.index import find_study

    if not Path(url.removeprefix("sqlite:///")).exists() or (study := find_study(Storage(url), "ours")) is None:
        return None
    metric = study.spec.objective.metric
    reached = []
    for trial in study.all_trials():
        moment = trial.started_at
        for measured in study.curve(trial):
            assert moment is not None
            moment += timedelta(seconds=measured.seconds or 0.0)
            value = measured.metrics[metric]
            if value is not None and value <= target:
                reached.append((moment - began).total_seconds())
                break
    return min(reached, default=None)


def timed_until(target: float, command: list[str], folder: str, url: str) -> tuple[float, float | None]:
    """Wall seconds of a sweep that is stopped when it has reached ``target``, and when it had; None for never."""
    began, started = datetime.now(UTC), time.perf_counter()
    environment = {**os.environ, "AIFS_TUNE_CACHE": folder}
    sweep = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    reached = None
    while reached is None and sweep.poll() is None:
        time.sleep(2)
        reached = seconds_to(target, url, began)
    wall_s = time.perf_counter() - started
    sweep.send_signal(signal.SIGINT)
    sweep.wait()
    return wall_s, reached if reached is not None else seconds_to(target, url, began)


def best_of(url: str) -> float:
    """The lowest objective of any epoch of any trial."""
    from aifs_tune.storage.storage import Storage
    from aifs_tune.study.index import get_study

    study = get_study(Storage(url), "ours")
    values = [m.metrics[study.spec.objective.metric] for trial in study.all_trials() for m in study.curve(trial)]
    return min(value for value in values if value is not None)


def median(seconds: list[float | None]) -> float | None:
    """The median; None if one is missing."""
    return None if None in seconds else statistics.median(s for s in seconds if s is not None)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("data", type=Path)
    cli.add_argument("naive", type=Path)
    cli.add_argument("--trials", type=int, default=6)
    cli.add_argument("--epochs", type=int, default=4)
    cli.add_argument("--size", type=int, default=64)
    cli.add_argument("--workers", type=int, default=2)
    cli.add_argument("--repeats", type=int, default=1)
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()

    counts = ["--trials", str(args.trials), "--epochs", str(args.epochs), "--workers", str(args.workers)]
    data = str(args.data.resolve())
    naive = [sys.executable, str(args.naive.resolve()), data, *counts, "--size", str(args.size)]
    ours = [sys.executable, "-m", "aifs_tune", "run", str(HERE / "naive_space.yaml"), "--data", data, *counts]
    ours += ["--set", f"data.image_size={args.size}", "--study", "ours", "--json"]
    early = [*ours, *(word for override in EARLY for word in ("--set", override)), "--trials", str(20 * args.trials)]
    walls: dict[str, list[float]] = {"naive": [], "ours": [], "ours, stopping early": []}
    best: dict[str, list[float]] = {who: [] for who in walls}
    reached: list[float | None] = []
    for repeat in range(args.repeats):
        for who, command in zip(walls, (naive, ours, early), strict=True):
            with tempfile.TemporaryDirectory() as folder:
                url = f"sqlite:///{folder}/lab.db"
                mine = [*command, "--set", f"search.seed={repeat}", "--storage", url]
                if command is early:
                    mine += ["--timeout", str(walls["naive"][-1])]
                    wall_s, seconds = timed_until(best["naive"][-1], mine, folder, url)
                    reached.append(seconds)
                    best[who].append(best_of(url))
                else:
                    wall_s, answer = timed(command if command is naive else mine, folder)
                    best[who].append(answer["best_val_loss"] if command is naive else answer["value"])
                walls[who].append(wall_s)
    medians = {who: statistics.median(seconds) for who, seconds in walls.items()}
    to_best = median(reached)
    ratios = {
        "wall": round(medians["naive"] / medians["ours"], 2),
        "time_to_their_best": None if to_best is None else round(medians["naive"] / to_best, 2),
    }
    result = {
        "data": args.data.name,
        **{key: getattr(args, key) for key in ("trials", "epochs", "size", "workers", "repeats")},
        "wall_s": {who: round(seconds, 1) for who, seconds in medians.items()},
        "wall_s_runs": {who: [round(s, 1) for s in seconds] for who, seconds in walls.items()},
        "best_val_loss": best,
        "seconds_to_their_best": reached,
        "ratios": ratios,
    }
    if args.json:
        print(json.dumps(result))
        return
    print(f"{args.trials} trials x {args.epochs} epochs on {args.data.name}, {args.workers} at a time, {args.size} px")
    print(f"{'':22} {'wall s':>8} {'best val_loss':>14}")
    for who, seconds in medians.items():
        print(f"{who:22} {seconds:8.1f} {min(best[who]):14.4f}")
    if to_best is not None:
        print(f"their best val_loss is reached after {to_best:.1f} s of ours, stopping early")
    for name, goal in GOALS.items():
        ratio = ratios[name]
        told = "never reached" if ratio is None else f"{ratio:.2f} x"
        print(f"{name}: {told} (goal {goal:g}: {'met' if ratio is not None and ratio >= goal else 'missed'})")


if __name__ == "__main__":
    main()
