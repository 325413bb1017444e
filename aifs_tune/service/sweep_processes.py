"""Sweeps started over HTTP: the available sweep files, the processes started from them, and their states."""

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
from aifs_tune._util.scalars import brief
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
"""Bytes of the end of a log that a response contains."""
_NAME = re.compile(STUDY_PATTERN[1:-1])
_ARTIFACTS_VARIABLE = "AIFS_TUNE_ARTIFACTS"


@dataclass(frozen=True)
class SweepRecord:
    """Stored data of a sweep that was started; ``at`` is in seconds since 1970."""

    id: str
    project: str
    sweep: str
    study: str
    overrides: Mapping[str, Any]
    host: str
    at: float


class SweepProcesses:
    """Starts sweeps from the files of a folder, as processes that outlive this one.

    Parameters
    ----------
    storage
        The storage of the studies.
    folder
        The folder of sweep files.
    at_once
        Maximum number of sweeps that run at the same time.
    cluster
        Options of ``aifs-tune submit`` that name a Ray cluster; sweeps are then jobs of that cluster.

    Raises
    ------
    RequestError
        If there is no such folder, or if the storage is SQLite, which one process of one machine writes to, and
        ``at_once`` is above 1 or ``cluster`` is given.
    """

    def __init__(self, storage: Storage, folder: Path, *, at_once: int = 1, cluster: Sequence[str] = ()) -> None:
        if not folder.is_dir():
            raise RequestError(f"--sweeps: {folder} is not a folder")
        if at_once > 1 and storage.url.startswith("sqlite"):
            raise RequestError(
                f"--sweeps-at-once: {at_once}, but only one sweep at a time can write to SQLite; allowed: 1"
            )
        if cluster and storage.url.startswith("sqlite"):
            raise RequestError("--address: jobs of a cluster cannot write to SQLite; allowed: a storage in PostgreSQL")
        self._storage, self._folder, self._at_once, self._cluster = storage, folder.absolute(), at_once, tuple(cluster)
        artifacts = storage.artifacts if isinstance(storage.artifacts, Path) else Path.cwd() / "aifs_tune_artifacts"
        self._logs = artifacts / "sweeps"  # logs of processes stay on this machine, even if checkpoints are elsewhere
        self._lock = threading.Lock()
        here = [record for record in self._records() if record.host == socket.gethostname()]
        self._open = {record.id: record for record in here if not self._is_over(record)}
        for record in self._open.values():
            self._launch(record)

    def sweep_files(self) -> list[dict[str, Any]]:
        """List the sweep files by name; a file that cannot be run has the reason under ``problem``."""
        return [self._describe_file(name, file) for name, file in self._files().items()]

    def start(
        self, write_request: WriteRequest, sweep: str, study: str | None, overrides: Mapping[str, Any]
    ) -> StoredResponse:
        """Store the record of a sweep, then start it in its own process.

        Raises
        ------
        NotFoundError
            If there is no sweep file of that name.
        SweepFileError
            If the file or an override is not valid.
        ConflictError
            If too many sweeps are running, or a sweep of this study is.
        """

        def respond() -> StoredResponse:
            spec = self._spec(sweep, overrides)
            name = study or self._unused_name(project, spec.name)
            self._check_capacity(project, name)
            made = SweepRecord(
                secrets.token_hex(8), project, sweep, name, dict(overrides), socket.gethostname(), time.time()
            )
            self._write_command(made)
            connection.execute(insert(SWEEPS), {**vars(made), "overrides": json.dumps(made.overrides)})
            return StoredResponse(202, encoded(self._to_json(made)), study=name)

        project = write_request.action.project

        with (
            self._lock,
            translated_database_errors(self._storage.shown),
            self._storage.rdb.engine.begin() as connection,
        ):
            response = idempotent_response_in(connection, write_request, respond)
        record = self._record(project, json.loads(response.body)["id"])
        with self._lock:
            if not self._is_over(record):
                self._open[record.id] = record
                self._launch(record)
        return response

    def stop(self, write_request: WriteRequest, sweep_id: str) -> StoredResponse:
        """Stop a sweep as Ctrl-C does, so that it can be resumed; a finished sweep is left as it is."""
        record = self._record(write_request.action.project, sweep_id)

        def respond() -> StoredResponse:
            if not self._is_over(record):
                write_file(self._folder_of(record) / supervisor.STOP, b"")
            return StoredResponse(202, encoded(self._to_json(record)), study=record.study)

        with (
            self._lock,
            translated_database_errors(self._storage.shown),
            self._storage.rdb.engine.begin() as connection,
        ):
            return idempotent_response_in(connection, write_request, respond)

    def sweep(self, project: str, sweep_id: str) -> dict[str, Any]:
        """Return one sweep with the end of its log.

        Raises
        ------
        NotFoundError
            If the project has no sweep with this id.
        """
        record = self._record(project, sweep_id)
        return {**self._to_json(record), "log": self._log(record)}

    def page(self, project: str, *, after: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        """Return up to ``limit`` sweeps of a project, the newest first, and the ``after`` of the next page.

        With ``after``, the page begins behind the sweep with that id.
        """
        listed = self._records(project)
        if after is not None:
            last = self._record(project, after)
            listed = [record for record in listed if (record.at, record.id) < (last.at, last.id)]
        shown = listed[:limit]
        return [self._to_json(record) for record in shown], shown[-1].id if len(listed) > limit else None

    # -- sweep files ----------------------------------------------------------------------------

    def _files(self) -> dict[str, Path]:
        """Return the files in the folder by their names without the suffix."""
        listed = sorted(file for file in self._folder.iterdir() if file.suffix in SUFFIXES and file.is_file())
        return {file.stem: file for file in listed if _NAME.fullmatch(file.stem)}

    def _describe_file(self, name: str, file: Path) -> dict[str, Any]:
        try:
            spec = _loaded(file)
        except SweepFileError as error:
            return {"sweep": name, "problem": str(error)}
        if spec.trainer is None:
            return {"sweep": name, "problem": "it has no trainer, so there is nothing to run"}
        search = {"trials": spec.search.trials, "epochs": spec.search.epochs}
        return {"sweep": name, "description": spec.description, "objective": spec.objective.model_dump(), **search}

    def _spec(self, name: str, overrides: Mapping[str, Any]) -> SweepSpec:
        files = self._files()
        if name not in files:
            raise NotFoundError(f"no sweep file {brief(name)}; there are: {', '.join(files) or 'none'}")
        spec = _loaded(files[name])
        if spec.trainer is None:
            raise RequestError(
                f"sweep file {name!r} has no trainer, so there is nothing to run; create a study instead"
            )
        document = spec.model_dump(mode="json")
        document["search"] |= overrides
        return parse_sweep(document)

    def _unused_name(self, project: str, wanted: str) -> str:
        taken = {*study_names(self._storage), *(stored_name(r.project, r.study) for r in self._records(project))}
        names = (wanted, *(f"{wanted}-{n}" for n in range(2, len(taken) + 3)))
        return next(name for name in names if stored_name(project, name) not in taken)

    # -- records and processes ------------------------------------------------------------------

    def _check_capacity(self, project: str, study: str) -> None:
        self._open = {key: record for key, record in self._open.items() if not self._is_over(record)}
        if any((record.project, record.study) == (project, study) for record in self._open.values()):
            raise ConflictError(f"a sweep of study {study!r} is running; stop it, or choose another study")
        if len(self._open) >= self._at_once:
            raise ConflictError(f"{len(self._open)} of at most {self._at_once} sweeps are running; try again later")

    def _records(self, project: str | None = None) -> list[SweepRecord]:
        """Return all sweeps, or those of a project, the newest first."""
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
        return [SweepRecord(**{**row, "overrides": json.loads(row["overrides"])}) for row in rows]

    def _folder_of(self, record: SweepRecord) -> Path:
        return self._logs / record.id

    def _write_command(self, record: SweepRecord) -> None:
        command, study = [sys.executable, "-m", "aifs_tune"], stored_name(record.project, record.study)
        arguments = [*command, "submit", "--follow", *self._cluster] if self._cluster else [*command, "run"]
        arguments += [self._files()[record.sweep].name, "--study", study]
        given = {"timeout" if name == "timeout_s" else name: value for name, value in record.overrides.items()}
        arguments += [word for name, value in given.items() for word in (f"--{name}", str(value))]
        stop_command = [*command, "stop", study, *self._cluster] if self._cluster else None
        content = {"command": arguments, "stop_command": stop_command, "cwd": str(self._folder)}
        write_file(self._folder_of(record) / supervisor.COMMAND, json.dumps(content).encode())

    def _launch(self, record: SweepRecord) -> None:
        """Start the supervisor of a sweep, unless it was started before."""
        if (self._folder_of(record) / supervisor.BEGAN).exists():
            return
        process = subprocess.Popen(
            [sys.executable, "-m", supervisor.__name__, str(self._folder_of(record))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**command_environment(self._storage), "PYTHONUNBUFFERED": "1"},
        )
        threading.Thread(target=process.wait, daemon=True).start()  # without this the process would stay as a zombie

    # -- states ---------------------------------------------------------------------------------

    def _is_over(self, record: SweepRecord) -> bool:
        return self._state(record)[0] not in ("pending", "running")

    def _state(self, record: SweepRecord) -> tuple[SweepProcessState, supervisor.Ended | None]:
        folder = self._folder_of(record)
        has_begun = (folder / supervisor.BEGAN).exists()  # read before the lock, which is held from then to the end
        is_alive = supervisor.is_alive(folder)
        try:
            ended = supervisor.Ended(**json.loads((folder / supervisor.ENDED).read_bytes()))
        except FileNotFoundError:
            ended = None
        if ended is not None:
            return ("succeeded" if ended.exit_code == 0 else "stopped" if ended.was_stopped else "failed"), ended
        if has_begun or not folder.exists():
            return ("running" if is_alive else "failed"), None
        return "pending", None

    def _to_json(self, record: SweepRecord) -> dict[str, Any]:
        state, ended = self._state(record)
        return {
            "id": record.id,
            "sweep": record.sweep,
            "study": record.study,
            "overrides": dict(record.overrides),
            "state": state,
            "exit_code": None if ended is None else ended.exit_code,
            "started_at": _moment(record.at),
            "ended_at": None if ended is None else _moment(ended.at),
        }

    def _log(self, record: SweepRecord) -> str:
        log = self._folder_of(record) / supervisor.LOG
        content = b"".join(_end_of(file) for file in (supervisor.older(log), log))
        return content[-LOG_BYTES:].decode(errors="replace")


def command_environment(storage: Storage) -> dict[str, str]:
    """Return the environment of a command that works on ``storage``."""
    return {
        **os.environ,
        ENVIRONMENT_VARIABLE: storage.url,  # not an argument, which every user of the machine can see
        _ARTIFACTS_VARIABLE: str(storage.artifacts),
    }


def _end_of(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - LOG_BYTES))
            return stream.read()
    except FileNotFoundError:
        return b""


def _loaded(file: Path) -> SweepSpec:
    """Load a sweep file; errors name the file without its folder."""
    try:
        return load_sweep_file(file)
    except SweepFileError as error:
        shown = SweepFileError(error.problem, source=file.name, line=error.line, key=error.key, allowed=error.allowed)
        raise shown from None


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
