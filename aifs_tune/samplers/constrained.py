"""Sampler wrapper that makes any sampler respect mixtures, constraints and exclusions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from aifs_tune._util.scalars import Scalar, coded_params
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import RequestError
from aifs_tune.samplers.search_space import SearchSpace, configuration

DRAWS = 100
"""Maximum number of proposals of the wrapped sampler before uniform draws are tried."""
NEW_DRAWS = 3_000
"""Number of uniform draws after which a configuration may repeat that of an earlier trial."""
UNIFORM_DRAWS = 50_000
"""Maximum number of uniform draws."""


class ConstrainedSampler(BaseSampler):
    """Sampler that asks ``sampler`` until a configuration is new and allowed by ``spec``.

    After :data:`DRAWS` rejected proposals it draws uniform ones. A proposal is moved to the nearest amounts that have
    the totals of the mixtures. With ``is_even``, for samplers that do not learn, the mapping keeps an even spread.
    """

    def __init__(self, sampler: BaseSampler, spec: SweepSpec, seed: int, *, is_even: bool = False) -> None:
        self._sampler, self._spec, self._rng = sampler, spec, np.random.default_rng(seed)
        self._search_space, self._is_even = SearchSpace.of(spec), is_even
        self._encoding = self._search_space.encoding()

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._search_space.space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        inner = self._sampler.infer_relative_search_space(study, trial)
        space = self._spec.space
        trials = study._get_trials(deepcopy=False, use_cache=True)
        taken = {_key(space.loaded(t.params)) for t in trials if t.number != trial.number and t.params}
        repeated: dict[str, Any] | None = None
        for draw, params in enumerate(chain(self._proposed(study, trial, inner), self._uniform())):
            if repeated is not None and draw > DRAWS + NEW_DRAWS:
                return space.stored(repeated)
            is_new = _key(params) not in taken
            if (is_new or repeated is None) and self._spec.allows(params):
                if is_new:
                    return space.stored(params)
                repeated = params
        if repeated is not None:
            return space.stored(repeated)
        raise RequestError(f"constraints, exclude: none of {UNIFORM_DRAWS:,} random configurations satisfies them")

    def _proposed(
        self, study: Study, trial: FrozenTrial, inner: dict[str, BaseDistribution]
    ) -> Iterator[dict[str, Any]]:
        for _ in range(DRAWS):
            relative = self._sampler.sample_relative(study, trial, inner)
            yield self._projected(self._spec.space.suggest(_SamplerTrial(self._sampler, study, trial, relative)))

    def _uniform(self) -> Iterator[dict[str, Any]]:
        for _ in range(UNIFORM_DRAWS // 100):
            for unit_point in self._encoding.spread(self._rng.random((100, len(self._encoding)))):
                yield configuration(self._spec, self._encoding, unit_point)

    def _projected(self, params: dict[str, Scalar]) -> dict[str, Any]:
        if not self._spec.mixtures:
            return params
        if not self._is_even:
            return self._spec.projected(params)
        return {**params, **self._encoding.params(self._encoding.spread(self._encoding.unit_point(params)[None])[0])}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._sampler.after_trial(study, trial, state, values)


def _key(params: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset(coded_params(params).items())


class _SamplerTrial:
    """Trial whose ``suggest_`` methods return the values of one proposal of a sampler."""

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
