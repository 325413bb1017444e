"""Progress of a sweep in numbers: what has ended, the best so far, the time left."""

from __future__ import annotations

import time

from aifs_tune._util.formatting import duration, number
from aifs_tune.execution.callbacks import Plan
from aifs_tune.study.trial import Trial


class ProgressTracker:
    """Counter of the trials that ended, with the best so far, the rate and the time left."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.best = plan.best
        self.n_started = self.n_ended = 0
        self._is_measured = False
        self._began = time.monotonic()

    def ended(self, trial: Trial) -> None:
        """Count a trial that has ended."""
        self.n_ended += 1
        if trial.state == "complete" and trial.value is not None and trial.feasible is not False:
            sign = -1 if self.plan.objective.mode == "max" else 1
            others = [] if self.best is None or self.best.value is None else [self.best]
            self.best = min([*others, trial], key=lambda each: (sign * (each.value or 0.0), each.number))

    def measured(self) -> None:
        """Note that a trial has measured an epoch."""
        self._is_measured = True

    def _waits_for(self) -> str:
        what = "the first trial to end"
        if not self.n_started:
            what = "a worker to start"
        elif not self._is_measured:
            what = "the first epoch (loading data, compiling)"
        return f"{duration(time.monotonic() - self._began)} so far, waiting for {what}"

    def line(self) -> str:
        """Progress in one line."""
        if not self.n_ended:
            return f"0/{self.plan.n_trials} trials   {self._waits_for()}"
        best = "none yet" if self.best is None else f"{number(self.best.value)} (trial {self.best.number})"
        per_s = self.n_ended / max(time.monotonic() - self._began, 1e-3)
        left_s = (self.plan.n_trials - self.n_ended) / per_s if per_s else None
        rate = f"{60 * per_s:.1f}" if per_s else "-"
        return (
            f"{self.n_ended}/{self.plan.n_trials} trials   best {self.plan.objective.metric} {best}   "
            f"{rate} trials/min   {duration(left_s)} left"
        )
