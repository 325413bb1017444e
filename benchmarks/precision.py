"""Do scores in mixed bfloat16 agree with those in float32, within what another seed would change?

    python benchmarks/precision.py DATA [DATA ...] --seeds 6 --epochs 8

DATA has one folder a class, or train/ and val/ with these inside. Each configuration (the defaults, and random
ones of the celestial_cnn space) is trained with each seed in both precisions; the best epoch is chosen by
val_macro_f1. Printed for each data set: mean scores, the mean difference of the pairs with its 95 % interval,
and the standard deviation between seeds in float32. Both precisions of a pair start from the same weights and
see the same images in the same order.
"""

from __future__ import annotations

import argparse
import json
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from aifs_tune.config.data import DataSpec
from aifs_tune.data import open_images, prepare_images
from aifs_tune.trainers.models.cnn import CnnParams

PRECISIONS = ("float32", "mixed_bfloat16")
SCORES = ("val_macro_f1", "val_accuracy", "val_loss")


def train(location: str, params: dict[str, Any], seed: int, epochs: int, precision: str) -> dict[str, float]:
    """The best epoch of one training."""
    from aifs_tune.trainers.models.cnn import CnnTrainer

    trainer = CnnTrainer(open_images(Path(location)), params, seed=seed, precision=precision, threads=1)  # type: ignore[arg-type]
    curve = [trainer.epoch() for _ in range(epochs)]
    assert trainer.best_epoch is not None
    return {name: curve[trainer.best_epoch - 1][name] for name in SCORES}


def random_configurations(n: int) -> list[dict[str, Any]]:
    """Drawn from the space of celestial_cnn, in the default architecture."""
    import optuna

    from aifs_tune.config.loading import find_sweep_file, load_sweep_file

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = load_sweep_file(find_sweep_file("celestial_cnn")).space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [dict(space.suggest(study.ask())) for _ in range(n)]
    same = {name: asdict(CnnParams())[name] for name in ("filters", "conv_blocks", "kernel_size", "dense_units")}
    return [params | same for params in drawn]


def interval(differences: list[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval by Student's t."""
    from scipy.stats import t

    mean = statistics.mean(differences)
    half = float(t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences) / len(differences) ** 0.5
    return mean, mean - half, mean + half


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("data", type=Path, nargs="+")
    cli.add_argument("--seeds", type=int, default=6)
    cli.add_argument("--epochs", type=int, default=8)
    cli.add_argument("--random", type=int, default=1, help="random configurations beside the defaults")
    cli.add_argument("--size", type=int, default=64)
    cli.add_argument("--group-by", default=None, help="as in a sweep file; for all data sets")
    cli.add_argument("--processes", type=int, default=2)
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()

    configurations = [asdict(CnnParams()), *random_configurations(args.random)]
    answers = []
    for folder in args.data:
        data = DataSpec(folder=folder.resolve(), image_size=args.size, group_by=args.group_by)
        location = str(prepare_images(data).location)
        seeds = range(100, 100 + args.seeds)
        runs = [(c, s, p) for c in range(len(configurations)) for s in seeds for p in PRECISIONS]
        jobs = [(location, configurations[c], s, args.epochs, p) for c, s, p in runs]
        with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:
            scored = dict(zip(runs, pool.map(train, *zip(*jobs, strict=True)), strict=True))
        answer: dict[str, Any] = {"data": folder.name, "configurations": len(configurations), "seeds": args.seeds}
        for score in SCORES:
            by = {p: [scored[c, s, p][score] for c in range(len(configurations)) for s in seeds] for p in PRECISIONS}
            pairs = [mixed - full for full, mixed in zip(*by.values(), strict=True)]
            spread = [
                statistics.stdev(scored[c, s, "float32"][score] for s in seeds) for c in range(len(configurations))
            ]
            mean, low, high = interval(pairs)
            answer[score] = {
                **{p: statistics.mean(values) for p, values in by.items()},
                "difference": mean,
                "interval": [low, high],
                "seed_sd_float32": statistics.mean(spread),
            }
        answers.append(answer)
    if args.json:
        print(json.dumps({"epochs": args.epochs, "size": args.size, "answers": answers}))
        return
    for answer in answers:
        print(f"{answer['data']}: {answer['configurations']} configurations x {answer['seeds']} seeds")
        print(f"{'':14} {'float32':>9} {'mixed':>9} {'difference':>11} {'95 % interval':>20} {'sd of a seed':>13}")
        for score in SCORES:
            a = answer[score]
            bounds = f"[{a['interval'][0]:+.4f}, {a['interval'][1]:+.4f}]"
            print(
                f"{score:14} {a['float32']:9.4f} {a['mixed_bfloat16']:9.4f} {a['difference']:+11.4f} {bounds:>20} "
                f"{a['seed_sd_float32']:13.4f}"
            )


if __name__ == "__main__":
    main()
