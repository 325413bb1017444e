"""Ranges with a step: their values, and the range in decimals under which Optuna stores them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import cached_property, lru_cache
from typing import NamedTuple

TOLERANCE = 1e-8
"""Largest distance of a value from the nearest allowed one, in steps, that counts as rounding: pi / 4 and 1 / 3 have no
exact form."""
DIGITS = 15
"""Significant digits that a floating-point number keeps, whatever the number."""


class StoredRange(NamedTuple):
    """Range of a parameter as Optuna stores it: exact in decimals."""

    low: float
    high: float
    step: float


@dataclass(frozen=True)
class Steps:
    """The values ``low``, ``low + step``, ... up to ``high``; for whole numbers all three are whole.

    Optuna computes with decimals and lowers a ``high`` that is no multiple of ``step`` in decimals, as of a third or of
    pi / 4, by a whole step, each time it reads the range. It is given :attr:`stored`, whose numbers are rounded so that
    they fit in decimals. Values are translated when they are stored and read, so that nobody else sees these.
    """

    low: float
    high: float
    step: float

    def __len__(self) -> int:
        return self.n + 1

    def __iter__(self) -> Iterator[float]:
        return map(self.value, range(self.n + 1))

    @property
    def n(self) -> int:
        """Number of steps from ``low`` to ``high``."""
        return round((self.high - self.low) / self.step)

    def nearest_ends(self) -> list[float]:
        """Return what ``high`` could be instead, below and above it; empty if it is an allowed value."""
        if isinstance(self.high, int) and isinstance(self.low, int) and isinstance(self.step, int):
            n, rest = divmod(self.high - self.low, self.step)
            return [self.low + k * self.step for k in (n, n + 1) if k > 0] if rest else []
        steps = (self.high - self.low) / self.step
        if round(steps) > 0 and abs(steps - round(steps)) <= TOLERANCE:
            return []
        return [self._decimal_value(k) for k in (math.floor(steps), math.floor(steps) + 1) if k > 0]

    def nearest(self, value: float) -> float | None:
        """Return the allowed value that is ``value`` up to rounding; None if there is none."""
        steps = (value - self.low) / self.step
        if not -0.5 < steps < self.n + 0.5 or abs(steps - round(steps)) > TOLERANCE:
            return None
        return self.value(round(steps))

    def value(self, i: int) -> float:
        """Return ``low`` plus ``i`` steps, without the error of floating-point sums: 0.3, not 0.1 + 0.2."""
        return float(self.high) if i >= self.n else self._decimal_value(i)

    def _decimal_value(self, i: int) -> float:
        return float(_decimal(self.low) + i * _decimal(self.step))

    @cached_property
    def stored(self) -> StoredRange:
        """The range that Optuna is given."""
        return _stored_range(self.low, self.high, self.step)

    def store(self, value: float) -> float:
        """Return the number that Optuna stores for an allowed value."""
        return self._stored_value(round((value - self.low) / self.step))

    def load(self, stored: float) -> float | None:
        """Return the value of a number that Optuna stored; None if it is no value of this range."""
        steps = (stored - self.stored.low) / self.stored.step
        if not -0.5 < steps < self.n + 0.5 or abs(steps - round(steps)) > TOLERANCE:
            return None
        return self.value(round(steps))

    def _stored_value(self, i: int) -> float:
        if self.stored == (self.low, self.high, self.step):
            return self.value(i)
        return float(_decimal(self.stored.low) + i * _decimal(self.stored.step))


def _decimal(number: float) -> Decimal:
    return Decimal(str(number))


@lru_cache(maxsize=1024)
def _stored_range(low: float, high: float, step: float) -> StoredRange:
    if (_decimal(high) - _decimal(low)) % _decimal(step) == 0:
        return StoredRange(low, high, step)
    largest = max(abs(low), abs(high))
    unit = Decimal(1).scaleb(math.floor(math.log10(largest)) + 2 - DIGITS)
    base, each = _decimal(low).quantize(unit, ROUND_FLOOR), _decimal(step).quantize(unit, ROUND_CEILING)
    return StoredRange(float(base), float(base + round((high - low) / step) * each), float(each))
