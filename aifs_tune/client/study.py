"""RemoteStudy: a study that a service holds, with the methods of a local one."""

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
from aifs_tune.study.trial import Change, Event, Measurement, Replicates, State, ToldState, Trial

if TYPE_CHECKING:
    import pandas

    from aifs_tune.study.recommendation import Recommendation


_PAGE = 1000


class RemoteStudy:
    """Trials of one optimisation problem, kept by a service.

    :meth:`Client.open_study <aifs_tune.client.Client.open_study>` and :meth:`Client.study
    <aifs_tune.client.Client.study>` return it. Its methods are those of :class:`aifs_tune.Study`.

    Parameters
    ----------
    transport
        Connection to the service.
    name
        Name of the study.

    Examples
    --------
    >>> client = aifs_tune.Client("http://127.0.0.1:8000")
    >>> study = client.study("furnace")  # doctest: +SKIP
    >>> trial = study.ask()  # doctest: +SKIP
    >>> study.tell(trial, 0.8).state  # doctest: +SKIP
    'complete'
    """

    def __init__(self, transport: Transport, name: str) -> None:
        self.name, self._transport = name, transport
        self._path = f"/v1/studies/{quote(name, safe='')}"

    def ask(self, *, label: str | None = None, owner: str | None = None, lease_s: float | None = None) -> Trial:
        """Return the next trial to run. Its state is running. See :meth:`Study.ask`.

        Parameters
        ----------
        label
            Name of the sample, 1 to 200 characters. Default: none.
        owner
            Name of the instrument or person that runs the trial, 1 to 200 characters. Default: none.
        lease_s
            Seconds until the trial is overdue, 1 to 31,622,400 (366 days). Default: it never is.

        Returns
        -------
        Trial
            The trial, with its ``params``.

        Raises
        ------
        RequestError
            If the label, the owner or the lease is not allowed.
        ServiceError
            If the service cannot be reached.
        """
        return self.ask_batch(1, labels=() if label is None else (label,), owner=owner, lease_s=lease_s)[0]

    def ask_batch(
        self, n_trials: int, *, labels: Sequence[str] = (), owner: str | None = None, lease_s: float | None = None
    ) -> list[Trial]:
        """Return several trials to run at the same time.

        Each is proposed while those before it are pending, so that their configurations differ.

        Parameters
        ----------
        n_trials
            Number of trials, 1 to 64.
        labels
            Names of the samples, one for each trial. Default: none.
        owner, lease_s
            As in :meth:`ask`.

        Returns
        -------
        list of Trial
            The trials, in state running.

        Raises
        ------
        RequestError
            If the number is not allowed or there is not one label for each trial, or as :meth:`ask`.
        """
        body = {"n": n_trials, "labels": list(labels), "owner": owner, "lease_s": lease_s}
        return [_trial(entry) for entry in self._transport.write(f"{self._path}/ask", body)["trials"]]

    def renew(self, trial: Trial | int, lease_s: float | None = None) -> Trial:
        """Extend the lease of a running trial: it starts again now.

        Parameters
        ----------
        trial
            The trial or its number.
        lease_s
            New length of the lease in seconds, 1 to 31,622,400 (366 days). Default: the length that it had.

        Returns
        -------
        Trial
            The trial with its new lease.

        Raises
        ------
        ConflictError
            If the trial is not running or was superseded, or if it has no lease and ``lease_s`` is not given.
        """
        return _trial(self._transport.write(f"{self._of(trial)}/renew", {"lease_s": lease_s}))

    def enqueue(self, params: Mapping[str, Scalar]) -> Trial:
        """Add a waiting trial with these parameters. :meth:`ask` returns it before any new proposal.

        Parameters
        ----------
        params
            A value for each parameter of the space.

        Returns
        -------
        Trial
            The new trial, in state waiting.

        Raises
        ------
        RequestError
            If the search space does not allow the parameters.
        """
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
        """Store a result that was measured elsewhere, as a new trial.

        Parameters
        ----------
        params
            A value for each parameter of the space.
        value, state, reason, seconds
            As in :meth:`tell`.

        Returns
        -------
        Trial
            The new, finished trial.

        Raises
        ------
        RequestError
            If the search space does not allow the parameters, or as :meth:`tell`.
        """
        body = {"params": dict(params), **_end(value, state, reason, seconds)}
        return _trial(self._transport.write(f"{self._path}/attach", body))

    def report(
        self,
        trial: Trial | int,
        epoch: int,
        metrics: float | Mapping[str, float | None],
        *,
        seconds: float | None = None,
        worker: str | None = None,
    ) -> Trial:
        """Store the metrics of one epoch of a running trial. A second report of an epoch replaces the first.

        Parameters
        ----------
        trial
            The trial or its number.
        epoch
            Number of the epoch, from 1.
        metrics
            Metrics by name, with every objective as a finite number; or the value of the only objective.
        seconds
            Time spent on this epoch. Default: not known.
        worker
            Name of the process that runs the trial. Default: as before.

        Returns
        -------
        Trial
            The trial with its best epoch so far.

        Raises
        ------
        RequestError
            If an objective is missing or not finite, or if the epoch is below 1.
        ConflictError
            If the trial is not running.
        """
        named = metrics if isinstance(metrics, Mapping) else {self.spec.objective.metric: metrics}
        body = {"epoch": epoch, "metrics": _finite(named), "seconds": seconds, "worker": worker}
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
        """Store the final result of a trial. The first result stands; the same result again changes nothing.

        Parameters
        ----------
        trial
            The trial or its number.
        value
            The objective, or metrics by name that contain all objectives. Default: the best reported epoch.
        state
            ``complete``, ``pruned``, ``failed``, or ``infeasible`` for a trial that broke a limit and has no value.
        reason
            Why the trial was pruned or failed. Default: none.
        seconds
            Time spent on the trial. Default: the sum over its epochs.

        Returns
        -------
        Trial
            The finished trial.

        Raises
        ------
        RequestError
            If ``value`` is one number and the study has several objectives or limits.
        ConflictError
            If the trial has another final result already, or was superseded.
        """
        return _trial(self._transport.write(f"{self._of(trial)}/tell", _end(value, state, reason, seconds)))

    def cancel(self, trial: Trial | int, reason: str = "cancelled") -> Trial:
        """Cancel a waiting or running trial: it becomes failed.

        Parameters
        ----------
        trial
            The trial or its number.
        reason
            Why it was cancelled. Default: ``cancelled``.

        Returns
        -------
        Trial
            The failed trial.

        Raises
        ------
        ConflictError
            If the trial has ended already.
        """
        return _trial(self._transport.write(f"{self._of(trial)}/cancel", {"reason": reason}))

    @property
    def note(self) -> str | None:
        """What was noted of the study; None without a note."""
        note: str | None = self._transport.read(f"{self._path}/notes")["note"]
        return note

    @property
    def trial_notes(self) -> dict[int, str]:
        """What was noted of trials, by their number."""
        return {entry["trial"]: entry["note"] for entry in self._transport.read(f"{self._path}/notes")["trials"]}

    def set_note(self, text: str, trial: Trial | int | None = None) -> None:
        """Note something of the study or of one of its trials, in place of an earlier note.

        Parameters
        ----------
        text
            The note, at most 2,000 characters. An empty text removes it.
        trial : Trial or int, optional
            The trial or its number. Default: the note is of the study.

        Raises
        ------
        NotFoundError
            If there is no such trial.
        RequestError
            If the note is too long.
        """
        self._transport.write(f"{self._path if trial is None else self._of(trial)}/note", {"text": text})

    def trial(self, trial: Trial | int) -> Trial:
        """Return a trial as it is stored now.

        Parameters
        ----------
        trial
            The trial or its number.

        Returns
        -------
        Trial
            The stored trial.

        Raises
        ------
        NotFoundError
            If there is no such trial.
        """
        return _trial(self._transport.read(self._of(trial)))

    def curve(self, trial: Trial | int) -> list[Measurement]:
        """Return the learning curve of a trial: what it reported, epoch by epoch.

        Parameters
        ----------
        trial
            The trial or its number.

        Returns
        -------
        list of Measurement
            The reported epochs in their order; empty where none was reported.

        Raises
        ------
        NotFoundError
            If there is no such trial.
        """
        return [Measurement(**entry) for entry in self._transport.read(self._of(trial))["measurements"]]

    def log(self, trial: Trial | int) -> str:
        """Return what a trial printed, logged and warned, with the tracebacks of its errors.

        Parameters
        ----------
        trial
            The trial or its number.

        Returns
        -------
        str
            The last 64 kB as text.

        Raises
        ------
        NotFoundError
            If there is no such trial, or it left no output.
        """
        return str(self._transport.read(f"{self._of(trial)}/log")["log"])

    def all_trials(self) -> list[Trial]:
        """Return all trials in the order of their numbers.

        Returns
        -------
        list of Trial
            The trials in every state.
        """
        trials: list[Trial] = []
        after: int | None = -1
        while after is not None:
            page = self._transport.read(f"{self._path}/trials", after=after, limit=_PAGE)
            trials += [_trial(entry) for entry in page["trials"]]
            after = page["next"]
        return trials

    @cached_property
    def spec(self) -> SweepSpec:
        """Search space, objectives and search settings, as a sweep file without a trainer."""
        from aifs_tune.config.loading import parse_sweep

        asked = self._description
        keys = ("description", "space", "constraints", "mixtures", "exclude", "limits", "objective", "trade_off")
        search = {**asked["search"], "scheduler": "none"}
        return parse_sweep({"name": "elsewhere", **{part: asked[part] for part in keys}, "search": search})

    @property
    def trainer(self) -> str | None:
        """Name of the trainer; None for a study without one, such as an instrument's."""
        trainer: str | None = self._description["trainer"]
        return trainer

    @cached_property
    def _description(self) -> dict[str, Any]:
        """First answer of the service about the study; the parts read from it never change."""
        return dict(self._transport.read(self._path))

    @property
    def trials(self) -> pandas.DataFrame:
        """All trials as a pandas table; its columns are listed in :mod:`aifs_tune.study.dataframe`."""
        from aifs_tune.study.dataframe import trials_table

        return trials_table(self.all_trials(), list(self._description["space"]), self.trial_notes)

    @property
    def best(self) -> Trial:
        """Best complete trial, in the first objective where there are several. See :meth:`best_trials`."""
        return self.best_trials(1)[0]

    def best_trials(self, top: int) -> list[Trial]:
        """Return the best complete trials, the best in the first objective first.

        Parameters
        ----------
        top
            Largest number of trials to return, 1 to 1,000.

        Returns
        -------
        list of Trial
            At least one trial.

        Raises
        ------
        NotFoundError
            If no trial is complete, or none is within the limits.
        """
        return [_trial(entry) for entry in self._transport.read(f"{self._path}/best", top=top)["best"]]

    @property
    def front(self) -> list[Trial]:
        """Pareto front: the complete trials that no other trial beats in all objectives, the best in the first
        objective first. With one objective: the trials with the best value."""
        if self._transport.read(self._path)["best"] is None:
            return []
        return [_trial(entry) for entry in self._transport.read(f"{self._path}/best")["front"]]

    def recommendation(self) -> Recommendation:
        """Recommend a configuration, and whether to stop.

        Returns
        -------
        Recommendation
            The recommended trial, the expected gain of another trial, the noise, and whether to stop.
        """
        from aifs_tune.study.recommendation import Recommendation

        return Recommendation(**self._transport.read(f"{self._path}/recommendation"))

    def counts(self) -> dict[State, int]:
        """Count the trials in each state.

        Returns
        -------
        dict
            Number of trials by state: complete, pruned, failed, running and waiting.
        """
        counts: dict[State, int] = self._transport.read(self._path)["n_trials"]
        return counts

    def events(self, *, after: str | None = None) -> Iterator[Event]:
        """Yield what happens to the trials from now on, without end, whoever causes it.

        If the service cannot be reached, the method waits for it. No change is lost: after an interruption the newest
        state of all trials may be repeated.

        Parameters
        ----------
        after
            Id of the last event that is known; ``"0"`` first yields the state of every trial. Default: only new
            events.

        Yields
        ------
        Event
            The change of one trial, with the number of trials in each state.

        Raises
        ------
        ServiceError
            If the service cannot be reached for too long.
        UnknownCallerError
            If the token is no longer valid.
        """
        for entry in self._transport.stream_events(f"{self._path}/events", after=after):
            yield Event(**{key: x for key, x in entry.items() if key != "study"})

    def _of(self, trial: Trial | int) -> str:
        return f"{self._path}/trials/{trial.number if isinstance(trial, Trial) else trial}"


def _end(
    value: float | Mapping[str, float | None] | None, state: ToldState, reason: str | None, seconds: float | None
) -> dict[str, Any]:
    """The result of a trial as it is sent. JSON has no NaN, so a value that is not finite is sent as failed."""
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
        notes=entry.get("notes", {}),
        feasible=entry.get("feasible"),
        replicates=_replicates(entry.get("replicates")),
        lease=Lease.from_json(entry["lease"]) if entry.get("lease") else None,
        superseded_by=entry.get("superseded_by"),
        problem=entry.get("problem"),
    )


def _replicates(entry: Mapping[str, Any] | None) -> Replicates | None:
    return None if entry is None else Replicates(**{**entry, "trials": tuple(entry["trials"])})


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
