"""Client of a service: its studies and sweeps, used like those of a local storage.

    study = aifs_tune.open_study("crystals", space={...}, storage="sqlite:///lab.db")
    study = aifs_tune.Client("http://tune.lab:8000", token=...).open_study("crystals", space={...})

Each writing request has an idempotency key. If no answer arrives, the request is sent again with the same key, and the
service carries it out once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from aifs_tune.client.study import RemoteStudy
from aifs_tune.client.transport import Transport
from aifs_tune.config.loading import spec_document
from aifs_tune.errors import WorkError

SweepState: TypeAlias = Literal["pending", "running", "stopped", "succeeded", "failed"]


class RemoteSweep:
    """Sweep that a service runs. :meth:`Client.start_sweep`, :meth:`Client.sweep` and :meth:`Client.sweeps` return it.

    Parameters
    ----------
    transport
        Connection to the service.
    entry
        JSON object of the sweep, as the service returns it.

    Examples
    --------
    >>> client = aifs_tune.Client("http://127.0.0.1:8000")
    >>> sweep = client.start_sweep("celestial_cnn", trials=16)  # doctest: +SKIP
    >>> sweep.wait()  # doctest: +SKIP
    'succeeded'
    """

    def __init__(self, transport: Transport, entry: dict[str, Any]) -> None:
        self.id: str = entry["id"]
        self.sweep: str = entry["sweep"]
        self.study: str = entry["study"]
        self._transport, self._path = transport, f"/v1/sweeps/{entry['id']}"

    @property
    def state(self) -> SweepState:
        """Current state: pending, running, stopped, succeeded or failed."""
        state: SweepState = self._read()["state"]
        return state

    @property
    def exit_code(self) -> int | None:
        """Exit code of its process, as of ``aifs-tune run``; None while it runs."""
        code: int | None = self._read()["exit_code"]
        return code

    @property
    def log(self) -> str:
        """End of its log."""
        return str(self._read()["log"])

    def stop(self) -> None:
        """Stop the sweep, as Ctrl-C does. A sweep that has ended stays as it is."""
        self._transport.write(f"{self._path}/stop", {})

    def wait(self, timeout_s: float | None = None, *, every_s: float = 1.0) -> SweepState:
        """Wait until the sweep has ended.

        Parameters
        ----------
        timeout_s
            Longest wait in seconds. Default: no limit.
        every_s
            Seconds between two requests to the service. Default: 1.

        Returns
        -------
        str
            The final state: stopped, succeeded or failed.

        Raises
        ------
        WorkError
            If the sweep has not ended after ``timeout_s``.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while (state := self.state) in ("pending", "running"):
            if until is not None and time.monotonic() > until:
                raise WorkError(f"sweep {self.id} of study {self.study!r} is {state} after {timeout_s:g} s")
            time.sleep(every_s)
        return state

    def _read(self) -> Any:
        return self._transport.read(self._path)


