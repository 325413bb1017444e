"""OOM retry: trials that ran out of GPU memory are deferred and tried once more with a larger share.

The study stores it, so that a resumed sweep neither forgets such a trial nor tries it twice.
"""

from __future__ import annotations

from aifs_tune.study.record import StudyRecord
from aifs_tune.study.serialization import FROM_OPTUNA, SWEEP, TO_OPTUNA
from aifs_tune.study.trial import Trial

_SHARE = "aifs_tune:oom_num_gpus"


def defer_trial(study: StudyRecord, trial: Trial, share: float) -> None:
    """Store that a running trial ran out of memory with ``share`` of a GPU and needs more."""
    study.transact(lambda: study.storage.optuna.set_trial_system_attr(study._trial_id(trial.number), _SHARE, share))


def oom_num_gpus(study: StudyRecord, trial: Trial) -> float | None:
    """Share of a GPU with which a trial ran out of memory before; None if it did not."""
    stored: float | None = study.storage.optuna.get_trial(study._trial_id(trial.number)).system_attrs.get(_SHARE)
    return stored


def claim_deferred_trials(study: StudyRecord, share: float, sweep_id: str) -> list[Trial]:
    """Take the waiting trials that ran out of memory with ``share`` of a GPU or more. They are running trials of the
    sweep ``sweep_id`` when this returns, so that ``ask`` does not hand them out."""

    def taken() -> list[Trial]:
        short = [
            frozen
            for frozen in study._frozen()
            if FROM_OPTUNA[frozen.state] == "waiting" and frozen.system_attrs.get(_SHARE, 0.0) >= share
        ]
        for frozen in short:
            study.storage.optuna.set_trial_state_values(frozen._trial_id, TO_OPTUNA["running"])
            study.storage.optuna.set_trial_system_attr(frozen._trial_id, SWEEP, sweep_id)
        return [study.trial(frozen.number) for frozen in short]

    return study.transact(taken)
