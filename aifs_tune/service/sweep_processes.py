"""Sweeps that are started over HTTP: which files are offered, what was started, and what became of it."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sqlalchemy import insert, select

from aifs_tune._util.atomic_files import write_file
from aifs_tune._util.scalars import brief, did_you_mean
from aifs_tune.config.loading import SUFFIXES, load_sweep_file, parse_sweep
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import ConflictError, NotFoundError, RequestError, SweepFileError
from aifs_tune.service import sweep_supervisor as supervisor
from aifs_tune.service.idempotency import StoredResponse, WriteRequest, idempotent_response_in
from aifs_tune.service.strict_json import encoded
from aifs_tune.service.tokens import SWEEPS
from aifs_tune.storage.projects import STUDY_PATTERN, stored_name
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import ENVIRONMENT_VARIABLE, Storage
from aifs_tune.study.index import study_names

SweepProcessState: TypeAlias = Literal["pending", "running", "stopped", "succeeded", "failed"]
OPTIONS = ("trials", "epochs", "workers", "seed", "timeout_s")
LOG_BYTES = 8192
"""So much of the end of a log is told."""
_NAME = re.compile(STUDY_PATTERN[1:-1])
_ARTIFACTS_VARIABLE = "AIFS_TUNE_ARTIFACTS"


@dataclass(frozen=True)
class SweepRecord:
    """A sweep that was started."""

    id: str
    project: str
    sweep: str
    study: str
    asked: Mapping[str, Any]
    host: str
    at: float


class SweepProcesses:
    """Starts the sweep files of ``folder``, at most ``at_once`` at a time, as processes that outlive this one.

    ``cluster`` are the options of ``aifs-tune submit`` that name a cluster: sweeps are its jobs then.

    Raises
    ------
    RequestError
        If there is no such folder, or the storage is SQLite, which one process of one machine writes, and ``at_once``
        is more or ``cluster`` is given.
    """

    def __init__(self, storage: Storage, folder: Path, *, at_once: int = 1, cluster: Sequence[str] = ()) -> None:
        if not folder.is_dir():
            raise RequestError(f"--sweeps: {folder} is no folder")
        if at_once > 1 and storage.url.startswith("sqlite"):
            raise RequestError(f"--sweeps-at-once: {at_once}, and one sweep at a time writes to SQLite; allowed: 1")
        if cluster and storage.url.startswith("sqlite"):
            raise RequestError("--address: jobs of a cluster cannot write to SQLite; allowed: a storage in PostgreSQL")
        self._storage, self._folder, self._at_once, self._cluster = storage, folder.absolute(), at_once, tuple(cluster)
        artifacts = storage.artifacts if isinstance(storage.artifacts, Path) else Path.cwd() / "aifs_tune_artifacts"
        self._logs = artifacts / "sweeps"  # logs of processes: here, wherever checkpoints are
        self._lock = threading.Lock()
        here = [record for record in self._records() if record.host == socket.gethostname()]
        self._open = {record.id: record for record in here if not self._is_over(record)}
        for record in self._open.values():
            self._begin(record)

    def sweep_files(self) -> list[dict[str, Any]]:
        """The sweep files by name; one that cannot be run says why."""
        return [self._describe_file(name, file) for name, file in self._files().items()]

    def start(self, asked: WriteRequest, sweep: str, study: str | None, options: Mapping[str, Any]) -> StoredResponse:
        """Start a sweep, which goes on in a process of its own. Its record is on disk before that begins.

        Raises
        ------
        NotFoundError
            If no file of that name is offered.
        SweepFileError
            If the file, or what is given instead of its values, is not valid.
        ConflictError
            If as many sweeps run as may, or one of this study does.
        """

        def answer() -> StoredResponse:
            spec = self._spec(sweep, options)
            name = study or self._unused_name(asked.project, spec.name)
            self._check_capacity(asked.project, name)
            made = SweepRecord(
                secrets.token_hex(8), asked.project, sweep, name, dict(options), socket.gethostname(), time.time()
            )
            self._write_command(made)
            connection.execute(insert(SWEEPS), {**vars(made), "asked": json.dumps(made.asked)})
            return StoredResponse(202, encoded(self._told(made)))

        with (
            self._lock,
            translated_database_errors(self._storage.shown),
            self._storage.rdb.engine.begin() as connection,
        ):
            told = idempotent_response_in(connection, asked, answer)
        record = self._record(asked.project, json.loads(told.body)["id"])
        with self._lock:
            if not self._is_over(record):
                self._open[record.id] = record
                self._begin(record)
        return told

    def stop(self, asked: WriteRequest, sweep_id: str) -> StoredResponse:
        """Ask a sweep to end, as Ctrl-C does; the study can be continued. One that is over stays as it is."""
        record = self._record(asked.project, sweep_id)

        def answer() -> StoredResponse:
            if not self._is_over(record):
                write_file(self._folder_of(record) / supervisor.STOP, b"")
            return StoredResponse(202, encoded(self._told(record)))

        with (
            self._lock,
            translated_database_errors(self._storage.shown),
            self._storage.rdb.engine.begin() as connection,
        ):
            return idempotent_response_in(connection, asked, answer)

    def sweep(self, project: str, sweep_id: str) -> dict[str, Any]:
        """One sweep with the end of its log; :class:`NotFoundError` if this project has none of this id."""
        record = self._record(project, sweep_id)
        return {**self._told(record), "log": self._log(record)}

    def page(self, project: str, *, after: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        """Up to ``limit`` sweeps of a project, the newest first, those after the one with the id ``after``; and the
        ``after`` of the next page."""
        listed = self._records(project)
        if after is not None:
            begun = self._record(project, after)
            listed = [record for record in listed if (record.at, record.id) < (begun.at, begun.id)]
        shown = listed[:limit]
        return [self._told(record) for record in shown], shown[-1].id if len(listed) > limit else None

    # -- sweep files ----------------------------------------------------------------------------

    def _files(self) -> dict[str, Path]:
        """Files that lie in the folder, by their names without the ending."""
        listed = sorted(file for file in self._folder.iterdir() if file.suffix in SUFFIXES and file.is_file())
        return {file.stem: file for file in listed if _NAME.fullmatch(file.stem)}

    def _describe_file(self, name: str, file: Path) -> dict[str, Any]:
        try:
            spec = _loaded(file)
        except SweepFileError as error:
            return {"sweep": name, "problem": str(error)}
        if spec.trainer is None:
            return {"sweep": name, "problem": "an instrument, which has no trainer to run"}
        search = {"trials": spec.search.trials, "epochs": spec.search.epochs}
        return {"sweep": name, "description": spec.description, "objective": spec.objective.model_dump(), **search}

    def _spec(self, name: str, options: Mapping[str, Any]) -> SweepSpec:
        files = self._files()
        if name not in files:
            near = did_you_mean(name, list(files))
            raise NotFoundError(f"no sweep {brief(name)} is offered{near}; there are: {', '.join(files) or 'none'}")
        spec = _loaded(files[name])
        if spec.trainer is None:
            raise RequestError(
                f"sweep {name!r} is of an instrument, which has no trainer to run; start a study instead"
            )
        document = spec.model_dump(mode="json")
        document["search"] |= options
        return parse_sweep(document)

    def _unused_name(self, project: str, wanted: str) -> str:
        taken = {*study_names(self._storage), *(stored_name(r.project, r.study) for r in self._records(project))}
        names = (wanted, *(f"{wanted}-{n}" for n in range(2, len(taken) + 3)))
        return next(name for name in names if stored_name(project, name) not in taken)

    # -- what was started -----------------------------------------------------------------------

    def _check_capacity(self, project: str, study: str) -> None:
        self._open = {key: record for key, record in self._open.items() if not self._is_over(record)}
        if any((record.project, record.study) == (project, study) for record in self._open.values()):
            raise ConflictError(f"a sweep of study {study!r} is running; stop it, or choose another study")
        if len(self._open) >= self._at_once:
            raise ConflictError(f"{len(self._open)} of at most {self._at_once} sweeps are running; try again later")

    def _records(self, project: str | None = None) -> list[SweepRecord]:
        """The newest first."""
        return self._read(*([] if project is None else [SWEEPS.c.project == project]))

    def _record(self, project: str, sweep_id: str) -> SweepRecord:
        found = self._read(SWEEPS.c.project == project, SWEEPS.c.id == sweep_id)
        if not found:
            raise NotFoundError(f"no sweep {brief(sweep_id)} in this project")
        return found[0]

    def _read(self, *where: Any) -> list[SweepRecord]:
        wanted = select(SWEEPS).where(*where).order_by(SWEEPS.c.at.desc(), SWEEPS.c.id.desc())
        with translated_database_errors(self._storage.shown), self._storage.rdb.engine.connect() as connection:
            rows: Any = connection.execute(wanted).mappings().all()
        return [SweepRecord(**{**row, "asked": json.loads(row["asked"])}) for row in rows]

    def _folder_of(self, record: SweepRecord) -> Path:
        return self._logs / record.id

    def _write_command(self, record: SweepRecord) -> None:
        command, study = [sys.executable, "-m", "aifs_tune"], stored_name(record.project, record.study)
        words = [*command, "submit", "--follow", *self._cluster] if self._cluster else [*command, "run"]
        words += [self._files()[record.sweep].name, "--study", study]
        given = {"timeout" if name == "timeout_s" else name: value for name, value in record.asked.items()}
        words += [word for name, value in given.items() for word in (f"--{name}", str(value))]
        stop_command = [*command, "stop", study, *self._cluster] if self._cluster else None
        asked = {"command": words, "stop_command": stop_command, "cwd": str(self._folder)}
        write_file(self._folder_of(record) / supervisor.COMMAND, json.dumps(asked).encode())

    def _begin(self, record: SweepRecord) -> None:
        """Have the sweep run; nothing if it does, or did."""
        if (self._folder_of(record) / supervisor.BEGAN).exists():
            return
        process = subprocess.Popen(
            [sys.executable, "-m", supervisor.__name__, str(self._folder_of(record))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={
                **os.environ,
                ENVIRONMENT_VARIABLE: self._storage.url,  # not among its words, which every user of the machine sees
                _ARTIFACTS_VARIABLE: str(self._storage.artifacts),
                "PYTHONUNBUFFERED": "1",
            },
        )
        threading.Thread(target=process.wait, daemon=True).start()  # or it would stay as a zombie

    # -- what became of it ----------------------------------------------------------------------

    def _is_over(self, record: SweepRecord) -> bool:
        return self._state(record)[0] not in ("pending", "running")

    def _state(self, record: SweepRecord) -> tuple[SweepProcessState, supervisor.Ended | None]:
        folder = self._folder_of(record)
        has_warm_started = (
            folder / supervisor.BEGAN
        ).exists()  # asked first: who has begun holds the lock until it ends
        is_alive = supervisor.is_alive(folder)
        try:
            ended = supervisor.Ended(**json.loads((folder / supervisor.ENDED).read_bytes()))
        except FileNotFoundError:
            ended = None
        if ended is not None:
            return ("succeeded" if ended.exit_code == 0 else "stopped" if ended.was_stopped else "failed"), ended
        if has_warm_started or not folder.exists():
            return ("running" if is_alive else "failed"), None
        return "pending", None

    def _told(self, record: SweepRecord) -> dict[str, Any]:
        state, ended = self._state(record)
        return {
            "id": record.id,
            "sweep": record.sweep,
            "study": record.study,
            "asked": dict(record.asked),
            "state": state,
            "exit_code": None if ended is None else ended.exit_code,
            "started_at": _moment(record.at),
            "ended_at": None if ended is None else _moment(ended.at),
        }

    def _log(self, record: SweepRecord) -> str:
        log = self._folder_of(record) / supervisor.LOG
        content = b"".join(_end_of(file) for file in (supervisor.older(log), log))
        return content[-LOG_BYTES:].decode(errors="replace")


def _end_of(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - LOG_BYTES))
            return stream.read()
    except FileNotFoundError:
        return b""


def _loaded(file: Path) -> SweepSpec:
    """The sweep in a file, of whose place on this machine nothing is told."""
    try:
        return load_sweep_file(file)
    except SweepFileError as error:
        told = SweepFileError(error.problem, source=file.name, line=error.line, key=error.key, allowed=error.allowed)
        raise told from None


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
