"""Any sampler, held to constraints that it knows nothing of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from aifs_tune.errors import RequestError
from aifs_tune.record import space_distributions
from aifs_tune.space import Scalar
from aifs_tune.spec import SweepSpec

DRAWS = 100
"""Proposals of the sampler that are tried before uniform ones are."""
UNIFORM_DRAWS = 10_000


class Obedient(BaseSampler):
    """Asks ``sampler`` for whole configurations until one keeps to the constraints of ``spec``; after :data:`DRAWS`
    of them, uniform ones."""

    def __init__(self, sampler: BaseSampler, spec: SweepSpec, seed: int) -> None:
        self._sampler, self._spec, self._uniform = sampler, spec, RandomSampler(seed=seed)

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return space_distributions(self._spec.space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        inner = self._sampler.infer_relative_search_space(study, trial)
        for draw in range(DRAWS + UNIFORM_DRAWS):
            sampler = self._sampler if draw < DRAWS else self._uniform
            relative = sampler.sample_relative(study, trial, inner) if draw < DRAWS else {}
            params = self._spec.space.suggest(_Drawn(sampler, study, trial, relative))
            if all(constraint.holds(params) for constraint in self._spec.constraints):
                return dict(params)
        raise RequestError(f"constraints: none of {UNIFORM_DRAWS} random configurations keeps to them")

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._sampler.after_trial(study, trial, state, values)


class _Drawn:
    """Answers a space's questions from one proposal of a sampler."""

    def __init__(self, sampler: BaseSampler, study: Study, trial: FrozenTrial, relative: dict[str, Any]) -> None:
        self._sampler, self._study, self._trial, self._relative = sampler, study, trial, relative

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> Any:
        return self._draw(name, FloatDistribution(low, high, log=log, step=step))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> Any:
        return self._draw(name, IntDistribution(low, high, log=log, step=step))

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Any:
        return self._draw(name, CategoricalDistribution(choices))

    def _draw(self, name: str, distribution: BaseDistribution) -> Any:
        if name in self._relative:
            return self._relative[name]
        return self._sampler.sample_independent(self._study, self._trial, name, distribution)
