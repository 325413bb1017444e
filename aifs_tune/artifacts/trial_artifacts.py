"""Checkpoints and weights of the trials of a study, whose hashes the study stores.

Entries are named by trial numbers, never by names that users choose.
"""

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
"""Time during which nothing is removed from a store that did not answer."""


class TrialArtifacts:
    """Artifacts of one trial: its newest checkpoint while it runs, and its best weights.

    ``location`` is the artifact folder of the study, or its URL in an object store. All methods may raise
    :class:`StorageError`.
    """

    def __init__(self, location: Path | str, number: int) -> None:
        self.number = number
        self._store, self._trial = store_at(location), f"{_TRIAL}{number:06d}"

    def save_weights(self, write: Callable[[Path], object]) -> dict[str, str]:
        """Store the weights that ``write`` puts into a folder, and return the hashes of the files."""
        return self._store.put(f"{self._trial}/{_WEIGHTS}", write)

    def fetch_weights(self, root: Path) -> Path:
        """Return the folder with the weights of the best epoch, see :meth:`ArtifactStore.fetch`."""
        return self._store.fetch(f"{self._trial}/{_WEIGHTS}", root)

    def save_checkpoint(self, epoch: int, write: Callable[[Path], object]) -> dict[str, str]:
        """Store the checkpoint of ``epoch`` that ``write`` puts into a folder, and return the hashes of the files.

        Older checkpoints are removed.
        """
        target = self._checkpoint(epoch)
        hashes = self._store.put(target, write)
        with suppress(StorageError):  # those that remain are removed with the trial
            for older in self._checkpoints():
                if older != target:
                    self._store.remove(older)
        return hashes

    def fetch_checkpoint(self, epoch: int, root: Path) -> Path:
        """Return the folder with the checkpoint of ``epoch``, see :meth:`ArtifactStore.fetch`."""
        return self._store.fetch(self._checkpoint(epoch), root)

    def find_checkpoint_epoch(self) -> int | None:
        """Return the epoch of the newest checkpoint; None if there is none."""
        found = self._checkpoints()
        return int(found[-1].partition(_CHECKPOINT)[2]) if found else None

    def copy_checkpoint(self, source: TrialArtifacts, epoch: int) -> None:
        """Copy the checkpoint of ``epoch`` from another trial to this trial."""
        with tempfile.TemporaryDirectory(prefix="aifs_tune_") as scratch:
            folder = source.fetch_checkpoint(epoch, Path(scratch))
            self.save_checkpoint(epoch, lambda target: shutil.copytree(folder, target, dirs_exist_ok=True))

    def drop_checkpoints(self) -> None:
        """Remove all checkpoints, when the trial has ended or starts again."""
        for checkpoint in self._checkpoints():
            self._store.remove(checkpoint)

    def remove(self) -> None:
        """Remove all artifacts of the trial."""
        self._store.remove(self._trial)

    def _checkpoint(self, epoch: int) -> str:
        return f"{self._trial}/{_CHECKPOINT}{epoch:05d}"

    def _checkpoints(self) -> list[str]:
        return [name for name in self._store.names(self._trial) if f"/{_CHECKPOINT}" in name]


def kept_weights(study: Study, trial: Trial | int) -> Path:
    """Return the folder with the verified weights of a trial.

    The files are checked against the hashes in the study. Weights in an object store are copied into the cache of
    this machine.

    Parameters
    ----------
    study : Study
        The study of the trial.
    trial : Trial or int
        The trial or its number.

    Returns
    -------
    Path
        Folder on this machine; do not change its files.

    Raises
    ------
    NotFoundError
        If the trial wrote no weights, or they were removed because another trial is better.
    DamagedError
        If a file is missing, unknown or has another hash; the text names the file and both hashes.
    StorageError
        If an object store does not answer.

    Examples
    --------
    A sweep stores the weights of its best trial. Here they are stored without one:

    >>> import aifs_tune
    >>> from aifs_tune.artifacts import kept_weights
    >>> from aifs_tune.artifacts.trial_artifacts import TrialArtifacts
    >>> from aifs_tune.study.record import record_of
    >>> space = {"x": {"type": "float", "low": 0, "high": 1}}
    >>> study = aifs_tune.open_study("lab", space=space, storage="sqlite:///lab.db")
    >>> trial = study.ask()
    >>> artifacts = TrialArtifacts(study.artifacts, trial.number)
    >>> hashes = artifacts.save_weights(lambda folder: (folder / "weights.npz").write_bytes(b"..."))
    >>> _ = record_of(study).tell(trial, 0.9, weights=hashes)
    >>> [file.name for file in kept_weights(study, trial).iterdir()]
    ['weights.npz']
    """
    found = study.trial(trial)
    try:
        if not found.weights:
            raise NotFoundError(f"trial {found.number} wrote no weights")
        folder = TrialArtifacts(study.artifacts, found.number).fetch_weights(cache_root().absolute())
    except NotFoundError:
        names = store_at(study.artifacts).names()
        kept = ", ".join(name.partition("/")[0] for name in names if name.endswith(f"/{_WEIGHTS}")) or "none"
        raise NotFoundError(
            f"study {study.name!r}: no weights of trial {found.number} are kept; trials with weights: {kept}"
        ) from None
    check_hashes(folder, found.weights)
    return folder


class BestWeights:
    """Keeps the weights of the best complete trial of a study, and removes the artifacts of other ended trials.

    With several objectives, the weights of the Pareto front are kept. With one objective, the weights of the ``most``
    best trials can be kept until :meth:`settle` chooses among them.
    """

    def __init__(
        self, location: Path | str, objectives: Sequence[Objective], best: Sequence[Trial], *, most: int = 1
    ) -> None:
        self._location, self._most = location, most
        self._objectives = objectives
        self._kept = {trial.number: scores_of(trial, objectives) for trial in best}
        self._backoff_until = 0.0

    def tidy(self, trials: Sequence[Trial]) -> None:
        """Remove what a crashed sweep left: artifacts of ended trials that are not kept, and incomplete entries.

        ``trials`` are all trials of the study.

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
        """Update the kept weights after ``trial``, whose result is stored.

        If an object store does not answer, the next sweep of the study removes the artifacts.
        """
        artifacts = TrialArtifacts(self._location, trial.number)
        if trial.state != "complete" or trial.feasible is False:
            self._try_remove(artifacts.remove)
            return
        scores = scores_of(trial, self._objectives)
        if self._most > 1:
            self._kept[trial.number] = scores
            self._try_remove(artifacts.drop_checkpoints)
            order = sorted(self._kept, key=lambda number: self._kept[number], reverse=True)
            self._drop(order[self._most :])
            return
        if any(reaches(kept, scores) for kept in self._kept.values()):
            self._try_remove(artifacts.remove)
            return
        self._drop([number for number, kept in self._kept.items() if reaches(scores, kept)])
        self._kept[trial.number] = scores
        self._try_remove(artifacts.drop_checkpoints)

    def settle(self, best: Sequence[Trial]) -> None:
        """Keep only the weights of these trials."""
        numbers = {trial.number for trial in best}
        self._drop([number for number in self._kept if number not in numbers])

    def _drop(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._try_remove(TrialArtifacts(self._location, number).remove)
            del self._kept[number]

    def _try_remove(self, remove: Callable[[], None]) -> None:
        if time.monotonic() >= self._backoff_until:
            try:
                remove()
            except StorageError:
                self._backoff_until = time.monotonic() + _BACKOFF_S
