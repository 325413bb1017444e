"""Response models of the routes for studies and trials, and functions that build them from studies."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel

from aifs_tune.space.parameters import JsonValue
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import State, Trial


class ObjectiveResponse(BaseModel):
    """Objective: a metric and whether it is maximized or minimized."""

    metric: str
    mode: Literal["max", "min"]


class ChangeResponse(BaseModel):
    """Change of a running trial (PBT): the new parameters, and the trial ``source`` whose weights it continues from."""

    epoch: int
    params: dict[str, JsonValue]
    source: int


class LeaseResponse(BaseModel):
    """Lease of a trial: label of the sample, owner, duration, expiry, and the overdue trial that it supersedes."""

    label: str | None
    owner: str | None
    lease_s: float | None
    due_at: str | None
    is_overdue: bool
    supersedes: int | None


class ReplicatesResponse(BaseModel):
    """Complete trials of one configuration, with the mean of their values and its standard error."""

    trials: list[int]
    mean: float
    standard_error: float
    means: dict[str, float] = {}


class TrialResponse(BaseModel):
    """Trial, as printed by ``aifs-tune trials --format json``, with its best ``epoch`` and its ``seed``."""

    trial: int
    state: State
    value: float | None
    epochs: int
    params: dict[str, JsonValue]
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
    notes: dict[str, Any] = {}
    lease: LeaseResponse | None = None
    superseded_by: int | None = None
    feasible: bool | None = None
    replicates: ReplicatesResponse | None = None
    problem: str | None = None


class MeasurementResponse(BaseModel):
    """Report of a trial at one epoch; ``checkpoint`` has the SHA-256 of the files saved after it."""

    epoch: int
    metrics: dict[str, float | None]
    seconds: float | None
    checkpoint: dict[str, str] | None


class TrialWithCurve(TrialResponse):
    """Trial with all epochs that it reported."""

    measurements: list[MeasurementResponse]


class LogResponse(BaseModel):
    """Output of a trial as text; characters that are not UTF-8 are replaced."""

    trial: int
    log: str


class TrialNoteResponse(BaseModel):
    """Note of a trial."""

    trial: int
    note: str


class NotesResponse(BaseModel):
    """Notes of a study and of its trials, these by number; ``note`` is that of the study, None without one."""

    note: str | None
    trials: list[TrialNoteResponse]


class TrialsResponse(BaseModel):
    """Trials; ``next`` is the ``after`` of the next page, in another order than by number its ``offset``, and None on
    the last page. ``n_trials`` are on all pages together."""

    trials: list[TrialResponse]
    next: int | None
    n_trials: int


class AskResponse(BaseModel):
    """Trials to run."""

    trials: list[TrialResponse]


class DeletedResponse(BaseModel):
    """Study that was deleted, and how many trials it had."""

    study: str
    n_trials: int


class StudySummary(BaseModel):
    """Study in a list; ``n_requested`` is the number of finished trials that its sweeps request, 0 without a sweep.

    ``last_result_at`` is the time at which the last trial finished, None before. An archived study was put aside: it
    works as before.
    """

    study: str
    objective: ObjectiveResponse
    trade_off: list[ObjectiveResponse]
    n_requested: int
    n_trials: dict[State, int]
    value: float | None
    last_result_at: str | None
    is_archived: bool


class ConfirmationResponse(BaseModel):
    """Result of the newest confirmation of a study: the mean score of the ``configuration`` that leads in it, with its
    95 % interval, and by how much it is better than the baseline, whichever the mode."""

    outcome: Literal["confirmed", "not confirmed"]
    configuration: str
    mean: float | None
    interval: tuple[float, float] | None
    difference: float | None


class ListedStudy(StudySummary):
    """Study in a list, with the result of its newest confirmation; ``confirmation`` is None without one."""

    confirmation: ConfirmationResponse | None


class UnreadableStudyResponse(BaseModel):
    """Study that cannot be read, and why."""

    study: str
    problem: str


class StudiesResponse(BaseModel):
    """Studies by name; ``next`` is the ``after`` of the next page, None on the last page."""

    studies: list[ListedStudy]
    unreadable: list[UnreadableStudyResponse] = []
    next: str | None


class StudyResponse(StudySummary):
    """Study: its search space, objectives, progress and best trial.

    ``metrics`` are those that a result has: the objectives, then the others that a limit names.
    """

    project: str
    description: str
    trainer: str | None
    space: dict[str, Any]
    constraints: list[str]
    mixtures: list[dict[str, Any]]
    exclude: list[dict[str, JsonValue]]
    limits: list[str]
    metrics: list[str]
    search: dict[str, Any]
    best: TrialResponse | None


class BestResponse(BaseModel):
    """Best trials, the best first; ``front`` is the Pareto front; of one objective, the trials with the best value."""

    study: str
    objective: ObjectiveResponse
    trade_off: list[ObjectiveResponse]
    best: list[TrialResponse]
    front: list[TrialResponse]
    n_trials: dict[State, int]


class EventData(BaseModel):
    """Current state of a trial; the first event of a stream has only ``study`` and ``n_trials``."""

    study: str
    n_trials: dict[State, int]
    trial: int | None = None
    state: State | None = None
    epoch: int | None = None
    value: float | None = None
    is_overdue: bool = False


class CallerResponse(BaseModel):
    """Caller of a request; if ``is_fixed``, it cannot use any project other than ``project``."""

    project: str
    is_fixed: bool
    scope: Literal["read", "measure", "manage"]
    authenticated_by: Literal["token", "session", "anonymous"]


class RecommendationResponse(BaseModel):
    """Recommended configuration, and whether to stop measuring."""

    should_stop: bool
    reason: str
    noise: float | None
    noise_freedom: int
    expected_gain: float | None
    recommended: int | None
    expected_value: float | None


class ScoreResponse(BaseModel):
    """Mean score of a ``configuration`` over ``n`` splits of a confirmation, with the ``interval`` of the mean."""

    configuration: str
    metric: str
    mean: float
    interval: tuple[float, float] | None
    confidence: float
    n: int


class ComparisonResponse(BaseModel):
    """Comparison of a configuration with the baseline; a ``difference`` above 0 is better, whichever the mode.

    ``interval`` and ``p_adjusted`` are None if no test was possible; ``text`` says why.
    """

    name: str
    verdict: Literal["better", "worse", "not distinguishable", "not tested"]
    difference: float | None
    interval: tuple[float, float] | None
    confidence: float | None
    p_adjusted: float | None
    text: str


class NoiseResponse(BaseModel):
    """Standard deviation of one measurement, and what it was measured on."""

    sd: float
    source: str


class FinalModelResponse(BaseModel):
    """Final model of a study: the study that trained it, its name in words, and its expected score."""

    study: str
    name: str
    score: ScoreResponse | None


class VerdictResponse(BaseModel):
    """Verdict on a study, from its newest confirmation.

    ``outcome`` is None for a study that measures noise or the test set of another study. ``score`` is that of the
    configuration that leads in the confirmation. ``next_step`` says in a sentence what to do next, with ``command``.
    """

    study: str
    outcome: Literal["confirmed", "not confirmed", "not confirmed yet"] | None
    text: str
    confirmation: str | None
    score: ScoreResponse | None
    comparisons: list[ComparisonResponse]
    noise: NoiseResponse | None
    remarks: list[str]
    final: FinalModelResponse | None
    next_step: str | None
    command: str | None


class FieldProblem(BaseModel):
    """Problem with one field or parameter of a request."""

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
    """Build a :class:`TrialResponse`."""
    return {**trial.to_json(), "epoch": trial.epoch, "seed": trial.seed}


def trial_with_curve_response(study: StudyRecord, number: int) -> dict[str, Any]:
    """Build a :class:`TrialWithCurve`."""
    return {
        **trial_response(study.trial(number)),
        "measurements": [asdict(measured) for measured in study.curve(number)],
    }


def notes_response(study: StudyRecord) -> dict[str, Any]:
    """Build a :class:`NotesResponse`."""
    return {"note": study.note, "trials": [{"trial": n, "note": text} for n, text in study.trial_notes.items()]}


def study_summary(name: str, study: StudyRecord) -> dict[str, Any]:
    """Build a :class:`StudySummary`."""
    best, counts = study.find_best(), study.counts()
    last = max((trial.finished_at for trial in study.all_trials() if trial.finished_at), default=None)
    objective, *others = (objective.model_dump() for objective in study.spec.objectives)
    return {
        "study": name,
        "objective": objective,
        "trade_off": others,
        "n_requested": study.n_requested,
        "n_trials": counts,
        "value": None if best is None else best.value,
        "last_result_at": last.isoformat() if last else None,
        "is_archived": study.is_archived,
    }


def study_response(project: str, name: str, study: StudyRecord) -> dict[str, Any]:
    """Build a :class:`StudyResponse`."""
    summary, spec = study_summary(name, study), study.spec.model_dump(mode="json")
    found = study.find_best()
    best = None if found is None else trial_response(found)
    parts = ("description", "space", "constraints", "mixtures", "exclude", "limits")
    search = {
        part: spec["search"][part] for part in ("sampler", "seed", "initial", "replicates", "shared", "cost", "budget")
    }
    described = {part: spec[part] for part in parts}
    named = [*(goal.metric for goal in study.spec.objectives), *(limit.metric for limit in study.spec.limits)]
    return {
        **summary,
        "project": project,
        "trainer": study.trainer,
        **described,
        "metrics": list(dict.fromkeys(named)),
        "search": search,
        "best": best,
    }


def best_response(name: str, study: StudyRecord, top: int) -> dict[str, Any]:
    """Build a :class:`BestResponse`."""
    spec = study.spec
    return {
        "study": name,
        "objective": spec.objective.model_dump(),
        "trade_off": [objective.model_dump() for objective in spec.trade_off],
        "best": [trial_response(trial) for trial in study.best_trials(top)],
        "front": [trial_response(trial) for trial in study.front],
        "n_trials": study.counts(),
    }
