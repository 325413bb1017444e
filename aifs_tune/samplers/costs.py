"""Costs of configurations, which a proposal weighs against the improvement that it promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from aifs_tune.samplers.acquisition import PENALTY
from aifs_tune.samplers.encoding import Encoding

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Costs:
    """Cost of each configuration, and optionally the ``budget`` that is expected to be spent in all.

    An expected improvement is divided by the cost. With a budget, it is divided by the cost to the power of the share
    that is left: the nearer the end, the less it helps to save. Equation 6 of Lee et al., Cost-aware Bayesian
    Optimization, arXiv 2003.10870.
    """

    of: Callable[[Mapping[str, Any]], float]
    budget: float | None = None

    def spent(self, trials: Sequence[FrozenTrial]) -> float:
        """Return the sum of the costs of all trials that have begun."""
        return sum(self.of(trial.params) for trial in trials if trial.state != TrialState.WAITING and trial.params)

    def weighted(self, score: Array, unit_points: Array, encoding: Encoding, spent: float) -> Array:
        """Subtract the weighted log costs of ``unit_points`` (m, d) from the log ``score`` (m,).

        Configurations that cost more than is left of the budget are ranked behind all others.
        """
        costs = np.array([self.of(params) for params in encoding.configurations(unit_points)])
        if self.budget is None:
            return np.asarray(score - np.log(costs))
        left = max(0.0, self.budget - spent)
        return np.asarray(score - left / self.budget * np.log(costs) - np.where(costs > left, PENALTY, 0.0))
