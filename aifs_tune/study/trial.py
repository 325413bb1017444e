"""Trial: one configuration with its results, and the states it can be in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias

from aifs_tune._util.hashing import Hashes
from aifs_tune._util.scalars import Scalar, coded_params
from aifs_tune.errors import ConflictError
from aifs_tune.study.lease import Lease

State: TypeAlias = Literal["waiting", "running", "complete", "pruned", "failed"]
FinalState: TypeAlias = Literal["complete", "pruned", "failed"]
ToldState: TypeAlias = Literal["complete", "pruned", "failed", "infeasible"]
"""States that :meth:`Study.tell` accepts; an infeasible trial is stored as failed, with ``feasible`` False."""

STATES: tuple[State, ...] = ("complete", "pruned", "failed", "running", "waiting")
FINAL: frozenset[State] = frozenset({"complete", "pruned", "failed"})

TRANSITIONS: dict[State, frozenset[State]] = {
    "waiting": frozenset({"running", "complete", "failed"}),
    "running": frozenset({"waiting", "complete", "pruned", "failed"}),
    "complete": frozenset(),
    "pruned": frozenset(),
    "failed": frozenset(),
}
"""Allowed next states by state. A final state never changes."""


def check_transition(trial: int, current: State, wanted: State) -> None:
    """Raise :class:`ConflictError` unless :data:`TRANSITIONS` allows the transition."""
    if wanted not in TRANSITIONS[current]:
        allowed = ", ".join(sorted(TRANSITIONS[current])) or "none, the state is final"
        raise ConflictError(f"trial {trial} is {current}, it cannot become {wanted}; allowed: {allowed}")


@dataclass(frozen=True)
class Measurement:
    """Metrics of one epoch of a trial.

    Parameters
    ----------
    epoch
        Number of the epoch, from 1.
    metrics
        Metrics by name; None where a metric is undefined.
    seconds
        Time spent on the epoch; None if unknown.
    checkpoint
        SHA-256 hashes by file name of the checkpoint that was written after the epoch; None if none was.

    Examples
    --------
    >>> study = aifs_tune.open_study("net", space={"rate": {"type": "float", "low": 0.001, "high": 0.1}})
    >>> trial = study.ask()
    >>> _ = study.report(trial, 1, {"value": 0.7}, seconds=2.5)
    >>> study.curve(trial)[0].metrics
    {'value': 0.7}
    """

    epoch: int
    metrics: Mapping[str, float | None]
    seconds: float | None = None
    checkpoint: Hashes | None = None


class TrialProgress(NamedTuple):
    """Progress of a trial: its newest epoch, and the first objective there while it runs, or of its final result."""

    state: State
    epoch: int | None
    value: float | None
    is_overdue: bool = False


@dataclass(frozen=True)
class Event:
    """Change of a trial, as :meth:`RemoteStudy.events` yields it. The first event has counts alone, and no trial.

    Parameters
    ----------
    n_trials
        Number of trials by state.
    trial
        Number of the trial that changed; None in the first event.
    state
        State of the trial.
    epoch
        Newest epoch that the trial reported; None if it reported none.
    value
        First objective: at ``epoch`` while the trial runs, then of its final result.
    is_overdue
        True if the trial is running and its lease has run out.

    Examples
    --------
    >>> from aifs_tune.study import Event
    >>> Event({"running": 1}, trial=0, state="running", epoch=2, value=0.7).epoch
    2
    """

    n_trials: Mapping[State, int]
    trial: int | None = None
    state: State | None = None
    epoch: int | None = None
    value: float | None = None
    is_overdue: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """Newest checkpoint of a trial that a study knows: its epoch, and the hashes of its files."""

    epoch: int
    hashes: Hashes


@dataclass(frozen=True)
class Change:
    """Exploit step of population based training: from ``epoch`` on the trial trains with ``params``, from the weights
    that trial ``source`` had before."""

    epoch: int
    params: Mapping[str, Any]
    source: int

    def to_json(self) -> dict[str, Any]:
        """The change as an entry of ``schedule`` in a trial's JSON object."""
        return {"epoch": self.epoch, "params": dict(self.params), "source": self.source}


