"""User prior over the location of the optimum, which counts less with each result.

The acquisition function is multiplied by the prior to the power of beta / n, where n trials have reported: equation 6
of Hvarfner et al., PiBO: Augmenting Acquisition Functions with User Beliefs for Bayesian Optimization, arXiv
2204.11051.
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
"""Standard deviation of the prior of a number, as a fraction of the parameter's range."""
UNIFORM_SHARE = 0.1
"""Share of the prior that is uniform, so that no value is ruled out."""
BETA = 10.0
"""Number of trials after which the exponent of the prior is 1; after twice as many it is 1/2."""


class UserPrior:
    """Prior from the values that a user expects to be good, for some or all parameters of an encoding."""

    def __init__(self, encoding: Encoding, values: Mapping[str, Any]) -> None:
        axes = zip(encoding.names, encoding.axes, strict=True)
        self._axes = [(j, axis, axis.unit_point(values[name])) for j, (name, axis) in enumerate(axes) if name in values]

    def log_density(self, unit_points: Array) -> Array:
        """Compute the log density (m,) at ``unit_points`` (m, d), up to a constant, without inactive parameters."""
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
        """Map uniform ``unit_points`` (m, d) to samples of the prior without its uniform share."""
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
        """Add the weighted log density at ``unit_points`` (m, d) to the log ``score`` (m,)."""
        return score + BETA / max(n_reported, 1) * self.log_density(unit_points)
