"""Trials in this process, one after another, without Ray."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aifs_tune._util.packages import missing_packages_named
from aifs_tune._util.scalars import Scalar
from aifs_tune.config.cross_validation import split_of
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import RequestError
from aifs_tune.execution.callbacks import Plan, SweepCallback
from aifs_tune.execution.context import TrialContext
from aifs_tune.execution.epochs import EpochResult
from aifs_tune.execution.finalists import weights_to_keep
from aifs_tune.execution.runner import Runner
from aifs_tune.execution.stopping import SweepEnd
from aifs_tune.execution.timing import Profile
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial
from aifs_tune.trainers.factory import make_trainer
from aifs_tune.trainers.protocol import Trainer


def check_runs_here(spec: SweepSpec) -> None:
    """Check that trials of ``spec`` can run in this process.

    Raises
    ------
    RequestError
        If they need several processes; names the setting.
    """
    needs = {
        "search.scheduler: pbt": spec.search.scheduler == "pbt",
        "resources.fresh_process: true": spec.resources.fresh_process,
        f"resources.fused_trials: {spec.resources.fused_trials}": spec.resources.fused_trials not in ("auto", 1),
    }
    for what, is_needed in needs.items():
        if is_needed:
            raise RequestError(
                f"{what} needs processes of its own; allowed with a number of workers, such as workers=2"
            )


def run_trials_here(
    study: StudyRecord,
    context: TrialContext,
    *,
    n_trials: int,
    sweep_id: str,
    callback: SweepCallback,
    profile: Profile,
) -> None:
    """Run ``n_trials`` trials of the study to their end, in this process.

    A trial that an interrupt ends waits again.
    """
    _LocalSweep(study, context, sweep_id, callback, profile).run(n_trials)


class _LocalSweep:
    """One trial after another."""

    def __init__(
        self, study: StudyRecord, context: TrialContext, sweep_id: str, callback: SweepCallback, profile: Profile
    ) -> None:
        self._study, self._context, self._sweep_id = study, context, sweep_id
        self._callback, self._profile = callback, profile
        self._is_error_told = False
        self._end = SweepEnd(study, callback.on_status, self._notice)
        self._weights = weights_to_keep(study, context.artifacts)
        self._scheduler = _scheduler(study, context.spec)
        self._worker = f"{socket.gethostname()}:{os.getpid()}"

    def run(self, n_trials: int) -> None:
        study, search = self._study, self._context.spec.search
        if n_trials < 1:
            return
        until = float("inf") if search.timeout_s is None else time.monotonic() + search.timeout_s
        self._profile.workers = 1
        tuned = tuple(name for name, parameter in study.spec.space.items() if parameter.type != "fixed")
        objective, best = study.spec.objective, study.find_best()
        self._callback.on_sweep_start(Plan(study.name, objective, n_trials, 1, search.last_epoch, best, tuned))
        runner = Runner(self._context, self._make, is_worker=False)
        try:
            for _ in range(n_trials):
                if self._end.look() or time.monotonic() >= until:
                    break
                trial = study.ask(sweep=self._sweep_id)
                ended = None
                try:
                    ended = self._run_one(runner, trial, until)
                finally:
                    if ended is None:
                        study.requeue(trial)
                if ended is None:
                    break
                self._weights.ended(ended)
                self._callback.on_trial_complete(ended)
                self._end.ended(ended)
        finally:
            runner.close()

    def _make(self, params: Mapping[str, Scalar], seed: int) -> Trainer:
        split, own = split_of(self._context.spec.cross_validation, params)
        data, folds = self._context.data_location(split), self._context.fold_locations()
        return make_trainer(
            self._context.spec, data, folds=folds, params=own, seed=seed, function=self._context.function
        )

    def _run_one(self, runner: Runner, trial: Trial, until: float) -> Trial | None:
        """Run a trial to its end; None if the time of the sweep was over before."""
        study = self._study
        self._callback.on_trial_start(trial)
        checkpoint = study.checkpoint(trial)
        runner.start(trial.number, trial.params, trial.seed, n_stored=trial.epochs, checkpoint=checkpoint)
        stand_in = _TuneTrial(str(trial.number))
        if self._scheduler is not None:
            self._scheduler.on_trial_add(None, stand_in)
        while True:
            step = runner.next_result()
            self._profile.n_reports += 1
            for name, seconds in step.timings.items():
                self._profile.work[name] = self._profile.work.get(name, 0.0) + seconds
            if step.ended is not None:
                return self._ended(trial, stand_in, step)
            reported = self._report(trial, step)
            self._callback.on_trial_result(reported)
            if self._stops(stand_in, step):
                reason = f"stopped early at epoch {step.epoch}"
                return study.tell(trial, state="pruned", reason=reason, notes=step.notes)
            if time.monotonic() >= until:
                return None

    def _report(self, trial: Trial, step: EpochResult) -> Trial:
        return self._study.report(
            trial.number,
            step.epoch,
            step.metrics,
            seconds=step.seconds,
            worker=self._worker,
            checkpoint=step.checkpoint,
        )

    def _ended(self, trial: Trial, stand_in: _TuneTrial, step: EpochResult) -> Trial:
        if self._scheduler is not None:
            value = self._objective_of(step)
            measured = {} if value is None else {"objective": value}
            result = {"epoch": step.epoch, "ended": step.ended, **measured}
            self._scheduler.on_trial_complete(None, stand_in, result)
        if step.error and not self._is_error_told:
            self._is_error_told = True
            self._callback.on_status(f"trial {trial.number} failed:\n{step.error}")

        def told() -> Trial:
            if step.metrics:
                self._report(trial, step)
            if step.ended in ("failed", "pruned"):
                return self._study.tell(trial, state=step.ended, reason=step.reason, notes=step.notes)
            return self._study.tell(trial, step.final, reason=step.reason, weights=step.weights, notes=step.notes)

        return self._study.transact(told)

    def _objective_of(self, step: EpochResult) -> float | None:
        return step.metrics.get(self._study.spec.objective.metric)

    def _stops(self, stand_in: _TuneTrial, step: EpochResult) -> bool:
        """Whether the scheduler stops the trial after this epoch."""
        value = self._objective_of(step)
        if self._scheduler is None or value is None:
            return False
        decision = self._scheduler.on_trial_result(None, stand_in, {"epoch": step.epoch, "objective": value})
        if str(decision) != "STOP":
            return False
        self._scheduler.on_trial_remove(None, stand_in)
        return True

    def _notice(self, text: str) -> None:
        self._study.add_notice(text)
        self._callback.on_status(text)


@dataclass(frozen=True)
class _TuneTrial:
    """Stands in for a trial of Ray Tune in its schedulers."""

    trial_id: str


def _scheduler(study: StudyRecord, spec: SweepSpec) -> Any:
    """The scheduler of ``spec``, one of Ray Tune's that needs no running Ray; None if it never stops a trial."""
    if spec.search.scheduler == "none" or spec.search.epochs == 1:
        return None
    with missing_packages_named():
        from aifs_tune.execution.ray.schedulers import finished_curves, make_scheduler

    def continuation_value(trial_id: str, epoch: int, value: float) -> float | None:
        return study.continuation_value(int(trial_id), epoch, value)

    return make_scheduler(spec.search, study.spec.objective.mode, finished_curves(study), continuation_value)
