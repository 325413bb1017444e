"""Encoding of configurations as points of the unit cube, and back.

A *unit point* z (d,) has one number from 0 to 1 for each parameter. Floats and integers are scaled along their range,
or along its logarithm where the range is log. A choice is (index + 1/2) / number of choices. Features x (c,) are the
input of the model: numbers and ordered choices have one column, an unordered choice has one column for each of its
values (one-hot), and one for each of its descriptors. An inactive parameter has the same features in all configurations
that lack it.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from copy import copy
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from aifs_tune._util.scalars import coded
from aifs_tune.samplers.simplex import Simplex

Array: TypeAlias = NDArray[np.float64]
Conditions: TypeAlias = Mapping[str, Mapping[str, Sequence[Any]]]
"""For each conditional parameter, the allowed values of each of its parents."""
MixtureTotals: TypeAlias = Sequence[tuple[Sequence[str], float]]
"""For each mixture, the names of its components and their total."""


DescriptorTables: TypeAlias = Mapping[str, Mapping[str, Sequence[float]]]
"""For each choice with descriptors, the numbers of its values by name of the descriptor."""

LEFT_OPEN = 0.1
"""Squared distance of two choices with equal descriptors, in mean squared distances of all choices, for equal length
scales; descriptors are never all that matters."""
MIN_RANGE = 1e-9
"""Range of a descriptor, as a fraction of its largest value, below which it counts as constant."""
MAX_CORRELATION = 0.7
"""Absolute correlation with an earlier descriptor from which one is left out."""


class Axis:
    """Mapping of one parameter's values to numbers from 0 to 1 and back."""

    def __init__(
        self, distribution: BaseDistribution, *, is_ordered: bool = False, descriptors: Array | None = None
    ) -> None:
        self.distribution = distribution
        self.choices: tuple[Any, ...] = ()
        self.is_ordered = is_ordered
        self.is_log = False
        self._low, self._high = 0.0, 1.0
        if isinstance(distribution, CategoricalDistribution):
            self.choices = tuple(distribution.choices)
            self._table = _choice_features(len(self.choices), descriptors)
            return
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        step = distribution.step
        half = 0.0 if step is None else 0.5 * step  # each grid value gets an equal share of the unit interval
        low, high = distribution.low - half, distribution.high + half
        self.is_log = distribution.log
        self._low, self._high = (np.log(low), np.log(high)) if self.is_log else (low, high)

    @property
    def n_features(self) -> int:
        """Number of feature columns."""
        return self._table.shape[1] if self.is_nominal else 1

    @property
    def is_nominal(self) -> bool:
        """Whether the parameter is a choice without an order."""
        return bool(self.choices) and not self.is_ordered

    def choice_features(self, unit_points: Array) -> Array:
        """Return the features (m, k) of an unordered choice at ``unit_points`` (m,), 0 where it is inactive."""
        index = np.minimum(np.nan_to_num(unit_points) * len(self.choices), len(self.choices) - 1).astype(int)
        return np.where(np.isnan(unit_points)[:, None], 0.0, self._table[index])

    def unit_point(self, value: Any) -> float:
        """Map a value to a number from 0 to 1."""
        if self.choices:
            return (self._index(value) + 0.5) / len(self.choices)
        raw = np.log(value) if self.is_log else value
        return min(max(float((raw - self._low) / (self._high - self._low)), 0.0), 1.0)

    def _index(self, value: Any) -> int:
        return int(self.distribution.to_internal_repr(coded(value)))

    def values(self, unit_points: Array) -> list[Any]:
        """Return the allowed values nearest to ``unit_points`` (m,)."""
        if self.choices:
            index = np.minimum((unit_points * len(self.choices)).astype(int), len(self.choices) - 1)
            return [self.choices[i] for i in index]
        raw = self._low + unit_points * (self._high - self._low)
        real = np.exp(raw) if self.is_log else raw
        d = self.distribution
        assert isinstance(d, FloatDistribution | IntDistribution)
        if d.step is not None:
            real = d.low + np.round((real - d.low) / d.step) * d.step
        real = np.clip(real, d.low, d.high)
        return [int(v) for v in real] if isinstance(d, IntDistribution) else [float(v) for v in real]

    def snapped(self, unit_points: Array) -> Array:
        """Move ``unit_points`` (m,) to those of the nearest allowed values."""
        if self.choices:
            return (np.minimum(np.floor(unit_points * len(self.choices)), len(self.choices) - 1) + 0.5) / len(
                self.choices
            )
        d = self.distribution
        assert isinstance(d, FloatDistribution | IntDistribution)
        if d.step is None:
            return np.clip(unit_points, 0.0, 1.0)
        raw = self._low + unit_points * (self._high - self._low)
        real = np.exp(raw) if self.is_log else raw
        real = np.clip(d.low + np.round((real - d.low) / d.step) * d.step, d.low, d.high)
        raw = np.log(real) if self.is_log else real
        return np.asarray((raw - self._low) / (self._high - self._low), dtype=float)


