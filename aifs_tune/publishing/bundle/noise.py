"""Results of the studies that belong to a study: confirmations, test evaluation and noise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aifs_tune.analysis.confirmation import CANDIDATES, Confirmation, read_confirmation
from aifs_tune.analysis.test_part import TEST_EVALUATION, find_evaluation
from aifs_tune.errors import NotFoundError
from aifs_tune.storage.projects import split_name
from aifs_tune.study.index import each_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial

_KINDS = "confirm|compare|noise|test"


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
    """The confirmation, comparison, noise and test studies of ``study``, which share its name, trainer and data."""
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
    if one.fact(CANDIDATES) is None and one.fact(TEST_EVALUATION) is None:
        return False
    return one.spec.trainer == other.spec.trainer and one.fingerprint == other.fingerprint


@dataclass(frozen=True)
class RelatedResults:
    """Related studies of a study, and their results so far."""

    studies: Sequence[StudyRecord]
    confirmations: Sequence[Confirmation]
    test: Mapping[str, Any] | None
    noise: RecordedNoise | None

    def to_json(self) -> dict[str, Any]:
        """The object in ``results.json``."""
        confirmations = [
            found.to_json() | {"verdicts": [comparison.text for comparison in found.comparisons]}
            for found in self.confirmations
        ]
        noise = None if self.noise is None else self.noise.to_json()
        return {"confirmations": confirmations, "test": self.test, "noise": noise}


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
    return RelatedResults(
        studies, confirmations, None if tested is None else tested.to_json(), _noise_in(confirmations, best)
    )


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
