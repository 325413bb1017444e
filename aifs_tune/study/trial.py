"""One trial as a value, and the states it can be in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias

from aifs_tune._util.hashing import Hashes
from aifs_tune._util.scalars import Scalar
from aifs_tune.errors import ConflictError
from aifs_tune.study.lease import Lease

State: TypeAlias = Literal["waiting", "running", "complete", "pruned", "failed"]
FinalState: TypeAlias = Literal["complete", "pruned", "failed"]
ToldState: TypeAlias = Literal["complete", "pruned", "failed", "infeasible"]
"""How a trial is told to have ended; an infeasible one is kept as failed and not feasible."""

STATES: tuple[State, ...] = ("complete", "pruned", "failed", "running", "waiting")
FINAL: frozenset[State] = frozenset({"complete", "pruned", "failed"})

TRANSITIONS: dict[State, frozenset[State]] = {
    "waiting": frozenset({"running", "complete", "failed"}),
    "running": frozenset({"waiting", "complete", "pruned", "failed"}),
    "complete": frozenset(),
    "pruned": frozenset(),
    "failed": frozenset(),
}
"""From each state, where a trial can go. The first final state stands."""


def check_transition(trial: int, current: State, wanted: State) -> None:
    """Raise :class:`ConflictError` unless :data:`TRANSITIONS` allows it."""
    if wanted not in TRANSITIONS[current]:
        allowed = ", ".join(sorted(TRANSITIONS[current])) or "nothing: that is final"
        raise ConflictError(f"trial {trial} is {current}, it cannot become {wanted}; allowed: {allowed}")


@dataclass(frozen=True)
class Measurement:
    """What a trial reported at one epoch: metrics (None where undefined), seconds spent, and the hashes of the
    checkpoint that it wrote after it, if it wrote one."""

    epoch: int
    metrics: Mapping[str, float | None]
    seconds: float | None = None
    checkpoint: Hashes | None = None


class TrialProgress(NamedTuple):
    """How far a trial is: the newest epoch that it reported, and the first objective, at that epoch while it runs, in
    its result once it has one."""

    state: State
    epoch: int | None
    value: float | None
    is_overdue: bool = False


@dataclass(frozen=True)
class Event:
    """How ``trial`` is now, see :class:`TrialProgress`, and how many trials are in each state; the first event of all
    has only
    these, and no trial."""

    n_trials: Mapping[State, int]
    trial: int | None = None
    state: State | None = None
    epoch: int | None = None
    value: float | None = None
    is_overdue: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """The newest checkpoint that a study knows of a trial: that of ``epoch``, with these hashes."""

    epoch: int
    hashes: Hashes


@dataclass(frozen=True)
class Change:
    """From ``epoch`` on, a trial trains with ``params`` from the weights that trial ``source`` had before it."""

    epoch: int
    params: Mapping[str, Scalar]
    source: int

    def to_json(self) -> dict[str, Any]:
        """As an entry of a trial's ``schedule``."""
        return {"epoch": self.epoch, "params": dict(self.params), "source": self.source}


@dataclass(frozen=True)
class Replicates:
    """The complete trials of one configuration, the mean of their values with its standard error, and where there are
    several objectives the means of all."""

    trials: tuple[int, ...]
    mean: float
    standard_error: float
    means: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As ``replicates`` of a trial object."""
        several = {"means": dict(self.means)} if self.means else {}
        return {"trials": list(self.trials), "mean": self.mean, "standard_error": self.standard_error, **several}


@dataclass(frozen=True)
class Trial:
    """One configuration and what became of it.

    ``value`` is the best value of the objective over the epochs so far, ``epoch`` the epoch it was reached
    at (None where the trial reported no epochs) and ``metrics`` all metrics of that epoch. ``seconds`` is
    the time spent training and evaluating. ``seed`` seeds everything random in the trial. Where several
    objectives are traded off, ``values`` has all of them by metric, those of ``epoch``, once they are known.

    ``schedule`` has what changed while it trained, the earliest first; ``params`` are those that it began with. What
    it measured before a change is in its curve alone: ``value``, ``epoch`` and ``metrics`` are those of the weights
    that it has, and so may be of an epoch of the trial that these came from.

    ``lease`` says who has it, of a trial that was handed to an instrument or a person; ``superseded_by`` is the trial
    in which its configuration was handed out again, once its lease had run out.

    ``weights`` are the hashes of the files that its best epoch's weights were written to; of the best trials these are
    kept.

    ``feasible`` says whether it kept to the limits of its study; None where there are none or it is not known.
    ``replicates`` is there where its study ranks it, and its configuration was measured several times.
    """

    number: int
    state: State
    params: Mapping[str, Scalar]
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
    lease: Lease | None = None
    superseded_by: int | None = None
    feasible: bool | None = None
    replicates: Replicates | None = None

    @property
    def latest_params(self) -> Mapping[str, Scalar]:
        """What it trains with now."""
        return self.schedule[-1].params if self.schedule else self.params

    @property
    def is_finished(self) -> bool:
        return self.state in FINAL

    def to_json(self) -> dict[str, Any]:
        """The trial object of the command line's contract; with ``values`` where there are several objectives,
        ``schedule`` where something changed, ``weights`` where some were written, ``lease`` where somebody has it and
        ``superseded_by``, ``feasible`` where it is known and ``replicates`` where there are several."""
        several = {"values": dict(self.values)} if self.values else {}
        changed = {"schedule": [change.to_json() for change in self.schedule]} if self.schedule else {}
        written: dict[str, Any] = {"weights": dict(self.weights)} if self.weights else {}
        if self.feasible is not None:
            written["feasible"] = self.feasible
        if self.replicates is not None:
            written["replicates"] = self.replicates.to_json()
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
    """Those of ``trials`` that are so; None and False ask for nothing."""
    return [
        trial
        for trial in trials
        if state in (None, trial.state)
        and (not is_overdue or (trial.lease is not None and trial.lease.is_overdue))
        and (owner is None or (trial.lease is not None and trial.lease.owner == owner))
        and (label is None or (trial.lease is not None and trial.lease.label == label))
    ]