class Encoding:
    """Encoding of all parameters of a space, in a fixed order, without those that have only one value."""

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        conditions: Conditions | None = None,
        *,
        ordered: Container[str] = (),
        mixtures: MixtureTotals = (),
        descriptors: DescriptorTables | None = None,
    ) -> None:
        self.names = [name for name, distribution in distributions.items() if not distribution.single()]
        tables = {name: np.array(list(table.values())).T for name, table in (descriptors or {}).items()}
        self.axes = [
            Axis(distributions[name], is_ordered=name in ordered, descriptors=tables.get(name)) for name in self.names
        ]
        self._simplexes = [self._simplex(names, total, distributions) for names, total in mixtures]
        self.columns = self._columns()
        self._first = np.concatenate([[0], np.cumsum([axis.n_features for axis in self.axes])]).astype(int)
        self._conditions: list[tuple[int, list[tuple[int, Array]]]] = []
        self._never: list[int] = []
        self._pinned: dict[int, float] = {}
        for name, parents in (conditions or {}).items():
            if name in self.names:
                self._add_condition(name, parents, distributions)

    def _columns(self) -> NDArray[np.int64]:
        """Return the index of the length scale of each column of the features.

        A parameter has one, and a choice with descriptors another one for what its descriptors leave open.
        """
        found, n_scales = [], len(self.axes)
        for j, axis in enumerate(self.axes):
            n_described = axis.n_features - len(axis.choices) if axis.is_nominal else 1
            if n_described in (0, axis.n_features):
                found += [j] * axis.n_features
            else:
                found += [j] * n_described + [n_scales] * len(axis.choices)
                n_scales += 1
        return np.array(found, dtype=np.int64)

    def _simplex(self, names: Sequence[str], total: float, distributions: Mapping[str, BaseDistribution]) -> Simplex:
        columns = [self.names.index(name) for name in names if name in self.names]
        fixed = sum(_only_value(distributions[name]) for name in names if name not in self.names)
        ends = [_ends(self.axes[column].distribution) for column in columns]
        low, high = np.array(ends, dtype=float).T
        return Simplex(columns, low, high - low, total - fixed)

    def _add_condition(
        self, name: str, parents: Mapping[str, Sequence[Any]], distributions: Mapping[str, BaseDistribution]
    ) -> None:
        here, tests = self.names.index(name), []
        for parent, allowed in parents.items():
            if parent in self.names:
                axis = self.axes[self.names.index(parent)]
                tests.append((self.names.index(parent), np.array([axis.unit_point(value) for value in allowed])))
            elif _only_value(distributions[parent]) not in allowed:
                self._never.append(here)
        self._conditions.append((here, tests))

    def __len__(self) -> int:
        return len(self.axes)

    @property
    def has_conditions(self) -> bool:
        """Whether some parameter is conditional."""
        return bool(self._conditions)

    def unit_point(self, params: Mapping[str, Any]) -> Array:
        """Return the unit point (d,) of a configuration, NaN where a parameter is inactive."""
        return np.array(
            [
                axis.unit_point(params[n]) if n in params else np.nan
                for n, axis in zip(self.names, self.axes, strict=True)
            ]
        )

    def pinned_to(self, params: Mapping[str, Any]) -> Encoding:
        """Return this encoding with the parameters of ``params`` at these values in all points that it snaps."""
        pinned = copy(self)
        pinned._pinned = {j: self.axes[j].unit_point(params[n]) for j, n in enumerate(self.names) if n in params}
        return pinned

    def deactivated(self, unit_points: Array) -> Array:
        """Snap ``unit_points`` (m, d) to allowed values and totals of mixtures, with NaN for inactive parameters."""
        if self._pinned:
            unit_points = unit_points.copy()
            unit_points[:, list(self._pinned)] = list(self._pinned.values())
        out = np.stack([axis.snapped(unit_points[:, j]) for j, axis in enumerate(self.axes)], axis=1)
        for simplex in self._simplexes:
            out = simplex.project_to_total(out)
        for here, tests in self._conditions:  # parents come before their children
            active = np.full(len(out), here not in self._never)
            for parent, allowed in tests:
                active &= np.any(np.abs(out[:, parent, None] - allowed[None, :]) < 1e-9, axis=1)
            out[~active, here] = np.nan
        return out

    def spread(self, unit_points: Array) -> Array:
        """Apply :meth:`deactivated` to evenly spread ``unit_points`` (m, d), and keep mixtures evenly spread."""
        for simplex in self._simplexes:
            unit_points = simplex.spread(unit_points)
        return self.deactivated(unit_points)

    def features(self, unit_points: Array) -> Array:
        """Return features (m, c) of snapped ``unit_points`` (m, d), which are NaN where a parameter is inactive."""
        out = np.empty((len(unit_points), len(self.columns)))
        for j, axis in enumerate(self.axes):
            start, stop = self._first[j], self._first[j + 1]
            z = unit_points[:, j]
            if axis.is_nominal:
                out[:, start:stop] = axis.choice_features(z)
            else:
                out[:, start] = np.where(np.isnan(z), 0.5, z)
        return out

    def params(self, unit_point: Array) -> dict[str, Any]:
        """Return the configuration at one unit point (d,), without inactive parameters."""
        return self.configurations(unit_point[None])[0]

    def configurations(self, unit_points: Array) -> list[dict[str, Any]]:
        """Return the configuration at each of ``unit_points`` (m, d), without inactive parameters."""
        active, filled = ~np.isnan(unit_points), np.nan_to_num(unit_points)
        values = [axis.values(filled[:, j]) for j, axis in enumerate(self.axes)]
        return [
            {name: values[j][i] for j, name in enumerate(self.names) if active[i, j]} for i in range(len(unit_points))
        ]


