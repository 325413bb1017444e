"""Checkpoints and weights of a study's trials, in folders made from numbers, never from names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from aifs_tune.durable import write_folder
from aifs_tune.spec import Objective
from aifs_tune.trial import Trial


class TrialArtefacts:
    """What one trial leaves on disk: its newest checkpoint while it runs, its best weights afterwards."""

    def __init__(self, study_folder: Path, number: int) -> None:
        self.folder = study_folder / f"trial-{number:06d}"

    @property
    def weights(self) -> Path:
        """The folder of the best epoch's weights; it may not exist."""
        return self.folder / "weights"

    def save_checkpoint(self, epoch: int, write: Callable[[Path], object]) -> None:
        """Let ``write`` fill a folder that becomes the checkpoint of ``epoch``; older ones are removed."""
        target = self.folder / f"checkpoint-{epoch:05d}"
        write_folder(target, write)
        for older in self._checkpoints():
            if older != target:
                shutil.rmtree(older, ignore_errors=True)

    def find_checkpoint(self) -> Path | None:
        """The folder of the newest checkpoint."""
        found = self._checkpoints()
        return found[-1] if found else None

    def drop_checkpoints(self) -> None:
        """Remove all checkpoints: the trial has ended."""
        for checkpoint in self._checkpoints():
            shutil.rmtree(checkpoint, ignore_errors=True)

    def remove(self) -> None:
        """Remove all that the trial left."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*"))


class BestWeights:
    """Keeps the weights of the best complete trial of a study and removes what other ended trials left."""

    def __init__(self, study_folder: Path, objective: Objective, best: Trial | None) -> None:
        self._folder = study_folder
        self._sign = 1 if objective.mode == "max" else -1
        self._best = best

    def ended(self, trial: Trial) -> None:
        """Tidy up after ``trial``, whose result is stored."""
        artefacts = TrialArtefacts(self._folder, trial.number)
        if trial.state == "complete" and self._beats(trial):
            if self._best is not None:
                TrialArtefacts(self._folder, self._best.number).remove()
            self._best = trial
            artefacts.drop_checkpoints()
        else:
            artefacts.remove()

    def _beats(self, trial: Trial) -> bool:
        if self._best is None or self._best.value is None:
            return True
        return trial.value is not None and self._sign * trial.value > self._sign * self._best.value
