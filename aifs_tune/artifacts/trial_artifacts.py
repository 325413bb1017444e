"""Checkpoints and weights of a study's trials, in entries named by numbers, never by names, with hashes that the study
keeps."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from aifs_tune._util.cache import cache_root
from aifs_tune._util.hashing import check_hashes
from aifs_tune.artifacts.stores import store_at
from aifs_tune.config.sweep import Objective
from aifs_tune.errors import NotFoundError, StorageError
from aifs_tune.study.results import reaches, scores_of
from aifs_tune.study.study import Study
from aifs_tune.study.trial import Trial

_TRIAL = "trial-"
_WEIGHTS = "weights"
_CHECKPOINT = "checkpoint-"
_BACKOFF_S = 300.0
"""So long a store that did not answer is not asked to remove anything."""


class TrialArtifacts:
    """What one trial leaves: its newest checkpoint while it runs, its best weights afterwards.

    ``location`` is the study's folder, or its URL in an object store. Whatever asks a store may raise
    :class:`StorageError`.
    """

    def __init__(self, location: Path | str, number: int) -> None:
        self.number = number
        self._store, self._trial = store_at(location), f"{_TRIAL}{number:06d}"

    def save_weights(self, write: Callable[[Path], object]) -> dict[str, str]:
        """Let ``write`` fill a folder that becomes the weights; the hashes of its files."""
        return self._store.put(f"{self._trial}/{_WEIGHTS}", write)

    def fetched_weights(self, root: Path) -> Path:
        """The folder of the best epoch's weights; see :meth:`ArtifactStore.fetched`."""
        return self._store.fetched(f"{self._trial}/{_WEIGHTS}", root)

    def save_checkpoint(self, epoch: int, write: Callable[[Path], object]) -> dict[str, str]:
        """Let ``write`` fill a folder that becomes the checkpoint of ``epoch``; older ones are removed. The hashes of
        its files."""
        target = self._checkpoint(epoch)
        hashes = self._store.put(target, write)
        with suppress(StorageError):  # those that stay go with the trial
            for older in self._checkpoints():
                if older != target:
                    self._store.remove(older)
        return hashes

    def fetched_checkpoint(self, epoch: int, root: Path) -> Path:
        """The folder of the checkpoint of ``epoch``; see :meth:`ArtifactStore.fetched`."""
        return self._store.fetched(self._checkpoint(epoch), root)

    def find_checkpoint_epoch(self) -> int | None:
        """The epoch of the newest checkpoint."""
        found = self._checkpoints()
        return int(found[-1].partition(_CHECKPOINT)[2]) if found else None

    def copy_checkpoint(self, source: TrialArtifacts, epoch: int) -> None:
        """Make another trial's checkpoint of ``epoch`` the one of this trial."""
        with tempfile.TemporaryDirectory(prefix="aifs_tune_") as scratch:
            folder = source.fetched_checkpoint(epoch, Path(scratch))
            self.save_checkpoint(epoch, lambda target: shutil.copytree(folder, target, dirs_exist_ok=True))

    def drop_checkpoints(self) -> None:
        """Remove all checkpoints: the trial has ended, or begins again."""
        for checkpoint in self._checkpoints():
            self._store.remove(checkpoint)

    def remove(self) -> None:
        """Remove all that the trial left."""
        self._store.remove(self._trial)

    def _checkpoint(self, epoch: int) -> str:
        return f"{self._trial}/{_CHECKPOINT}{epoch:05d}"

    def _checkpoints(self) -> list[str]:
        return [name for name in self._store.names(self._trial) if f"/{_CHECKPOINT}" in name]


def kept_weights(study: Study, trial: Trial | int) -> Path:
    """The folder of a trial's weights on this machine, whose files are those that the study has the hashes of. Of
    weights in an object store it is a copy in the cache.

    Raises
    ------
    NotFoundError
        If the trial wrote none, or they were removed since another one was better.
    DamagedError
        If a file is missing, is too many, or has another hash; names it and both hashes.
    """
    found = study.trial(trial)
    try:
        if not found.weights:
            raise NotFoundError(f"trial {found.number} wrote no weights")
        folder = TrialArtifacts(study.artifacts, found.number).fetched_weights(cache_root().absolute())
    except NotFoundError:
        names = store_at(study.artifacts).names()
        kept = ", ".join(name.partition("/")[0] for name in names if name.endswith(f"/{_WEIGHTS}")) or "those of none"
        raise NotFoundError(
            f"study {study.name!r}: no weights of trial {found.number} are kept; kept are {kept}"
        ) from None
    check_hashes(folder, found.weights)
    return folder


class BestWeights:
    """Keeps the weights of the best complete trial of a study, of several objectives those of the Pareto front, and
    removes what other ended trials left. Of one objective it can keep those of the ``most`` best trials, until
    :meth:`settle` says which one stays."""

    def __init__(
        self, location: Path | str, objectives: Sequence[Objective], best: Sequence[Trial], *, most: int = 1
    ) -> None:
        self._location, self._most = location, most
        self._objectives = objectives
        self._kept = {trial.number: scores_of(trial, objectives) for trial in best}
        self._backoff_until = 0.0

    def tidy(self, trials: Sequence[Trial]) -> None:
        """Remove what an earlier sweep of these ``trials``, all of the study, could not when it died: files of ended
        ones that are not kept, and what its workers had begun to write.

        Raises
        ------
        StorageError
            If an object store does not answer.
        """
        finished = {trial.number for trial in trials if trial.is_finished}

        def keeps(trial: str, entry: str) -> bool:
            number = int(trial.removeprefix(_TRIAL))
            return entry == _WEIGHTS if number in self._kept else number not in finished

        store_at(self._location).tidy(keeps)

    def ended(self, trial: Trial) -> None:
        """Tidy up after ``trial``, whose result is stored. What an object store does not remove now, it does when the
        next sweep of the study begins."""
        artifacts = TrialArtifacts(self._location, trial.number)
        if trial.state != "complete" or trial.feasible is False:
            self._tidied(artifacts.remove)
            return
        scores = scores_of(trial, self._objectives)
        if self._most > 1:
            self._kept[trial.number] = scores
            self._tidied(artifacts.drop_checkpoints)
            order = sorted(self._kept, key=lambda number: self._kept[number], reverse=True)
            self._drop(order[self._most :])
            return
        if any(reaches(kept, scores) for kept in self._kept.values()):
            self._tidied(artifacts.remove)
            return
        self._drop([number for number, kept in self._kept.items() if reaches(scores, kept)])
        self._kept[trial.number] = scores
        self._tidied(artifacts.drop_checkpoints)

    def settle(self, best: Sequence[Trial]) -> None:
        """Keep the weights of these trials alone."""
        numbers = {trial.number for trial in best}
        self._drop([number for number in self._kept if number not in numbers])

    def _drop(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._tidied(TrialArtifacts(self._location, number).remove)
            del self._kept[number]

    def _tidied(self, remove: Callable[[], None]) -> None:
        if time.monotonic() >= self._backoff_until:
            try:
                remove()
            except StorageError:
                self._backoff_until = time.monotonic() + _BACKOFF_S
