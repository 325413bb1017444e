"""Remarks on a result that is none, or not yet one, and the command to type next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aifs_tune._util.formatting import number
from aifs_tune.study.failures import commonest_failure
from aifs_tune.study.ranking import ranked
from aifs_tune.study.recommendation import known_noise
from aifs_tune.study.similarity import DATA_FACTS
from aifs_tune.study.trial import Trial
from aifs_tune.study.used_up import used_up

if TYPE_CHECKING:
    from aifs_tune.client.study import RemoteStudy
    from aifs_tune.study.study import Study

_OF_CLASSES = {"macro_f1": "macro F1", "balanced_accuracy": "balanced accuracy"}
"""Metrics that are at most 1 / classes if a model always answers the same class."""
_NEAR = 1.1
"""Factor above chance up to which a value is called near it."""
_MANY_FAILED = 0.2
_FEW = 8


@dataclass(frozen=True)
class Remarks:
    """What is to be said of the best result besides its value, and the words of the next command.

    ``next`` are the words after the program's name.
    """

    texts: tuple[str, ...]
    next: tuple[str, ...]


def remarks_on(study: Study | RemoteStudy) -> Remarks:
    """Remarks on the best trial of ``study``; without a complete trial there are none.

    The noise and the classes of its data are known only where the study is in a storage of this machine.
    """
    from aifs_tune.study.study import Study

    trials = study.all_trials()
    n_classes, floor = (_classes_of(study), study.noise_floor) if isinstance(study, Study) else (None, None)
    best = next(iter(ranked(trials, study.spec)), None)
    if best is None:
        return Remarks((), ("trials", study.name))
    if study.spec.refit:
        text = "These values are of examples that the model was trained on; they say nothing of new examples"
        return Remarks((text,), ("studies",))
    chance = _chance_text(study, best, n_classes)
    noise = _noise_text(trials, best, known_noise(trials, floor))
    failed = _failed_text(trials)
    texts = tuple(text for text in (chance, noise, failed, used_up(study.spec, trials)) if text is not None)
    return Remarks(texts, _next(study, trials, is_result=chance is None and noise is None, has_failures=bool(failed)))


def _classes_of(study: Study) -> int | None:
    """The number of classes of the data of a study, as a sweep recorded it; None if there are none."""
    from aifs_tune.study.record import record_of

    facts = record_of(study).fact(DATA_FACTS)
    return int(facts["classes"]) if facts and facts.get("classes") else None


def _chance_text(study: Study | RemoteStudy, best: Trial, n_classes: int | None) -> str | None:
    objective = study.spec.objective
    if objective.metric == "val_auc" and objective.mode == "max" and best.value is not None and best.value <= _NEAR / 2:
        return (
            f"This is {'no' if best.value <= 0.5 else 'hardly a'} result: guessing has an area under the curve of 0.5"
        )
    words = _OF_CLASSES.get(objective.metric.removeprefix("val_"))
    if words is None or n_classes is None or n_classes < 2 or objective.mode != "max" or best.value is None:
        return None
    chance = 1.0 / n_classes
    if best.value <= chance:
        return (
            f"This is no result: a model that always answers the same one of {n_classes} classes has a {words} of up "
            f"to {number(chance)}"
        )
    if best.value <= _NEAR * chance:
        return f"This is hardly a result: guessing among {n_classes} classes has a {words} of about {number(chance)}"
    return None


def _noise_text(trials: Sequence[Trial], best: Trial, noise: tuple[float, int] | None) -> str | None:
    first = next((trial for trial in trials if trial.state == "complete" and trial.value is not None), None)
    if noise is None or first is None or first.value is None or best.value is None or first.number == best.number:
        return None
    sd, difference = noise[0], abs(best.value - first.value)
    if difference >= 2 * sd * math.sqrt(2):
        return None
    return (
        f"Within the noise: the best differs by {number(difference)} from trial {first.number}, the first, and two "
        f"trainings of one configuration by about {number(sd * math.sqrt(2))}"
    )


def _failed_text(trials: Sequence[Trial]) -> str | None:
    n_failed = sum(trial.state == "failed" and trial.feasible is not False for trial in trials)
    n_ended = sum(trial.is_finished for trial in trials)
    if not n_failed or n_failed < _MANY_FAILED * n_ended:
        return None
    return f"{n_failed} of {n_ended} trials failed; {commonest_failure(trials)}"


def _next(
    study: Study | RemoteStudy, trials: Sequence[Trial], *, is_result: bool, has_failures: bool
) -> tuple[str, ...]:
    if has_failures:
        return ("analyse", study.name, "--table", "failures")
    if study.trainer is None:
        return ("recommend", study.name)
    n_complete = sum(trial.state == "complete" for trial in trials)
    can_be_confirmed = (
        not study.spec.is_of_function and not study.spec.trade_off and study.spec.cross_validation is None
    )
    if is_result and n_complete >= _FEW and can_be_confirmed:
        return ("confirm", study.name)
    return ("trials", study.name)
