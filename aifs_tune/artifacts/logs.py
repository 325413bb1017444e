"""Logs of the trials of a study, among its artifacts."""

from __future__ import annotations

from pathlib import Path

from aifs_tune.artifacts.stores import store_at
from aifs_tune.errors import NotFoundError
from aifs_tune.study.study import Study
from aifs_tune.study.trial import Trial

MAX_BYTES = 64 * 1024
"""Length of the log that is kept of a trial."""
_LOGS = "logs"


def log_name(number: int) -> str:
    """Path of the log of a trial in the artifact folder of its study."""
    return f"{_LOGS}/trial-{number:06d}.txt"


def save_log(url: str, number: int, content: bytes) -> None:
    """Store the log of a trial in an object store."""
    entry = f"{_LOGS}/trial-{number:06d}"
    store_at(url).put(entry, lambda folder: (folder / "log.txt").write_bytes(content))


def read_log(study: Study, trial: Trial | int) -> str:
    """Return what a trial printed, logged and warned, with the tracebacks of its errors.

    Parameters
    ----------
    study : Study
        The study of the trial.
    trial : Trial or int
        The trial or its number.

    Returns
    -------
    str
        The last 64 kB (65,536 bytes) as text; characters that are not UTF-8 are replaced.

    Raises
    ------
    NotFoundError
        If there is no such trial, or it left no output.
    StorageError
        If an object store does not answer.

    Examples
    --------
    >>> from aifs_tune.artifacts import read_log
    >>> def noisy(x):
    ...     print("the lamp is on")
    ...     return x
    >>> space = {"x": {"type": "float", "low": 0, "high": 1}}
    >>> result = aifs_tune.tune(noisy, space, trials=1, storage="sqlite:///lab.db")
    the lamp is on
    >>> read_log(result.study, 0)
    'the lamp is on\\n'
    """
    number = study.trial(trial).number
    missing = NotFoundError(f"study {study.name!r}: trial {number} left no output")
    if isinstance(study.artifacts, Path):
        try:
            stored = (study.artifacts / log_name(number)).read_bytes()
        except FileNotFoundError:
            raise missing from None
    else:
        from aifs_tune._util.cache import cache_root

        try:
            folder = store_at(study.artifacts).fetch(f"{_LOGS}/trial-{number:06d}", cache_root().absolute())
        except NotFoundError:
            raise missing from None
        stored = (folder / "log.txt").read_bytes()
    return stored[-MAX_BYTES:].decode(errors="replace")
