"""Final model of a study: the chosen configuration, trained on the training and validation sets together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from aifs_tune.analysis.candidates import BASELINE, Candidate, candidate_of
from aifs_tune.analysis.confirmation import Confirmation, newest_confirmation
from aifs_tune.config.cross_validation import split_of
from aifs_tune.config.sweep import Refit
from aifs_tune.errors import RequestError
from aifs_tune.study.index import find_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial

FINAL = "final_model"
"""Fact of the study that trains a final model: its configurations, and the confirmation that they come from."""
SUFFIX = "-final"

Members = Literal["seeds", "configurations"]
"""What the members of an ensemble differ in: their seeds alone, or their configurations too."""


@dataclass(frozen=True)
class ExpectedScore:
    """Score that new examples are expected to have, from the folds of a confirmation.

    The interval is that of the mean over folds and repeats, by the corrected resampled t-test (Nadeau and Bengio 2003).
    It is None if there are fewer than two scores. The models of the folds were trained on fewer examples and one by
    one, so the final model is expected to be at least as good.
    """

    metric: str
    mean: float
    interval: tuple[float, float] | None
    confidence: float
    n: int
    confirmation: str

    def to_json(self) -> dict[str, Any]:
        """The object in the output of the command line."""
        return vars(self) | {"interval": None if self.interval is None else list(self.interval)}

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> ExpectedScore:
        """Read what :meth:`to_json` made."""
        interval = None if entry["interval"] is None else (entry["interval"][0], entry["interval"][1])
        return ExpectedScore(**{**entry, "interval": interval})


@dataclass(frozen=True)
class FinalModel:
    """Final model of a study.

    Parameters
    ----------
    study
        The study that trains it; each of its trials is a member.
    source
        Name of the study that it is the final model of.
    candidates
        The configurations of the members, the best first.
    epochs
        Number of epochs of each configuration.
    members
        The trials that are trained.
    n_members
        Number of members that were asked for.
    expected
        Expected score of the first configuration; None without a confirmation.
    """

    study: StudyRecord
    source: str
    candidates: tuple[Candidate, ...]
    epochs: tuple[int, ...]
    members: tuple[Trial, ...]
    n_members: int
    expected: ExpectedScore | None

    @property
    def name(self) -> str:
        """Name in tables and reports."""
        named = ", ".join("the baseline" if each.name == BASELINE else each.name for each in self.candidates)
        several = f" ({self.n_members} seeds)" if self.n_members > len(self.candidates) else ""
        return f"the final model of {named}{several}"

    @property
    def equal_members(self) -> bool:
        """Whether all members are the same model, as where nothing in a training is drawn at random."""
        return len(self.members) > 1 and len({trial.weights.get("weights.npz") for trial in self.members}) == 1

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document of the command line."""
        configurations = [
            each.to_json() | {"epochs": epochs} for each, epochs in zip(self.candidates, self.epochs, strict=True)
        ]
        return {
            "study": self.study.name,
            "final_model_of": self.source,
            "configurations": configurations,
            "members": [{"trial": trial.number, "seed": trial.seed} for trial in self.members],
            "equal_members": self.equal_members,
            "expected": None if self.expected is None else self.expected.to_json(),
        }


def final_candidates(study: StudyRecord, n: int) -> tuple[list[Candidate], Confirmation | None]:
    """Return the ``n`` best configurations, and the confirmation that ranked them.

    Those of the newest confirmation come first, by their mean scores, then the best trials of the study.

    Raises
    ------
    RequestError
        If there are fewer, or a configuration changed during training.
    NotFoundError
        If no trial is complete.
    """
    confirmed = newest_confirmation(study)
    found = list[Candidate]()
    if confirmed is not None:
        sign = 1 if confirmed.scores.mode == "max" else -1
        ranked = sorted(confirmed.candidates, key=lambda each: -sign * confirmed.mean(each.name))
        found = [each for each in ranked if math.isfinite(confirmed.mean(each.name))]
    for trial in study.best_trials(max(1, study.counts()["complete"])):
        if len(found) < n and all(dict(trial.params) != dict(each.params) for each in found):
            found.append(candidate_of(f"trial {trial.number}", trial))
    if len(found) < n:
        raise RequestError(
            f"ensemble: {n} configurations are not possible: study {study.name!r} has {len(found)}; "
            f"allowed: at most {len(found)}, or members that differ in their seeds"
        )
    return found[:n], confirmed


def epochs_of(candidate: Candidate, study: StudyRecord, confirmed: Confirmation | None) -> int:
    """Return the number of epochs to train a candidate for: the median of its best epochs, over all its trainings in
    the confirmation if it was confirmed, else in the study."""
    best: list[int] = []
    for source in (confirmed.study if confirmed is not None else None, study):
        if source is not None and not best:
            best = [
                trial.epoch
                for trial in source.all_trials()
                if trial.state == "complete"
                and trial.epoch is not None
                and split_of(source.spec.cross_validation, trial.params)[1] == dict(candidate.params)
            ]
    return math.ceil(statistics.median(best)) if best else study.spec.search.epochs


def refits(candidates: Sequence[Candidate], epochs: Sequence[int]) -> tuple[Refit, ...]:
    """The section ``refit`` of a sweep file that trains ``candidates``."""
    return tuple(Refit(params=dict(each.params), epoch=epoch) for each, epoch in zip(candidates, epochs, strict=True))


def final_names(study: str) -> Iterator[str]:
    """Names of the studies that train a final model of ``study``, in order."""
    yield f"{study}{SUFFIX}"
    yield from (f"{study}{SUFFIX}-{number}" for number in count(2))


def find_final_model(study: StudyRecord) -> FinalModel | None:
    """Return the newest final model of ``study`` of which all members are trained; None if there is none."""
    found = None
    for name in final_names(study.name):
        there = find_study(study.storage, name)
        if there is None:
            break
        made = read_final_model(there) if there.fact(FINAL) is not None else None
        if made is not None and len(made.members) == made.n_members:
            found = made
    return found


def read_final_model(study: StudyRecord) -> FinalModel:
    """Read the final model that ``study`` trains.

    Raises
    ------
    RequestError
        If the study trains no final model.
    """
    stored = study.fact(FINAL)
    if stored is None:
        raise RequestError(f"Study {study.name!r} trains no final model. Make one with: aifs-tune finalize STUDY")
    entries = stored["configurations"]
    candidates = tuple(Candidate(each["name"], each["trial"], each["params"]) for each in entries)
    members = tuple(trial for trial in study.all_trials() if trial.state == "complete" and trial.weights)
    return FinalModel(
        study,
        stored["study"],
        candidates,
        tuple(each["epochs"] for each in entries),
        members,
        stored["members"],
        None if stored["expected"] is None else ExpectedScore.from_json(stored["expected"]),
    )


def expected_score(confirmed: Confirmation, candidate: Candidate) -> ExpectedScore | None:
    """Return the expected score of a candidate of a confirmation; None if none of its trainings succeeded."""
    import numpy as np

    from aifs_tune.analysis.tests import resampled_t

    values = confirmed.scores.of(candidate.name)
    is_known = np.isfinite(values)
    if not is_known.any():
        return None
    kept, interval = values[is_known], None
    if len(kept) > 1:
        used = [split for split, known in zip(confirmed.scores.splits, is_known, strict=True) if known]
        ratio = sum(split.n_test for split in used) / sum(split.n_train for split in used)
        low, high = resampled_t(kept, ratio).interval(0.95)
        interval = (float(low), float(high))
    return ExpectedScore(confirmed.scores.metric, float(kept.mean()), interval, 0.95, len(kept), confirmed.study.name)