class Client:
    """Connection to a service that ``aifs-tune serve`` runs.

    Several threads may use a client. As a context manager it closes its connections at the end.

    Parameters
    ----------
    url
        Address of the service, such as ``http://127.0.0.1:8000``.
    token
        Token that ``aifs-tune token create`` printed. Default: none, for a service without tokens.
    project
        Project whose studies are used. Default: that of the token; ``default`` without a token.
    retry_timeout_s
        Seconds for which a request is repeated while the service is busy or cannot be reached. Default: 60.
    timeout_s
        Seconds that one answer may take. Default: 30.

    Raises
    ------
    RequestError
        If ``url`` is not an HTTP address, or httpx is not installed.

    Examples
    --------
    >>> client = aifs_tune.Client("http://127.0.0.1:8000")
    >>> space = {"heat": {"type": "float", "low": 600, "high": 1400}}
    >>> study = client.open_study("furnace", space=space)  # doctest: +SKIP
    >>> trial = study.ask()  # doctest: +SKIP
    >>> study.tell(trial, 0.8).state  # doctest: +SKIP
    'complete'
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        project: str | None = None,
        retry_timeout_s: float = 60.0,
        timeout_s: float = 30.0,
    ) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if project is not None:
            headers["Aifs-Tune-Project"] = project
        self._transport = Transport(url, headers, retry_timeout_s=retry_timeout_s, timeout_s=timeout_s)

    def open_study(
        self,
        name: str,
        *,
        space: Mapping[str, Any],
        metric: str = "value",
        mode: Literal["max", "min"] = "max",
        trade_off: Mapping[str, Literal["max", "min"]] | None = None,
        sampler: str | Mapping[str, Any] | None = None,
        seed: int = 0,
        constraints: Sequence[str] = (),
        mixtures: Sequence[Mapping[str, Any]] = (),
        exclude: Sequence[Mapping[str, Any]] = (),
        limits: Sequence[str] = (),
        initial: Mapping[str, Any] | None = None,
        replicates: int = 1,
        shared: str | Sequence[str] = (),
        cost: str | None = None,
        budget: float | None = None,
    ) -> RemoteStudy:
        """Start or continue a study on the service.

        Parameters
        ----------
        name, space, metric, mode, trade_off, sampler, seed
            As in :func:`aifs_tune.open_study`.
        constraints, mixtures, exclude, limits, initial, replicates, shared, cost, budget
            As in :func:`aifs_tune.open_study`.

        Returns
        -------
        RemoteStudy
            The study.

        Raises
        ------
        RequestError
            If the name, the space or another argument is not allowed.
        ConflictError
            If the study exists with another space, objective, constraint, mixture or limit.
        ServiceError
            If the service cannot be reached.
        """
        document = spec_document(
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
            shared=shared,
            cost=cost,
            budget=budget,
        )
        self._transport.write("/v1/studies", {"name": name, **document})
        return RemoteStudy(self._transport, name)

    def start_study(self, name: str, document: Mapping[str, Any]) -> RemoteStudy:
        """Start or continue a study from the content of a sweep file without a trainer.

        Parameters
        ----------
        name
            Name of the study.
        document
            Content of the sweep file.

        Returns
        -------
        RemoteStudy
            The study.

        Raises
        ------
        RequestError
            If the document is not a valid sweep file.
        ConflictError
            If the study exists with another space, objective, constraint, mixture or limit.
        """
        self._transport.write("/v1/studies", {**document, "name": name})
        return RemoteStudy(self._transport, name)

    def study(self, name: str) -> RemoteStudy:
        """Open an existing study by its name.

        Parameters
        ----------
        name
            Name of the study.

        Returns
        -------
        RemoteStudy
            The study.

        Raises
        ------
        NotFoundError
            If there is no such study in the project.
        """
        found = RemoteStudy(self._transport, name)
        found.counts()
        return found

    def studies(self) -> list[str]:
        """List the studies of the project.

        Returns
        -------
        list of str
            Their names, sorted.
        """
        return [line["study"] for line in self.study_lines() if "problem" not in line]

    def study_lines(self) -> list[dict[str, Any]]:
        """Return the progress of each study of the project.

        Returns
        -------
        list of dict
            For each study, by name, its objectives and its counts of trials, as ``GET /v1/studies`` answers; then for
            each that cannot be read its name and the ``problem``.
        """
        lines: list[dict[str, Any]] = []
        unreadable: list[dict[str, Any]] = []
        after: str | None = ""
        while after is not None:
            page = self._transport.read("/v1/studies", after=after, limit=100)
            lines += page["studies"]
            unreadable += page["unreadable"]
            after = page["next"]
        return lines + unreadable

    def sweep_files(self) -> list[str]:
        """List the sweep files that :meth:`start_sweep` accepts.

        Returns
        -------
        list of str
            Their names.
        """
        return [
            entry["sweep"] for entry in self._transport.read("/v1/sweeps")["sweep_files"] if not entry.get("problem")
        ]

    def start_sweep(
        self,
        sweep: str,
        *,
        study: str | None = None,
        trials: int | None = None,
        epochs: int | None = None,
        workers: int | None = None,
        seed: int | None = None,
        timeout_s: float | None = None,
    ) -> RemoteSweep:
        """Start one of the service's sweep files. The method returns once the service has accepted the sweep.

        Parameters
        ----------
        sweep
            Name of the sweep file, one of :meth:`sweep_files`.
        study, trials, epochs, workers, seed, timeout_s
            As in :meth:`aifs_tune.Sweep.run`.

        Returns
        -------
        RemoteSweep
            The started sweep.

        Raises
        ------
        NotFoundError
            If the service has no such sweep file.
        ConflictError
            If the service already runs as many sweeps as it may, or a sweep of this study.
        """
        given: dict[str, Any] = {"study": study, "trials": trials, "epochs": epochs, "workers": workers}
        given |= {"seed": seed, "timeout_s": timeout_s}
        body = {"sweep": sweep, **{name: value for name, value in given.items() if value is not None}}
        return RemoteSweep(self._transport, self._transport.write("/v1/sweeps", body))

    def sweep(self, sweep_id: str) -> RemoteSweep:
        """Return a sweep that was started before.

        Parameters
        ----------
        sweep_id
            Its ``id``.

        Returns
        -------
        RemoteSweep
            The sweep.

        Raises
        ------
        NotFoundError
            If there is no such sweep in the project.
        """
        return RemoteSweep(self._transport, self._transport.read(f"/v1/sweeps/{quote(sweep_id, safe='')}"))

    def sweeps(self) -> list[RemoteSweep]:
        """Return all sweeps of the project.

        Returns
        -------
        list of RemoteSweep
            The sweeps, the newest first.
        """
        page = self._transport.read("/v1/sweeps", limit=100)
        listed = page["sweeps"]
        while page["next"] is not None:
            page = self._transport.read("/v1/sweeps", limit=100, after=page["next"])
            listed += page["sweeps"]
        return [RemoteSweep(self._transport, entry) for entry in listed]

    def close(self) -> None:
        """Close the connections to the service."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
