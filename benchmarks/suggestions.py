"""How often a study's suggestions come: where nothing matters, and where something is known to.

    python benchmarks/suggestions.py --studies 200
    python benchmarks/suggestions.py --worlds widen drop --studies 50 --trials 40

Studies are made up: 60 trials of 20 epochs, five parameters, one trial in ten fails whatever it is. In `noise` results
are normal noise; `noise, tpe` is the same searched by Optuna's TPE, which follows the luck; `noise known` tells the
analysis how large it is. In every other world one thing is true of half of the variance, the rest is noise; in `slight`
and `fix` noise is a tenth. `slight` has a parameter that explains a tenth of the variance, which it would be wrong to
fix. Printed are the rates of studies that got the suggestion that is true, and of those that got any that is not, with
Wilson's 95 % intervals.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import optuna
from rich.console import Console
from rich.table import Table
from scipy import stats

from aifs_tune.analysis.study_tables import analyse
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.study.trial import Measurement, Trial

SPACE = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5},
    "layers": {"type": "int", "low": 1, "high": 6},
    "optimizer": {"type": "choice", "choices": ["adamw", "sgd", "rmsprop", "lion"]},
    "flip": {"type": "choice", "choices": [True, False]},
}
EPOCHS = 20
ROOT12 = 12**0.5


@dataclass
class SimulatedStudy:
    """A study whose trials were made up."""

    spec: SweepSpec
    trials: list[Trial]
    trainer: str | None = "mlp"

    def all_trials(self) -> list[Trial]:
        return self.trials

    def curve(self, trial: Trial | int) -> list[Measurement]:
        return []


class World(NamedTuple):
    """``truth`` has mean 0 and variance 1 over the space, given the parameters and how far the study is (0 to 1)."""

    truth: Callable[[Mapping[str, Any], float], float]
    noise: float
    expected: tuple[str, str | None] | None
    matters: tuple[str, ...] = ()
    sampler: str = "random"
    is_noise_known: bool = False
    is_failing: bool = False
    is_rising: bool = False


def relative_position(params: Mapping[str, Any]) -> float:
    """Of the learning rate along its range, from 0 to 1."""
    return float((np.log10(params["learning_rate"]) + 4) / 3)


def hump(params: Mapping[str, Any], _: float) -> float:
    return (1 / 12 - (relative_position(params) - 0.5) ** 2) * 180**0.5


def two(params: Mapping[str, Any], _: float) -> float:
    """Half by the learning rate, half by dropout."""
    return 0.5**0.5 * (hump(params, 0.0) + (1 / 12 - (params["dropout"] * 2 - 0.5) ** 2) * 180**0.5)


def slight(params: Mapping[str, Any], _: float) -> float:
    """Nine tenths by the learning rate, one tenth by the layers."""
    return 0.9**0.5 * hump(params, 0.0) + 0.1**0.5 * (35 / 12 - (params["layers"] - 3.5) ** 2) / (56 / 9) ** 0.5


def nothing(_: Mapping[str, Any], __: float) -> float:
    return 0.0


WORLDS = {
    "noise": World(nothing, 1.0, None),
    "noise, tpe": World(nothing, 1.0, None, sampler="tpe"),
    "noise known": World(nothing, 1.0, ("noise", None), is_noise_known=True),
    "widen": World(
        lambda p, _: (relative_position(p) - 0.5) * ROOT12, 1.0, ("widen", "learning_rate"), ("learning_rate",)
    ),
    "widen, tpe": World(
        lambda p, _: (relative_position(p) - 0.5) * ROOT12,
        1.0,
        ("widen", "learning_rate"),
        ("learning_rate",),
        sampler="tpe",
    ),
    "inside": World(hump, 0.33, None, ("learning_rate",), sampler="tpe"),
    "drop": World(
        lambda p, _: (0.25 - (p["optimizer"] == "sgd")) * (16 / 3) ** 0.5, 1.0, ("drop", "optimizer"), ("optimizer",)
    ),
    "fix": World(two, 0.33, ("fix", "layers"), ("learning_rate", "dropout")),
    "slight": World(slight, 0.33, None, ("learning_rate", "layers")),
    "fails": World(nothing, 1.0, ("exclude", "learning_rate"), is_failing=True),
    "still gains": World(lambda _, late: (late - 0.5) * ROOT12, 1.0, ("trials", None)),
    "gains no more": World(lambda _, late: (0.5 - late) * ROOT12, 1.0, ("search", None)),
    "unfinished": World(nothing, 1.0, ("epochs", None), is_rising=True),
}


def made(world: World, n_trials: int, seed: int) -> SimulatedStudy:
    """A study of one world."""
    search = {"scheduler": "none", "epochs": EPOCHS}
    spec = parse_sweep({"name": "made", "space": SPACE, "objective": {"metric": "value"}, "search": search})
    rng = np.random.default_rng(seed)
    samplers = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
    study = optuna.create_study(direction="maximize", sampler=samplers[world.sampler](seed=seed))
    trials = []
    for number in range(n_trials):
        asked = study.ask()
        params = spec.space.suggest(asked)
        fails = rng.random() < (0.7 if world.is_failing and relative_position(params) > 0.75 else 0.1)
        value = world.truth(params, number / (n_trials - 1)) + world.noise * rng.standard_normal()
        study.tell(asked, None if fails else value, state=optuna.trial.TrialState.FAIL if fails else None)
        last = world.is_rising and rng.random() < 0.7
        epoch = EPOCHS if last else int(rng.integers(1, EPOCHS + 1))
        ended: dict[str, Any] = (
            {"state": "failed", "reason": "lost"} if fails else {"state": "complete", "value": value}
        )
        trials.append(Trial(number, params=params, seed=0, epochs=EPOCHS, epoch=epoch, **ended))
    return SimulatedStudy(spec, trials)


def rates(name: str, n_studies: int, n_trials: int, seed: int) -> dict[str, Any]:
    """How often what is true of a world was said, and how often anything else."""
    world, true, other, kinds = WORLDS[name], 0, 0, Counter[str]()
    for index in range(n_studies):
        study = made(world, n_trials, seed * 100_003 + index)
        table = analyse(study, noise=world.noise if world.is_noise_known else None).suggestions()
        said = {
            (kind, parameter or None) for kind, parameter in table[["kind", "parameter"]].fillna("").values.tolist()
        }
        true += world.expected in said
        others = {each for each in said - {world.expected} if is_untrue(world, each)}
        other += bool(others)
        kinds.update(f"{kind} {parameter or ''}".strip() for kind, parameter in others)
    return {
        "world": name,
        "studies": n_studies,
        "trials": n_trials,
        "true": None if world.expected is None else [true / n_studies, *wilson(true, n_studies)],
        "untrue": [other / n_studies, *wilson(other, n_studies)],
        "untrue_kinds": dict(kinds.most_common()),
    }


def is_untrue(world: World, said: tuple[str, str | None]) -> bool:
    """Of what was said beside what is expected: to fix what makes no difference is always true, and a sampler that
    learns still gains."""
    learns = world.sampler == "tpe" and world.matters
    return not (said[0] == "fix" and said[1] not in world.matters) and not (learns and said == ("trials", None))


def wilson(hits: int, n: int) -> list[float]:
    """The 95 % interval of a rate."""
    return list(stats.binomtest(hits, n).proportion_ci(0.95, method="wilson"))


def shown(rate: list[float] | None) -> str:
    return "" if rate is None else f"{rate[0]:.1%} [{100 * rate[1]:.1f}, {100 * rate[2]:.1f}]"


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    cli.add_argument("--studies", type=int, default=200)
    cli.add_argument("--trials", type=int, default=60)
    cli.add_argument("--seed", type=int, default=0)
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = [rates(name, args.studies, args.trials, args.seed) for name in args.worlds]
    if args.json:
        print(json.dumps(found, indent=2))
        return
    table = Table("world", "what is true is said", "anything untrue is said", "which")
    for each in found:
        which = ", ".join(f"{kind} {n}" for kind, n in each["untrue_kinds"].items())
        table.add_row(each["world"], shown(each["true"]), shown(each["untrue"]), which)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
