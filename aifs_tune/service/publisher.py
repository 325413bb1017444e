"""Reports and bundles that are made over HTTP, one at a time, each in a process of its own."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from aifs_tune.errors import ConflictError, ServiceError
from aifs_tune.publishing.publications import PublicationFormat, new_id
from aifs_tune.service import publication_process
from aifs_tune.service.idempotency import StoredResponse, WriteRequest, idempotent_response_in
from aifs_tune.service.strict_json import encoded
from aifs_tune.service.sweep_processes import command_environment
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import Storage
from aifs_tune.study.record import StudyRecord

JobState: TypeAlias = Literal["running", "succeeded", "failed"]
TIMEOUT_S = 3600.0
"""Seconds after which a report or a bundle is given up, so that one that hangs does not keep others waiting."""
MAX_JOBS = 1000
"""Number of studies whose last job is remembered."""
_LOG = logging.getLogger("uvicorn.error")
_FAULT = "internal error; the log of the service has the details"


@dataclass(frozen=True)
class PublicationJob:
    """Making of a report or a bundle with this ``id``; ``step`` says what is done now, ``problem`` why it failed."""

    id: str
    format: PublicationFormat
    state: JobState
    started_at: str
    step: str | None = None
    problem: str | None = None


class Publisher:
    """Makes reports and bundles of the studies of ``storage``; it remembers the last job of each study."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._jobs: dict[int, PublicationJob] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="aifs-tune publisher")
        self._process: subprocess.Popen[str] | None = None
        self._is_closed = False

    def start(
        self, write_request: WriteRequest, name: str, study: StudyRecord, wanted: PublicationFormat
    ) -> StoredResponse:
        """Begin to make a report or a bundle of ``study``, which the project of the request calls ``name``.

        Raises
        ------
        NotFoundError
            If no trial is complete.
        ConflictError
            If one of this study is being made.
        ServiceError
            If one of another study is being made.
        """
        begun: list[PublicationJob] = []

        def respond() -> StoredResponse:
            self._check_idle(name, study)
            _ = study.best
            now = datetime.now(UTC)
            job = PublicationJob(new_id(now), wanted, "running", now.isoformat(timespec="seconds"))
            begun.append(job)
            return StoredResponse(202, encoded(asdict(job)))

        with self._lock:
            with translated_database_errors(self._storage.shown), self._storage.rdb.engine.begin() as connection:
                response = idempotent_response_in(connection, write_request, respond)
            for job in begun:
                self._remember(study.id, job)
                self._worker.submit(self._run, study.id, study.name, job)
        return response

    def find_job(self, study: StudyRecord) -> PublicationJob | None:
        """Return the last job of a study since the service started; None if there was none."""
        with self._lock:
            return self._jobs.get(study.id)

    def drop(self, study: StudyRecord) -> None:
        """Drop the job of a study that was just deleted, and end it if it is running."""
        with self._lock:
            job = self._jobs.pop(study.id, None)
            if job is not None and job.state == "running" and self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """End the process that is running, and begin no other."""
        with self._lock:
            self._is_closed = True
            if self._process is not None:
                self._process.kill()
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _check_idle(self, name: str, study: StudyRecord) -> None:
        running = [study_id for study_id, job in self._jobs.items() if job.state == "running"]
        if study.id in running:
            job = self._jobs[study.id]
            raise ConflictError(
                f"study {name!r}: {job.format} is being made since {job.started_at}; try again when it is complete"
            )
        if running:
            raise ServiceError("a report or a bundle of another study is being made; try again later")

    def _remember(self, study_id: int, job: PublicationJob) -> None:
        self._jobs.pop(study_id, None)
        self._jobs[study_id] = job
        while len(self._jobs) > MAX_JOBS:
            del self._jobs[next(iter(self._jobs))]

    def _update(self, study_id: int, job: PublicationJob) -> None:
        """Replace the state of a job, unless it was dropped."""
        with self._lock:
            if study_id in self._jobs and self._jobs[study_id].id == job.id:
                self._jobs[study_id] = job

    def _run(self, study_id: int, study: str, job: PublicationJob) -> None:
        """Run ``job`` to its end, however it ends."""
        problem: str | None = _FAULT
        try:
            problem = self._problem_of(study_id, study, job)
        except OSError:
            _LOG.exception("the process for %s of a study could not be started", job.format)
        finally:
            self._update(study_id, replace(job, state="failed" if problem else "succeeded", problem=problem))

    def _problem_of(self, study_id: int, study: str, job: PublicationJob) -> str | None:
        """Run the process of ``job`` to its end; return why it failed, None if it did not."""
        with tempfile.TemporaryDirectory(prefix="aifs_tune_") as scratch:
            process = self._launch(study_id, study, job, scratch)
            if process is None:
                return "the service is ending"
            deadline = threading.Timer(TIMEOUT_S, process.kill)
            deadline.start()
            try:
                with process:
                    return self._follow(process, study_id, job)
            finally:
                deadline.cancel()
                with self._lock:
                    self._process = None

    def _launch(self, study_id: int, study: str, job: PublicationJob, scratch: str) -> subprocess.Popen[str] | None:
        """Start the process of ``job``; return None if the service is ending or the study was deleted."""
        with self._lock:
            if self._is_closed or study_id not in self._jobs:
                return None
            self._process = subprocess.Popen(
                [sys.executable, "-m", publication_process.__name__, str(study_id), study, job.format, job.id],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C reaches the service alone, which ends this process
                env={**command_environment(self._storage), "TMPDIR": scratch},
            )
            return self._process

    def _follow(self, process: subprocess.Popen[str], study_id: int, job: PublicationJob) -> str | None:
        """Take the steps from what ``process`` says until it ends; return why it failed, None if it did not."""
        problem = _FAULT
        for line in process.stdout or ():
            told = json.loads(line)
            if "step" in told:
                self._update(study_id, replace(job, step=told["step"]))
            problem = told.get("problem", problem)
        exit_code = process.wait()
        if exit_code == -signal.SIGKILL:
            return f"its process was killed: it took more than {TIMEOUT_S:g} s, or the memory was not enough"
        return problem if exit_code else None
