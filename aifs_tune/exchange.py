"""Populations whose trials take over each other's weights: what is taken over when, and what a trial's weights went
through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aifs_tune.artifacts import TrialArtifacts
from aifs_tune.remote_study import RemoteStudy
from aifs_tune.scalars import Scalar
from aifs_tune.study import Study
from aifs_tune.trial import Trial


@dataclass(frozen=True)
class Exploit:
    """Trial ``number`` goes on with ``params`` from the weights of trial ``source``."""

    number: int
    source: int
    params: Mapping[str, Scalar]


def lineage(study: Study | RemoteStudy, trial: Trial | int) -> list[tuple[int, Mapping[str, Scalar]]]:
    """What the weights of a trial were trained with: parameters by the epoch from which on, the first of which is 1. Up
    to a change these are those of the trial that the weights came from."""
    current, before = study.trial(trial), float("inf")
    steps: list[tuple[int, Mapping[str, Scalar]]] = []
    while changes := [change for change in current.schedule if change.epoch < before]:
        steps.append((changes[-1].epoch, changes[-1].params))
        current, before = study.trial(changes[-1].source), changes[-1].epoch
    return [(1, current.params), *reversed(steps)]


def next_exploit_epoch(trials: Sequence[Trial], every: int) -> int:
    """The epoch after which the ``trials`` that are in flight compare themselves next, ``every`` so many epochs.

    All of them have measured the epochs before the last exchange. One that was due is still to come if none went on.
    """
    slowest, fastest = min(trial.epochs for trial in trials), max(trial.epochs for trial in trials)
    went_on = fastest > slowest or any(change.epoch > slowest for trial in trials for change in trial.schedule)
    return slowest if slowest and slowest % every == 0 and not went_on else (slowest // every + 1) * every


def apply_exploits(study: Study, epoch: int, exploits: Sequence[Exploit]) -> None:
    """Store that after ``epoch`` each of ``moves`` takes place, then give the trials their sources' checkpoints.

    What is stored is stored at once; if a crash keeps files from being copied, :func:`repair` does it.
    """
    study.transact(
        lambda: [study.change(m.number, epoch=epoch + 1, params=m.params, source=m.source) for m in exploits]
    )
    for exploit in exploits:
        _copy_checkpoint(study, exploit.number, exploit.source, epoch)


def repair(study: Study) -> None:
    """Copy the checkpoints that an exchange did not come to.

    A source that has trained on since is proof that it came to all.
    """
    for trial in study.all_trials():
        if not trial.is_finished and trial.schedule:
            change = trial.schedule[-1]
            newest = TrialArtifacts(study.artifacts, trial.number).find_checkpoint_epoch()
            source = TrialArtifacts(study.artifacts, change.source).find_checkpoint_epoch()
            if source == change.epoch - 1 and (newest is None or newest <= source):
                _copy_checkpoint(study, trial.number, change.source, source)


def _copy_checkpoint(study: Study, number: int, source: int, epoch: int) -> None:
    TrialArtifacts(study.artifacts, number).copy_checkpoint(TrialArtifacts(study.artifacts, source), epoch)
