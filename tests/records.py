"""Studies with everything that sweeps and the service need, opened as a user opens them."""

from __future__ import annotations

import json
from typing import Any

from aifs_tune.analysis.study_tables import analyse
from aifs_tune.publishing.summary import best_summary, studies_summary
from aifs_tune.study.open import open_study
from aifs_tune.study.record import StudyRecord, record_of


def open_record(name: str, **question: Any) -> StudyRecord:
    """:func:`aifs_tune.open_study`, as a record."""
    return record_of(open_study(name, **question))


def every_answer_is_json(study: Any) -> None:
    """Whatever other programs wrote into a study, all that can be asked of it has an answer in strict JSON."""
    record = record_of(study)
    for told in (
        studies_summary(study.storage),
        best_summary(record, top=None),
        [trial.to_json() for trial in study.all_trials()],
        [progress._asdict() for progress in record.trial_progress()],
        record.objective_curves(),
        json.loads(analyse(study).importance().to_json()),
        study.recommendation().to_json(),
        study.posterior_means(),
    ):
        json.dumps(told, allow_nan=False)
    assert len(study.trials) == len(study.all_trials())
