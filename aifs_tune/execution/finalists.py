"""Finalists: configurations within the noise of the best are trained again and ranked by their means."""

from __future__ import annotations

from pathlib import Path

from aifs_tune.analysis.noise import Noise, find_noise_floor
from aifs_tune.artifacts.trial_artifacts import BestWeights
from aifs_tune.execution.callbacks import SweepCallback
from aifs_tune.study.ranking import best_singly, finalists
from aifs_tune.study.recommendation import MIN_FREEDOM, known_noise
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.study import NOISE


def record_noise_floor(study: StudyRecord, callback: SweepCallback) -> None:
    """Record in ``study`` the noise that was measured for this sweep, unless its trials use several splits of the data,
    as those that measure noise do."""
    if study.spec.cross_validation is not None:
        return
    floor = find_noise_floor(study)
    if isinstance(floor, str):
        callback.on_status(f"The measured noise is not used: {floor}")
    if isinstance(floor, Noise):
        told = {"sd": floor.sd, "freedom": floor.n - 1, "study": floor.study}
        if study.fact(NOISE) != told:
            study.record_fact(NOISE, told)
        callback.on_status(
            f"noise: standard deviation {floor.sd:.2g} of {floor.metric} over {floor.n} trainings of {floor.study}"
        )


def weights_to_keep(study: StudyRecord, artifacts: Path | str) -> BestWeights:
    """The weights that a sweep of ``study`` keeps; what crashed sweeps left beside them is removed."""
    n_kept = study.n_requested if study.spec.refit else 0
    n_kept += study.spec.search.finalists * study.spec.search.finalist_seeds
    trials = study.all_trials()
    best = best_singly(trials, study.spec)[:n_kept] if n_kept else study.front
    weights = BestWeights(artifacts, study.spec.objectives, best, most=max(1, n_kept))
    weights.tidy(trials)
    return weights


def retrain_finalists(study: StudyRecord, callback: SweepCallback) -> int:
    """Enqueue the trainings that the finalists of ``study`` still lack; return how many."""
    search = study.spec.search
    if not search.finalists:
        return 0
    trials = study.all_trials()
    noise = known_noise(trials, study.noise_floor)
    if noise is None or noise[1] < MIN_FREEDOM:
        callback.on_status(
            f"no finalist is trained again: noise unknown; measure it with: aifs-tune noise {study.spec.name}"
        )
        return 0
    near = finalists(trials, study.spec, noise[0])
    lacking = [trial for turn in range(search.finalist_seeds) for trial, lacks in near if turn < lacks]
    if not near:
        callback.on_status(
            f"no finalist is trained again: one configuration leads by more than the noise of {noise[0]:.2g}"
        )
    if not lacking:
        return 0

    def enqueue() -> None:
        for trial in lacking:
            study.enqueue(trial.params)
        study.request_trials(study.n_requested + len(lacking))

    study.transact(enqueue)
    names = ", ".join(str(trial.number) for trial, _ in near)
    callback.on_status(
        f"trials {names} are within the noise of {noise[0]:.2g}: training them {len(lacking)} more times"
    )
    return len(lacking)


def settle(study: StudyRecord) -> None:
    """Delete all weights but those of the best configuration, once finalists are ranked."""
    search = study.spec.search
    n_kept = search.finalists * search.finalist_seeds
    if n_kept:
        kept = best_singly(study.all_trials(), study.spec)[:n_kept]
        BestWeights(study.artifacts, study.spec.objectives, kept, most=n_kept).settle(study.front)
