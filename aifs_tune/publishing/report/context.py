"""Data of a report, read from the storage once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from aifs_tune.analysis.candidates import BASELINE
from aifs_tune.analysis.confirmation import CANDIDATES, Confirmation, read_confirmation
from aifs_tune.analysis.final_model import FinalModel, find_final_model
from aifs_tune.analysis.noise import Noise, noise_of
from aifs_tune.analysis.test_part import TEST_EVALUATION, HeldOutEvaluation, find_evaluation
from aifs_tune.config.sweep import Objective
from aifs_tune.errors import AifsTuneError, NotFoundError, RequestError, WorkError
from aifs_tune.publishing.report.formatting import count
from aifs_tune.study.index import find_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import FINAL, State, Trial

if TYPE_CHECKING:
    from aifs_tune.analysis.classification import HeldOutClasses
    from aifs_tune.analysis.study_tables import Analysis


_MAX_CONFIRMATIONS = 100
"""Largest number of confirmations that are read."""


@dataclass(frozen=True)
class ReportData:
    """The data of a study on this machine: number of examples in each split, and their location."""

    kind: str
    sizes: dict[str, int]
    location: Path


@dataclass(frozen=True, eq=False)
class ReportContext:
    """A study with its confirmations (the oldest first), its noise floor and its evaluation on the test set.

    ``data`` is None if the data cannot be read on this machine; ``data_problem`` then says why.
    """

    study: StudyRecord
    trials: tuple[Trial, ...]
    best: Trial
    confirmations: tuple[Confirmation, ...]
    noise: Noise | None
    tested: HeldOutEvaluation | None
    final: FinalModel | None
    data: ReportData | None
    data_problem: str

    @property
    def objective(self) -> Objective:
        """The first objective of the study."""
        return self.study.spec.objective

    @property
    def metric(self) -> str:
        """Name of the objective's metric."""
        return self.objective.metric

    @property
    def is_better_high(self) -> bool:
        """Whether higher values of the objective are better."""
        return self.objective.mode == "max"

    @property
    def confirmation(self) -> Confirmation | None:
        """The newest confirmation; None if there is none."""
        return self.confirmations[-1] if self.confirmations else None

    @property
    def tuned(self) -> tuple[str, ...]:
        """Names of the parameters that are not fixed."""
        return tuple(name for name, parameter in self.study.spec.space.items() if parameter.type != "fixed")

    @cached_property
    def counts(self) -> dict[State, int]:
        """Number of trials in each state."""
        return self.study.counts()

    @cached_property
    def analysis(self) -> Analysis:
        """Tables of the study's analysis."""
        from aifs_tune.analysis.study_tables import Analysis

        return Analysis(self.study, noise=None if self.noise is None else self.noise.sd)

    @cached_property
    def measured_noise(self) -> tuple[float, str] | None:
        """Standard deviation of one measurement, and what it was measured on; None if unknown."""
        if self.noise is not None:
            return self.noise.sd, count(self.noise.n, "training run") + " of the default configuration"
        found = self.analysis.noise
        return None if found is None else (found, "configurations that were measured several times")

    @cached_property
    def test_set_classes(self) -> HeldOutClasses | None:
        """Scores of the predictions on the test set; None if the targets are not classes."""
        return None if self.tested is None else self.tested.classes

    def of_state(self, *states: str) -> list[Trial]:
        """Trials in these states that have a finite value."""
        return [
            trial
            for trial in self.trials
            if trial.state in states and trial.value is not None and math.isfinite(trial.value)
        ]


def gather(study: StudyRecord, *, with_data: bool = True, tell: Callable[[str], None] | None = None) -> ReportContext:
    """Read everything that a report of ``study`` needs.

    Parameters
    ----------
    study
        The study.
    with_data
        Whether to read the data set too.
    tell
        Called with a line of text at each step.

    Raises
    ------
    RequestError
        If the study is a confirmation, a noise measurement or a test evaluation of another study.
    NotFoundError
        If no trial is complete.
    """
    if study.fact(CANDIDATES) is not None or study.fact(TEST_EVALUATION) is not None:
        raise RequestError(
            f"study {study.name!r} evaluates configurations of another study; write a report of that study instead: it "
            "includes these results"
        )
    best = study.best
    data, problem = _data_of(study, tell or (lambda _line: None)) if with_data else (None, "")
    return ReportContext(
        study=study,
        trials=tuple(study.all_trials()),
        best=best,
        confirmations=tuple(_confirmations(study)),
        noise=_noise_of(study),
        tested=find_evaluation(study.storage, study.name),
        final=find_final_model(study),
        data=data,
        data_problem=problem,
    )


def _confirmations(study: StudyRecord) -> Iterator[Confirmation]:
    for found in _evaluations(study, f"{study.name}-confirm"):
        try:
            yield read_confirmation(study.storage, found.name)
        except NotFoundError:  # no trial has finished
            continue


def _evaluations(study: StudyRecord, name: str) -> Iterator[StudyRecord]:
    """Studies of candidates with this name, or with this name and a number from 2."""
    for n in range(1, _MAX_CONFIRMATIONS + 1):
        found = find_study(study.storage, name if n == 1 else f"{name}-{n}")
        if found is None:
            return
        if found.fact(CANDIDATES) is not None:
            yield found


def _noise_of(study: StudyRecord) -> Noise | None:
    """Noise of the default configuration, measured with the same trainer, data and objective (the newest measurement).

    Without one, the noise of the baseline in the newest confirmation; None without that.
    """
    names = dict.fromkeys((f"{study.name}-noise", f"{study.spec.name}-noise"))
    found = [each for name in names for each in _evaluations(study, name) if _is_same_task(each, study)]
    confirmed = [each for each in _evaluations(study, f"{study.name}-confirm") if _has_baseline(each)]
    for each in (*reversed(found), *reversed(confirmed)):
        try:
            return noise_of(read_confirmation(study.storage, each.name))
        except (NotFoundError, WorkError):
            continue
    return None


def _has_baseline(found: StudyRecord) -> bool:
    return bool(found.fact(CANDIDATES)[0]["name"] == BASELINE)


def _is_same_task(found: StudyRecord, study: StudyRecord) -> bool:
    parts = ("trainer", "data", "objective")
    return all(getattr(found.spec, part) == getattr(study.spec, part) for part in parts)


def _data_of(study: StudyRecord, tell: Callable[[str], None]) -> tuple[ReportData | None, str]:
    """The prepared data of this machine; None, and the reason, if they are not those of the study."""
    if study.spec.trainer is None or study.spec.data is None:
        return None, ""
    from aifs_tune.trainers.factory import find_trainer_entry

    trainer_entry = find_trainer_entry(study.spec)
    if trainer_entry is None:
        return None, ""
    if study.spec.data.url is not None:
        return None, "the data are in an object store, and a report does not download them"
    from aifs_tune.data.sources import prepare, sizes_of

    try:
        tell("reading the data")
        prepared = prepare(
            study.spec.data, trainer_entry.kind, strict=False, tell=lambda _line: None, progress=lambda *_: None
        )
    except AifsTuneError:
        return None, "the data are not on this machine"
    if study.fingerprint not in (None, prepared.fingerprint):
        return None, "the data have changed since the sweep"
    return ReportData(trainer_entry.kind, sizes_of(prepared.location, trainer_entry.kind), prepared.location), ""


def n_finished(context: ReportContext) -> int:
    """Number of trials in a final state."""
    return sum(context.counts[state] for state in FINAL)
