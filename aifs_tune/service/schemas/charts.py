"""What the answers look like that charts are drawn from."""

from __future__ import annotations

from pydantic import BaseModel

from aifs_tune._util.scalars import Scalar
from aifs_tune.service.schemas.responses import ObjectiveResponse
from aifs_tune.study.trial import State


class Failures(BaseModel):
    """Trials that failed with one reason: how many, and the first of them."""

    reason: str | None
    n: int
    first: int


class RunningTrial(BaseModel):
    """A trial that runs: how far it is, its best value so far, who runs it since when."""

    trial: int
    epochs: int
    value: float | None
    worker: str | None
    started_at: str | None


class ProgressResponse(BaseModel):
    """How far a study is. ``n_requested`` is how many finished trials its sweeps were asked for, 0 without a sweep;
    ``per_min`` how many end in a minute, None before two have; ``dashboard`` the path of its details."""

    study: str
    n_trials: dict[State, int]
    n_requested: int
    seconds: float
    per_min: float | None
    running: list[RunningTrial]
    failures: list[Failures]
    dashboard: str


class TriedTrial(BaseModel):
    """A trial that ended with a value, as the ``ended``-th of those."""

    trial: int
    order: int
    state: State
    value: float | None
    finished_at: str | None
    params: dict[str, Scalar]


class BestSoFar(BaseModel):
    """From this trial on, the ``ended``-th that did, this was the best value."""

    trial: int
    order: int
    value: float
    finished_at: str | None


class HistoryResponse(BaseModel):
    """What was tried, in the order in which it ended: ``n_ended`` trials, of which ``trials`` are those shown, with the
    best among them; ``best`` are all that were better than those before."""

    study: str
    objective: ObjectiveResponse
    n_ended: int
    best: list[BestSoFar]
    trials: list[TriedTrial]


class TrialCurve(BaseModel):
    """The objective of a trial by epoch: ``points`` are pairs of both, of which long curves keep some."""

    trial: int
    state: State
    value: float | None
    points: list[tuple[int, float]]


class CurvesResponse(BaseModel):
    """Of ``n_curves`` trials that reported epochs, those shown by number, with the best and the running ones."""

    study: str
    objective: ObjectiveResponse
    n_curves: int
    curves: list[TrialCurve]


class ObjectiveImportance(ObjectiveResponse):
    """By parameter what part of an objective depends on it: shares that sum to one, none where too little is
    known."""

    importance: dict[str, float]


class ImportanceResponse(BaseModel):
    """What the objectives depend on, by ``method``, from ``n_complete`` trials."""

    study: str
    method: str
    n_complete: int
    objectives: list[ObjectiveImportance]


class Span(BaseModel):
    """A trial on a worker, from when until when; still running where ``finished_at`` is None."""

    trial: int
    state: State
    started_at: str
    finished_at: str | None


class WorkerUse(BaseModel):
    """What a worker did: ``busy`` is the part of the time since the first trial shown in which it had a trial."""

    worker: str | None
    n_trials: int
    busy: float
    spans: list[Span]


class WorkersResponse(BaseModel):
    """Which worker ran what: of ``n_started`` trials those that were started last. ``worker`` is None for trials whose
    worker is not known, such as those of an instrument."""

    study: str
    n_started: int
    started_at: str | None
    now: str
    workers: list[WorkerUse]
