"""Response models of the routes for charts."""

from __future__ import annotations

from pydantic import BaseModel

from aifs_tune.service.schemas.responses import ObjectiveResponse
from aifs_tune.space.parameters import JsonValue
from aifs_tune.study.trial import State


class Failures(BaseModel):
    """Failed trials with the same reason: their number ``n``, and the ``first`` of them."""

    reason: str | None
    n: int
    first: int


class RunningTrial(BaseModel):
    """Running trial: epochs so far, best value so far, worker and start time."""

    trial: int
    epochs: int
    value: float | None
    worker: str | None
    started_at: str | None


class Notice(BaseModel):
    """What happened to a sweep beside the results of its trials, such as a node that was lost."""

    at: str
    text: str


class ProgressResponse(BaseModel):
    """Progress of a study.

    ``n_requested`` is the number of finished trials that its sweeps request, 0 without a sweep. ``per_min`` is the
    number of trials that finish in a minute, None before two have finished. ``notices`` are the last 20, the newest
    last. ``dashboard`` is the path of its page in
    Optuna Dashboard.
    """

    study: str
    n_trials: dict[State, int]
    n_requested: int
    seconds: float
    per_min: float | None
    running: list[RunningTrial]
    failures: list[Failures]
    notices: list[Notice]
    dashboard: str


class TriedTrial(BaseModel):
    """Complete or pruned trial with a value; ``order`` is its position in the order of finishing, from 1.

    ``counts`` is whether it can be the best: complete and within the limits.
    """

    trial: int
    order: int
    state: State
    value: float | None
    finished_at: str | None
    params: dict[str, JsonValue]
    values: dict[str, float]
    counts: bool


class BestSoFar(BaseModel):
    """Trial that was the best when it finished; ``order`` is its position in the order of finishing, from 1."""

    trial: int
    order: int
    value: float
    finished_at: str | None


class HistoryResponse(BaseModel):
    """Optimization history in the order of finishing.

    ``n_ended`` is the number of all complete or pruned trials with a value; ``trials`` is a selection of them that
    contains the best ones. ``best`` has the trials that were better than all before them.
    """

    study: str
    objective: ObjectiveResponse
    n_ended: int
    best: list[BestSoFar]
    trials: list[TriedTrial]


class TrialCurve(BaseModel):
    """Learning curve of a trial: ``points`` are pairs of epoch and objective value; long curves are thinned out.

    ``counts`` is whether the trial can be the best: complete and within the limits.
    """

    trial: int
    state: State
    value: float | None
    counts: bool
    points: list[tuple[int, float]]


class CurvesResponse(BaseModel):
    """Learning curves by trial number.

    ``n_curves`` is the number of all trials that reported epochs; ``curves`` is a selection of them that contains the
    best and the running ones.
    """

    study: str
    objective: ObjectiveResponse
    n_curves: int
    curves: list[TrialCurve]


class ParameterImportance(BaseModel):
    """Share of the variance of an objective that a parameter explains alone, with its 95 % interval."""

    parameter: str
    importance: float
    low: float
    high: float


class ObjectiveImportance(ObjectiveResponse):
    """Importance of each parameter for an objective, the largest first; empty where ``remark`` says why."""

    importance: list[ParameterImportance]


class ImportanceResponse(BaseModel):
    """Parameter importance for each objective, computed with ``method`` from ``n_complete`` trials.

    ``remark`` says why there is none, or how reliable it is; None if there is nothing to say.
    """

    study: str
    method: str
    n_complete: int
    remark: str | None
    objectives: list[ObjectiveImportance]


class Span(BaseModel):
    """Time span of a trial on a worker; the trial is still running if ``finished_at`` is None."""

    trial: int
    state: State
    started_at: str
    finished_at: str | None


class WorkerUse(BaseModel):
    """Trials of a worker; ``busy`` is the fraction of the time shown in which it ran at least one trial."""

    worker: str | None
    n_trials: int
    busy: float
    spans: list[Span]


class WorkersResponse(BaseModel):
    """Timeline of the workers with the trials that were started last; ``n_started`` is the number of all.

    ``worker`` is None for trials whose worker is not known, such as those of an instrument.
    """

    study: str
    n_started: int
    started_at: str | None
    now: str
    workers: list[WorkerUse]
