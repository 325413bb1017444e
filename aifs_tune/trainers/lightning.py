"""Callback of PyTorch Lightning for a ``Trainer.fit`` that exists already. Imports Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.errors import TrainerError
from aifs_tune.trainers.running_trial import RunningTrial

if TYPE_CHECKING:
    Callback = Any
else:
    with missing_packages_named():
        try:
            from lightning.pytorch import Callback
        except ModuleNotFoundError:
            from pytorch_lightning import Callback  # its name as a package of its own

_CHECKPOINT = "lightning.ckpt"
BEST_NAME = "model.ckpt"
"""File with the weights of the best epoch."""


class ReportEpochs(Callback):  # type: ignore[misc]
    """Lightning callback that reports the epochs of ``Trainer.fit`` as those of a trial.

    It stops the training when the trial is to stop, writes a checkpoint after each epoch, and keeps the weights of the
    best epoch as ``model.ckpt``. An epoch of the trial is a training epoch at whose end there was a validation, if the
    model has one. A trial that was interrupted goes on if ``fit`` is called with ``ckpt_path=callback.ckpt_path``.

    Parameters
    ----------
    trial : RunningTrial
        The trial.
    metrics : sequence of str, optional
        Names of the logged metrics to report. Default: all.
    checkpoint : bool
        Whether to write checkpoints. Default: True.
    save_best : bool
        Whether to keep the weights of the best epoch. Default: True.

    Raises
    ------
    TrainerError
        In the epoch after which one of ``metrics`` was not logged.

    Examples
    --------
    >>> def run(units, trial):
    ...     report = ReportEpochs(trial)
    ...     trainer = lightning.Trainer(max_epochs=trial.epochs, callbacks=[report], logger=False)
    ...     trainer.fit(Net(units), train, val, ckpt_path=report.ckpt_path)
    """

    def __init__(
        self,
        trial: RunningTrial,
        metrics: Sequence[str] | None = None,
        *,
        checkpoint: bool = True,
        save_best: bool = True,
    ) -> None:
        super().__init__()
        self._trial, self._names = trial, None if metrics is None else list(metrics)
        self._checkpoint, self._save_best = checkpoint, save_best
        self._is_validated = False

    @property
    def ckpt_path(self) -> Path | None:
        """Checkpoint to give to ``fit``; None for a trial that begins."""
        return None if self._trial.restored is None else self._trial.restored / _CHECKPOINT

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Note that the epoch is validated."""
        del pl_module
        self._is_validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the epoch."""
        del pl_module
        if trainer.enable_validation and not self._is_validated:
            return
        self._is_validated = False
        metrics = self._metrics(trainer.callback_metrics)
        if self._save_best and self._trial.is_better(metrics):
            self._trial.save(BEST_NAME, lambda file: trainer.save_checkpoint(file, weights_only=True))
        if self._checkpoint and trainer.current_epoch + 1 < self._trial.epochs:
            with self._trial.checkpoint_dir() as folder:
                trainer.save_checkpoint(folder / _CHECKPOINT, weights_only=False)
        if not self._trial.report(metrics):
            trainer.should_stop = True

    def _metrics(self, logged: Any) -> dict[str, float]:
        found = {name: float(value) for name, value in logged.items()}
        if self._names is None:
            return found
        missing = [name for name in self._names if name not in found]
        if missing:
            raise TrainerError(
                f"{', '.join(missing)}: not logged in this epoch; logged: {', '.join(found) or 'nothing'}; allowed: "
                "self.log(NAME, value) in validation_step or training_step (with on_epoch=True)"
            )
        return {name: found[name] for name in self._names}
