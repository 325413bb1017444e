"""Everything that a report says, read from the storage once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from aifs_tune.analysis.candidates import BASELINE
from aifs_tune.analysis.confirmation import CANDIDATES, Confirmation, read_confirmation
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
"""Confirmations of one study that are looked for."""


@dataclass(frozen=True)
class ReportData:
    """The data of a study as they lie on this machine: examples in each part, and where to open them."""

    kind: str
    sizes: dict[str, int]
    location: Path


@dataclass(frozen=True, eq=False)
class ReportContext:
    """A study with what was made of it: its confirmations, the oldest first, its noise floor and its test part.

    ``data`` is None, and ``data_problem`` says why, where they cannot be read on this machine.
    """

    study: StudyRecord
    trials: tuple[Trial, ...]
    best: Trial
    confirmations: tuple[Confirmation, ...]
    noise: Noise | None
    tested: HeldOutEvaluation | None
    data: ReportData | None
    data_problem: str

    @property
    def objective(self) -> Objective:
        return self.study.spec.objective

    @property
    def metric(self) -> str:
        return self.objective.metric

    @property
    def is_better_high(self) -> bool:
        return self.objective.mode == "max"

    @property
    def confirmation(self) -> Confirmation | None:
        """The newest one."""
        return self.confirmations[-1] if self.confirmations else None

    @property
    def tuned(self) -> tuple[str, ...]:
        """Parameters that are searched."""
        return tuple(name for name, parameter in self.study.spec.space.items() if parameter.type != "fixed")

    @cached_property
    def counts(self) -> dict[State, int]:
        return self.study.counts()

    @cached_property
    def analysis(self) -> Analysis:
        from aifs_tune.analysis.study_tables import Analysis

        return Analysis(self.study, noise=None if self.noise is None else self.noise.sd)

    @cached_property
    def measured_noise(self) -> tuple[float, str] | None:
        """The standard deviation of one measurement, and of what it was learnt; None where it is not known."""
        if self.noise is not None:
            return self.noise.sd, count(self.noise.n, "training") + " of the default configuration"
        found = self.analysis.noise
        return None if found is None else (found, "configurations that were measured several times")

    @cached_property
    def test_set_classes(self) -> HeldOutClasses | None:
        """What the answers of the test part are worth, if they are of classes."""
        return None if self.tested is None else self.tested.classes

    def of_state(self, *states: str) -> list[Trial]:
        """The trials in these states that have a value."""
        return [
            trial
            for trial in self.trials
            if trial.state in states and trial.value is not None and math.isfinite(trial.value)
        ]


def gather(study: StudyRecord, *, with_data: bool = True, tell: Callable[[str], None] | None = None) -> ReportContext:
    """What is known of ``study``, and of its data if asked for. ``tell`` hears what is being read.

    Raises
    ------
    RequestError
        If the study is a confirmation, a noise floor or a test of another one; NotFoundError while no trial is
        complete.
    """
    if study.fact(CANDIDATES) is not None or study.fact(TEST_EVALUATION) is not None:
        raise RequestError(
            f"study {study.name!r} evaluates configurations of another one; allowed: a report of that study, which "
            "has what was found here"
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
        data=data,
        data_problem=problem,
    )


def _confirmations(study: StudyRecord) -> Iterator[Confirmation]:
    for found in _evaluations(study, f"{study.name}-confirm"):
        try:
            yield read_confirmation(study.storage, found.name)
        except NotFoundError:  # nothing of it has ended
            continue


def _evaluations(study: StudyRecord, name: str) -> Iterator[StudyRecord]:
    """The studies of candidates that are called so, with a number from the second on."""
    for n in range(1, _MAX_CONFIRMATIONS + 1):
        found = find_study(study.storage, name if n == 1 else f"{name}-{n}")
        if found is None:
            return
        if found.fact(CANDIDATES) is not None:
            yield found


def _noise_of(study: StudyRecord) -> Noise | None:
    """That of the default configuration, as measured last with the same trainer, data and objective; else that of the
    baseline of the newest confirmation."""
    names = dict.fromkeys((f"{study.name}-noise", f"{study.spec.name}-noise"))
    found = [each for name in names for each in _evaluations(study, name) if _is_same_question(each, study)]
    confirmed = [each for each in _evaluations(study, f"{study.name}-confirm") if _has_baseline(each)]
    for each in (*reversed(found), *reversed(confirmed)):
        try:
            return noise_of(read_confirmation(study.storage, each.name))
        except (NotFoundError, WorkError):
            continue
    return None


def _has_baseline(found: StudyRecord) -> bool:
    return bool(found.fact(CANDIDATES)[0]["name"] == BASELINE)


def _is_same_question(found: StudyRecord, study: StudyRecord) -> bool:
    parts = ("trainer", "data", "objective")
    return all(getattr(found.spec, part) == getattr(study.spec, part) for part in parts)


def _data_of(study: StudyRecord, tell: Callable[[str], None]) -> tuple[ReportData | None, str]:
    """The data as they are prepared here, if they are those of the study."""
    if study.spec.trainer is None or study.spec.data is None:
        return None, ""
    from aifs_tune.trainers.factory import find_trainer_entry

    trainer_entry = find_trainer_entry(study.spec)
    if trainer_entry is None:
        return None, ""
    if study.spec.data.url is not None:
        return None, "they are in an object store, from which a report copies nothing"
    from aifs_tune.data.sources import prepare, sizes_of

    try:
        tell("reading the data")
        prepared = prepare(
            study.spec.data, trainer_entry.kind, strict=False, tell=lambda _line: None, progress=lambda *_: None
        )
    except AifsTuneError:
        return None, "they are not on this machine"
    if study.fingerprint not in (None, prepared.fingerprint):
        return None, "they have changed since the sweep"
    return ReportData(trainer_entry.kind, sizes_of(prepared.location, trainer_entry.kind), prepared.location), ""


def n_finished(context: ReportContext) -> int:
    """Trials that have ended, however they did."""
    return sum(context.counts[state] for state in FINAL)
