"""Sampler wrapper that hides some trials from any sampler."""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState


class MaskedSampler(BaseSampler):
    """Sampler that asks ``sampler`` and hides the trials with the numbers ``masked`` from it.

    It is meant for trials that nobody will finish: they are neither pending nor failed.
    """

    def __init__(self, sampler: BaseSampler, masked: Collection[int]) -> None:
        self._sampler, self._masked = sampler, frozenset(masked)

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(self._masked_study(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(self._masked_study(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(self._masked_study(study), trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(self._masked_study(study), trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._sampler.after_trial(self._masked_study(study), trial, state, values)

    def _masked_study(self, study: optuna.Study) -> optuna.Study:
        return MaskedStudy(study, self._masked)


class MaskedStudy(optuna.Study):
    """A study without some of its trials."""

    def __init__(self, study: optuna.Study, masked: frozenset[int]) -> None:
        super().__init__(study.study_name, study._storage, sampler=study.sampler, pruner=study.pruner)
        self._masked = masked

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = super()._get_trials(deepcopy, states, use_cache)
        return [trial for trial in trials if trial.number not in self._masked]
