"""Checkpoints and weights of a study's trials, in folders made from numbers, never from names, with hashes that the
study keeps."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from aifs_tune.durable import PARTIAL, write_folder
from aifs_tune.errors import NotFoundError
from aifs_tune.hashes import check_hashes, hashes_of
from aifs_tune.results import reaches, scores_of
from aifs_tune.spec import Objective
from aifs_tune.study_reading import StudyReading
from aifs_tune.trial import Trial


class TrialArtefacts:
    """What one trial leaves on disk: its newest checkpoint while it runs, its best weights afterwards."""

    def __init__(self, study_folder: Path, number: int) -> None:
        self.number = number
        self.folder = study_folder / f"trial-{number:06d}"

    @property
    def weights(self) -> Path:
        """The folder of the best epoch's weights; it may not exist."""
        return self.folder / "weights"

    def save_weights(self, write: Callable[[Path], object]) -> dict[str, str]:
        """Let ``write`` fill a folder that becomes the weights; the hashes of its files."""
        return _write_hashed(self.weights, write)

    def save_checkpoint(self, epoch: int, write: Callable[[Path], object]) -> dict[str, str]:
        """Let ``write`` fill a folder that becomes the checkpoint of ``epoch``; older ones are removed. The hashes of
        its files."""
        target = self.checkpoint(epoch)
        hashes = _write_hashed(target, write)
        for older in self._checkpoints():
            if older != target:
                shutil.rmtree(older, ignore_errors=True)
        return hashes

    def checkpoint(self, epoch: int) -> Path:
        """The folder of the checkpoint of ``epoch``; it may not exist."""
        return self.folder / f"checkpoint-{epoch:05d}"

    def find_checkpoint_epoch(self) -> int | None:
        """The epoch of the newest checkpoint."""
        found = self.find_checkpoint()
        return None if found is None else int(found.name.removeprefix("checkpoint-"))

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


def _write_hashed(target: Path, write: Callable[[Path], object]) -> dict[str, str]:
    """Write a folder that appears whole; the hashes of what was written, taken before it appears."""
    hashes: dict[str, str] = {}

    def write_and_hash(partial: Path) -> None:
        write(partial)
        hashes.update(hashes_of(partial))

    write_folder(target, write_and_hash)
    return hashes


def kept_weights(study: StudyReading, trial: Trial | int) -> Path:
    """The folder of a trial's weights, whose files are those that the study has the hashes of.

    Raises
    ------
    NotFoundError
        If the trial wrote none, or they were removed since another one was better.
    DamagedError
        If a file is missing, is too many, or has another hash; names it and both hashes.
    """
    found = study.trial(trial)
    folder = TrialArtefacts(study.artefacts, found.number).weights
    if not found.weights or not folder.exists():
        kept = (
            ", ".join(path.parent.name for path in sorted(study.artefacts.glob("trial-*/weights"))) or "those of none"
        )
        raise NotFoundError(f"study {study.name!r}: no weights of trial {found.number} are kept; kept are {kept}")
    check_hashes(folder, found.weights)
    return folder


class BestWeights:
    """Keeps the weights of the best complete trial of a study, of several objectives those of the Pareto front, and
    removes what other ended trials left."""

    def __init__(self, study_folder: Path, objectives: Sequence[Objective], best: Sequence[Trial]) -> None:
        self._folder = study_folder
        self._objectives = objectives
        self._kept = {trial.number: scores_of(trial, objectives) for trial in best}

    def tidy(self, trials: Sequence[Trial]) -> None:
        """Remove what an earlier sweep of these ``trials``, all of the study, could not when it died: files of ended
        ones that are not kept, and what its workers had begun to write."""
        finished = {trial.number for trial in trials if trial.is_finished}
        for folder in self._folder.glob("trial-*"):
            number = folder.name.removeprefix("trial-")
            if not number.isdecimal():
                continue  # somebody else's
            artefacts = TrialArtefacts(self._folder, int(number))
            for partial in folder.glob(f"{PARTIAL}*"):
                shutil.rmtree(partial, ignore_errors=True)
            if artefacts.number in self._kept:
                artefacts.drop_checkpoints()
            elif artefacts.number in finished:
                artefacts.remove()

    def ended(self, trial: Trial) -> None:
        """Tidy up after ``trial``, whose result is stored."""
        artefacts = TrialArtefacts(self._folder, trial.number)
        if trial.state != "complete" or trial.feasible is False:
            artefacts.remove()
            return
        scores = scores_of(trial, self._objectives)
        if any(reaches(kept, scores) for kept in self._kept.values()):
            artefacts.remove()
            return
        for number in [number for number, kept in self._kept.items() if reaches(scores, kept)]:
            TrialArtefacts(self._folder, number).remove()
            del self._kept[number]
        self._kept[trial.number] = scores
        artefacts.drop_checkpoints()
