"""Search space of a sweep file in the form that samplers use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from optuna.distributions import BaseDistribution

from aifs_tune._util.scalars import Scalar
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.samplers.encoding import Array, Conditions, DescriptorTables, Encoding, MixtureTotals
from aifs_tune.space.distributions import space_distributions


@dataclass(frozen=True)
class SearchSpace:
    """Distributions of all parameters, conditions, names of ordered choices, mixtures, and descriptors of choices."""

    space: dict[str, BaseDistribution]
    conditions: Conditions
    ordered: tuple[str, ...]
    mixtures: MixtureTotals
    descriptors: DescriptorTables

    @staticmethod
    def of(spec: SweepSpec) -> SearchSpace:
        """Return the search space of a sweep file."""
        return SearchSpace(
            space=space_distributions(spec.space),
            conditions={name: parameter.when for name, parameter in spec.space.items() if parameter.when},
            ordered=tuple(name for name, p in spec.space.items() if p.type == "choice" and p.ordered),
            mixtures=[(mixture.components, mixture.total) for mixture in spec.mixtures],
            descriptors={name: p.descriptors for name, p in spec.space.items() if p.type == "choice" and p.descriptors},
        )

    def encoding(self) -> Encoding:
        """Return the encoding of its configurations as points of the unit cube."""
        return Encoding(
            self.space, self.conditions, ordered=self.ordered, mixtures=self.mixtures, descriptors=self.descriptors
        )


def configuration(spec: SweepSpec, encoding: Encoding, unit_point: Array) -> dict[str, Scalar]:
    """Return the full configuration at one unit point (d,), with fixed parameters, in the order of the space."""
    found, params = encoding.params(unit_point), dict[str, Scalar]()
    for name, parameter in spec.space.items():
        if spec.space.is_active(name, params):
            params[name] = parameter.take(name, found.get(name, parameter.extremes[0]), is_stored=True)
    return params


def distance(spec: SweepSpec, one: Mapping[str, Scalar], other: Mapping[str, Scalar]) -> float:
    """Return the root mean square distance of two configurations over the searched parameters, from 0 to 1.

    Numbers are scaled by their range. Different choices have distance 1, as has a parameter that is active in only one
    of the two configurations.
    """
    encoding = SearchSpace.of(spec).encoding()
    if not len(encoding):
        return 0.0
    apart = np.abs(encoding.unit_point(one) - encoding.unit_point(other))
    nominal = np.array([axis.is_nominal for axis in encoding.axes])
    both_inactive = np.isnan(encoding.unit_point(one)) & np.isnan(encoding.unit_point(other))
    apart = np.where(np.isnan(apart), np.where(both_inactive, 0.0, 1.0), np.where(nominal, apart > 0, apart))
    return float(np.sqrt(np.mean(apart**2)))
