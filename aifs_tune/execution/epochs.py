"""Epochs of a trial, and how its checkpoints hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from aifs_tune._util.hashing import Hashes, check_hashes, check_hashes_file, hashes_of, write_hashes_file
from aifs_tune.trainers.protocol import Resumable

_EPOCHS_FILE = "epochs.json"


@dataclass(frozen=True)
class EpochResult:
    """One epoch of a trial, or its end.

    ``metrics`` is empty when it failed; the objective is None in an epoch that did not measure it. ``final`` has the
    objectives of a trial that is not worth its best epoch, but what its code returned. ``reason`` says why it failed
    or was pruned by its code, or what of its files could not be kept or used; ``out_of_memory`` whether it failed for
    want of memory. ``checkpoint`` and ``weights`` are the hashes of what was written after it. ``timings`` is what
    this worker's time since its last step went into: seconds by the names of :data:`aifs_tune.execution.timing.WORK`.
    ``notes`` is what the trial has said beside numbers so far, ``error`` the traceback of what failed.
    """

    epoch: int
    metrics: Mapping[str, float | None]
    seconds: float
    ended: Literal["complete", "pruned", "failed"] | None
    reason: str | None = None
    timings: Mapping[str, float] = field(default_factory=dict, compare=False)
    out_of_memory: bool = False
    checkpoint: Hashes | None = None
    weights: Hashes | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    final: Mapping[str, float] | None = None


def write_checkpoint(folder: Path, trainer: Resumable, results: Sequence[EpochResult]) -> None:
    """Write into ``folder`` what ``trainer`` goes on from, what was ``measured`` so far, and the hashes of both."""
    trainer.save(folder)
    (folder / _EPOCHS_FILE).write_text(json.dumps([asdict(step) for step in results]))
    write_hashes_file(folder)


def load_checkpoint(folder: Path, trainer: Resumable, expected: Hashes | None) -> tuple[list[EpochResult], Hashes]:
    """Let ``trainer`` go on from what is in ``folder``; what was measured before it, and the hashes of the files.

    Raises
    ------
    DamagedError
        If the files are not those that are ``expected``, or without any expectation not those that they say themselves.
    """
    if expected is None:
        check_hashes_file(folder)
    else:
        check_hashes(folder, expected)
    trainer.load(folder)  # first, as it refuses files of another version
    results = [EpochResult(**step) for step in json.loads((folder / _EPOCHS_FILE).read_text())]
    return results, hashes_of(folder)
