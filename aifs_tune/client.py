"""The studies of a service elsewhere, used as those of a storage here.

    study = aifs_tune.open_study("crystals", space={...}, storage="sqlite:///lab.db")
    study = aifs_tune.Client("http://tune.lab:8000", token=...).open_study("crystals", space={...})

Every request that writes has an idempotency key of its own, with which it is sent again when no answer came: it is
carried out once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from aifs_tune.advice import Advice
from aifs_tune.question import question_of
from aifs_tune.space import Scalar
from aifs_tune.trial import Change, Measurement, Replicates, State, ToldState, Trial
from aifs_tune.wire import Wire

if TYPE_CHECKING:
    import pandas

_PAGE = 1000


class Client:
    """A service of :command:`aifs-tune serve`.

    Parameters
    ----------
    url
        Such as ``http://127.0.0.1:8000``.
    token
        What ``aifs-tune token create`` printed; None where the service needs none.
    project
        Whose studies; None for the token's, without a token ``default``.
    patience_s
        For how long a request is sent again while the service cannot be reached, or is busy.
    timeout_s
        How long one answer may take.

    Raises
    ------
    RequestError
        If the URL is none, or httpx is not installed.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        project: str | None = None,
        patience_s: float = 60.0,
        timeout_s: float = 30.0,
    ) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if project is not None:
            headers["Aifs-Tune-Project"] = project
        self._wire = Wire(url, headers, patience_s=patience_s, timeout_s=timeout_s)

    def open_study(
        self,
        name: str,
        *,
        space: Mapping[str, Any],
        metric: str = "value",
        mode: Literal["max", "min"] = "max",
        trade_off: Mapping[str, Literal["max", "min"]] | None = None,
        sampler: str | None = None,
        seed: int = 0,
        constraints: Sequence[str] = (),
        mixtures: Sequence[Mapping[str, Any]] = (),
        exclude: Sequence[Mapping[str, Any]] = (),
        limits: Sequence[str] = (),
        initial: Mapping[str, Any] | None = None,
        replicates: int = 1,
    ) -> RemoteStudy:
        """Open or start a study; see :func:`aifs_tune.open_study`."""
        question = question_of(
            space=space,
            metric=metric,
            mode=mode,
            trade_off=trade_off,
            sampler=sampler,
            seed=seed,
            constraints=constraints,
            mixtures=mixtures,
            exclude=exclude,
            limits=limits,
            initial=initial,
            replicates=replicates,
        )
        self._wire.write("/v1/studies", {"name": name, **question})
        return RemoteStudy(self._wire, name)

    def study(self, name: str) -> RemoteStudy:
        """An existing study; :class:`NotFoundError` if there is none."""
        found = RemoteStudy(self._wire, name)
        found.counts()
        return found

    def studies(self) -> list[str]:
        """The names of the project's studies, sorted."""
        names: list[str] = []
        after: str | None = ""
        while after is not None:
            page = self._wire.read("/v1/studies", after=after, limit=100)
            names += [line["study"] for line in page["studies"]]
            after = page["next"]
        return names

    def close(self) -> None:
        self._wire.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RemoteStudy:
    """All trials of one question, in a service; made by :class:`Client`. See :class:`~aifs_tune.study.Study`."""

    def __init__(self, wire: Wire, name: str) -> None:
        self.name, self._wire = name, wire
        self._path = f"/v1/studies/{quote(name, safe='')}"

    def ask(self) -> Trial:
        """The next trial to run: the oldest waiting one, else a new proposal. It is running when this returns."""
        return self.ask_batch(1)[0]

    def ask_batch(self, n_trials: int) -> list[Trial]:
        """The next trials to run, up to 64, each proposed while those before it are pending, so that they differ."""
        answer = self._wire.write(f"{self._path}/ask", {"n": n_trials})
        return [_trial(entry) for entry in answer["trials"]]

    def enqueue(self, params: Mapping[str, Scalar]) -> Trial:
        """Add a waiting trial with these parameters; it is asked for before any new proposal."""
        return _trial(self._wire.write(f"{self._path}/enqueue", {"params": dict(params)}))

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
        return _trial(self._wire.write(f"{self._path}/attach", body))

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
        return _trial(self._wire.write(f"{self._of(trial)}/report", body))

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
        return _trial(self._wire.write(f"{self._of(trial)}/tell", _end(value, state, reason, seconds)))

    def cancel(self, trial: Trial | int, reason: str = "cancelled") -> Trial:
        """Give up a trial that waits or runs: it is failed, with the reason."""
        return _trial(self._wire.write(f"{self._of(trial)}/cancel", {"reason": reason}))

    def trial(self, trial: Trial | int) -> Trial:
        """The trial as it is stored now."""
        return _trial(self._wire.read(self._of(trial)))

    def curve(self, trial: Trial | int) -> list[Measurement]:
        """What the trial reported, epoch by epoch."""
        return [Measurement(**entry) for entry in self._wire.read(self._of(trial))["measurements"]]

    def all_trials(self) -> list[Trial]:
        """All trials in the order of their numbers."""
        trials: list[Trial] = []
        after: int | None = -1
        while after is not None:
            page = self._wire.read(f"{self._path}/trials", after=after, limit=_PAGE)
            trials += [_trial(entry) for entry in page["trials"]]
            after = page["next"]
        return trials

    @property
    def trials(self) -> pandas.DataFrame:
        """All trials as a tidy table; columns and dtypes in :mod:`aifs_tune.table`."""
        from aifs_tune.table import trials_table

        return trials_table(self.all_trials(), list(self._wire.read(self._path)["space"]))

    @property
    def best(self) -> Trial:
        """The complete trial with the best value; :class:`NotFoundError` while there is none."""
        return self.best_trials(1)[0]

    def best_trials(self, top: int) -> list[Trial]:
        """Up to ``top`` complete trials, at most 1,000, the best in the first objective first."""
        return [_trial(entry) for entry in self._wire.read(f"{self._path}/best", top=top)["best"]]

    @property
    def front(self) -> list[Trial]:
        """The complete trials that no other one is better than in all objectives, the best in the first objective
        first; of one objective those with the best value."""
        if self._wire.read(self._path)["best"] is None:
            return []
        return [_trial(entry) for entry in self._wire.read(f"{self._path}/best")["front"]]

    def advice(self) -> Advice:
        """Which configuration to take, and whether measuring on is worth it; see :class:`~aifs_tune.advice.Advice`."""
        return Advice(**self._wire.read(f"{self._path}/advice"))

    def counts(self) -> dict[State, int]:
        """How many trials are in each state."""
        counts: dict[State, int] = self._wire.read(self._path)["n_trials"]
        return counts

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
    )


def _replicates(entry: Mapping[str, Any] | None) -> Replicates | None:
    return None if entry is None else Replicates(**{**entry, "trials": tuple(entry["trials"])})


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