@dataclass(frozen=True)
class Replicates:
    """Complete trials of one configuration that was measured several times.

    Parameters
    ----------
    trials
        Numbers of the trials.
    mean
        Mean of the first objective.
    standard_error
        Standard error of that mean.
    means
        Means of all objectives by metric; empty with one objective.

    Examples
    --------
    >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
    >>> for value in (0.5, 0.7):
    ...     _ = study.attach({"heat": 900.0}, value)
    >>> study.best.replicates.trials, round(study.best.replicates.mean, 3)
    ((0, 1), 0.6)
    """

    trials: tuple[int, ...]
    mean: float
    standard_error: float
    means: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the replicates as in a trial's JSON object.

        Returns
        -------
        dict
            The attributes by name; ``means`` only with several objectives.
        """
        several = {"means": dict(self.means)} if self.means else {}
        return {"trials": list(self.trials), "mean": self.mean, "standard_error": self.standard_error, **several}


@dataclass(frozen=True)
class Trial:
    """One configuration of a study with its results.

    Parameters
    ----------
    number
        Number of the trial in its study, from 0.
    state
        ``waiting``, ``running``, ``complete``, ``pruned`` or ``failed``.
    params
        Values of the parameters when the trial began. Null is None, and a tuple is a list.
    seed
        Seed of everything random in the trial.
    value
        Best value of the first objective so far; None if there is none.
    epoch
        Epoch of that value, from 1; None if the trial reported no epochs.
    epochs
        Number of epochs reported.
    metrics
        All metrics of ``epoch``, or of the final result.
    seconds
        Time spent on training and evaluation; None if unknown.
    worker
        Host and process that ran it; None if unknown.
    started_at, finished_at
        Times in UTC; None before.
    reason
        Why the trial was pruned or failed; None otherwise.
    values
        All objectives by metric where there are several; empty with one.
    schedule
        Changes by population based training, the earliest first. ``value``, ``epoch`` and ``metrics`` then belong to
        the weights that the trial has now, and may come from the trial that it took them from.
    weights
        SHA-256 hashes by file name of the weights of the best epoch; empty if none were written.
    notes
        What the trial said beside numbers, by name: text, lists or other JSON values.
    lease
        Who has the trial, and until when; None without a lease.
    superseded_by
        Number of the trial that took over the configuration after the lease had run out; None otherwise.
    feasible
        Whether the result is within the study's limits; None without limits or if unknown.
    replicates
        Repeated measurements of the configuration; set by ``best``, ``best_trials`` and ``front`` where there are
        several.
    problem
        What is wrong with a trial that another program wrote, such as a value outside the space. It is listed, but
        counts for nothing: not for ``best``, the sampler or the importance. None for all others.

    Examples
    --------
    >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
    >>> trial = study.attach({"heat": 950.0}, 0.7)
    >>> trial.number, trial.state, trial.params, trial.value
    (0, 'complete', {'heat': 950.0}, 0.7)
    """

    number: int
    state: State
    params: Mapping[str, Any]
    seed: int
    value: float | None = None
    epoch: int | None = None
    epochs: int = 0
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float | None = None
    worker: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    reason: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    schedule: tuple[Change, ...] = ()
    weights: Hashes = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    lease: Lease | None = None
    superseded_by: int | None = None
    feasible: bool | None = None
    replicates: Replicates | None = None
    problem: str | None = None

    def _repr_html_(self) -> str:
        from aifs_tune.study.html import trial_html  # which needs this module

        return trial_html(self)

    @property
    def latest_params(self) -> Mapping[str, Any]:
        """Parameters that the trial trains with now: ``params`` until the schedule changes them."""
        return self.schedule[-1].params if self.schedule else self.params

    @property
    def coded_params(self) -> dict[str, Scalar]:
        """``params`` with the JSON text of null and of lists, to compare with choices and to hash."""
        return coded_params(self.params)

    @property
    def is_finished(self) -> bool:
        """True if the trial is complete, pruned or failed."""
        return self.state in FINAL

    def to_json(self) -> dict[str, Any]:
        """Return the trial as a JSON object, the same from the command line and the service.

        Returns
        -------
        dict
            ``trial`` (the number), ``state``, ``value``, ``epochs``, ``params``, ``metrics``, ``seconds``, ``worker``,
            ``started_at``, ``finished_at`` and ``reason``. ``values``, ``schedule``, ``weights``, ``notes``,
            ``lease``, ``superseded_by``, ``feasible``, ``replicates`` and ``problem`` where the trial has them.
        """
        several = {"values": dict(self.values)} if self.values else {}
        changed = {"schedule": [change.to_json() for change in self.schedule]} if self.schedule else {}
        written: dict[str, Any] = {"weights": dict(self.weights)} if self.weights else {}
        if self.notes:
            written["notes"] = dict(self.notes)
        if self.feasible is not None:
            written["feasible"] = self.feasible
        if self.replicates is not None:
            written["replicates"] = self.replicates.to_json()
        if self.problem is not None:
            written["problem"] = self.problem
        leased = {"lease": self.lease.to_json()} if self.lease else {}
        superseded = {} if self.superseded_by is None else {"superseded_by": self.superseded_by}
        return {
            "trial": self.number,
            "state": self.state,
            "value": self.value,
            "epochs": self.epochs,
            "params": dict(self.params),
            "metrics": dict(self.metrics),
            "seconds": self.seconds,
            "worker": self.worker,
            "started_at": self.started_at.isoformat() if self.started_at else None,
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
            "reason": self.reason,
            **several,
            **changed,
            **written,
            **leased,
            **superseded,
        }


def selected(
    trials: Iterable[Trial],
    *,
    state: State | None = None,
    is_overdue: bool = False,
    owner: str | None = None,
    label: str | None = None,
) -> list[Trial]:
    """The ``trials`` with this state, owner and label. None and False leave a condition out."""
    return [
        trial
        for trial in trials
        if state in (None, trial.state)
        and (not is_overdue or (trial.lease is not None and trial.lease.is_overdue))
        and (owner is None or (trial.lease is not None and trial.lease.owner == owner))
        and (label is None or (trial.lease is not None and trial.lease.label == label))
    ]
