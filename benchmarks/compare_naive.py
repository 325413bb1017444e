"""Our sweep against the sweep that is written today, on the same images, trials, epochs and cores, in one run.

    python benchmarks/compare_naive.py DATA NAIVE_SWEEP.py --trials 6 --epochs 4

DATA has train/ and val/ with one folder a class. NAIVE_SWEEP.py is a script that takes
``DATA --trials N --epochs E --size PX --workers W`` and prints one JSON object with ``wall_s``. Wall seconds
are those of the whole command, process start included. Each repeat runs both, in turn; medians are compared.
Our cache of decoded images is emptied before each repeat.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


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
    ours = [sys.executable, "-m", "aifs_tune.cli", "run", str(HERE / "naive_space.yaml"), "--data", data, *counts]
    ours += ["--set", f"data.image_size={args.size}", "--json"]
    walls: dict[str, list[float]] = {"naive": [], "ours": []}
    best: dict[str, list[float]] = {"naive": [], "ours": []}
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            wall_s, answer = timed(naive, folder)
            walls["naive"].append(wall_s)
            best["naive"].append(answer["best_val_loss"])
            wall_s, answer = timed(ours, folder)
            walls["ours"].append(wall_s)
            best["ours"].append(answer["value"])
    medians = {who: statistics.median(seconds) for who, seconds in walls.items()}
    result = {
        "data": args.data.name,
        **{key: getattr(args, key) for key in ("trials", "epochs", "size", "workers", "repeats")},
        "wall_s": {who: round(seconds, 1) for who, seconds in medians.items()},
        "wall_s_runs": {who: [round(s, 1) for s in seconds] for who, seconds in walls.items()},
        "best_val_loss": best,
        "ratio": round(medians["naive"] / medians["ours"], 2),
    }
    if args.json:
        print(json.dumps(result))
        return
    print(f"{args.trials} trials x {args.epochs} epochs on {args.data.name}, {args.workers} at a time, {args.size} px")
    print(f"{'':8} {'wall s':>8} {'best val_loss':>14}")
    for who, seconds in medians.items():
        print(f"{who:8} {seconds:8.1f} {min(best[who]):14.4f}")
    print(f"ours is {result['ratio']:.2f} times as fast (medians of {args.repeats})")


if __name__ == "__main__":
    main()
