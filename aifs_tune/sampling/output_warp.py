"""Values as a Gaussian process sees them: a power transform that makes their distribution as normal as it can.

Yeo & Johnson, A New Family of Power Transformations to Improve Normality or Symmetry, Biometrika 87 (2000), equation
2.1; its parameter has the largest likelihood, their equation 3.1. An instrument's values are often near zero almost
everywhere and high in one place, or the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

POWERS = np.linspace(-1.0, 3.0, 41)


@dataclass(frozen=True)
class OutputWarp:
    """Rising; warped values have mean 0 and variance 1. ``centre`` and ``scale`` are of the values, ``mean`` and ``sd``
    of what the power makes of them."""

    power: float
    centre: float
    scale: float
    mean: float
    sd: float

    @staticmethod
    def of(values: Array) -> OutputWarp:
        """The most likely one for ``values`` (n,)."""
        centre, scale = float(values.mean()), float(values.std()) or 1.0
        z = (values - centre) / scale
        jacobian = float(np.sum(np.sign(z) * np.log1p(np.abs(z))))
        spreads = [float(_bent(z, power).std()) or 1.0 for power in POWERS]
        fits = [-len(z) * np.log(sd) + (p - 1.0) * jacobian for p, sd in zip(POWERS, spreads, strict=True)]
        power = float(POWERS[int(np.argmax(fits))])
        bent = _bent(z, power)
        return OutputWarp(power, centre, scale, float(bent.mean()), float(bent.std()) or 1.0)

    def __call__(self, values: Array) -> Array:
        return (_bent((values - self.centre) / self.scale, self.power) - self.mean) / self.sd

    def inverse(self, warped: Array | float) -> Array:
        """The values that are warped to ``warped``; the nearest there are where the power ends."""
        return _unbent(np.asarray(warped, dtype=float) * self.sd + self.mean, self.power) * self.scale + self.centre


def _bent(z: Array, power: float) -> Array:
    up, down = np.maximum(z, 0.0), np.maximum(-z, 0.0)
    above = np.log1p(up) if abs(power) < 1e-9 else ((1.0 + up) ** power - 1.0) / power
    other = 2.0 - power
    below = np.log1p(down) if abs(other) < 1e-9 else ((1.0 + down) ** other - 1.0) / other
    return np.asarray(above - below)


def _unbent(w: Array, power: float) -> Array:
    up, down, other = np.maximum(w, 0.0), np.maximum(-w, 0.0), 2.0 - power
    return np.asarray(_opened(up, power) - _opened(down, other))


def _opened(w: Array, power: float) -> Array:
    if abs(power) < 1e-9:
        return np.expm1(np.minimum(w, 50.0))
    inside = np.maximum(1.0 + power * w, 1e-3)
    return np.asarray(np.minimum(inside ** (1.0 / power), 1e6) - 1.0)
