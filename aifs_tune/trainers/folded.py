"""Trainer that measures each epoch on several folds, for data sets that are too small for one validation part."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from aifs_tune._util.scalars import Scalar
from aifs_tune.trainers.protocol import Trainer

_VALIDATION = "val_"
"""Prefix of the metrics that are averaged over the folds."""


class FoldedTrainer:
    """Trainer of one configuration on K + 1 splits of the same data, one epoch of each after the other.

    The metrics ``val_...`` of an epoch are means over the folds. They decide which epoch is best, for all splits, and
    when ``patience`` is over, so that the choice does not depend on a single validation part. The first trial starts
    with :meth:`reset`.

    Parameters
    ----------
    own
        Trainer on the split of the sweep, whose weights and predictions are those of the trial.
    folds
        Trainers on the other splits, of the same class and with equal arguments; they only measure.
    """

    def __init__(self, own: Any, folds: Sequence[Any]) -> None:
        self._own, self._all = own, (own, *folds)

    @property
    def is_finished(self) -> bool:
        """Whether the best epoch is ``patience`` epochs ago."""
        return bool(self._own.is_finished)

    @property
    def has_files(self) -> bool:
        """Whether the model of the best epoch can be kept."""
        return bool(getattr(self._own, "has_files", True))

    @property
    def notes(self) -> dict[str, Any]:
        """What the trainer notes beside its metrics."""
        return dict(getattr(self._own, "notes", {}))

    @property
    def best_epoch(self) -> int | None:
        """Best epoch, counted from 1; None before the first finite value."""
        found: int | None = self._own.best_epoch
        return found

    @property
    def best_value(self) -> float | None:
        """Metric of the best epoch; None before the first finite value."""
        found: float | None = self._own.best_value
        return found

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial; each fold gets its own seed.

        Raises
        ------
        RequestError
            If a parameter is unknown or not allowed, or the seed is negative.
        """
        self._own.reset(params, seed=seed)
        for i, trainer in enumerate(self._all[1:], start=1):
            trainer.reset(params, seed=(seed + i) % 2**32)

    def epoch(self) -> dict[str, float]:
        """Train an epoch on each split; empty if already finished.

        ``val_...`` are means over the folds, all other metrics are those of the sweep's own split.
        """
        if self.is_finished:
            return {}
        metrics, *folds = (trainer.train_epoch() for trainer in self._all)
        for name in metrics:
            if name.startswith(_VALIDATION):
                metrics[name] = statistics.fmean(fold[name] for fold in folds)
        for trainer in self._all:
            trainer.finish_epoch(metrics)
        return dict(metrics)

    def evaluate(self, part: Literal["train", "val", "test"]) -> dict[str, float]:
        """Metrics, such as ``test_loss``, of the best epoch on one part of the sweep's own split.

        Raises
        ------
        DataError
            If the part is empty.
        TrainerError
            If no epoch was trained yet.
        """
        found: dict[str, float] = self._own.evaluate(part)
        return found

    def save_best(self, folder: Path) -> Path:
        """Write the weights of the best epoch on the sweep's own split into ``folder``; return the path of the arrays.

        Raises
        ------
        TrainerError
            If no epoch had a finite value yet.
        """
        written: Path = self._own.save_best(folder)
        return written

    def save_predictions(self, folder: Path) -> Path:
        """Write the predictions of the best epoch for the test part into ``folder``; return the path of the arrays."""
        written: Path = self._own.save_predictions(folder)
        return written


class FoldedNetTrainer(FoldedTrainer):
    """:class:`FoldedTrainer` of networks, whose trials have checkpoints and can change parameters.

    The trainers of all splits use the same compiled programs.
    """

    def __init__(self, own: Any, folds: Sequence[Any]) -> None:
        super().__init__(own, folds)
        own.share_train_functions(folds)

    @property
    def timings(self) -> Mapping[str, float]:
        """Seconds so far of tracing, training and evaluation, summed over all splits."""
        return {name: sum(trainer.timings[name] for trainer in self._all) for name in self._own.timings}

    @property
    def gpu_peak_mb(self) -> float | None:
        """Peak GPU memory; see :func:`aifs_tune.trainers.network.runtime.gpu_peak_mb`."""
        found: float | None = self._own.gpu_peak_mb
        return found

    def needs_restart(self, params: Mapping[str, Scalar]) -> bool:
        """Whether a trial with ``params`` would drop a program, so that it should start in a new process."""
        return any(trainer.needs_restart(params) for trainer in self._all)

    def change(self, params: Mapping[str, Scalar]) -> None:
        """Continue the trial from its current weights with other hyperparameters.

        Raises
        ------
        RequestError
            If a hyperparameter is unknown or not allowed, or needs another program; the trial is then unchanged.
        """
        for trainer in self._all:
            trainer.change(params)

    def save(self, folder: Path) -> None:
        """Write the running trial into ``folder``, and each fold into a folder inside it."""
        for trainer, path in zip(self._all, self._folders(folder), strict=True):
            path.mkdir(exist_ok=True)
            trainer.save(path)

    def load(self, folder: Path) -> None:
        """Continue the trial of :meth:`save`, after a reset with parameters of the same shape.

        Raises
        ------
        ConflictError
            If the files belong to other data or another shape.
        TrainerError
            If the files are damaged or of another version.
        """
        for trainer, path in zip(self._all, self._folders(folder), strict=True):
            trainer.load(path)

    def _folders(self, folder: Path) -> list[Path]:
        return [folder, *(folder / f"fold{i}" for i in range(len(self._all) - 1))]


def folded(own: Any, folds: Sequence[Any]) -> Trainer:
    """Make the folded trainer of ``own`` and ``folds``, which differ in their data alone."""
    return (FoldedNetTrainer if hasattr(own, "save") else FoldedTrainer)(own, folds)
