"""A study of a service elsewhere, used as one of a storage here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aifs_tune._util.scalars import Scalar
from aifs_tune.client.transport import Transport
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.study.lease import Lease
from aifs_tune.study.recommendation import Recommendation
from aifs_tune.study.trial import Change, Event, Measurement, Replicates, State, ToldState, Trial

if TYPE_CHECKING:
    import pandas


_PAGE = 1000


class RemoteStudy:
    """All trials of one question, in a service; made by :class:`Client`. See :class:`~aifs_tune.study.study.Study`."""

    def __init__(self, transport: Transport, name: str) -> None:
        self.name, self._transport = name, transport
        self._path = f"/v1/studies/{quote(name, safe='')}"

    def ask(self, *, label: str | None = None, owner: str | None = None, lease_s: float | None = None) -> Trial:
        """The next trial to run: the oldest waiting one, else the configuration of the oldest overdue one, else a new
        proposal. It is running when this returns; ``label``, ``owner`` and ``lease_s`` say who has it."""
        return self.ask_batch(1, labels=() if label is None else (label,), owner=owner, lease_s=lease_s)[0]

    def ask_batch(
        self, n_trials: int, *, labels: Sequence[str] = (), owner: str | None = None, lease_s: float | None = None
    ) -> list[Trial]:
        """The next trials to run, up to 64, each proposed while those before it are pending, so that they differ;
        ``labels`` has one for each of them, or none at all."""
        body = {"n": n_trials, "labels": list(labels), "owner": owner, "lease_s": lease_s}
        return [_trial(entry) for entry in self._transport.write(f"{self._path}/ask", body)["trials"]]

    def renew(self, trial: Trial | int, lease_s: float | None = None) -> Trial:
        """Let the lease of a running trial begin anew, for ``lease_s`` or as long as it was."""
        return _trial(self._transport.write(f"{self._of(trial)}/renew", {"lease_s": lease_s}))

    def enqueue(self, params: Mapping[str, Scalar]) -> Trial:
        """Add a waiting trial with these parameters; it is asked for before any new proposal."""
        return _trial(self._transport.write(f"{self._path}/enqueue", {"params": dict(params)}))

    def attach(
        self,
        params: Mapping[str, Scalar],
        value: float | Mapping[str, float | None] | None = None,
        *,
        state: ToldState = "complete",
        reason: str | None = None,
        seconds: float | None = None,
    ) -> Trial:
        """Store what was measured elsewhere with these parameters, as a trial of its own; see :meth:`tell`."""
        body = {"params": dict(params), **_end(value, state, reason, seconds)}
        return _trial(self._transport.write(f"{self._path}/attach", body))

    def report(
        self,
        trial: Trial | int,
        epoch: int,
        metrics: Mapping[str, float | None],
        *,
        seconds: float | None = None,
        worker: str | None = None,
    ) -> Trial:
        """Store the measurement of one epoch of a running trial; the same epoch again replaces it."""
        body = {"epoch": epoch, "metrics": _finite(metrics), "seconds": seconds, "worker": worker}
        return _trial(self._transport.write(f"{self._of(trial)}/report", body))

    def tell(
        self,
        trial: Trial | int,
        value: float | Mapping[str, float | None] | None = None,
        *,
        state: ToldState = "complete",
        reason: str | None = None,
        seconds: float | None = None,
    ) -> Trial:
        """Store the final result of a trial; None takes the best reported epoch. The first result stands."""
        return _trial(self._transport.write(f"{self._of(trial)}/tell", _end(value, state, reason, seconds)))

    def cancel(self, trial: Trial | int, reason: str = "cancelled") -> Trial:
        """Give up a trial that waits or runs: it is failed, with the reason."""
        return _trial(self._transport.write(f"{self._of(trial)}/cancel", {"reason": reason}))

    def trial(self, trial: Trial | int) -> Trial:
        """The trial as it is stored now."""
        return _trial(self._transport.read(self._of(trial)))

    def curve(self, trial: Trial | int) -> list[Measurement]:
        """What the trial reported, epoch by epoch."""
        return [Measurement(**entry) for entry in self._transport.read(self._of(trial))["measurements"]]

    def all_trials(self) -> list[Trial]:
        """All trials in the order of their numbers."""
        trials: list[Trial] = []
        after: int | None = -1
        while after is not None:
            page = self._transport.read(f"{self._path}/trials", after=after, limit=_PAGE)
            trials += [_trial(entry) for entry in page["trials"]]
            after = page["next"]
        return trials

    @cached_property
    def spec(self) -> SweepSpec:
        """What the study asks, as a sweep file without a trainer."""
        from aifs_tune.config.loading import parse_sweep

        asked = self._description
        keys = ("description", "space", "constraints", "objective", "trade_off")
        search = {**asked["search"], "scheduler": "none"}
        return parse_sweep({"name": "elsewhere", **{part: asked[part] for part in keys}, "search": search})

    @property
    def trainer(self) -> str | None:
        """The name of its trainer; None for an instrument."""
        trainer: str | None = self._description["trainer"]
        return trainer

    @cached_property
    def _description(self) -> dict[str, Any]:
        """What the service said of the study at first; its question stays that."""
        return dict(self._transport.read(self._path))

    @property
    def trials(self) -> pandas.DataFrame:
        """All trials as a tidy table; columns and dtypes in :mod:`aifs_tune.study.dataframe`."""
        from aifs_tune.study.dataframe import trials_table

        return trials_table(self.all_trials(), list(self._description["space"]))

    @property
    def best(self) -> Trial:
        """The complete trial with the best value; :class:`NotFoundError` while there is none."""
        return self.best_trials(1)[0]

    def best_trials(self, top: int) -> list[Trial]:
        """Up to ``top`` complete trials, at most 1,000, the best in the first objective first."""
        return [_trial(entry) for entry in self._transport.read(f"{self._path}/best", top=top)["best"]]

    @property
    def front(self) -> list[Trial]:
        """The complete trials that no other one is better than in all objectives, the best in the first objective
        first; of one objective those with the best value."""
        if self._transport.read(self._path)["best"] is None:
            return []
        return [_trial(entry) for entry in self._transport.read(f"{self._path}/best")["front"]]

    def recommendation(self) -> Recommendation:
        """Which configuration to take, and whether measuring on is worth it; see
        :class:`~aifs_tune.study.recommendation.Recommendation`."""
        return Recommendation(**self._transport.read(f"{self._path}/recommendation"))

    def importance(self) -> dict[str, dict[str, float]]:
        """By metric and parameter, what part of it depends on that, as far as the trials so far can tell."""
        objectives = self._transport.read(f"{self._path}/importance")["objectives"]
        return {objective["metric"]: objective["importance"] for objective in objectives}

    def counts(self) -> dict[State, int]:
        """How many trials are in each state."""
        counts: dict[State, int] = self._transport.read(self._path)["n_trials"]
        return counts

    def events(self, *, after: str | None = None) -> Iterator[Event]:
        """What happens to the trials from now on, without end, whoever writes it; with ``after="0"`` first how each
        trial is. A service that goes away is waited for, and nothing is missed; what was missed meanwhile may come
        as the newest state of all trials.

        Raises
        ------
        ServiceError
            If it stays away; UnknownCallerError once the token is not valid any more.
        """
        for told in self._transport.stream_events(f"{self._path}/events", after=after):
            overdue = told.pop("overdue", False)
            yield Event(**{key: x for key, x in told.items() if key != "study"}, is_overdue=overdue)

    def _of(self, trial: Trial | int) -> str:
        return f"{self._path}/trials/{trial.number if isinstance(trial, Trial) else trial}"


def _end(
    value: float | Mapping[str, float | None] | None, state: ToldState, reason: str | None, seconds: float | None
) -> dict[str, Any]:
    """The end of a trial as it is sent: JSON has no NaN, which makes a trial failed."""
    told = {"state": state, "reason": reason, "seconds": seconds}
    if isinstance(value, Mapping):
        return {**told, "value": _finite(value)}
    if value is not None and not math.isfinite(value):
        return {**told, "state": "failed" if state == "complete" else state, "reason": reason or f"value {value}"}
    return {**told, "value": value}


def _finite(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: value if value is not None and math.isfinite(value) else None for name, value in metrics.items()}


def _trial(entry: Mapping[str, Any]) -> Trial:
    return Trial(
        number=entry["trial"],
        state=entry["state"],
        params=entry["params"],
        seed=entry["seed"],
        value=entry["value"],
        epoch=entry["epoch"],
        epochs=entry["epochs"],
        metrics=entry["metrics"],
        seconds=entry["seconds"],
        worker=entry["worker"],
        started_at=_moment(entry["started_at"]),
        finished_at=_moment(entry["finished_at"]),
        reason=entry["reason"],
        values=entry.get("values", {}),
        schedule=tuple(Change(**change) for change in entry.get("schedule", ())),
        weights=entry.get("weights", {}),
        feasible=entry.get("feasible"),
        replicates=_replicates(entry.get("replicates")),
        lease=Lease.from_json(entry["lease"]) if entry.get("lease") else None,
        superseded_by=entry.get("superseded_by"),
    )


def _replicates(entry: Mapping[str, Any] | None) -> Replicates | None:
    return None if entry is None else Replicates(**{**entry, "trials": tuple(entry["trials"])})


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
