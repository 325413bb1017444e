"""A sweep that a service started, seen from elsewhere."""

from __future__ import annotations

import time
from typing import Any, Literal, TypeAlias

from aifs_tune.errors import WorkError
from aifs_tune.wire import Transport

SweepState: TypeAlias = Literal["pending", "running", "stopped", "succeeded", "failed"]


class RemoteSweep:
    """A sweep of a service; made by :class:`~aifs_tune.client.Client`."""

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
