"""Protocols of trainers: what a trainer must do, and what it may do in addition."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from aifs_tune._util.scalars import Scalar


class Trainer(Protocol):
    """Trainer of one trial at a time; a worker keeps it and resets it for the next trial.

    Guarantee: after ``reset(params, seed)`` the metrics depend only on ``params``, ``seed`` and the data, not on
    earlier trials.
    """

    @property
    def is_finished(self) -> bool:
        """Whether the trainer has ended the trial: its patience is over, or its function has returned."""
        ...

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial; keep the compiled program if ``params`` do not change tensor shapes."""
        ...

    def epoch(self) -> dict[str, float]:
        """Train one epoch, measure it and return its metrics. May block for minutes.

        The metrics are empty, and ``is_finished`` is true, if there was nothing left to train.
        """
        ...


@runtime_checkable
class Resumable(Protocol):
    """Trainer whose running trial can be saved, and continued by another process.

    Guarantee: after a ``reset`` with the same params and seed, ``load`` of the files of ``save`` continues the trial
    with the metrics that it would have had without an interruption. Files hold plain arrays and JSON, no pickle.
    """

    def save(self, folder: Path) -> None:
        """Write the running trial into the existing, empty ``folder``."""
        ...

    def load(self, folder: Path) -> None:
        """Continue the trial from the files of ``save``."""
        ...


@runtime_checkable
class SavesBest(Protocol):
    """Trainer that writes its best model; files hold plain arrays and JSON, no pickle."""

    def save_best(self, folder: Path) -> Path:
        """Write the weights of the best epoch so far into the existing ``folder``; return the path of the file."""
        ...


@runtime_checkable
class Evaluating(Protocol):
    """Trainer that measures its best epoch on any part of the data."""

    def evaluate(self, part: Literal["train", "val", "test"]) -> dict[str, float]:
        """Metrics of the best epoch on ``part``, such as ``test_loss``.

        Raises
        ------
        DataError
            If the part is empty.
        TrainerError
            If no epoch was trained yet.
        """
        ...


@runtime_checkable
class SavesPredictions(Protocol):
    """Trainer that writes the predictions of its best epoch for the test part."""

    def save_predictions(self, folder: Path) -> Path:
        """Write targets and predictions into the existing ``folder``; return the path of ``test.npz``.

        See :func:`aifs_tune.trainers.predictions.write_predictions`.

        Raises
        ------
        DataError
            If there is no test part.
        TrainerError
            If no epoch was trained yet.
        """
        ...


@runtime_checkable
class Adaptable(Protocol):
    """Trainer whose running trial can continue with other parameters.

    Guarantee: the next epoch trains with ``params`` from the current weights; a change to the current params changes
    nothing.
    """

    def change(self, params: Mapping[str, Scalar]) -> None:
        """Continue with ``params``; a missing parameter gets its default.

        Raises
        ------
        RequestError
            If a parameter is unknown or not allowed, or changes a tensor shape; the trial is then unchanged.
        """
        ...


@runtime_checkable
class Stoppable(Protocol):
    """Trainer whose running trial wants to be told that it is over."""

    def stop(self) -> None:
        """Let the running trial end, if there is one; raises nothing of the trial's own."""
        ...


@runtime_checkable
class BeginsEpochs(Protocol):
    """Trainer elsewhere that can train while its caller does something else."""

    def begin_epoch(self) -> None:
        """Begin the next epoch; the next call of ``epoch`` waits for it. A ``reset`` discards it."""
        ...


@runtime_checkable
class Numbered(Protocol):
    """Trainer whose user's code may ask for the number of its trial."""

    trial_number: int
    """Number of the trial that the next ``reset`` starts."""


@runtime_checkable
class ReturnsResult(Protocol):
    """Trainer of code that says itself what its trial is worth, or that it is pruned, after it has measured epochs."""

    final: dict[str, float] | None
    """The objectives of the trial that has ended; None if its best epoch counts."""
    pruned: str | None
    """Why the code has pruned the trial; None if it has not."""


@runtime_checkable
class ReportsTimings(Protocol):
    """Trainer that reports where its time goes."""

    @property
    def timings(self) -> Mapping[str, float]:
        """Seconds of ``trace``, ``train`` and ``evaluate`` since the trainer was made."""
        ...


@runtime_checkable
class ReportsGpuMemory(Protocol):
    """Trainer that reports its memory on a GPU."""

    @property
    def gpu_peak_mb(self) -> float | None:
        """Peak GPU memory since the trainer was made, in MB of 2**20 bytes; None if it is unknown."""
        ...


@runtime_checkable
class NeedsRestart(Protocol):
    """Trainer whose process cannot free all of its memory and must sometimes be replaced."""

    def needs_restart(self, params: Mapping[str, Scalar]) -> bool:
        """Whether a trial with ``params`` should start in a new process."""
        ...
