"""Errors that this package raises on purpose.

    AifsTuneError
    ├── RequestError              the request is not valid; nothing was done
    │   ├── SweepFileError        a sweep file or a ``--set`` override is not valid
    │   ├── DataError             the data cannot be used as requested
    │   ├── NotFoundError         a study, trial or file does not exist
    │   ├── ConflictError         the request contradicts stored results or another space
    │   ├── UntrustedCodeError    a study or a bundle names code that nobody has allowed to run here
    │   └── AccessError           the token does not permit the request
    │       └── UnknownCallerError  there is no valid token
    └── WorkError                 the request is valid, but the work failed
        ├── StorageError          the storage cannot be read or written
        │   ├── StorageBusyError  another process is writing to the storage
        │   └── DamagedError      files do not match their stored hashes
        ├── ServiceError          the service cannot be reached or is busy
        ├── LostError             a resource of a trial was lost; the trial can be retried
        │   └── NodeError         this machine cannot run trials of the study
        ├── TrainerError          a trainer failed or returned an invalid result
        └── InterruptedSweepError the sweep stopped early; it can be resumed

Errors of other libraries are translated to these where they enter the package. Each class has the exit code of the
command line and the HTTP status of the service.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class AifsTuneError(Exception):
    """Base class of all errors that the package raises on purpose; the message tells what to do.

    Attributes
    ----------
    exit_code
        Exit code of the command line: 1 if the work failed, 2 if the request was not valid.
    http_status
        HTTP status of the service.

    Examples
    --------
    >>> try:
    ...     aifs_tune.load_sweep("no_such_file.yaml")
    ... except aifs_tune.AifsTuneError as error:
    ...     print(type(error).__name__, error.exit_code)
    NotFoundError 2
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500


class RequestError(AifsTuneError):
    """The request is not valid; nothing was done."""

    exit_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 422


class SweepFileError(RequestError):
    """A sweep file or a ``--set`` override is not valid.

    Parameters
    ----------
    problem
        Problem, including the given value.
    source
        Path of the file, or ``"--set"``.
    line
        One-based line in the file; None if there is none.
    key
        Dotted path of the key, such as ``space.learning_rate.low``; empty for the whole file.
    allowed
        Allowed values; empty if the problem needs no further explanation.

    Attributes
    ----------
    problems
        All problems found, each with the path of its key in the document.
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
    """The data cannot be used as requested."""


class NotFoundError(RequestError):
    """A study, trial or file does not exist."""

    exit_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 404


class ConflictError(RequestError):
    """The request contradicts stored results or settings."""

    exit_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 409


class MissingPackageError(RequestError, ImportError):
    """A package that the request needs is not installed; the text says how to install it."""

    exit_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 422


class UntrustedCodeError(RequestError):
    """A study or a bundle names code that nobody has allowed to run here.

    Parameters
    ----------
    message
        The text.
    name
        Name of the code, ``module:function``.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class AccessError(RequestError):
    """The token does not permit the request."""

    exit_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 403


class UnknownCallerError(AccessError):
    """The request has no valid token."""

    exit_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 401


class WorkError(AifsTuneError):
    """The request is valid, but the work failed."""


class StorageError(WorkError):
    """The storage cannot be read or written."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 503


class StorageBusyError(StorageError):
    """Another process is writing to the storage."""


class DamagedError(StorageError):
    """Files do not match the hashes stored in the study."""


class ServiceError(WorkError):
    """The service cannot be reached, or has too many requests."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 503


class TrainerError(WorkError):
    """A trainer failed or returned an invalid result."""


class LostError(WorkError):
    """A resource of a trial was lost with another process; the trial can be retried in a new process."""


class NodeError(LostError):
    """This machine cannot run trials of the study, for example because its data differ; another machine may."""


class InterruptedSweepError(WorkError):
    """The sweep stopped before its last trial; ``aifs-tune resume`` continues it."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows instead of a traceback: who interrupted a sweep knows where."""
        return [f"{type(self).__name__}: {self}"]


PROBLEM_TYPES: dict[type[AifsTuneError], tuple[str, str]] = {
    NotFoundError: ("urn:aifs-tune:not-found", "Not found"),
    ConflictError: ("urn:aifs-tune:conflict", "Conflict"),
    UnknownCallerError: ("urn:aifs-tune:unknown-caller", "No valid token"),
    AccessError: ("urn:aifs-tune:access", "Access denied"),
    SweepFileError: ("urn:aifs-tune:invalid", "Invalid fields"),
    RequestError: ("urn:aifs-tune:request", "Invalid request"),
    StorageBusyError: ("urn:aifs-tune:storage-busy", "Storage is busy"),
    StorageError: ("urn:aifs-tune:storage", "Storage error"),
    ServiceError: ("urn:aifs-tune:busy", "Service is busy"),
    AifsTuneError: ("urn:aifs-tune:error", "Error"),
}
"""Type and title of problem details (RFC 9457) by error class; a subclass without an entry uses its base class."""
