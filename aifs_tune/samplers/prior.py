"""A prior guess of the user's: where the best may lie. Results outweigh it as they come in.

The acquisition is multiplied by the guess to the power of beta / n, n the trials that have reported: equation 6 of
Hvarfner et al., PiBO: Augmenting Acquisition Functions with User Beliefs for Bayesian Optimization, arXiv 2204.11051.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from aifs_tune.samplers.encoding import Encoding

Array: TypeAlias = NDArray[np.float64]

SPREAD = 0.15
"""Standard deviation of a guess about a number, in parts of the parameter's range."""
UNIFORM_SHARE = 0.1
"""Share of the guess that is spread evenly: no value is ever ruled out."""
BETA = 10.0
"""The guess counts in full after this many trials, and half after twice as many."""


class UserPrior:
    """The values that a user expects to be good, for some or all parameters of an encoding."""

    def __init__(self, encoding: Encoding, values: Mapping[str, Any]) -> None:
        axes = zip(encoding.names, encoding.axes, strict=True)
        self._axes = [(j, axis, axis.unit_point(values[name])) for j, (name, axis) in enumerate(axes) if name in values]

    def log_density(self, unit_points: Array) -> Array:
        """Log of the guess (m,) at ``unit_points`` (m, d), up to a constant; a parameter that is inactive says
        nothing."""
        total = np.zeros(len(unit_points))
        for j, axis, centre in self._axes:
            z = unit_points[:, j]
            if axis.is_nominal:
                density = len(axis.choices) * (np.abs(z - centre) < 1e-9)
            else:
                density = scipy.stats.truncnorm.pdf(
                    z, -centre / SPREAD, (1 - centre) / SPREAD, loc=centre, scale=SPREAD
                )
            total += np.where(np.isnan(z), 0.0, np.log(UNIFORM_SHARE + (1 - UNIFORM_SHARE) * np.nan_to_num(density)))
        return total

    def transformed(self, unit_points: Array) -> Array:
        """Uniform ``unit_points`` (m, d) moved so that they are spread as the guess is, its doubt left out."""
        out = unit_points.copy()
        for j, axis, centre in self._axes:
            if axis.is_nominal:
                out[:, j] = centre
            else:
                out[:, j] = scipy.stats.truncnorm.ppf(
                    unit_points[:, j], -centre / SPREAD, (1 - centre) / SPREAD, loc=centre, scale=SPREAD
                )
        return out

    def weighted(self, score: Array, unit_points: Array, n_reported: int) -> Array:
        """``score`` (m,), a logarithm, with the guess at ``unit_points`` (m, d) after ``n_reported`` trials."""
        return score + BETA / max(n_reported, 1) * self.log_density(unit_points)
