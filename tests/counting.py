"""A trainer that counts, and a worker's part with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aifs_tune.config.loading import parse_sweep
from aifs_tune.execution.context import TrialContext
from aifs_tune.execution.epochs import EpochResult
from aifs_tune.execution.runner import Runner


class CountingTrainer:
    """A trainer that counts epochs, fails on request and can be resumed."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.value = 0.0
        self.loaded_from: Path | None = None

    @property
    def is_finished(self) -> bool:
        return self.value >= self.params.get("enough", 99)

    def reset(self, params, *, seed):
        self.params, self.value = dict(params), float(params["start"])
        if params.get("cannot_start"):
            raise ValueError("too small")

    def epoch(self):
        self.value += 1
        if self.value == self.params.get("fails_at"):
            raise RuntimeError("it broke\nbadly")
        return {"score": self.value}

    def save(self, folder):
        (folder / "state.json").write_text(json.dumps(self.value))

    def load(self, folder):
        self.value = json.loads((folder / "state.json").read_text())

    def save_best(self, folder):
        (folder / "best.json").write_text(json.dumps(self.value))
        return folder / "best.json"


class AdaptingTrainer(CountingTrainer):
    """Counts in strides that can change."""

    def reset(self, params, *, seed):
        self.params, self.value = dict(params), 0.0

    def change(self, params):
        self.params = dict(params)

    def epoch(self):
        self.value += self.params["stride"]
        return {"score": self.value}


def counting(
    tmp_path: Path, artifacts: Path | str | None = None, trainer: type[CountingTrainer] = CountingTrainer
) -> Runner:
    """Runs trials of three epochs and keeps a checkpoint after each."""
    spec = parse_sweep(
        {
            "name": "r",
            "trainer": {"name": "cnn", "checkpoint_s": 0},
            "objective": {"metric": "score"},
            "search": {"epochs": 3},
            "space": {"start": {"type": "float", "low": 0, "high": 9}},
        }
    )
    CountingTrainer.made = 0
    context = TrialContext(spec, None, artifacts or tmp_path / "artifacts", tmp_path)
    return Runner(context, lambda params, seed: trainer())


def adapting_runner(tmp_path: Path, epochs: int = 4, **sections: Any) -> Runner:
    """Runs trials whose parameters can change."""
    spec = parse_sweep(
        {
            "name": "r",
            "trainer": {"name": "mlp", "checkpoint_s": 100},
            "objective": {"metric": "score"},
            "search": {"epochs": epochs},
            "space": {"start": {"type": "float", "low": 0, "high": 9}},
            **sections,
        }
    )
    return Runner(TrialContext(spec, None, tmp_path / "artifacts", tmp_path), lambda params, seed: AdaptingTrainer())


def checkpoint_of(runner: Runner) -> Path:
    """The folder of the newest checkpoint of the trial that was started, which lies here."""
    epoch = runner._artifacts.find_checkpoint_epoch()
    assert epoch is not None
    return runner._artifacts.fetch_checkpoint(epoch, Path())


def to_end(runner: Runner) -> list[EpochResult]:
    """The steps of the trial that was started, to its last."""
    taken = [runner.next_result()]
    while taken[-1].ended is None:
        taken.append(runner.next_result())
    return taken


def steps(runner: Runner, number: int, *, n_stored: int = 0, **params: float) -> list[EpochResult]:
    runner.start(number, {"start": 0.0, **params}, 1, n_stored=n_stored)
    return to_end(runner)


def scores(runner: Runner, number: int = 0, **options: int) -> list[float]:
    runner.start(number, {"start": 0.0, "stride": 1.0}, 1, **options)
    taken = to_end(runner)
    assert taken[-1].ended == "complete", taken[-1].reason
    return [step.metrics["score"] for step in taken]
