"""Our search against Ray's default pairing on real images: same trials, epochs, workers and trainer; only who proposes
and who stops trials differs.

    python benchmarks/real_sweeps.py celestial_cnn DATA --trials 48 --epochs 12 --seeds 3 --set data.image_size=32

Ray's default is Optuna's TPE as it comes with ASHA from the first epoch on, one in four going on. What is compared is
the best objective of any epoch so far, against the epochs trained in all: both are cut where the shorter one ends.
``--svg FILE`` draws the courses of all sweeps.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from aifs_tune import load_sweep
from aifs_tune.study.study import Study

SEARCHES = {
    "aifs": [],
    "ray's default": [
        "search.sampler=optuna.samplers:TPESampler",
        "search.scheduler=asha",
        "search.grace_epochs=1",
        "search.reduction_factor=4",
    ],
}
COLOURS = {"aifs": "#1b6ca8", "ray's default": "#c0562f"}


def best_by_epoch(study: Study) -> list[float]:
    """The best objective after each epoch that was trained, in the order of time, larger is better."""
    metric, sign = study.spec.objective.metric, 1 if study.spec.objective.mode == "max" else -1
    moments = []
    for trial in study.all_trials():
        moment = trial.started_at
        for measured in study.curve(trial):
            assert moment is not None
            moment += timedelta(seconds=measured.seconds or 0.0)
            value = measured.metrics[metric]
            if value is not None:
                moments.append((moment, sign * value))
    return np.maximum.accumulate([value for _, value in sorted(moments)]).tolist()


def one_sweep(args: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        sweep = load_sweep(args.sweep, data=args.data, overrides=[*args.overrides, *SEARCHES[name]])
        result = sweep.run(
            trials=args.trials,
            epochs=args.epochs,
            workers=args.workers,
            seed=seed,
            storage=f"sqlite:///{folder}/study.db",
        )
        counts = result.study.counts()
        return {
            "search": name,
            "seed": seed,
            "wall_s": result.wall_s,
            "complete": counts["complete"],
            "stopped": counts["pruned"],
            "failed": counts["failed"],
            "best_by_epoch": best_by_epoch(result.study),
        }


def compared(rows: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Both searches with one seed at the same number of epochs, and when ours reached the best of the other."""
    ours, theirs = (
        next(row["best_by_epoch"] for row in rows if (row["search"], row["seed"]) == (name, seed)) for name in SEARCHES
    )
    epochs = min(len(ours), len(theirs))
    target = theirs[epochs - 1]
    reached = next((i + 1 for i, value in enumerate(ours) if value >= target), None)
    needed = next(i + 1 for i, value in enumerate(theirs) if value >= target)
    return {
        "seed": seed,
        "epochs": epochs,
        "ours": ours[epochs - 1],
        "theirs": target,
        "ours_reached_theirs_after": reached,
        "theirs_after": needed,
    }


def drawing(rows: list[dict[str, Any]]) -> str:
    """The courses as an SVG picture."""
    width, height, left, low = 720, 400, 60, 350
    most = max(len(row["best_by_epoch"]) for row in rows)
    values = [value for row in rows for value in row["best_by_epoch"][min(10, len(row["best_by_epoch"]) - 1) :]]
    bottom, top = min(values), max(values)
    top += 0.05 * (top - bottom)

    def point(epoch: int, value: float) -> str:
        x = left + (width - left - 20) * epoch / most
        return f"{x:.1f},{low - (low - 30) * max(0.0, value - bottom) / (top - bottom):.1f}"

    lines = [
        f'<polyline fill="none" stroke="{COLOURS[row["search"]]}" stroke-width="1.6" '
        f'points="{" ".join(point(i + 1, v) for i, v in enumerate(row["best_by_epoch"]))}"/>'
        for row in rows
    ]
    text = [
        f'<text x="{left - 8}" y="{low - (low - 30) * i / 4 + 4:.0f}" text-anchor="end">'
        f"{bottom + (top - bottom) * i / 4:.3f}</text>"
        for i in range(5)
    ]
    text += [
        f'<text x="{left + (width - left - 20) * i / 4:.0f}" y="{low + 20}" text-anchor="middle">{most * i // 4}</text>'
        for i in range(5)
    ]
    text.append(f'<text x="{width / 2:.0f}" y="{low + 40}" text-anchor="middle">epochs trained in all</text>')
    for i, (name, colour) in enumerate(COLOURS.items()):
        text.append(f'<text x="{width - 160}" y="{low - 40 + 20 * i}" fill="{colour}">{name}</text>')
    axes = f'<path d="M{left},20 V{low} H{width - 20}" fill="none" stroke="#444"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="13">'
        f'<rect width="100%" height="100%" fill="white"/>{axes}{"".join(lines)}{"".join(text)}</svg>\n'
    )


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("sweep", help="a sweep file or the name of one that ships")
    cli.add_argument("data", type=Path)
    cli.add_argument("--trials", type=int, default=48)
    cli.add_argument("--epochs", type=int, default=12)
    cli.add_argument("--workers", type=int, default=2)
    cli.add_argument("--seeds", type=int, default=3)
    cli.add_argument("--first-seed", type=int, default=0)
    cli.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    cli.add_argument("--svg", type=Path, default=None)
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()
    rows = []
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    for seed in seeds:
        for name in SEARCHES:
            rows.append(one_sweep(args, name, seed))
            if not args.json:
                told = {key: value for key, value in rows[-1].items() if key != "best_by_epoch"}
                print(
                    told | {"epochs": len(rows[-1]["best_by_epoch"]), "best": round(rows[-1]["best_by_epoch"][-1], 4)},
                    flush=True,
                )
    pairs = [compared(rows, seed) for seed in seeds]
    if args.svg is not None:
        args.svg.write_text(drawing(rows))
    if args.json:
        print(json.dumps({"sweeps": rows, "pairs": pairs}))
        return
    for pair in pairs:
        sooner = pair["ours_reached_theirs_after"]
        when = "never reached" if sooner is None else f"reached after {sooner} epochs"
        print(
            f"seed {pair['seed']}: after {pair['epochs']} epochs {pair['ours']:.4f} against {pair['theirs']:.4f}, "
            f"which took {pair['theirs_after']} epochs and was {when} by ours"
        )
    gain = [pair["ours"] - pair["theirs"] for pair in pairs]
    print(f"difference: {np.mean(gain):+.4f}, by seed {', '.join(f'{g:+.4f}' for g in gain)}")


if __name__ == "__main__":
    main()
