"""Candidates inside the ranges and sums that are allowed, and their improvement by a genetic search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.analysis.design.goals import Goals, Range, Sum
from aifs_tune.errors import RequestError

Floats = NDArray[np.float64]

_ROUNDS = 40
_BISECTIONS = 60
_TOLERANCE = 1e-6
_FRESH = 300
_PARENTS = 60
_CHILDREN = 240
_STEP = 0.1
"""Standard deviation of a random change, as a share of a column's range."""
_STEPS = 1000
"""Candidates are rounded to a thousandth of a column's range or less, as no balance weighs 15 digits."""


@dataclass(frozen=True)
class Column:
    """Input of a table: a number, or one of the ``levels`` of a text, and how the trainer gets it.

    ``scaled`` are the entries of the prepared data about it: one of a number, or one for each level.
    """

    name: str
    scaled: tuple[Mapping[str, Any], ...]
    levels: tuple[str, ...] = ()

    def inputs(self, values: Floats) -> Floats:
        """Inputs (n, entries) from numbers, or from indices of levels (n,)."""
        if self.levels:
            return np.asarray(np.where(values[:, None] == np.arange(len(self.levels)), 0.5, -0.5))
        (entry,) = self.scaled
        scaled: Floats = (values - entry["centre"]) / entry["scale"]
        return scaled[:, None]

    def values(self, inputs: Floats) -> Floats:
        """Numbers, or indices of levels (n,), from inputs (n, entries)."""
        if self.levels:
            return np.asarray(inputs.argmax(axis=1), np.float64)
        (entry,) = self.scaled
        centre, scale = entry["centre"], entry["scale"]
        found = inputs[:, 0] * scale + centre
        # Inputs have 24 bits, so that a stored 0 comes back as 4e-9: round what they cannot tell.
        steps = 10.0 ** -np.ceil(np.log10(2.0**-21 * (abs(centre) + np.abs(found - centre) + 1e-300)))
        return np.asarray(np.rint(found * steps) / steps)

    def entry(self, value: float) -> float | str:
        """What a table holds: the number, or the text of a level."""
        return self.levels[int(value)] if self.levels else value


