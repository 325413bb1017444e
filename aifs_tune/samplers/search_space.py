"""The space of a sweep file as samplers take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from optuna.distributions import BaseDistribution

from aifs_tune._util.scalars import Scalar
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.samplers.encoding import Array, Conditions, Encoding, MixtureTotals
from aifs_tune.space.distributions import space_distributions


@dataclass(frozen=True)
class SearchSpace:
    """The distribution of every parameter, the conditions of some, those whose choices are ordered, and mixtures."""

    space: dict[str, BaseDistribution]
    conditions: Conditions
    ordered: tuple[str, ...]
    mixtures: MixtureTotals

    @staticmethod
    def of(spec: SweepSpec) -> SearchSpace:
        return SearchSpace(
            space=space_distributions(spec.space),
            conditions={name: parameter.when for name, parameter in spec.space.items() if parameter.when},
            ordered=tuple(name for name, p in spec.space.items() if p.type == "choice" and p.ordered),
            mixtures=[(mixture.components, mixture.total) for mixture in spec.mixtures],
        )

    def encoding(self) -> Encoding:
        return Encoding(self.space, self.conditions, ordered=self.ordered, mixtures=self.mixtures)


def configuration(spec: SweepSpec, encoding: Encoding, unit_point: Array) -> dict[str, Scalar]:
    """The full configuration at one place (d,), what is fixed included, in the space's order."""
    found, params = encoding.params(unit_point), dict[str, Scalar]()
    for name, parameter in spec.space.items():
        if spec.space.is_active(name, params):
            params[name] = parameter.take(name, found.get(name, parameter.extremes[0]))
    return params


def distance(spec: SweepSpec, one: Mapping[str, Scalar], other: Mapping[str, Scalar]) -> float:
    """The root mean square difference of two configurations over what is searched, 0 to 1: of numbers in parts of their
    range, of choices, and of a parameter that is active in one of them alone, 1 where they differ."""
    encoding = SearchSpace.of(spec).encoding()
    if not len(encoding):
        return 0.0
    apart = np.abs(encoding.unit_point(one) - encoding.unit_point(other))
    nominal = np.array([axis.is_nominal for axis in encoding.axes])
    both_inactive = np.isnan(encoding.unit_point(one)) & np.isnan(encoding.unit_point(other))
    apart = np.where(np.isnan(apart), np.where(both_inactive, 0.0, 1.0), np.where(nominal, apart > 0, apart))
    return float(np.sqrt(np.mean(apart**2)))
