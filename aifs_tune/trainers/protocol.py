"""The trainer protocol: one object that trains one trial after another, one epoch at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from aifs_tune._util.scalars import Scalar


class Trainer(Protocol):
    """Trains one trial at a time; a worker keeps it and resets it for the next trial.

    Guarantee: after ``reset(params, seed)`` the measurements depend on ``params``, ``seed`` and the data
    alone, not on the trials before.
    """

    @property
    def is_finished(self) -> bool:
        """True once the trainer itself will not train further (patience ran out, the function returned)."""
        ...

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial. Keeps the compiled program when ``params`` leave all tensor shapes as they are."""
        ...

    def epoch(self) -> dict[str, float]:
        """Train one epoch, evaluate, and return the metrics of this epoch. May block for minutes.

        Empty, with ``is_finished``, if it turns out that there was nothing more to train.
        """
        ...


@runtime_checkable
class Resumable(Protocol):
    """A trainer whose running trial can be written to disk and continued by another process.

    Guarantee: ``load`` of what ``save`` wrote, after a ``reset`` with the same params and seed, continues
    the measurements as if the trial had never stopped. Files hold plain arrays and JSON, no pickle.
    """

    def save(self, folder: Path) -> None:
        """Write all that the running trial needs to go on into the existing, empty ``folder``."""
        ...

    def load(self, folder: Path) -> None:
        """Continue from what ``save`` wrote."""
        ...

    def save_best(self, folder: Path) -> Path:
        """Write the weights of the best epoch so far into the existing ``folder``; return the file."""
        ...


@runtime_checkable
class Evaluating(Protocol):
    """A trainer that measures its best epoch on any part of the data."""

    def evaluate(self, part: Literal["train", "val", "test"]) -> dict[str, float]:
        """``test_loss`` and so on.

        Raises
        ------
        DataError
            If the part is empty; TrainerError if no epoch was trained yet.
        """
        ...


@runtime_checkable
class SavesPredictions(Protocol):
    """A trainer that says what its best epoch answers for the test part."""

    def save_predictions(self, folder: Path) -> Path:
        """Write truths and answers into the existing ``folder`` as ``test.npz`` and ``test.json``; the path of the
        first. See :func:`aifs_tune.trainers.predictions.write_predictions`.

        Raises
        ------
        DataError
            If there is no test part; TrainerError if no epoch was trained yet.
        """
        ...


@runtime_checkable
class Adaptable(Protocol):
    """A trainer whose running trial can go on with other parameters.

    Guarantee: the next epoch trains with ``params`` from the weights that the trial has; with the params that it has
    already, nothing changes.
    """

    def change(self, params: Mapping[str, Scalar]) -> None:
        """Go on with ``params``, which are complete: what is absent has its default.

        Raises
        ------
        RequestError
            If a parameter is unknown or not allowed, or a tensor shape would change; the trial is as it was.
        """
        ...


@runtime_checkable
class ReportsTimings(Protocol):
    """A trainer that says what its time goes into."""

    @property
    def timings(self) -> Mapping[str, float]:
        """Seconds since it was made, by what they went into: ``trace``, ``train`` and ``evaluate``."""
        ...


@runtime_checkable
class ReportsGpuMemory(Protocol):
    """A trainer that says what it takes of a GPU."""

    @property
    def gpu_peak_mb(self) -> float | None:
        """The most that it has allocated there since it was made, in MB of 2**20 bytes; None if it is not known."""
        ...


@runtime_checkable
class NeedsRestart(Protocol):
    """A trainer whose process cannot give back all that it takes, and has to be replaced at times."""

    def needs_restart(self, params: Mapping[str, Scalar]) -> bool:
        """Whether a trial with these params should better begin in a new process."""
        ...
