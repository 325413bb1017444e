"""Values as a Gaussian process sees them: the logarithm of their distance to the lowest.

What an instrument gives is often a product of how well each of its parameters is set: near zero almost everywhere, and
high in one place. Its logarithm is a sum, and as rough in one place as in another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

OFFSET = 0.1
"""What is added to the distance, in parts of the whole range: smaller differences count little, as noise makes them."""


@dataclass(frozen=True)
class OutputWarp:
    """Rising; warped values have mean 0 and variance 1. What is below ``low`` counts as equally bad."""

    low: float
    offset: float
    mean: float
    sd: float

    @staticmethod
    def of(values: Array) -> OutputWarp:
        """The one for ``values`` (n,). Those that are farther below the lower quartile than that is below the highest
        are cut off: a few that are very bad do not make all others alike."""
        quartile, high = float(np.quantile(values, 0.25)), float(values.max())
        low = max(float(values.min()), 2.0 * quartile - high)
        offset = OFFSET * (high - low) or 1.0
        bent = np.log(np.maximum(values - low, 0.0) + offset)
        return OutputWarp(low, offset, float(bent.mean()), float(bent.std()) or 1.0)

    def __call__(self, values: Array) -> Array:
        return np.asarray((np.log(np.maximum(values - self.low, 0.0) + self.offset) - self.mean) / self.sd)

    def inverse(self, warped: Array | float) -> Array:
        """The values that are warped to ``warped``, none below ``low``."""
        bent = np.minimum(np.asarray(warped, dtype=float) * self.sd + self.mean, 600.0)
        return np.asarray(np.maximum(np.exp(bent) - self.offset, 0.0) + self.low)
