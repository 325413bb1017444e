"""Signal efficiency: the share of one class that is kept where few of the others are; Brier score of that class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

EFFICIENCY = "signal_efficiency@"
"""Beginning of the metric's name; the false-positive rate follows."""

BRIER = "signal_brier"
"""Name of the metric of :func:`brier_score`."""

RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""False-positive rates that are always reported, those of Bock et al. (2004)."""

_ROUNDING = 1e-9
"""Relative tolerance of the number of background examples, as 0.29 times 100 is 28.999999999999996."""


def brier_score(is_signal: NDArray[np.bool_], log_probabilities: NDArray[np.float32]) -> float:
    """Compute the mean squared difference between probability and truth, 0 to 1 (Brier 1950).

    Parameters
    ----------
    is_signal
        Whether each example is of the signal, shape (n,).
    log_probabilities
        Logarithm of its probability to be one, shape (n,).
    """
    return float(((np.exp(log_probabilities, dtype=np.float64) - is_signal) ** 2).mean())


@dataclass(frozen=True)
class Signal:
    """The class that is the signal; all others are the background.

    Parameters
    ----------
    name
        Name of the class.
    metrics
        Names of the efficiencies to report, such as ``signal_efficiency@0.01``.
    """

    name: str
    metrics: tuple[str, ...] = tuple(f"{EFFICIENCY}{rate:g}" for rate in RATES)

    def measure(self, is_signal: NDArray[np.bool_], scores: NDArray[Any]) -> dict[str, float]:
        """Compute each of ``metrics`` from the scores (n,) for the signal; empty if all examples are of one kind."""
        if is_signal.all() or not is_signal.any():
            return {}
        rates = [rate_of(metric) for metric in self.metrics]
        found = signal_efficiencies(is_signal, scores, [rate for rate in rates if rate is not None])
        return dict(zip(self.metrics, found, strict=True))


def rate_of(metric: str) -> float | None:
    """False-positive rate in the name of a metric, such as 0.01 in ``val_signal_efficiency@0.01``.

    None for another metric, and NaN where the text after ``@`` is no number above 0 and below 1.
    """
    _, is_one, text = metric.partition(EFFICIENCY)
    if not is_one or metric.removeprefix("val_") != f"{EFFICIENCY}{text}":
        return None
    try:
        rate = float(text) if text.isascii() and "_" not in text and text == text.strip() else float("nan")
    except ValueError:
        return float("nan")
    return rate if 0 < rate < 1 else float("nan")


def signal_efficiencies(is_signal: NDArray[np.bool_], scores: NDArray[Any], rates: list[float]) -> list[float]:
    """Compute the largest share of the signal above a threshold of the scores, at each false-positive rate.

    It is the true-positive rate of the ROC curve (Fawcett 2006) at the last threshold whose false-positive rate is at
    most the one given; between thresholds, nothing is interpolated. Examples of equal scores are kept or left together.
    Telescopes of gamma rays are compared by this measure (Bock et al. 2004, Nuclear Instruments and Methods A 516,
    511-528).

    Parameters
    ----------
    is_signal
        Whether each example is of the signal, shape (n,); both kinds occur.
    scores
        Scores, shape (n,); higher ones are more like the signal.
    rates
        False-positive rates, above 0 and below 1.
    """
    ranked = RankedSignal(is_signal, scores)
    return ranked.efficiencies(np.ones(len(is_signal)), rates)


class RankedSignal:
    """Signal efficiency for many weightings of the same examples, which are sorted once."""

    def __init__(self, is_signal: NDArray[np.bool_], scores: NDArray[Any]) -> None:
        self._order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
        self._is_signal = is_signal[self._order].astype(np.float64)
        ordered = np.asarray(scores)[self._order]
        self._starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))

    def efficiencies(self, weights: NDArray[np.float64], rates: list[float]) -> list[float]:
        """Compute the efficiency at each of ``rates``; NaN without signal or without background."""
        drawn = weights[self._order]
        kept = np.cumsum(np.add.reduceat(drawn * self._is_signal, self._starts))
        wrong = np.cumsum(np.add.reduceat(drawn * (1 - self._is_signal), self._starts))
        if not kept[-1] or not wrong[-1]:
            return [float("nan")] * len(rates)
        allowed = np.asarray(rates) * wrong[-1] * (1 + _ROUNDING)
        last = np.searchsorted(wrong, allowed, side="right")
        return [float(kept[i - 1] / kept[-1]) if i else 0.0 for i in last.tolist()]
