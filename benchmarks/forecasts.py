"""Quantiles of a network against persistence, climatology, ARIMA and linear quantile regression, on measured series.

    pip install statsmodels
    python benchmarks/forecasts.py --trials 12 --seeds 5

Yearly sunspots, the yearly flow of the Nile at Aswan and monthly temperatures of the sea (El Nino), which statsmodels
ships, are divided in time: the last fifth is the test part, and nothing was seen of it. All methods give the nine
deciles of the value some steps ahead:

- ``climatology``: deciles of all known values, of the same month where there are months
- ``persistence``: the last value, and deciles of the errors that this had
- ``seasonal naive``: the value one season before, likewise
- ``ARIMA``: a normal distribution, of anomalies where there are months; the validation part chooses the order
- ``linear quantiles``: quantile regression on the columns of the network; the validation part chooses the penalty
- ``mlp``, ``rnn``: the loss ``quantiles``, the configuration chosen by the validation part; the mean of a few seeds
- ``mlp, mse``: that configuration with the squared error, and deciles of its errors on the validation part

Networks learn from the training part alone, the others from the validation part as well. The score is the continuous
ranked probability score as the trainers report it. Intervals are of a bootstrap that draws blocks of time whole.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import QuantileRegressor

import aifs_tune
from aifs_tune.analysis.bootstrap import Resampling, ScoreEstimate
from aifs_tune.data.examples import ExampleSet, Target
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.trainers.predictions import LEVELS, MEDIAN

Floats = NDArray[np.float64]

EPOCHS, PATIENCE = 200, 20
PENALTIES = (0.0, 0.001, 0.01, 0.1)
ORDERS = [(p, d, q) for p in (1, 2, 3, 9) for d in (0, 1) for q in (0, 1)]
OF_ALL: dict[str, Any] = {
    "learning_rate": {"type": "float", "low": 1e-3, "high": 3e-2, "log": True, "default": 5e-3},
    "weight_decay": {"type": "float", "low": 1e-6, "high": 1e-2, "log": True, "default": 1e-4},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5, "default": 0.1},
    "noise": {"type": "float", "low": 0.0, "high": 0.4, "default": 0.1},
}
SPACES: dict[str, dict[str, Any]] = {
    "mlp": OF_ALL
    | {
        "layers": {"type": "choice", "choices": [0, 1, 2], "default": 1},
        "units": {"type": "choice", "choices": [8, 32], "default": 32},
    },
    "rnn": OF_ALL | {"units": {"type": "choice", "choices": [8, 32], "default": 32}},
}
FIXED = {"optimizer": "adamw", "batch_size": 32}


@dataclass(frozen=True)
class Task:
    """A series (n,) of which the value ``horizon`` steps ahead is forecast from ``history`` steps.

    ``season`` is its length in steps, 0 for none; a season of 12 are months. ``block`` are the steps that a bootstrap
    draws together.
    """

    name: str
    series: Floats
    unit: str
    history: int
    horizon: int
    season: int
    block: int

    @property
    def ends(self) -> tuple[int, int]:
        """First steps after the training part and after the validation part."""
        n = len(self.series)
        return n * 6 // 10, n * 8 // 10

    def targets(self, part: str) -> NDArray[np.int64]:
        """Steps that are forecast in a part: all that was trained on was known when the forecast was made."""
        first, second = self.ends
        begin, end = {
            "train": (self.history - 1 + self.horizon, first),
            "val": (first - 1 + self.horizon, second),
            "test": (second - 1 + self.horizon, len(self.series)),
        }[part]
        return np.arange(begin, end)

    @property
    def known(self) -> Floats:
        """What the baselines learn from: the training and the validation part."""
        return self.series[: self.ends[1]]

    @cached_property
    def examples(self) -> ExampleSet:
        """Columns of the past, and sine and cosine of the month that is forecast, scaled by the training part."""
        steps = np.concatenate([self.targets(part) for part in ("train", "val", "test")])
        past = self.series[: self.ends[0]]
        target = Target("value", self.unit, float(past.mean()), float(past.std()))
        scaled = (self.series - target.centre) / target.scale
        columns = [scaled[steps - self.horizon - lag] for lag in range(self.history)][::-1]
        if self.season == 12:
            columns += [function(2 * np.pi * steps / 12) for function in (np.sin, np.cos)]
        sizes = np.cumsum([len(self.targets(part)) for part in ("train", "val")])
        parts = np.split(np.arange(len(steps), dtype=np.int32), sizes)
        inputs, y_true = np.stack(columns, axis=1).astype(np.float32), scaled[steps, None].astype(np.float32)
        return ExampleSet((inputs,), y_true, (), (target,), *parts, self.name)

    @property
    def truth(self) -> Floats:
        """Values of the test part."""
        return self.series[self.targets("test")]


def tasks() -> Iterator[Task]:
    """The tasks on the series that statsmodels ships."""
    from statsmodels.datasets import elnino, nile, sunspots

    spots = sunspots.load_pandas().data["SUNACTIVITY"].to_numpy(float)
    sea = elnino.load_pandas().data.iloc[:, 1:].to_numpy(float).ravel()
    yield Task("sunspots, 1 year ahead", spots, "spots", 22, 1, 11, 11)
    yield Task("sunspots, 4 years ahead", spots, "spots", 22, 4, 11, 11)
    yield Task("Nile, 1 year ahead", nile.load_pandas().data["volume"].to_numpy(float), "1e8 m3", 10, 1, 0, 4)
    yield Task("El Nino, 6 months ahead", sea, "deg C", 24, 6, 12, 12)


def climatology(task: Task) -> Floats:
    """Deciles of the known values, of the same month where there are months; shape (n, levels), as of all baselines."""
    of_months = task.season == 12
    steps = np.arange(len(task.known))
    return np.array(
        [
            np.quantile(task.known[steps % 12 == step % 12] if of_months else task.known, LEVELS)
            for step in task.targets("test")
        ]
    )


def repeated(task: Task, distance: int) -> Floats:
    """The value ``distance`` steps before, and deciles of the errors that this had."""
    errors = task.known[distance:] - task.known[:-distance]
    return task.series[task.targets("test") - distance, None] + np.quantile(errors, LEVELS)


def arima(task: Task) -> Floats:
    """Deciles of the normal distributions that an ARIMA model forecasts."""
    first, second = task.ends
    observed = task.series[task.targets("val")]
    order = min(ORDERS, key=lambda order: float(scores(observed, of_arima(task, order, first, "val")).mean()))
    print(f"{task.name}, ARIMA: {order}", flush=True)
    return of_arima(task, order, second, "test")


def of_arima(task: Task, order: tuple[int, int, int], n: int, part: str) -> Floats:
    """Deciles for a part of an ARIMA model that was fitted to the first ``n`` steps, and is told the later ones."""
    from scipy.stats import norm
    from statsmodels.tsa.arima.model import ARIMA

    means, steps = np.zeros(len(task.series)), np.arange(len(task.series))
    if task.season == 12:
        means = np.array([task.series[month:n:12].mean() for month in range(12)])[steps % 12]
    anomalies = task.series - means
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of starting values and of fits that were given up
        state, seen, found = ARIMA(anomalies[:n], order=order, trend="n" if order[1] else "c").fit(), n, []
        for step in task.targets(part):
            issued = step - task.horizon + 1
            if issued > seen:
                state, seen = state.append(anomalies[seen:issued], refit=False), issued
            ahead = state.get_forecast(task.horizon)
            mean, spread = ahead.predicted_mean[-1], ahead.se_mean[-1]
            found.append(means[step] + mean + spread * norm.ppf(LEVELS))
    return np.array(found)


def linear_quantiles(task: Task) -> Floats:
    """Quantile regression on the columns of the network, one for each level, in ascending order."""
    examples = task.examples
    columns, y_true, target = examples.inputs[0], examples.y_true[:, 0], examples.targets[0]

    def fitted(rows: NDArray[np.int32], asked: NDArray[np.int32], penalty: float) -> Floats:
        models = [QuantileRegressor(quantile=level, alpha=penalty).fit(columns[rows], y_true[rows]) for level in LEVELS]
        return np.sort(np.stack([model.predict(columns[asked]) for model in models], axis=1), axis=1)

    def cost(penalty: float) -> float:
        return float(scores(y_true[examples.val], fitted(examples.train, examples.val, penalty)).mean())

    both = np.concatenate([examples.train, examples.val])
    found = fitted(both, examples.test, min(PENALTIES, key=cost))
    return found * target.scale + target.centre


def network(task: Task, name: str, trials: int, seeds: int) -> dict[str, Floats]:
    """Deciles of a network by the loss of quantiles and, of an ``mlp``, by that of squares."""
    from aifs_tune.trainers.models.mlp import MlpTrainer
    from aifs_tune.trainers.models.rnn import RnnTrainer

    examples: Any = task.examples
    make: Any = MlpTrainer
    if name == "rnn":
        make, examples = RnnTrainer, as_series(task)
    goal: dict[str, Any] = {"mode": "min", "patience": PATIENCE, "epochs": EPOCHS, "threads": 1}
    wanted = FIXED | {"loss": "quantiles"}
    trainer = make(examples, wanted, metric="val_pinball", **goal)

    def cost(**params: Any) -> float:
        return float(trained(trainer, wanted | params, 0).best_value)

    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/study.db"
        best = aifs_tune.tune(
            cost, SPACES[name], trials=trials, mode="min", storage=storage, callback=NullCallback()
        ).best.params
    print(f"{task.name}, {name}: {best}", flush=True)
    inputs = [array[examples.test] for array in examples.inputs]
    found = {name: mean_of_seeds(trainer, wanted | best, seeds, lambda one: one.predict(*inputs))}
    if name == "mlp":
        plain = make(examples, wanted | best | {"loss": "mse"}, metric="val_loss", **goal)
        val = [array[examples.val] for array in examples.inputs]
        observed = task.series[task.targets("val")]

        def with_errors(one: Any) -> Floats:
            errors = observed - one.predict(*val)[:, 0]
            return np.asarray(one.predict(*inputs) + np.quantile(errors, LEVELS))

        found["mlp, mse"] = mean_of_seeds(plain, wanted | best | {"loss": "mse"}, seeds, with_errors)
    return found


def as_series(task: Task) -> ExampleSet:
    """The columns of a task as windows (n, steps, channels); a month is the same at each step."""
    examples = task.examples
    columns = examples.inputs[0]
    steps, rest = columns[:, : task.history, None], columns[:, None, task.history :]
    windows = np.concatenate([steps, np.repeat(rest, task.history, axis=1)], axis=2)
    lengths = np.full(len(windows), task.history, np.int32)
    parts = examples.train, examples.val, examples.test
    return ExampleSet((windows, lengths), examples.y_true, (), examples.targets, *parts, f"{task.name} series")


def trained(trainer: Any, params: dict[str, Any], seed: int) -> Any:
    """The trainer after a training to its end."""
    trainer.reset(params, seed=seed)
    while not trainer.is_finished and trainer.epochs_done < EPOCHS:
        trainer.epoch()
    return trainer


def mean_of_seeds(trainer: Any, params: dict[str, Any], seeds: int, predict: Callable[[Any], Any]) -> Floats:
    """Mean of the deciles of trainings with several seeds."""
    return np.mean([predict(trained(trainer, params, seed)) for seed in range(1, 1 + seeds)], axis=0)


def scores(truth: Floats, deciles: Floats) -> Floats:
    """Continuous ranked probability score of each forecast, in the unit of the values."""
    errors, levels = deciles - truth[:, None], np.array(LEVELS)
    return 2 * np.maximum((1 - levels) * errors, -levels * errors).mean(axis=1)


def measured(task: Task, deciles: Floats, reference: Floats, draws: int) -> dict[str, ScoreEstimate]:
    """Scores of the test part with 95 % intervals; ``against`` is the score less that of the ``reference``."""
    truth = task.truth
    columns = {
        "crps": scores(truth, deciles),
        "against": scores(truth, deciles) - scores(truth, reference),
        "coverage": ((deciles[:, 0] <= truth) & (truth <= deciles[:, -1])).astype(float),
        "mae": np.abs(deciles[:, MEDIAN] - truth),
        "width": deciles[:, -1] - deciles[:, 0],
    }

    def of(weights: Floats) -> dict[str, float]:
        return {name: float(weights @ column / weights.sum()) for name, column in columns.items()}

    blocks = (np.arange(len(truth)) // task.block).tolist()
    return Resampling(n_draws=draws).estimates(of, len(truth), blocks)


def forecasts(task: Task, networks: list[str], trials: int, seeds: int) -> dict[str, Floats]:
    """Deciles (n, levels) of the test part by each method."""
    found = {"climatology": climatology(task), "persistence": repeated(task, task.horizon)}
    if task.season:
        found["seasonal naive"] = repeated(task, task.season * math.ceil(task.horizon / task.season))
    found |= {"ARIMA": arima(task), "linear quantiles": linear_quantiles(task)}
    for name in networks:
        found |= network(task, name, trials, seeds)
    return found


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--trials", type=int, default=12, help="configurations of each network")
    cli.add_argument("--seeds", type=int, default=5, help="trainings of the chosen one")
    cli.add_argument("--networks", nargs="*", default=["mlp", "rnn"], choices=list(SPACES))
    cli.add_argument("--only", help="a part of the name of a task; default: all")
    cli.add_argument("--draws", type=int, default=2000, help="of the bootstrap")
    args = cli.parse_args()
    for task in tasks():
        if args.only and args.only not in task.name:
            continue
        found = forecasts(task, args.networks, args.trials, args.seeds)
        reference = found.get("mlp", found["climatology"])
        counts = ", ".join(str(len(task.targets(part))) for part in ("train", "val", "test"))
        print(f"\n{task.name} ({task.unit}); forecasts to train, choose and test: {counts}", flush=True)
        print("| method | CRPS | less that of mlp | within 80 % | MAE | width |\n|---|---|---|---|---|---|")
        for name, deciles in found.items():
            each = measured(task, deciles, reference, args.draws)
            print(f"| {name} | " + " | ".join(cell(each[key]) for key in each) + " |", flush=True)


def cell(found: ScoreEstimate) -> str:
    """A score with its interval in three digits."""
    shown = f"{found.value:.3g}"
    return shown if found.low is None else f"{shown} [{found.low:.3g}, {found.high:.3g}]"


if __name__ == "__main__":
    main()
