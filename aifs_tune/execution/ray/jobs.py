"""Jobs: sweeps that run on a Ray cluster through Ray's Jobs API.

The job of the n-th attempt at a study is called STUDY-n, PROJECT:STUDY-n in another project than ``default``, so that
submitting twice is the same as once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aifs_tune.errors import NotFoundError, RequestError, WorkError

STOP_S = 60
"""Seconds that a stopped job may take to put its trials back."""
AGENTS_S = 60
"""Seconds that a cluster may take to have an agent for a job after its dashboard answers."""
_TALKING = (
    "ray._private.runtime_env.packaging",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
_OVERRIDING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


@dataclass(frozen=True)
class RayJob:
    """One attempt at a study on a cluster."""

    id: str
    attempt: int
    state: str
    """``pending``, ``running``, ``stopped``, ``succeeded`` or ``failed``."""
    storage: str
    message: str

    @property
    def is_over(self) -> bool:
        return self.state not in ("pending", "running")


class RayJobs:
    """The jobs of the cluster whose dashboard is at ``address``, ``http://HEAD:8265``.

    Tokens are Ray's own: ``RAY_AUTH_TOKEN``, ``RAY_AUTH_TOKEN_PATH`` or ``~/.ray/auth_token``.

    Raises
    ------
    RequestError
        If the address is none, ``ray[default]`` is not installed, or the cluster answers without a token although
        ``allow_unauthenticated`` is false.
    WorkError
        If nobody answers there, or the token is refused.
    """

    def __init__(self, address: str, *, allow_unauthenticated: bool = False) -> None:
        if not is_job_address(address):
            raise RequestError(f"address: {address!r} is not an address of Ray's Jobs API; allowed: http://HEAD:8265")
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        try:
            import aiohttp  # noqa: F401
            import requests
            from ray.job_submission import JobSubmissionClient
        except ImportError:
            raise RequestError("Ray's Jobs API is not installed: pip install 'aifs-tune[cluster]'") from None
        for name in _TALKING:
            logging.getLogger(name).setLevel(logging.ERROR)
        self.address = address.rstrip("/")
        try:
            answer = requests.get(f"{self.address}/api/jobs/", timeout=10)
        except requests.RequestException as error:
            raise WorkError(f"no cluster answers at {self.address} ({type(error).__name__})") from error
        if answer.ok and not allow_unauthenticated:
            raise RequestError(
                f"the cluster at {self.address} asks for no token, so that whoever reaches it can run code on it; "
                "start it with RAY_AUTH_MODE=token, or say --allow-unauthenticated"
            )
        with self._said(), _without(_OVERRIDING):
            self._client: Any = JobSubmissionClient(self.address)

    def submit(
        self,
        study: str,
        words: Sequence[str],
        *,
        folder: Path,
        storage: str,
        environment: Mapping[str, str],
        requirements: Sequence[str] = (),
    ) -> tuple[RayJob, bool]:
        """Run the command ``words`` in a copy of ``folder``; the job, and whether it is new.

        While a job of this study is pending or running, that one is the answer. ``storage`` is what the job writes to,
        without a secret; ``requirements`` are packages that Ray installs for the job.

        Raises
        ------
        RequestError
            If the cluster works on a study of that name in another storage.
        """
        attempts = self.attempts(study)
        if attempts and not attempts[-1].is_over:
            if attempts[-1].storage != storage:
                raise RequestError(
                    f"the cluster at {self.address} runs a study {study!r} in {attempts[-1].storage} already "
                    f"(job {attempts[-1].id}); choose another name with --study"
                )
            return attempts[-1], False
        attempt = attempts[-1].attempt + 1 if attempts else 1
        runtime: dict[str, Any] = {
            "working_dir": str(folder),
            "env_vars": {**environment, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S)},
        }
        if requirements:
            runtime["pip"] = list(requirements)
        with self._said():
            self._send(
                entrypoint=shlex.join(words),
                submission_id=f"{_stem(study)}-{attempt}",
                runtime_env=runtime,
                metadata={"study": study, "storage": storage},
            )
        return self.newest(study), True

    def _send(self, **job: Any) -> None:
        """Submit a job; while the agents of a cluster that has just begun are not there yet, for :data:`AGENTS_S`."""
        until = time.monotonic() + AGENTS_S
        while True:
            try:
                self._client.submit_job(**job)
                return
            except RuntimeError as error:
                if "No available agent" not in str(error) or time.monotonic() >= until:
                    raise
                time.sleep(1.0)

    def attempts(self, study: str) -> list[RayJob]:
        """All jobs of a study that the cluster remembers, oldest first."""
        with self._said():
            listed = self._client.list_jobs()
        found = []
        for job in listed:
            number = re.fullmatch(re.escape(_stem(study)) + r"-(\d+)", job.submission_id or "")
            if number and (job.metadata or {}).get("study") == study:
                told = " ".join((job.message or "").split())
                state = str(job.status.value).lower()
                found.append(RayJob(job.submission_id, int(number[1]), state, job.metadata["storage"], told))
        return sorted(found, key=lambda job: job.attempt)

    def newest(self, study: str) -> RayJob:
        """The last attempt; :class:`NotFoundError` if there is none."""
        attempts = self.attempts(study)
        if not attempts:
            raise NotFoundError(f"the cluster at {self.address} has no job of a study {study!r}")
        return attempts[-1]

    def stop(self, study: str) -> RayJob:
        """Ask the job of a study to stop, as Ctrl-C would; it puts its trials in flight back."""
        job = self.newest(study)
        if job.is_over:
            raise RequestError(f"study {study!r}: its job {job.id} has {job.state} already")
        with self._said():
            self._client.stop_job(job.id)
        return job

    def wait(self, study: str, *, within_s: float = 60.0) -> RayJob:
        """The last attempt, once it is over; one that is not after ``within_s`` as it is."""
        until = time.monotonic() + within_s
        while not (job := self.newest(study)).is_over and time.monotonic() < until:
            time.sleep(1.0)
        return job

    def logs(self, study: str, *, follow: bool = False) -> Iterator[str]:
        """Log of the last job of a study, piece by piece; with ``follow`` until it ends."""
        job = self.newest(study)
        with self._said():
            if not follow:
                yield self._client.get_job_logs(job.id)
                return
            pieces = self._client.tail_job_logs(job.id)
            with asyncio.Runner() as runner:
                while (piece := runner.run(_next(pieces))) is not None:
                    yield piece

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Ray's errors in one line that names the cluster."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise WorkError(
                f"the cluster at {self.address} refused the token; it is read from RAY_AUTH_TOKEN, "
                "RAY_AUTH_TOKEN_PATH and ~/.ray/auth_token"
            ) from error
        except (RuntimeError, ConnectionError, ValueError) as error:
            raise WorkError(f"the cluster at {self.address}: {' '.join(str(error).split())[-400:]}") from error


def is_job_address(address: str) -> bool:
    """Whether an address is one of Ray's Jobs API and not of Ray itself."""
    return re.fullmatch(r"https?://[^/\s]+/?", address) is not None


def _stem(study: str) -> str:
    """Prefix of the ids of a study's jobs, without the slash of a project other than ``default``."""
    return study.replace("/", ":")


async def _next(pieces: Any) -> str | None:
    try:
        return str(await anext(pieces))
    except StopAsyncIteration:
        return None


@contextmanager
def _without(variables: Sequence[str]) -> Iterator[None]:
    """Hide these environment variables for a while: Ray prefers them to an address that it is given."""
    kept = {name: os.environ.pop(name) for name in variables if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
