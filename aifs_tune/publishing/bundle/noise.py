"""Results of the studies that belong to a study: confirmations, test evaluation and noise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aifs_tune.analysis.confirmation import CANDIDATES, Confirmation, read_confirmation
from aifs_tune.analysis.final_model import FINAL, FinalModel, find_final_model
from aifs_tune.analysis.test_part import TEST_EVALUATION, find_evaluation
from aifs_tune.errors import NotFoundError
from aifs_tune.storage.projects import split_name
from aifs_tune.study.index import each_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial

_KINDS = "confirm|compare|noise|test|final"


@dataclass(frozen=True)
class RecordedNoise:
    """Noise of the score of one training run: standard deviation ``sd`` of ``n`` runs; ``of`` describes the runs."""

    sd: float
    n: int
    of: str

    def to_json(self) -> dict[str, Any]:
        """The object in ``results.json``."""
        return dict(vars(self))

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> RecordedNoise:
        """Read what :meth:`to_json` made."""
        return RecordedNoise(float(entry["sd"]), int(entry["n"]), str(entry["of"]))


def find_related_studies(study: StudyRecord) -> list[StudyRecord]:
    """The studies of ``study`` that confirm, compare, measure noise, test or finalize, with its trainer and data."""
    project, short = split_name(study.name)
    names = {short, study.spec.name}
    form = re.compile(rf"({'|'.join(map(re.escape, sorted(names)))})-({_KINDS})(-\d+)?")
    found = []
    for there in each_study(study.storage):
        its_project, its_short = split_name(there.name)
        is_named = its_project == project and form.fullmatch(its_short)
        if is_named and isinstance(there, StudyRecord) and _is_same_task(there, study):
            found.append(there)
    return found


def _is_same_task(one: StudyRecord, other: StudyRecord) -> bool:
    if all(one.fact(kind) is None for kind in (CANDIDATES, TEST_EVALUATION, FINAL)):
        return False
    return one.trainer == other.trainer and one.fingerprint == other.fingerprint


@dataclass(frozen=True)
class RelatedResults:
    """Related studies of a study, and their results so far."""

    studies: Sequence[StudyRecord]
    confirmations: Sequence[Confirmation]
    test: Mapping[str, Any] | None
    noise: RecordedNoise | None
    final: FinalModel | None

    def to_json(self) -> dict[str, Any]:
        """The object in ``results.json``."""
        confirmations = [
            found.to_json() | {"verdicts": [comparison.text for comparison in found.comparisons]}
            for found in self.confirmations
        ]
        noise = None if self.noise is None else self.noise.to_json()
        final = None if self.final is None else self.final.to_json() | {"name": self.final.name}
        return {"confirmations": confirmations, "test": self.test, "noise": noise, "final_model": final}


def related(study: StudyRecord, best: Trial) -> RelatedResults:
    """Related studies of ``study``, whose best trial is ``best``, and their results."""
    studies = find_related_studies(study)
    confirmations = []
    for each in studies:
        try:
            confirmations.append(read_confirmation(study.storage, each.name))
        except NotFoundError:  # a test study, or a confirmation without a result yet
            continue
    tested = find_evaluation(study.storage, study.name)
    test = None if tested is None else tested.to_json()
    return RelatedResults(studies, confirmations, test, _noise_in(confirmations, best), find_final_model(study))


def _noise_in(confirmations: Sequence[Confirmation], best: Trial) -> RecordedNoise | None:
    """Noise of the best configuration if it was trained again, else of the configuration with the most runs."""
    found = []
    for confirmation in confirmations:
        for candidate in confirmation.candidates:
            values = confirmation.scores.of(candidate.name)
            kept = values[np.isfinite(values)]
            if len(kept) > 1:
                of = f"{candidate.name} on the folds and seeds of {confirmation.study.name}"
                noise = RecordedNoise(float(kept.std(ddof=1)), len(kept), of)
                found.append((dict(candidate.params) == dict(best.params), len(kept), noise))
    return max(found, key=lambda entry: entry[:2])[2] if found else None
