"""What each error family is called in the answers of the service: the type and title of its problem details."""

from __future__ import annotations

from aifs_tune.errors import (
    AccessError,
    AifsTuneError,
    ConflictError,
    NotFoundError,
    RequestError,
    ServiceError,
    StorageBusyError,
    StorageError,
    SweepFileError,
    UnknownCallerError,
)

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
