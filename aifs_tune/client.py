"""The studies of a service elsewhere, used as those of a storage here.

    study = aifs_tune.open_study("crystals", space={...}, storage="sqlite:///lab.db")
    study = aifs_tune.Client("http://tune.lab:8000", token=...).open_study("crystals", space={...})

Every request that writes has an idempotency key of its own, with which it is sent again when no answer came: it is
carried out once.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from aifs_tune.errors import AifsTuneError, RequestError, ServiceError, SweepFileError
from aifs_tune.problem_types import PROBLEM_TYPES
from aifs_tune.question import question_of
from aifs_tune.space import Scalar
from aifs_tune.trial import Change, FinalState, Measurement, State, Trial

if TYPE_CHECKING:
    import httpx
    import pandas

_FAMILIES = {uri: family for family, (uri, _) in PROBLEM_TYPES.items()}
_FAMILIES[PROBLEM_TYPES[SweepFileError][0]] = RequestError  # of a document, which has no file here
_PAGE = 1000
_LONGEST_PAUSE_S = 5.0


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
    transport
        What carries the requests, for tests.

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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        try:
            import httpx
        except ModuleNotFoundError:
            raise RequestError("Client: httpx is not installed (pip install 'aifs-tune[service]')") from None
        if not url.startswith(("http://", "https://")):
            raise RequestError(f"Client: {url!r} is no address; allowed: http://HOST:PORT or https://HOST")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if project is not None:
            headers["Aifs-Tune-Project"] = project
        self.url, self._patience_s = url.rstrip("/"), patience_s
        self._lost = httpx.TransportError
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, transport=transport)

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
        )
        self.write("/v1/studies", {"name": name, **question})
        return RemoteStudy(self, name)

    def study(self, name: str) -> RemoteStudy:
        """An existing study; :class:`NotFoundError` if there is none."""
        found = RemoteStudy(self, name)
        found.counts()
        return found

    def studies(self) -> list[str]:
        """The names of the project's studies, sorted."""
        names: list[str] = []
        after: str | None = ""
        while after is not None:
            page = self.read("/v1/studies", after=after, limit=100)
            names += [line["study"] for line in page["studies"]]
            after = page["next"]
        return names

    def read(self, path: str, **query: str | int) -> Any:
        """What a GET of ``path`` answers."""
        return self._answer(lambda: self._http.get(path, params=query))

    def write(self, path: str, body: Mapping[str, Any]) -> Any:
        """What a POST to ``path`` answers; it is carried out once, however often it is sent."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        try:
            content = _json(body)
        except ValueError as error:
            raise RequestError(f"{path}: {error}; allowed: finite numbers and text") from None
        headers["Content-Type"] = "application/json"
        return self._answer(lambda: self._http.post(path, content=content, headers=headers))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, send: Callable[[], httpx.Response]) -> Any:
        until, pause_s = time.monotonic() + self._patience_s, 0.1
        while True:
            try:
                response = send()
            except self._lost as error:
                reason = f"{self.url} cannot be reached: {error or type(error).__name__}"
                trouble: AifsTuneError = ServiceError(reason)
            else:
                if response.is_success:
                    return response.json()
                trouble = _error_in(response)
                if response.status_code != 503:
                    raise trouble
            if time.monotonic() + pause_s > until:
                raise trouble
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # so that many clients do not come back at once
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)


class RemoteStudy:
    """All trials of one question, in a service; made by :class:`Client`. See :class:`~aifs_tune.study.Study`."""

    def __init__(self, client: Client, name: str) -> None:
        self.name, self._client = name, client
        self._path = f"/v1/studies/{quote(name, safe='')}"

    def ask(self) -> Trial:
        """The next trial to run: the oldest waiting one, else a new proposal. It is running when this returns."""
        return self.ask_batch(1)[0]

    def ask_batch(self, n_trials: int) -> list[Trial]:
        """The next trials to run, up to 64, each proposed while those before it are pending, so that they differ."""
        answer = self._client.write(f"{self._path}/ask", {"n": n_trials})
        return [_trial(entry) for entry in answer["trials"]]

    def enqueue(self, params: Mapping[str, Scalar]) -> Trial:
        """Add a waiting trial with these parameters; it is asked for before any new proposal."""
        return _trial(self._client.write(f"{self._path}/enqueue", {"params": dict(params)}))

    def attach(
        self,
        params: Mapping[str, Scalar],
        value: float | Mapping[str, float | None] | None = None,
        *,
        state: FinalState = "complete",
        reason: str | None = None,
        seconds: float | None = None,
    ) -> Trial:
        """Store what was measured elsewhere with these parameters, as a trial of its own; see :meth:`tell`."""
        body = {"params": dict(params), **_end(value, state, reason, seconds)}
        return _trial(self._client.write(f"{self._path}/attach", body))

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
        body = {"epoch": epoch, "metrics": dict(metrics), "seconds": seconds, "worker": worker}
        return _trial(self._client.write(f"{self._of(trial)}/report", body))

    def tell(
        self,
        trial: Trial | int,
        value: float | Mapping[str, float | None] | None = None,
        *,
        state: FinalState = "complete",
        reason: str | None = None,
        seconds: float | None = None,
    ) -> Trial:
        """Store the final result of a trial; None takes the best reported epoch. The first result stands."""
        return _trial(self._client.write(f"{self._of(trial)}/tell", _end(value, state, reason, seconds)))

    def cancel(self, trial: Trial | int, reason: str = "cancelled") -> Trial:
        """Give up a trial that waits or runs: it is failed, with the reason."""
        return _trial(self._client.write(f"{self._of(trial)}/cancel", {"reason": reason}))

    def trial(self, trial: Trial | int) -> Trial:
        """The trial as it is stored now."""
        return _trial(self._client.read(self._of(trial)))

    def curve(self, trial: Trial | int) -> list[Measurement]:
        """What the trial reported, epoch by epoch."""
        return [Measurement(**entry) for entry in self._client.read(self._of(trial))["measurements"]]

    def all_trials(self) -> list[Trial]:
        """All trials in the order of their numbers."""
        trials: list[Trial] = []
        after: int | None = -1
        while after is not None:
            page = self._client.read(f"{self._path}/trials", after=after, limit=_PAGE)
            trials += [_trial(entry) for entry in page["trials"]]
            after = page["next"]
        return trials

    @property
    def trials(self) -> pandas.DataFrame:
        """All trials as a tidy table; columns and dtypes in :mod:`aifs_tune.table`."""
        from aifs_tune.table import trials_table

        return trials_table(self.all_trials(), list(self._client.read(self._path)["space"]))

    @property
    def best(self) -> Trial:
        """The complete trial with the best value; :class:`NotFoundError` while there is none."""
        return self.best_trials(1)[0]

    def best_trials(self, top: int) -> list[Trial]:
        """Up to ``top`` complete trials, at most 1,000, the best in the first objective first."""
        return [_trial(entry) for entry in self._client.read(f"{self._path}/best", top=top)["best"]]

    @property
    def front(self) -> list[Trial]:
        """The Pareto front where several objectives are traded off, else nothing."""
        return [_trial(entry) for entry in self._client.read(f"{self._path}/best")["front"]]

    def counts(self) -> dict[State, int]:
        """How many trials are in each state."""
        counts: dict[State, int] = self._client.read(self._path)["n_trials"]
        return counts

    def _of(self, trial: Trial | int) -> str:
        return f"{self._path}/trials/{trial.number if isinstance(trial, Trial) else trial}"


def _end(
    value: float | Mapping[str, float | None] | None, state: FinalState, reason: str | None, seconds: float | None
) -> dict[str, Any]:
    told = dict(value) if isinstance(value, Mapping) else value
    return {"value": told, "state": state, "reason": reason, "seconds": seconds}


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, allow_nan=False).encode()


def _error_in(response: httpx.Response) -> AifsTuneError:
    """What a response that is no success says, in our words."""
    try:
        told = response.json()
        family, detail = _FAMILIES.get(told["type"]), str(told["detail"])
    except (ValueError, KeyError, TypeError):  # something between us and the service answered
        family, detail = None, response.text[:200]
    where = f"{response.request.method} {response.request.url.path}"
    if family is None:
        family = RequestError if 400 <= response.status_code < 500 else ServiceError
        detail = f"{where} was answered {response.status_code}: {detail}"
    return family(detail)


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
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
