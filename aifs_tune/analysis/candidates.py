"""Which configurations are compared: the best of a study, trials by number, the best of another study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aifs_tune._util.scalars import Scalar
from aifs_tune.errors import ConflictError, RequestError
from aifs_tune.study.index import get_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial

BASELINE = "baseline"


@dataclass(frozen=True)
class Candidate:
    """A configuration that is confirmed; ``trial`` is that of the study that found it, None for the stated default."""

    name: str
    trial: int | None
    params: Mapping[str, Scalar]

    def to_json(self) -> dict[str, Any]:
        """As a fact of the confirmation."""
        return {"name": self.name, "trial": self.trial, "params": dict(self.params)}


def candidates_of(study: StudyRecord, *, top: int, baseline: int | None = None) -> tuple[Candidate, ...]:
    """The baseline and the ``top`` best configurations that differ from it and from each other, the best first.

    ``baseline`` is the trial that is one; None for the default that the space states.

    Raises
    ------
    RequestError
        If there is no baseline or nothing to compare with it, or a configuration changed while it trained;
        NotFoundError while no trial is complete.
    """
    if baseline is not None:
        first = _candidate(BASELINE, study.trial(baseline))
    else:
        default = study.spec.space.default_params()
        if default is None:
            raise RequestError(
                f"study {study.name!r}: its space states no default configuration; allowed: --baseline TRIAL"
            )
        first = Candidate(BASELINE, None, default)
    found = [first]
    for trial in study.best_trials(study.counts()["complete"]):
        if len(found) <= top and all(dict(trial.params) != dict(each.params) for each in found):
            found.append(_candidate(f"trial {trial.number}", trial))
    if len(found) < 2:
        raise RequestError(
            f"study {study.name!r}: its complete trials have one configuration, that of the baseline; allowed: a study "
            "with another one, or --baseline TRIAL"
        )
    return tuple(found)


def chosen_candidates(study: StudyRecord, entries: Sequence[str]) -> tuple[Candidate, ...]:
    """Trials by name, the first as the baseline: each is a number of ``study``, or another study of its storage as
    ``NAME`` (its best trial) or ``NAME:TRIAL``. Before another study as the first stands the best trial of ``study``.

    Raises
    ------
    RequestError
        If two of them have the same configuration, one changed while it trained, or another study asks something
        else; NotFoundError if there is no such study or trial; ConflictError if it is about other data.
    """
    found = [_entered(study, entry) for entry in entries]
    if entries and not entries[0].isdecimal():
        best = study.best
        found.insert(0, _candidate(f"{study.name} trial {best.number}", best))
    if len(found) < 2:
        raise RequestError("TRIAL: one was given; allowed: two or more, the first as the baseline, or another study")
    for i, each in enumerate(found):
        for earlier in found[:i]:
            if dict(each.params) == dict(earlier.params):
                raise RequestError(f"{earlier.name} and {each.name} have the same configuration; allowed: others")
    return tuple(found)


def _entered(study: StudyRecord, entry: str) -> Candidate:
    if entry.isdecimal():
        return _candidate(f"trial {entry}", study.trial(int(entry)))
    name, _, number = entry.rpartition(":") if entry.rpartition(":")[2].isdecimal() else (entry, "", "")
    other = get_study(study.storage, name)
    _check_same_question(study, other)
    trial = other.trial(int(number)) if number else other.best
    candidate = _candidate(f"{other.name} trial {trial.number}", trial)
    try:
        study.spec.check_params(candidate.params)
    except RequestError as error:
        raise RequestError(f"{candidate.name} does not fit the space of study {study.name!r}: {error}") from error
    return candidate


def _check_same_question(study: StudyRecord, other: StudyRecord) -> None:
    for part in ("trainer", "objective"):
        if getattr(study.spec, part) != getattr(other.spec, part):
            raise RequestError(
                f"study {other.name!r} has another {part} than {study.name!r}; allowed: studies that ask the same"
            )
    if study.spec.search.epochs != other.spec.search.epochs:
        raise RequestError(
            f"study {other.name!r} trains {other.spec.search.epochs} epochs and {study.name!r} "
            f"{study.spec.search.epochs}; allowed: studies of as many"
        )
    if study.fingerprint != other.fingerprint:
        raise ConflictError(f"studies {study.name!r} and {other.name!r} are about other data; allowed: the same")


def _candidate(name: str, trial: Trial) -> Candidate:
    if trial.schedule:
        raise RequestError(
            f"trial {trial.number} changed while it trained; allowed: a configuration, such as that of a study that "
            "replays its schedule"
        )
    return Candidate(name, trial.number, dict(trial.params))
