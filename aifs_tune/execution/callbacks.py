"""What a sweep says while it runs. Everything said is stored already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aifs_tune.config.sweep import Objective
from aifs_tune.study.trial import Trial


@dataclass(frozen=True)
class Plan:
    """What a sweep is about to run.

    ``best`` is the study's best trial so far, ``tuned`` the parameters that are not fixed.
    """

    study: str
    objective: Objective
    n_trials: int
    workers: int
    epochs: int
    best: Trial | None
    tuned: tuple[str, ...]


class SweepCallback(Protocol):
    """Hears a sweep; must return at once and not raise."""

    def on_status(self, text: str) -> None:
        """What the sweep does now, in words."""

    def on_progress(self, phase: str, done: int, total: int) -> None:
        """``done`` of ``total`` pieces of a phase, such as decoding."""

    def on_sweep_start(self, plan: Plan) -> None:
        """The trials are about to start."""

    def on_trial_start(self, trial: Trial) -> None:
        """A trial was handed to a worker."""

    def on_trial_result(self, trial: Trial) -> None:
        """A running trial reported an epoch."""

    def on_trial_complete(self, trial: Trial) -> None:
        """A trial ended."""


class NullCallback:
    """Hears and says nothing."""

    def on_status(self, text: str) -> None: ...

    def on_progress(self, phase: str, done: int, total: int) -> None: ...

    def on_sweep_start(self, plan: Plan) -> None: ...

    def on_trial_start(self, trial: Trial) -> None: ...

    def on_trial_result(self, trial: Trial) -> None: ...

    def on_trial_complete(self, trial: Trial) -> None: ...
