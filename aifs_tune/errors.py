"""Every error that this package raises on purpose.

    AifsTuneError
    ├── RequestError            what was asked for is wrong; nothing was done
    │   ├── SweepFileError      a sweep file or a ``--set``: names file, line, key, value, what is allowed
    │   ├── DataError           the data folder cannot be used as asked
    │   ├── NotFoundError       no such study, trial or file
    │   ├── ConflictError       contradicts what already stands (another result, another space)
    │   ├── MissingPackageError a package is not installed; also an ImportError
    │   └── AccessError         a token does not allow it
    │       └── UnknownCallerError  there is no token, or none that is valid
    └── WorkError               the request was right, the work failed
        ├── StorageError        the storage cannot be read or written
        │   ├── StorageBusyError  another process is writing to it
        │   └── DamagedError    files are not those whose hashes are stored
        ├── ServiceError        the service cannot be reached, or not take more now
        ├── LostError           what a trial needs is gone; it can be tried again
        │   └── NodeError         this machine cannot run trials of the study
        ├── TrainerError        a trainer failed or returned what is no measurement
        └── InterruptedSweepError  stopped before the end; can be resumed

Errors of other libraries are translated into these where they enter. Each class states the exit code of the command
line and the HTTP status of the service.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class AifsTuneError(Exception):
    """Base of every error raised on purpose; its text is one message a user can act on."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500


class RequestError(AifsTuneError):
    """What was asked for is wrong; nothing was done."""

    exit_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 422


class SweepFileError(RequestError):
    """A sweep file, or a ``--set`` override, that does not say a valid sweep.

    Parameters
    ----------
    source
        File path, or ``"--set"``.
    line
        One-based line in the file, or None where there is none.
    key
        Dotted path of the key, such as ``space.learning_rate.low``; empty for the whole file.
    problem
        What is wrong, including the value that came.
    allowed
        What would have been right; empty where the problem says it all.

    ``problems`` has every one that was found, with its path in the document.
    """

    def __init__(
        self, problem: str, *, source: str | Path, line: int | None = None, key: str = "", allowed: str = ""
    ) -> None:
        self.problem, self.source, self.line, self.key, self.allowed = problem, str(source), line, key, allowed
        where = self.source + (f":{line}" if line is not None else "")
        message = f"{where}: " + (f"{key}: " if key else "") + problem
        self.problems: tuple[tuple[tuple[str | int, ...], str], ...] = ()
        super().__init__(message + (f"; allowed: {allowed}" if allowed else ""))


class DataError(RequestError):
    """The data folder cannot be used as asked."""


class NotFoundError(RequestError):
    """No such study, trial or file."""

    exit_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 404


class ConflictError(RequestError):
    """The request contradicts what already stands."""

    exit_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 409


class MissingPackageError(RequestError, ImportError):
    """A package that the request needs is not installed; the text says how to install it."""

    exit_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 422


class AccessError(RequestError):
    """A token does not allow it."""

    exit_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 403


class UnknownCallerError(AccessError):
    """A service was asked without a token that is valid."""

    exit_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 401


class WorkError(AifsTuneError):
    """The request was right, the work failed."""


class StorageError(WorkError):
    """The storage cannot be read or written."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 503


class StorageBusyError(StorageError):
    """Another process is writing to this storage."""


class DamagedError(StorageError):
    """Files are not those whose hashes the study has."""


class ServiceError(WorkError):
    """The service cannot be reached, or has as many requests as it takes."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 503


class TrainerError(WorkError):
    """A trainer failed, or returned something that is not a measurement."""


class LostError(WorkError):
    """What a trial needs has gone with another process; the trial can be tried again in a new one."""


class NodeError(LostError):
    """This machine cannot run the trials of a study, such as one whose data are others: another one may."""


class InterruptedSweepError(WorkError):
    """The sweep stopped before its last trial; ``aifs-tune resume`` finishes it."""


PROBLEM_TYPES: dict[type[AifsTuneError], tuple[str, str]] = {
    NotFoundError: ("urn:aifs-tune:not-found", "Not there"),
    ConflictError: ("urn:aifs-tune:conflict", "Contradicts what stands"),
    UnknownCallerError: ("urn:aifs-tune:unknown-caller", "No valid token"),
    AccessError: ("urn:aifs-tune:access", "Not allowed"),
    SweepFileError: ("urn:aifs-tune:invalid", "Invalid fields"),
    RequestError: ("urn:aifs-tune:request", "Wrong request"),
    StorageBusyError: ("urn:aifs-tune:storage-busy", "Somebody else is writing"),
    StorageError: ("urn:aifs-tune:storage", "Storage trouble"),
    ServiceError: ("urn:aifs-tune:busy", "Too much at once"),
    AifsTuneError: ("urn:aifs-tune:error", "Error"),
}
"""The nearest entry along the class hierarchy counts."""
