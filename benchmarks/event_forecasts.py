"""Probabilities of events by a network against climatology, persistence and logistic regression, on measured series.

    pip install statsmodels
    python benchmarks/event_forecasts.py --seeds 3

Yearly sunspots and monthly temperatures of the sea (El Nino), which statsmodels ships, are prepared as a sweep with
``data.series.forecast.above`` prepares them; the last fifth is the test part, and nothing was seen of it. All methods
give the probability that the value goes above the threshold within the horizon:

- ``climatology``: the share of events
- ``persistence``: logistic regression on the last value
- ``logistic regression``: on all steps of the window; the validation part chooses the penalty
- ``cnn1d``: the defaults of the trainer without weights of classes; the validation part chooses the epoch; the mean of
  a few seeds

The network learns from the training part alone, the others from the validation part as well. The score is the Brier
score and its skill against the climatology. Intervals are of a bootstrap that draws blocks of time whole.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from aifs_tune.analysis import Resampling, evaluate_events
from aifs_tune.config.data import DataSpec
from aifs_tune.data import ExampleSet, prepare_series
from aifs_tune.trainers.predictions import signal_of

Floats = NDArray[np.float64]

EPOCHS = 60
PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Inverse strengths of the penalty of logistic regression."""
METRIC = "val_signal_brier"


@dataclass(frozen=True)
class Task:
    """A series (n,) of which an event, a value ``above``, is forecast; ``block`` steps are drawn together."""

    name: str
    series: Floats
    history: int
    horizon: int
    above: float
    block: int

    def prepared(self) -> tuple[ExampleSet, list[int]]:
        """The examples, and the block of time of each."""
        asked = {name: getattr(self, name) for name in ("history", "horizon", "above")}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "series.csv"
            path.write_text("value\n" + "\n".join(map(repr, self.series.tolist())))
            found = prepare_series(DataSpec(series={"path": path, "forecast": asked}))
        starts = [int(str(position).split()[1]) for position in found.files.position]
        return replace(found.examples, signal=signal_of("event")), [start // self.block for start in starts]


def tasks() -> Iterator[Task]:
    """The tasks on the series that statsmodels ships."""
    from statsmodels.datasets import elnino, sunspots

    spots = sunspots.load_pandas().data["SUNACTIVITY"].to_numpy(float)
    sea = elnino.load_pandas().data.iloc[:, 1:].to_numpy(float)
    months = len(sea) * 6 // 10  # those whose means are known
    anomalies = (sea - sea[:months].mean(axis=0)).ravel()
    yield Task("sunspots above 100 within 4 years", spots, 22, 4, 100.0, 11)
    yield Task("El Nino, 1 deg C above the mean of the month within 6 months", anomalies, 24, 6, 1.0, 12)


def logistic(examples: ExampleSet, n_last: int) -> Floats:
    """Probabilities of the test part by logistic regression on the last steps of the windows."""
    columns = examples.inputs[0][:, -n_last:].reshape(len(examples.y_true), -1)

    def fitted(rows: NDArray[np.int32], asked: NDArray[np.int32], penalty: float) -> Floats:
        model = LogisticRegression(C=penalty, max_iter=1000).fit(columns[rows], examples.y_true[rows])
        return np.asarray(model.predict_proba(columns[asked])[:, 1])

    def cost(penalty: float) -> float:
        return float(np.mean((fitted(examples.train, examples.val, penalty) - examples.y_true[examples.val]) ** 2))

    return fitted(known(examples), examples.test, min(PENALTIES, key=cost))


def known(examples: ExampleSet) -> NDArray[np.int32]:
    """What the baselines learn from: the training and the validation part."""
    return np.concatenate([examples.train, examples.val])


def network(examples: ExampleSet, seeds: int) -> Floats:
    """Probabilities of the test part, the mean of trainings with several seeds."""
    from aifs_tune.trainers.models.cnn1d import Cnn1dTrainer

    goal: dict[str, Any] = {"metric": METRIC, "mode": "min", "class_weights": "none", "epochs": EPOCHS, "threads": 1}
    trainer = Cnn1dTrainer(examples, {}, **goal)
    found = []
    for seed in range(1, 1 + seeds):
        trainer.reset({}, seed=seed)
        for _ in range(EPOCHS):
            trainer.epoch()
        found.append(trainer.predict(*(array[examples.test] for array in examples.inputs))[:, 1])
    return np.mean(found, axis=0, dtype=np.float64)


def forecasts(examples: ExampleSet, seeds: int) -> dict[str, Floats]:
    """Probabilities (n,) of events in the test part by each method; no network without seeds."""
    share = examples.y_true[known(examples)].mean()
    found = {
        "climatology": np.full(len(examples.test), share),
        "persistence": logistic(examples, 1),
        "logistic regression": logistic(examples, examples.inputs[0].shape[1]),
    }
    return found | ({"cnn1d": network(examples, seeds)} if seeds else {})


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--seeds", type=int, default=3, help="trainings of the network")
    cli.add_argument("--draws", type=int, default=2000, help="of the bootstrap")
    args = cli.parse_args()
    for task in tasks():
        examples, blocks = task.prepared()
        y_true = examples.y_true[examples.test]
        parts = (examples.y_true[getattr(examples, part)] for part in ("train", "val", "test"))
        counts = ", ".join(f"{labels.sum()} of {len(labels)}" for labels in parts)
        print(f"\n{task.name}; events of the forecasts to train, choose and test: {counts}", flush=True)
        print("| method | Brier score | skill |\n|---|---|---|")
        made = forecasts(examples, args.seeds)
        for name, probabilities in made.items():
            scores = evaluate_events(
                y_true,
                probabilities,
                climatology=float(made["climatology"][0]),
                groups=[blocks[i] for i in examples.test.tolist()],
                resampling=Resampling(n_draws=args.draws),
            ).scores
            cells = (f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]" for each in scores.values())
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
