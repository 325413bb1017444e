"""Processor time of the short commands, each as a process of its own.

    python benchmarks/startup.py --repeats 9

The commands read a study of 50 trials in a SQLite file. The baseline is Python that imports Optuna and names its
``load_study``. User and system time are added, and the median of the repeats is printed.
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
from typing import Any

GOAL_S = 0.8
BASELINE = ("-c", "import optuna; optuna.load_study")
COMMANDS = {
    "--help": ("-m", "aifs_tune", "--help"),
    "best": ("-m", "aifs_tune", "best", "lab"),
    "trials": ("-m", "aifs_tune", "trials", "lab"),
    "studies": ("-m", "aifs_tune", "studies"),
    "status": ("-m", "aifs_tune", "status", "lab"),
}
FILL = """
import aifs_tune
space = {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(6)}
study = aifs_tune.open_study("lab", space=space, storage="sqlite:///aifs_tune.db", metric="score", sampler="random")
for _ in range(50):
    trial = study.ask()
    study.tell(trial, sum(trial.params.values()))
"""


def processor_s(words: tuple[str, ...], folder: Path) -> float:
    """User and system time of ``python`` with these words, in seconds."""
    with subprocess.Popen(
        [sys.executable, *words], cwd=folder, env=environment(), stdout=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"python {' '.join(words)} ended with exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def environment() -> dict[str, str]:
    """The variables of this process, with this checkout first and no other storage or service."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIFS_TUNE_")}
    return kept | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}


def measured(repeats: int) -> list[dict[str, Any]]:
    """Median, least and most processor time of the baseline and of each command; they take turns."""
    cases = {"baseline": BASELINE, **COMMANDS}
    taken: dict[str, list[float]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory(prefix="aifs_tune_startup_") as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-c", FILL], cwd=folder, env=environment(), check=True)
        for words in cases.values():
            processor_s(words, folder)  # compiles the modules and reads them from the disk
        for _ in range(repeats):
            for case, words in cases.items():
                taken[case].append(processor_s(words, folder))
    return [
        {"command": case, "median_s": statistics.median(each), "least_s": min(each), "most_s": max(each)}
        for case, each in taken.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measured(options.repeats)
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'command':<10} {'median s':>9} {'least s':>8} {'most s':>7}   goal: below {GOAL_S} s")
    for row in rows:
        print(f"{row['command']:<10} {row['median_s']:9.2f} {row['least_s']:8.2f} {row['most_s']:7.2f}")


if __name__ == "__main__":
    main()
