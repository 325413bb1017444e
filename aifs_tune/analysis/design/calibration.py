"""Uncertainty of an ensemble's predictions, calibrated on examples that the models had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import DataError

Floats = NDArray[np.float64]

LEVEL = 0.9
"""Share of the true values that an interval is to hold."""
Z = 1.6448536269514722
"""Half of the width of an interval of :data:`LEVEL`, in standard deviations."""
MIN_ROWS = 10
_FREEDOM = 4
"""Degrees of freedom of the errors: some are far larger than the others."""
_LOW = 0.8
"""Share that intervals hold below which the uncertainty is said to be understated."""


@dataclass(frozen=True)
class Calibration:
    """Standard deviation of a target from the spread of the models: ``sqrt(factor * spread ** 2 + residual ** 2)``.

    Parameters
    ----------
    target, unit
        The target and its unit, empty if it has none.
    factor
        Factor of the variance between the models.
    residual
        Standard deviation that the models have in common, in ``unit``.
    n, n_groups
        Number of values, and of their groups, that models which had not seen them predicted.
    coverage
        Share of these values in their 90 % intervals, each half of the groups by the calibration on the other half.
    median_error
        Median absolute error of these predictions, in ``unit``.
    """

    target: str
    unit: str
    factor: float
    residual: float
    n: int
    n_groups: int
    coverage: float
    median_error: float

    def sd(self, spread: Floats) -> Floats:
        """Standard deviation, of the shape of ``spread``, the standard deviation between the models."""
        return np.asarray(np.sqrt(self.factor * spread**2 + self.residual**2))

    @property
    def text(self) -> str:
        """How far the uncertainty can be trusted, in words."""
        unit = f" {self.unit}" if self.unit else ""
        said = (
            f"{self.target}: of {self.n} measured values in {self.n_groups} groups, each predicted by models that had "
            f"not seen its group, {self.coverage:.0%} were in their 90 % interval; median error "
            f"{self.median_error:.3g}{unit}"
        )
        return f"{said}. The intervals are too narrow" if self.coverage < _LOW else said

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document of the command line."""
        return asdict(self) | {"text": self.text}


def calibrate(target: str, unit: str, errors: Floats, spreads: Floats, groups: Sequence[Any]) -> Calibration:
    """Calibrate the standard deviation ``sqrt(factor * spread ** 2 + residual ** 2)``.

    The ratio of both terms is that of the largest likelihood, with errors of Student's t distribution with 4 degrees of
    freedom. Their size is such that nine in ten errors are within 1.645 standard deviations, with the quantile of
    split conformal prediction (Lei et al. 2018, algorithm 2).

    Parameters
    ----------
    target, unit
        The target and its unit.
    errors, spreads
        Errors (n,) of the mean of the models that had not seen an example, and their standard deviation (n,).
    groups
        Group of each example (n,).

    Raises
    ------
    DataError
        If there are fewer than 10 examples, or 2 groups.
    """
    codes = np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)[1]
    n_groups = int(codes.max()) + 1 if len(codes) else 0
    if len(errors) < MIN_ROWS or n_groups < 2:
        raise DataError(
            f"{target}: {len(errors)} measured values in {n_groups} groups are too few to calibrate the uncertainty; "
            f"allowed: at least {MIN_ROWS} in 2 groups"
        )
    is_hit = np.zeros(len(errors), bool)
    half = np.random.default_rng(0).permutation(n_groups)[codes] % 2
    for side in (0, 1):
        factor, residual = _fit(errors[half != side], spreads[half != side])
        sd = np.sqrt(factor * spreads**2 + residual**2)
        is_hit |= (half == side) & (np.abs(errors) <= Z * sd)
    median = float(np.median(np.abs(errors)))
    return Calibration(target, unit, *_fit(errors, spreads), len(errors), n_groups, float(is_hit.mean()), median)


def _fit(errors: Floats, spreads: Floats) -> tuple[float, float]:
    from scipy.optimize import minimize

    size = float(np.sqrt((errors**2).mean())) or 1.0
    squares, variances = (errors / size) ** 2, (spreads / size) ** 2

    def cost(logs: Floats) -> float:
        total = np.exp(logs[0]) * variances + np.exp(logs[1])
        return float((np.log(total) + (_FREEDOM + 1) * np.log1p(squares / (_FREEDOM * total))).mean())

    found = minimize(cost, np.zeros(2) - 0.7, bounds=[(-9.0, 5.0), (-9.0, 3.0)], method="L-BFGS-B")
    factor, residual = float(np.exp(found.x[0])), float(np.exp(found.x[1] / 2)) * size
    standard = np.abs(errors) / np.sqrt(factor * spreads**2 + residual**2)
    share = min(1.0, LEVEL * (1 + 1 / len(errors)))
    size = float(np.quantile(standard, share, method="higher")) / Z
    return factor * size**2, residual * size