def _choice_features(n: int, descriptors: Array | None) -> Array:
    """Return the features (n, c) of ``n`` choices with ``descriptors`` (n, k), if any.

    By their descriptors two choices are 1 apart in the root mean square. Descriptors are standardised; constant ones,
    and ones that are correlated with an earlier one, are left out.
    """
    one_hot: Array = np.sqrt(0.5) * np.eye(n)
    if descriptors is None:
        return one_hot
    kept: list[Array] = []
    for column in descriptors.T:
        scaled = column / (np.abs(column).max() or 1.0)
        scaled = scaled - scaled.mean()
        if np.ptp(scaled) > MIN_RANGE:
            scaled = scaled / np.sqrt(np.mean(scaled**2))
            if all(abs(np.mean(scaled * other)) < MAX_CORRELATION for other in kept):
                kept.append(scaled)
    if not kept:
        return one_hot
    described = np.stack(kept, axis=1) / np.sqrt(2 * len(kept) * n / (n - 1))
    return np.hstack([described, np.sqrt(LEFT_OPEN) * one_hot])


def key_of(unit_point: Array) -> bytes:
    """Return a key that is equal for two unit points (d,) of one configuration."""
    return np.round(np.nan_to_num(unit_point, nan=-1.0), 9).tobytes()


def _ends(distribution: BaseDistribution) -> tuple[float, float]:
    assert isinstance(distribution, FloatDistribution)
    return distribution.low, distribution.high


def _only_value(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low
