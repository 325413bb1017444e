"""What answers look like: for the description of the service, and made from studies."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel

from aifs_tune._util.scalars import Scalar
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import State, Trial


class ObjectiveResponse(BaseModel):
    """An objective."""

    metric: str
    mode: Literal["max", "min"]


class ChangeResponse(BaseModel):
    """With what a trial went on, and from which other trial's weights."""

    epoch: int
    params: dict[str, Scalar]
    source: int


class LeaseAnswer(BaseModel):
    """To whom a running trial was handed out: the label of the sample, its owner, for how long and until when, whether
    that is over, and the trial whose configuration it took over."""

    label: str | None
    owner: str | None
    lease_s: float | None
    due_at: str | None
    is_overdue: bool
    supersedes: int | None


class ReplicatesResponse(BaseModel):
    """The complete trials of one configuration, with the mean of their values."""

    trials: list[int]
    mean: float
    standard_error: float
    means: dict[str, float] = {}


class TrialResponse(BaseModel):
    """One trial, as ``aifs-tune trials --format json`` has it, with ``epoch``, the best one, and ``seed``."""

    trial: int
    state: State
    value: float | None
    epochs: int
    params: dict[str, Scalar]
    metrics: dict[str, float | None]
    seconds: float | None
    worker: str | None
    started_at: str | None
    finished_at: str | None
    reason: str | None
    epoch: int | None
    seed: int
    values: dict[str, float] = {}
    schedule: list[ChangeResponse] = []
    weights: dict[str, str] = {}
    lease: LeaseAnswer | None = None
    superseded_by: int | None = None
    feasible: bool | None = None
    replicates: ReplicatesResponse | None = None


class MeasurementResponse(BaseModel):
    """What a trial reported at one epoch; ``checkpoint`` has the SHA-256 of the files that it wrote after it."""

    epoch: int
    metrics: dict[str, float | None]
    seconds: float | None
    checkpoint: dict[str, str] | None


class TrialWithCurve(TrialResponse):
    """One trial with all that it reported."""

    measurements: list[MeasurementResponse]


class TrialsResponse(BaseModel):
    """Trials by number; ``next`` is the ``after`` of the next page, None on the last one."""

    trials: list[TrialResponse]
    next: int | None


class AskResponse(BaseModel):
    """Trials to run."""

    trials: list[TrialResponse]


class StudySummary(BaseModel):
    """One study in a list; ``n_requested`` is how many finished trials its sweeps were asked for, 0 without a sweep."""

    study: str
    objective: ObjectiveResponse
    trade_off: list[ObjectiveResponse]
    n_requested: int
    n_trials: dict[State, int]
    value: float | None


class StudiesResponse(BaseModel):
    """Studies by name; ``next`` is the ``after`` of the next page, None on the last one."""

    studies: list[StudySummary]
    next: str | None


class StudyResponse(StudySummary):
    """One study: its question, how far it is, its best trial."""

    project: str
    description: str
    trainer: str | None
    space: dict[str, Any]
    constraints: list[str]
    mixtures: list[dict[str, Any]]
    exclude: list[dict[str, Scalar]]
    limits: list[str]
    search: dict[str, Any]
    best: TrialResponse | None


class BestResponse(BaseModel):
    """The best trials, the best first; ``front`` is the Pareto front, of one objective those with the best value."""

    study: str
    objective: ObjectiveResponse
    trade_off: list[ObjectiveResponse]
    best: list[TrialResponse]
    front: list[TrialResponse]
    n_trials: dict[State, int]


class EventData(BaseModel):
    """How a trial is now; the first of a stream has ``study`` and ``n_trials`` alone."""

    study: str
    n_trials: dict[State, int]
    trial: int | None = None
    state: State | None = None
    epoch: int | None = None
    value: float | None = None
    overdue: bool = False


class CallerResponse(BaseModel):
    """Who asks: studies of ``project`` are seen, and of no other if it ``is_fixed``."""

    project: str
    is_fixed: bool
    scope: Literal["read", "measure", "manage"]
    authenticated_by: Literal["token", "session", "anonymous"]


class RecommendationAnswer(BaseModel):
    """Which configuration to take, and whether measuring on is worth it."""

    should_stop: bool
    reason: str
    noise: float | None
    noise_freedom: int
    expected_gain: float | None
    recommended: int | None
    expected_value: float | None


class FieldProblem(BaseModel):
    """What is wrong in one place of a request."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldProblem] = []


def trial_response(trial: Trial) -> dict[str, Any]:
    """As :class:`TrialResponse`."""
    return {**trial.to_json(), "epoch": trial.epoch, "seed": trial.seed}


def trial_with_curve_response(study: StudyRecord, number: int) -> dict[str, Any]:
    """As :class:`TrialWithCurve`."""
    return {
        **trial_response(study.trial(number)),
        "measurements": [asdict(measured) for measured in study.curve(number)],
    }


def study_summary(name: str, study: StudyRecord) -> dict[str, Any]:
    """As :class:`StudySummary`."""
    best, counts = study.find_best(), study.counts()
    goal, *others = (objective.model_dump() for objective in study.spec.objectives)
    question = {"study": name, "objective": goal, "trade_off": others, "n_requested": study.n_requested}
    return {**question, "n_trials": counts, "value": None if best is None else best.value}


def study_response(project: str, name: str, study: StudyRecord) -> dict[str, Any]:
    """As :class:`StudyResponse`."""
    line, asked = study_summary(name, study), study.spec.model_dump(mode="json")
    found = study.find_best()
    best = None if found is None else trial_response(found)
    parts = ("description", "space", "constraints", "mixtures", "exclude", "limits")
    search = {part: asked["search"][part] for part in ("sampler", "seed", "initial", "replicates")}
    told = {**line, "project": project, "trainer": study.trainer, **{part: asked[part] for part in parts}}
    return {**told, "search": search, "best": best}


def best_response(name: str, study: StudyRecord, top: int) -> dict[str, Any]:
    """As :class:`BestResponse`."""
    spec = study.spec
    return {
        "study": name,
        "objective": spec.objective.model_dump(),
        "trade_off": [objective.model_dump() for objective in spec.trade_off],
        "best": [trial_response(trial) for trial in study.best_trials(top)],
        "front": [trial_response(trial) for trial in study.front],
        "n_trials": study.counts(),
    }
