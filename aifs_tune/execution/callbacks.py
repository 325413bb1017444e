"""Callbacks: what a sweep tells while it runs. Everything told is stored already."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Protocol

from aifs_tune.config.sweep import Objective
from aifs_tune.study.trial import Trial


@dataclass(frozen=True)
class Plan:
    """Plan of a sweep that is about to run.

    ``epochs`` is the last epoch of a trial, None if trials end by themselves. ``best`` is the study's best trial so
    far, ``tuned`` the parameters that are not fixed.
    """

    study: str
    objective: Objective
    n_trials: int
    workers: int
    epochs: int | None
    best: Trial | None
    tuned: tuple[str, ...]


class SweepCallback(Protocol):
    """Callback of a sweep. Its methods must return at once and not raise."""

    def on_status(self, text: str) -> None:
        """The sweep does something new; ``text`` says what."""

    def on_progress(self, phase: str, done: int, total: int) -> None:
        """``done`` of ``total`` items of a phase, such as decoding, are ready."""

    def on_sweep_start(self, plan: Plan) -> None:
        """The trials are about to start."""

    def on_trial_start(self, trial: Trial) -> None:
        """A trial was handed to a worker."""

    def on_trial_result(self, trial: Trial) -> None:
        """A running trial reported an epoch."""

    def on_trial_complete(self, trial: Trial) -> None:
        """A trial ended."""


class NullCallback:
    """Callback that does nothing."""

    def on_status(self, text: str) -> None: ...

    def on_progress(self, phase: str, done: int, total: int) -> None: ...

    def on_sweep_start(self, plan: Plan) -> None: ...

    def on_trial_start(self, trial: Trial) -> None: ...

    def on_trial_result(self, trial: Trial) -> None: ...

    def on_trial_complete(self, trial: Trial) -> None: ...


class PrintingCallback(NullCallback):
    """Callback that prints what needs attention, such as the traceback of the first trial that failed."""

    def on_status(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is what it is for
