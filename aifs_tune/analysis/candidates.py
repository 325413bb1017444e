"""Selection of the candidates of a confirmation: best trials of a study, given trials, or trials of another study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aifs_tune._util.scalars import decoded_params
from aifs_tune.errors import ConflictError, RequestError
from aifs_tune.study.index import get_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial

BASELINE = "baseline"


@dataclass(frozen=True)
class Candidate:
    """Configuration that a confirmation trains again; ``trial`` is its number, None for the default configuration."""

    name: str
    trial: int | None
    params: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the document that the confirmation stores."""
        return {"name": self.name, "trial": self.trial, "params": dict(self.params)}


def candidates_of(study: StudyRecord, *, top: int, baseline: int | None = None) -> tuple[Candidate, ...]:
    """Return the baseline and the ``top`` best configurations that differ from it and from each other, the best first.

    The baseline is the trial with the number ``baseline``, or the default configuration of the search space.

    Raises
    ------
    RequestError
        If there is no baseline or no other configuration, or a configuration changed during training.
    NotFoundError
        If no trial is complete.
    """
    if baseline is not None:
        first = candidate_of(BASELINE, study.trial(baseline))
    else:
        default = study.spec.space.default_params()
        if default is None:
            raise RequestError(f"Study {study.name!r} has no default configuration. Give a baseline: --baseline TRIAL")
        first = Candidate(BASELINE, None, decoded_params(default))
    found = [first]
    for trial in study.best_trials(study.counts()["complete"]):
        if len(found) <= top and all(dict(trial.params) != dict(each.params) for each in found):
            found.append(candidate_of(f"trial {trial.number}", trial))
    if len(found) < 2:
        raise RequestError(
            f"Study {study.name!r} has no complete trial with another configuration than the baseline. "
            "Run more trials, or give another baseline: --baseline TRIAL"
        )
    return tuple(found)


def chosen_candidates(study: StudyRecord, entries: Sequence[str]) -> tuple[Candidate, ...]:
    """Return the trials that ``entries`` name, the first as the baseline.

    An entry is a trial number of ``study``, or another study of its storage: ``NAME`` for its best trial, or
    ``NAME:TRIAL``. If the first entry is another study, the best trial of ``study`` is the baseline.

    Raises
    ------
    RequestError
        If two trials have the same configuration, one changed during training, or another study has another trainer,
        objective or number of epochs.
    NotFoundError
        If there is no such study or trial.
    ConflictError
        If another study has other data.
    """
    found = [_entered(study, entry) for entry in entries]
    if entries and not entries[0].isdecimal():
        best = study.best
        found.insert(0, candidate_of(f"{study.name} trial {best.number}", best))
    if len(found) < 2:
        raise RequestError(
            "TRIAL: one trial is not enough; allowed: two or more, of which the first is the baseline, or another study"
        )
    for i, each in enumerate(found):
        for earlier in found[:i]:
            if dict(each.params) == dict(earlier.params):
                raise RequestError(
                    f"{earlier.name} and {each.name} have the same configuration; allowed: different configurations"
                )
    return tuple(found)


def _entered(study: StudyRecord, entry: str) -> Candidate:
    if entry.isdecimal():
        return candidate_of(f"trial {entry}", study.trial(int(entry)))
    name, _, number = entry.rpartition(":") if entry.rpartition(":")[2].isdecimal() else (entry, "", "")
    other = get_study(study.storage, name)
    _check_comparable(study, other)
    trial = other.trial(int(number)) if number else other.best
    candidate = candidate_of(f"{other.name} trial {trial.number}", trial)
    try:
        study.spec.check_params(candidate.params)
    except RequestError as error:
        raise RequestError(f"{candidate.name} does not fit the space of study {study.name!r}: {error}") from error
    return candidate


def study_of(candidate: Candidate, study: StudyRecord) -> str:
    """Return the name of the study whose trial a candidate of :func:`chosen_candidates` for ``study`` is."""
    return candidate.name.rpartition(" trial ")[0] or study.name


def _check_comparable(study: StudyRecord, other: StudyRecord) -> None:
    for part in ("trainer", "objective"):
        if getattr(study.spec, part) != getattr(other.spec, part):
            raise RequestError(
                f"Studies {study.name!r} and {other.name!r} have different {part}s; allowed: the same {part}"
            )
    if study.spec.search.epochs != other.spec.search.epochs:
        raise RequestError(
            f"Study {other.name!r} trains {other.spec.search.epochs} epochs and {study.name!r} "
            f"{study.spec.search.epochs}; allowed: the same number of epochs"
        )
    if study.fingerprint != other.fingerprint:
        raise ConflictError(f"Studies {study.name!r} and {other.name!r} have different data; allowed: the same data")


def candidate_of(name: str, trial: Trial) -> Candidate:
    """Return the configuration of a trial; raise RequestError if it changed during training."""
    if trial.schedule:
        raise RequestError(
            f"The parameters of trial {trial.number} changed during training (population based training). "
            "Allowed: a trial with constant parameters, such as one of a study that replays its schedule"
        )
    return Candidate(name, trial.number, dict(trial.params))
