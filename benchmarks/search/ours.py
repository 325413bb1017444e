"""The product's own study, samplers and schedulers as a method of the benchmark: what a sweep does, less Ray and
training."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from aifs_tune.config.search import SearchSpec
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.execution.ray.schedulers import make_scheduler
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import start_study
from search.tables import CurveTable
from search.virtual_time import Run

SEARCHES = {
    "aifs": {},
    "aifs+asha4": {"scheduler": "asha", "reduction_factor": 4.0},
    "our tpe+asha4": {"sampler": "tpe", "scheduler": "asha"},
    "our tpe+aifs": {"sampler": "tpe"},
}
"""What a sweep file would have under ``search``: the defaults, and parts of them alone."""


@dataclass(frozen=True)
class _TuneTrial:
    trial_id: str


class OurSearch:
    """A real study in a SQLite file, in memory where the system has a place for that, asked and told as a sweep does
    it."""

    def __init__(self, table: CurveTable, seed: int, **search: object) -> None:
        asked = SearchSpec(epochs=table.epochs, seed=seed, **search)
        # a trainer's name, which nothing loads: a study without one is an instrument's, whose last epoch is not known
        spec = SweepSpec(name="benchmark", trainer="search:table", space=table.space, search=asked)
        shared = Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None)
        storage = Storage(f"sqlite:///{self._folder.name}/study.db", create=True)
        self._writing = storage.writing()
        self._writing.__enter__()  # for good: as a sweep, it is the one writer
        self.study, self._epochs = start_study(storage, spec, "benchmark"), table.epochs
        self._scheduler = make_scheduler(spec.search, "max", [], self._continuation_value)

    def _continuation_value(self, trial_id: str, epoch: int, value: float) -> float | None:
        return self.study.continuation_value(int(trial_id), epoch, value)

    def ask(self) -> Run:
        trial = self.study.ask()
        self._scheduler.on_trial_add(None, _TuneTrial(str(trial.number)))
        return Run(trial.number, trial.params, 0, self._epochs)

    def report(self, trial: int, epoch: int, value: float) -> bool:
        running, metric = _TuneTrial(str(trial)), self.study.spec.objective.metric
        decision = self._scheduler.on_trial_result(None, running, {"epoch": epoch, "objective": value})
        self.study.report(trial, epoch, {metric: value})
        if epoch < self._epochs and decision == "CONTINUE":
            return True
        state = "complete" if epoch == self._epochs else "pruned"
        self._scheduler.on_trial_complete(None, running, {"epoch": epoch, "objective": value, "ended": state})
        self.study.tell(trial, state=state)
        return False
