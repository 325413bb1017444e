"""Response models of the route that compares studies, and the function that builds one from a study."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from aifs_tune.service.schemas.responses import ComparisonResponse, ObjectiveResponse, TrialResponse, trial_response
from aifs_tune.space.parameters import JsonValue
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import State


class ComparedStudy(BaseModel):
    """Study of a comparison; ``fingerprint`` is that of its data, None before the first sweep and without data."""

    study: str
    objective: ObjectiveResponse
    trade_off: list[ObjectiveResponse]
    n_trials: dict[State, int]
    best: TrialResponse | None
    fingerprint: str | None


class ComparedParameter(BaseModel):
    """Parameter with its definition in each study in words, None where a search space does not have it."""

    name: str
    is_equal: bool
    definitions: list[str | None]


class ComparedSetting(BaseModel):
    """Setting that differs, such as ``search.epochs``, with its value in each study, None where it has none."""

    name: str
    values: list[JsonValue]


class ComparedData(BaseModel):
    """Whether all studies have the same data, None if that is not known, and the same in words."""

    is_equal: bool | None
    text: str


class RetrainedResponse(BaseModel):
    """Verdict of ``aifs-tune compare``: configurations that were trained again in the study ``confirmation``."""

    confirmation: str
    baseline: str
    n_splits: int
    comparisons: list[ComparisonResponse]


class StudiesComparison(BaseModel):
    """What differs between studies, which are in the order of the request.

    ``verdicts`` has the newest comparison of each set of these studies. ``next_step`` says in a sentence what to do
    next, with ``command``; both are None if the best configurations of all were compared.
    """

    studies: list[ComparedStudy]
    parameters: list[ComparedParameter]
    settings: list[ComparedSetting]
    data: ComparedData
    verdicts: list[RetrainedResponse]
    next_step: str | None
    command: str | None


def compared_study(name: str, study: StudyRecord) -> dict[str, Any]:
    """Build a :class:`ComparedStudy`."""
    best = study.find_best()
    return {
        "study": name,
        "objective": study.spec.objective.model_dump(),
        "trade_off": [objective.model_dump() for objective in study.spec.trade_off],
        "n_trials": study.counts(),
        "best": None if best is None else trial_response(best),
        "fingerprint": study.fingerprint,
    }
