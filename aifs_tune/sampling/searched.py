"""The space of a sweep file as samplers take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from optuna.distributions import BaseDistribution

from aifs_tune.record import space_distributions
from aifs_tune.sampling.encoding import Array, Conditions, Encoding, Mixed
from aifs_tune.scalars import Scalar
from aifs_tune.spec import SweepSpec


@dataclass(frozen=True)
class Searched:
    """The distribution of every parameter, the conditions of some, those whose choices are ordered, and mixtures."""

    space: dict[str, BaseDistribution]
    conditions: Conditions
    ordered: tuple[str, ...]
    mixed: Mixed

    @staticmethod
    def of(spec: SweepSpec) -> Searched:
        return Searched(
            space=space_distributions(spec.space),
            conditions={name: parameter.when for name, parameter in spec.space.items() if parameter.when},
            ordered=tuple(name for name, p in spec.space.items() if p.type == "choice" and p.ordered),
            mixed=[(mixture.components, mixture.total) for mixture in spec.mixtures],
        )

    def encoding(self) -> Encoding:
        return Encoding(self.space, self.conditions, ordered=self.ordered, mixed=self.mixed)


def configuration(spec: SweepSpec, encoding: Encoding, place: Array) -> dict[str, Scalar]:
    """The full configuration at one place (d,), what is fixed included, in the space's order."""
    found, params = encoding.params(place), dict[str, Scalar]()
    for name, parameter in spec.space.items():
        if spec.space.is_active(name, params):
            params[name] = parameter.take(name, found.get(name, parameter.extremes[0]))
    return params


def distance(spec: SweepSpec, one: Mapping[str, Scalar], other: Mapping[str, Scalar]) -> float:
    """The root mean square difference of two configurations over what is searched, 0 to 1: of numbers in parts of their
    range, of choices, and of a parameter that is active in one of them alone, 1 where they differ."""
    encoding = Searched.of(spec).encoding()
    if not len(encoding):
        return 0.0
    apart = np.abs(encoding.place(one) - encoding.place(other))
    nominal = np.array([axis.is_nominal for axis in encoding.axes])
    both_inactive = np.isnan(encoding.place(one)) & np.isnan(encoding.place(other))
    apart = np.where(np.isnan(apart), np.where(both_inactive, 0.0, 1.0), np.where(nominal, apart > 0, apart))
    return float(np.sqrt(np.mean(apart**2)))
