"""Conversion of a search space to Optuna's distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from aifs_tune._util.scalars import Scalar
from aifs_tune.space.search_space import Space


class FixedTrial:
    """Trial that returns given parameters and records the distributions that are asked for."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.distributions[name] = FloatDistribution(low, high, log=log, step=step)
        asked: float = self._params[name]
        return asked

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.distributions[name] = IntDistribution(low, high, log=log, step=step)
        asked: int = self._params[name]
        return asked

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        self.distributions[name] = CategoricalDistribution(choices)
        asked: Scalar = self._params[name]
        return asked


def distributions_of(space: Space, params: Mapping[str, Scalar]) -> dict[str, BaseDistribution]:
    """Return Optuna's distribution of each parameter that is active in a checked configuration."""
    replay = FixedTrial(space.stored(params))
    space.suggest(replay)
    return replay.distributions


def space_distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return Optuna's distribution of every parameter, active or not, in the order of the space."""
    replay = FixedTrial(dict.fromkeys(space.root))
    for name, parameter in space.items():
        parameter.suggest(name, replay)
    return replay.distributions
