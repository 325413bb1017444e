"""A trainer whose epochs are measured on several folds, for data that are too few for one validation part."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from aifs_tune._util.scalars import Scalar
from aifs_tune.trainers.protocol import Trainer

_MEASURED = "val_"
"""How the names of metrics begin that are of examples which were not trained on."""


class FoldedTrainer:
    """Trains one configuration on K + 1 divisions of the same data, an epoch of each in turn.

    ``own`` is of the division that the sweep asks for, and what a trial leaves behind: its answers, its weights.
    ``folds`` only measure it: what an epoch reports as ``val_...`` is the mean over them, and that decides which epoch
    is best, for all of them, and when ``patience`` runs out. So no single validation part is chosen for.

    All are of one trainer of this package, with equal arguments. The first trial begins with :meth:`reset`.
    """

    def __init__(self, own: Any, folds: Sequence[Any]) -> None:
        self._own, self._all = own, (own, *folds)

    @property
    def is_finished(self) -> bool:
        """Whether ``patience`` ran out."""
        return bool(self._own.is_finished)

    @property
    def best_epoch(self) -> int | None:
        """Counted from 1; None before the first finite value."""
        found: int | None = self._own.best_epoch
        return found

    @property
    def best_value(self) -> float | None:
        """The metric at the best epoch."""
        found: float | None = self._own.best_value
        return found

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial, on each fold with a seed of its own.

        Raises
        ------
        RequestError
            If a parameter is unknown or not allowed, or the seed is negative.
        """
        self._own.reset(params, seed=seed)
        for i, trainer in enumerate(self._all[1:], start=1):
            trainer.reset(params, seed=(seed + i) % 2**32)

    def epoch(self) -> dict[str, float]:
        """Train an epoch on each division; empty if already finished.

        ``val_...`` are means over the folds, all other metrics those of the sweep's own division.
        """
        if self.is_finished:
            return {}
        metrics, *folds = (trainer.train_epoch() for trainer in self._all)
        for name in metrics:
            if name.startswith(_MEASURED):
                metrics[name] = statistics.fmean(fold[name] for fold in folds)
        for trainer in self._all:
            trainer.judge(metrics)
        return dict(metrics)

    def evaluate(self, part: Literal["train", "val", "test"]) -> dict[str, float]:
        """Measure the best epoch on one part of the sweep's own division: ``test_loss`` and so on.

        Raises
        ------
        DataError
            If the part is empty; TrainerError if no epoch was trained yet.
        """
        found: dict[str, float] = self._own.evaluate(part)
        return found

    def save_predictions(self, folder: Path) -> Path:
        """Write what the best epoch answers for the test part into ``folder``; the path of the arrays."""
        written: Path = self._own.save_predictions(folder)
        return written


class FoldedNetTrainer(FoldedTrainer):
    """The same of networks, whose running trial can go on elsewhere, or with other parameters. They take turns with
    the same compiled programs."""

    def __init__(self, own: Any, folds: Sequence[Any]) -> None:
        super().__init__(own, folds)
        own.share_train_functions(folds)

    @property
    def timings(self) -> Mapping[str, float]:
        """Seconds so far by what they went into, of all divisions together."""
        return {name: sum(trainer.timings[name] for trainer in self._all) for name in self._own.timings}

    @property
    def gpu_peak_mb(self) -> float | None:
        """As of :func:`aifs_tune.trainers.network.runtime.gpu_peak_mb`."""
        found: float | None = self._own.gpu_peak_mb
        return found

    def needs_restart(self, params: Mapping[str, Scalar]) -> bool:
        """Whether a trial with ``params`` would drop a program: better to begin it in a new process."""
        return any(trainer.needs_restart(params) for trainer in self._all)

    def change(self, params: Mapping[str, Scalar]) -> None:
        """Go on with other parameters, from the weights that the trial has.

        Raises
        ------
        RequestError
            If a parameter is unknown or not allowed, or makes another program; the trial is as it was.
        """
        for trainer in self._all:
            trainer.change(params)

    def save(self, folder: Path) -> None:
        """Write the running trial into ``folder``, each fold below it."""
        for trainer, place in zip(self._all, self._places(folder), strict=True):
            place.mkdir(exist_ok=True)
            trainer.save(place)

    def load(self, folder: Path) -> None:
        """Continue from what :meth:`save` wrote, after a reset with parameters of the same shape.

        Raises
        ------
        ConflictError
            If it was written for other data or another shape; TrainerError if the files are damaged.
        """
        for trainer, place in zip(self._all, self._places(folder), strict=True):
            trainer.load(place)

    def save_best(self, folder: Path) -> Path:
        """Write the best epoch of the sweep's own division into ``folder``; the path of its arrays.

        Raises
        ------
        TrainerError
            If no epoch had a finite value yet.
        """
        written: Path = self._own.save_best(folder)
        return written

    def _places(self, folder: Path) -> list[Path]:
        return [folder, *(folder / f"fold{i}" for i in range(len(self._all) - 1))]


def folded(own: Any, folds: Sequence[Any]) -> Trainer:
    """``own`` measured on ``folds``, which are like it in all but their data."""
    return (FoldedNetTrainer if hasattr(own, "save") else FoldedTrainer)(own, folds)
