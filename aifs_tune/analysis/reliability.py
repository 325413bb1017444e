"""Whether probabilities mean what they say: of all predictions made with 80 %, eight in ten should be right."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.analysis.scores import Array


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions whose confidence, the probability of the predicted class, lies above ``low`` and up to ``high``:
    how many, their mean confidence, and the share of them that is right. None for both where there are none."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Reliability:
    """Predictions sorted into bins of equal width once, for many weightings of them."""

    def __init__(self, confidence: Array, is_right: NDArray[np.bool_], n_bins: int) -> None:
        self.edges = np.linspace(0, 1, n_bins + 1)
        self._bin = np.clip(np.searchsorted(self.edges, confidence, side="left") - 1, 0, n_bins - 1)
        self._confidence, self._is_right = confidence, is_right.astype(np.float64)

    def sums(self, weights: Array) -> tuple[Array, Array, Array]:
        """Of each bin the weight of its predictions, the sum of their confidence and that of the right ones."""
        n_bins = len(self.edges) - 1
        columns = (weights, weights * self._confidence, weights * self._is_right)
        n, confidence, right = (
            np.bincount(self._bin, weights=column, minlength=n_bins).astype(np.float64) for column in columns
        )
        return n, confidence, right

    def expected_error(self, weights: Array) -> float:
        """Expected calibration error (Naeini et al. 2015): the mean over predictions of how far their bin's share of
        right ones lies from its mean confidence."""
        n, confidence, right = self.sums(weights)
        return float(np.abs(confidence - right).sum() / n.sum())

    def bins(self) -> tuple[ReliabilityBin, ...]:
        n, confidence, right = self.sums(np.ones(len(self._bin)))
        return tuple(
            ReliabilityBin(
                float(self.edges[i]),
                float(self.edges[i + 1]),
                int(n[i]),
                float(confidence[i] / n[i]) if n[i] else None,
                float(right[i] / n[i]) if n[i] else None,
            )
            for i in range(len(n))
        )
