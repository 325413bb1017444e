"""Population-based training: which trial exploits which, and the lineage of a trial's weights."""

from __future__ import annotations

import random
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aifs_tune._util.scalars import Scalar
from aifs_tune.artifacts.trial_artifacts import TrialArtifacts
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import RequestError
from aifs_tune.space.constraints import RandomTrial
from aifs_tune.space.parameters import FloatParameter, IntParameter, Parameter
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial


@dataclass(frozen=True)
class Exploit:
    """Trial ``number`` goes on with ``params`` from the weights of trial ``source``."""

    number: int
    source: int
    params: Mapping[str, Scalar]


class HasTrials(Protocol):
    """A study of any kind, as far as :func:`lineage` needs it."""

    def trial(self, trial: Trial | int) -> Trial:
        """Return the trial as it is stored now."""


def lineage(study: HasTrials, trial: Trial | int) -> list[tuple[int, Mapping[str, Scalar]]]:
    """Parameters that the weights of a trial were trained with, by the first epoch of each, beginning with 1. Before a
    change they are those of the trial that the weights came from."""
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


def apply_exploits(study: StudyRecord, epoch: int, exploits: Sequence[Exploit]) -> None:
    """Store the ``exploits`` after ``epoch``, then give the trials the checkpoints of their sources.

    What is stored is stored at once; if a crash keeps files from being copied, :func:`repair` does it.
    """
    study.transact(
        lambda: [study.change(m.number, epoch=epoch + 1, params=m.params, source=m.source) for m in exploits]
    )
    for exploit in exploits:
        _copy_checkpoint(study, exploit.number, exploit.source, epoch)


def repair(study: StudyRecord) -> None:
    """Copy the checkpoints that a crash left uncopied.

    A source that has trained on since is proof that it came to all.
    """
    for trial in study.all_trials():
        if not trial.is_finished and trial.schedule:
            change = trial.schedule[-1]
            newest = TrialArtifacts(study.artifacts, trial.number).find_checkpoint_epoch()
            source = TrialArtifacts(study.artifacts, change.source).find_checkpoint_epoch()
            if source == change.epoch - 1 and (newest is None or newest <= source):
                _copy_checkpoint(study, trial.number, change.source, source)


def _copy_checkpoint(study: StudyRecord, number: int, source: int, epoch: int) -> None:
    TrialArtifacts(study.artifacts, number).copy_checkpoint(TrialArtifacts(study.artifacts, source), epoch)


RESAMPLED = 0.25
"""Share of the parameters that are drawn anew from the space."""
FACTORS = (0.8, 1.2)
"""Of a number that is not drawn anew, one of these; both as in Jaderberg et al. 2017, arXiv 1711.09846, and in Ray."""
_MOST_TRIES = 100


def explore(
    spec: SweepSpec, params: Mapping[str, Scalar], *, static_params: Container[str], rng: random.Random
) -> dict[str, Scalar]:
    """A full configuration near ``params``, one that breaks no condition and no constraint.

    Each tuned parameter is drawn anew with a probability of a quarter; else a number is multiplied by 0.8 or 1.2, kept
    within its range and moved by one step at least if it has steps, and a choice stays. Those of ``kept`` stay, and so
    does whether they are active. ``params`` themselves, if no such configuration is found in a hundred draws.
    """
    for _ in range(_MOST_TRIES):
        varied = _varied(spec, params, static_params, rng)
        if {name for name in varied if name in static_params} != {name for name in params if name in static_params}:
            continue
        try:
            return spec.check_params(spec.projected(varied))
        except RequestError:
            continue
    return spec.check_params(params)


def _varied(
    spec: SweepSpec, params: Mapping[str, Scalar], static_params: Container[str], rng: random.Random
) -> dict[str, Scalar]:
    source, varied = RandomTrial(rng), dict[str, Scalar]()
    for name, parameter in spec.space.items():
        if not spec.space.is_active(name, varied):
            continue
        if name in params and name in static_params:
            varied[name] = params[name]
        elif name not in params or rng.random() < RESAMPLED:
            varied[name] = parameter.take(name, parameter.suggest(name, source), is_stored=True)
        else:
            varied[name] = _moved(parameter, params[name], rng)
    return varied


def _moved(parameter: Parameter, value: Scalar, rng: random.Random) -> Scalar:
    factor = rng.choice(FACTORS)
    if isinstance(parameter, FloatParameter) and parameter.step is None:
        return min(max(float(value) * factor, parameter.low), parameter.high)
    if isinstance(parameter, FloatParameter | IntParameter):
        low, step = parameter.low, parameter.step or 1
        here, last = round((float(value) - low) / step), round((parameter.high - low) / step)
        change = float(value) * (factor - 1)
        n_steps = max(1, round(abs(change) / step))
        moved = min(max(here + (n_steps if (change or factor - 1) > 0 else -n_steps), 0), last)
        return min(low + step * moved, parameter.high)
    return value
