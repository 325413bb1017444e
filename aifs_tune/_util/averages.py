"""Mean and spread of numbers of any size: the largest number is returned where the result would overflow."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence


def mean(values: Sequence[float]) -> float:
    """Return the mean of at least one finite number."""
    scale = _scale([values])
    return scale * statistics.fmean([value / scale for value in values])


def standard_deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of at least two finite numbers, with n - 1 degrees of freedom."""
    return pooled_standard_deviation([values])


def pooled_standard_deviation(groups: Sequence[Sequence[float]]) -> float:
    """Return the standard deviation within groups of at least two finite numbers each."""
    scale = _scale(groups)
    freedom = sum(len(values) - 1 for values in groups)
    squares = sum(statistics.variance([v / scale for v in values]) * (len(values) - 1) for values in groups)
    return min(scale * math.sqrt(squares / freedom), sys.float_info.max)


def _scale(groups: Sequence[Sequence[float]]) -> float:
    """Return a power of two that brings the numbers near 1; 1 unless their squares or sums would overflow."""
    largest = max(abs(value) for values in groups for value in values)
    return 1.0 if largest < 1e100 else 2.0 ** (math.frexp(largest)[1] - 1)
