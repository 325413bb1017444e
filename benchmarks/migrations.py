"""Four programs before and after they use aifs_tune: lines changed, and time for a trial.

    python benchmarks/migrations.py --trials 12 --repeats 3
    python benchmarks/migrations.py --only keras_tuner model_fit

Runs each pair of examples/migrations in turns, each program in a process and a folder of its own. The time for a trial
is that of the whole program, imports and the start of Ray included, divided by its trials. Needs keras-tuner for its
pair; a program whose library is missing is left out.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "migrations"
PAIRS = ("optuna", "ray", "keras_tuner", "model_fit")


def code_lines(file: Path) -> list[str]:
    """Lines of a program without its docstring and blank lines."""
    lines = file.read_text().partition('"""')[2].partition('"""')[2].splitlines()
    return [line for line in lines if line.strip()]


def changed_lines(pair: str) -> tuple[int, int, int]:
    """Lines that the program before has, lines removed and lines added."""
    before, after = (code_lines(EXAMPLES / f"{pair}_{what}.py") for what in ("before", "after"))
    marks = [line[:2] for line in difflib.ndiff(before, after)]
    return len(before), marks.count("- "), marks.count("+ ")


def run(program: str, trials: int) -> tuple[float, float]:
    """Seconds of a program, and the best value that it printed."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / f"{program}.py"), str(trials)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "XDG_STATE_HOME": folder, "RAY_ADDRESS": "local"},
        )
        seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return seconds, float(done.stdout.strip().splitlines()[-1].split()[0])


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--trials", type=int, default=12)
    cli.add_argument("--repeats", type=int, default=3)
    cli.add_argument("--only", choices=PAIRS, nargs="+", default=PAIRS, help="the pairs to run")
    given = cli.parse_args()
    for pair in given.only:
        found: dict[str, list[tuple[float, float]]] = {"before": [], "after": []}
        try:
            for _ in range(given.repeats):
                for what, runs in found.items():
                    runs.append(run(f"{pair}_{what}", given.trials))
        except RuntimeError as error:
            print(json.dumps({"pair": pair, "left_out": str(error).strip().splitlines()[-1]}), flush=True)
            continue
        lines, removed, added = changed_lines(pair)
        row: dict[str, object] = {"pair": pair, "lines_before": lines, "removed": removed, "added": added}
        for what, runs in found.items():
            row[f"{what}_s_per_trial"] = round(statistics.median(seconds for seconds, _ in runs) / given.trials, 3)
            row[f"{what}_best"] = round(statistics.median(best for _, best in runs), 4)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