def columns_of(made: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """Columns of the prepared data, whose fact ``columns`` is ``made``."""
    entries: dict[str, list[Mapping[str, Any]]] = {}
    for each in made:
        entries.setdefault(each["name"], []).append(each)
    return tuple(
        Column(name, tuple(own), tuple(str(each["level"]) for each in own if "level" in each))
        for name, own in entries.items()
    )


def inputs_of(columns: Sequence[Column], values: Floats) -> NDArray[np.float32]:
    """Inputs of a trainer (n, inputs) from values (n, columns)."""
    each = [column.inputs(values[:, i]) for i, column in enumerate(columns)]
    return np.concatenate(each, axis=1).astype(np.float32)


def values_of(columns: Sequence[Column], inputs: NDArray[Any]) -> Floats:
    """Values (n, columns) from inputs of a trainer (n, inputs)."""
    ends = np.cumsum([len(column.scaled) for column in columns])
    parts = np.split(np.asarray(inputs, np.float64), ends[:-1], axis=1)
    return np.stack([column.values(part) for column, part in zip(columns, parts, strict=True)], axis=1) + 0.0


class Region:
    """Where candidates may lie: the ranges of what was measured or of the goals, and the sums of the goals.

    Parameters
    ----------
    columns
        The columns.
    measured
        Values (rows, columns) that were measured.
    goals
        With ranges and sums.

    Raises
    ------
    RequestError
        If a range has an unknown entry, or nothing has the sums.
    """

    def __init__(self, columns: Sequence[Column], measured: Floats, goals: Goals) -> None:
        self.columns, self._measured = tuple(columns), measured
        self.low, self.high = measured.min(axis=0), measured.max(axis=0)
        self._levels: dict[int, NDArray[np.float64]] = {
            i: np.unique(measured[:, i]) for i, column in enumerate(columns) if column.levels
        }
        is_whole = (measured == np.rint(measured)).all(axis=0) & (self.high - self.low > 1)
        self._whole = np.array([bool(is_whole[i]) and not column.levels for i, column in enumerate(columns)])
        names = [column.name for column in columns]
        for given in goals.ranges:
            self._narrow(names.index(given.column), given)
        self._sums = [(np.array([names.index(name) for name in each.columns]), each) for each in goals.sums]
        for at, each in self._sums:
            low, high = float(self.low[at].sum()), float(self.high[at].sum())
            over = low > each.total + _TOLERANCE and each.sign != ">="
            if over or (high < each.total - _TOLERANCE and each.sign != "<="):
                raise RequestError(
                    f"sum: {' + '.join(each.columns)} is from {low:g} to {high:g} within the ranges, not {each.sign} "
                    f"{each.total:g}; allowed: such a sum, or wider ranges with range"
                )

    def _narrow(self, i: int, given: Range) -> None:
        column = self.columns[i]
        if not column.levels:
            self.low[i], self.high[i] = given.low, given.high
            self._whole[i] &= given.low.is_integer() and given.high.is_integer()
            return
        unknown = [entry for entry in given.entries if entry not in column.levels]
        if unknown:
            raise RequestError(f"range: {column.name} has no entry {unknown[0]!r}; allowed: {', '.join(column.levels)}")
        self._levels[i] = np.array([float(column.levels.index(entry)) for entry in given.entries])

    def beyond(self) -> list[str]:
        """Ranges that reach beyond what was measured, in words."""
        found = []
        for i, column in enumerate(self.columns):
            low, high = self._measured[:, i].min(), self._measured[:, i].max()
            if not column.levels and (self.low[i] < low or self.high[i] > high):
                found.append(
                    f"{column.name} from {self.low[i]:g} to {self.high[i]:g} reaches beyond what was measured, "
                    f"{low:g} to {high:g}: the models were never tested there"
                )
        return found

    def fitted(self, values: Floats) -> Floats:
        """Move values (n, columns) into the region, and leave out those that do not get there."""
        moved = np.clip(values, self.low, self.high)
        for i, levels in self._levels.items():
            moved[:, i] = levels[np.abs(values[:, i, None] - levels).argmin(axis=1)]
        moved[:, self._whole] = np.rint(moved[:, self._whole])
        steps = 10.0 ** -np.floor(np.log10(np.maximum(self.high - self.low, 1e-300) / _STEPS))
        moved = np.where(self.high > self.low, np.rint(moved * steps) / steps, moved) + 0.0
        moved = np.clip(moved, self.low, self.high)
        for _ in range(_ROUNDS if len(self._sums) > 1 else 1):
            for at, each in self._sums:
                moved[:, at] = self._with_sum(moved[:, at], at, each)
        return moved[self.holds(moved)]

    def holds(self, values: Floats) -> NDArray[np.bool_]:
        """Whether values (n, columns) are in the region."""
        held = np.ones(len(values), bool)
        size = np.maximum(np.abs(self.low), np.abs(self.high))
        held &= ((values >= self.low - _TOLERANCE * size) & (values <= self.high + _TOLERANCE * size)).all(axis=1)
        for i, levels in self._levels.items():
            held &= np.isin(values[:, i], levels)
        for at, each in self._sums:
            lacks = values[:, at].sum(axis=1) - each.total
            slack = _TOLERANCE * max(1.0, abs(each.total))
            held &= (lacks <= slack if each.sign != ">=" else True) & (lacks >= -slack if each.sign != "<=" else True)
        return held

    def _with_sum(self, part: Floats, at: NDArray[np.int64], each: Sum) -> Floats:
        """The nearest values (n, columns of the sum) with the sum: all are moved by one amount within their ranges."""
        total = part.sum(axis=1)
        is_wrong = np.full(len(part), True)
        if each.sign != "=":
            is_wrong = total > each.total if each.sign == "<=" else total < each.total
        if not is_wrong.any():
            return part
        low, high = self.low[at], self.high[at]
        below = np.full(len(part), -1.0) * (np.abs(part).max(axis=1) + np.abs([low, high]).max() + 1)
        above = -below
        for _ in range(_BISECTIONS):
            middle = (below + above) / 2
            is_less = np.clip(part + middle[:, None], low, high).sum(axis=1) < each.total
            below, above = np.where(is_less, middle, below), np.where(is_less, above, middle)
        moved = np.clip(part + above[:, None], low, high)
        return np.where(is_wrong[:, None], moved, part)

    def fresh(self, n: int, random: np.random.Generator) -> Floats:
        """Candidates: what was measured, mixtures of it, and a quarter spread evenly over the ranges."""
        n_uniform = n // 4
        uniform = random.uniform(self.low, self.high, (n_uniform, len(self.columns)))
        for i, levels in self._levels.items():
            uniform[:, i] = random.choice(levels, n_uniform)
        mixed = self.children(self._measured, n - n_uniform, random)
        return np.concatenate([self.fitted(self._measured), self.fitted(uniform), mixed])

    def children(self, parents: Floats, n: int, random: np.random.Generator) -> Floats:
        """Candidates that mix two parents, or a parent with a measured row, and change a few columns at random."""
        one = parents[random.integers(len(parents), size=n)]
        others = np.concatenate([parents, self._measured])
        other = others[random.integers(len(others), size=n)]
        shape = one.shape
        swaps = random.random(shape) < random.choice([0.0, 0.1, 0.5], (n, 1))
        share = np.where(random.random((n, 1)) < 0.5, random.random((n, 1)), 1.0)
        made = np.where(swaps, other, share * one + (1 - share) * other)
        for i in self._levels:
            made[:, i] = np.where(random.random(n) < 0.5, one[:, i], other[:, i])
        changes = random.random(shape) < random.choice([0.0, 1 / shape[1], 0.3], (n, 1))
        steps = random.standard_normal(shape) * (self.high - self.low) * _STEP * random.choice([0.1, 1.0], (n, 1))
        is_level = np.array([bool(column.levels) for column in self.columns])
        return self.fitted(made + np.where(changes & ~is_level, steps, 0.0))


def search(
    region: Region,
    score: Callable[[Floats], Floats],
    random: np.random.Generator,
    *,
    rounds: int,
    start: Floats | None = None,
) -> Floats:
    """Search the region for candidates with a large score; return the last pool (n, columns), the best first.

    Raises
    ------
    RequestError
        If the region has no candidate.
    """
    pool = region.fresh(_FRESH, random)
    pool = pool if start is None else np.concatenate([start, pool])
    if len(pool) == 0:
        raise RequestError("sum, range: no candidate has all of them; allowed: wider ranges, or fewer sums")
    pool = np.unique(pool, axis=0)
    scores = score(pool)
    for _ in range(rounds):
        best = np.argsort(-scores, kind="stable")[:_PARENTS]
        children = region.children(pool[best], _CHILDREN, random)
        kept = np.argsort(-scores, kind="stable")[: _PARENTS * 3]
        pool, scores = np.concatenate([pool[kept], children]), np.concatenate([scores[kept], score(children)])
        pool, first = np.unique(pool, axis=0, return_index=True)
        scores = scores[first]
    return np.asarray(pool[np.argsort(-scores, kind="stable")])
