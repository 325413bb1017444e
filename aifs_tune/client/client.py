"""The studies of a service elsewhere, used as those of a storage here.

    study = aifs_tune.open_study("crystals", space={...}, storage="sqlite:///lab.db")
    study = aifs_tune.Client("http://tune.lab:8000", token=...).open_study("crystals", space={...})

Every request that writes has an idempotency key of its own, with which it is sent again when no answer came: it is
carried out once.
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
    """A sweep of a service; made by :class:`~aifs_tune.client.client.Client`."""

    def __init__(self, transport: Transport, told: dict[str, Any]) -> None:
        self.id: str = told["id"]
        self.sweep: str = told["sweep"]
        self.study: str = told["study"]
        self._transport, self._path = transport, f"/v1/sweeps/{told['id']}"

    @property
    def state(self) -> SweepState:
        """What it is now."""
        state: SweepState = self._told()["state"]
        return state

    @property
    def exit_code(self) -> int | None:
        """That of its process, as the command line has them; None while it runs."""
        code: int | None = self._told()["exit_code"]
        return code

    @property
    def log(self) -> str:
        """The end of what it has said."""
        return str(self._told()["log"])

    def stop(self) -> None:
        """Ask it to end, as Ctrl-C does; one that is over stays as it is."""
        self._transport.write(f"{self._path}/stop", {})

    def wait(self, timeout_s: float | None = None, *, every_s: float = 1.0) -> SweepState:
        """The state in which it ended; :class:`WorkError` if it has not after ``timeout_s``."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while (state := self.state) in ("pending", "running"):
            if until is not None and time.monotonic() > until:
                raise WorkError(f"sweep {self.id} of study {self.study!r} is {state} after {timeout_s:g} s")
            time.sleep(every_s)
        return state

    def _told(self) -> Any:
        return self._transport.read(self._path)


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
    retry_timeout_s
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
        )
        self._transport.write("/v1/studies", {"name": name, **document})
        return RemoteStudy(self._transport, name)

    def start_study(self, name: str, document: Mapping[str, Any]) -> RemoteStudy:
        """Open or start a study by what a sweep file without a trainer says."""
        self._transport.write("/v1/studies", {**document, "name": name})
        return RemoteStudy(self._transport, name)

    def study(self, name: str) -> RemoteStudy:
        """An existing study; :class:`NotFoundError` if there is none."""
        found = RemoteStudy(self._transport, name)
        found.counts()
        return found

    def studies(self) -> list[str]:
        """The names of the project's studies, sorted."""
        return [line["study"] for line in self.study_lines()]

    def study_lines(self) -> list[dict[str, Any]]:
        """Of each of the project's studies, by name, its question and how far it is."""
        lines: list[dict[str, Any]] = []
        after: str | None = ""
        while after is not None:
            page = self._transport.read("/v1/studies", after=after, limit=100)
            lines += page["studies"]
            after = page["next"]
        return lines

    def sweep_files(self) -> list[str]:
        """The sweep files that :meth:`start_sweep` takes, by name."""
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
        """Have the service run one of its sweep files; see :meth:`aifs_tune.Sweep.run`. Returns when it is accepted.

        Raises
        ------
        NotFoundError
            If the service offers no file of that name.
        ConflictError
            If as many sweeps run as may, or one of this study does.
        """
        given: dict[str, Any] = {"study": study, "trials": trials, "epochs": epochs, "workers": workers}
        given |= {"seed": seed, "timeout_s": timeout_s}
        body = {"sweep": sweep, **{name: value for name, value in given.items() if value is not None}}
        return RemoteSweep(self._transport, self._transport.write("/v1/sweeps", body))

    def sweep(self, sweep_id: str) -> RemoteSweep:
        """A sweep that was started; :class:`NotFoundError` if there is none."""
        return RemoteSweep(self._transport, self._transport.read(f"/v1/sweeps/{quote(sweep_id, safe='')}"))

    def sweeps(self) -> list[RemoteSweep]:
        """The project's sweeps that were started, the newest first."""
        page = self._transport.read("/v1/sweeps", limit=100)
        listed = page["sweeps"]
        while page["next"] is not None:
            page = self._transport.read("/v1/sweeps", limit=100, after=page["next"])
            listed += page["sweeps"]
        return [RemoteSweep(self._transport, told) for told in listed]

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
