"""Evaluation of forecasts of events, such as floods, eruptions and flares: probabilities, and warnings in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from aifs_tune.analysis.bootstrap import Resampling, ScoreEstimate, wilson_interval
from aifs_tune.analysis.classification import Reliability
from aifs_tune.analysis.scores import Array
from aifs_tune.errors import RequestError

_TOLERANCE = 1e-9
"""Share of the window by which two warnings may be apart and still be one: times are rounded."""


@dataclass(frozen=True)
class ForecastBin:
    """Forecasts with a probability above ``low`` and up to ``high``; the first bin has 0 as well.

    ``n`` is their number, ``forecast`` their mean probability and ``frequency`` the share of them where the event
    occurred, with its 95 % interval (Wilson 1927); None for an empty bin.
    """

    low: float
    high: float
    n: int
    forecast: float | None
    frequency: float | None
    frequency_low: float | None
    frequency_high: float | None


@dataclass(frozen=True)
class HeldOutEvents:
    """Scores of forecast probabilities of an event, made by :func:`evaluate_events`.

    Parameters
    ----------
    n : int
        Number of forecasts.
    n_events : int
        Number of them where the event occurred.
    climatology : float
        Probability that the skill is measured against.
    scores : mapping of str to ScoreEstimate
        ``brier`` is the mean squared difference between probability and outcome, 0 to 1 (Brier 1950). ``brier_skill``
        is 1 minus its ratio to that of the climatology: 0 is no better than always saying that, 1 is perfect (Wilks
        2011, chapter 8). It is undefined where the climatology makes no error.
    reliability : tuple of ForecastBin
        The reliability table: how often the event occurred at each forecast probability (Murphy and Winkler 1977).

    Examples
    --------
    >>> from aifs_tune.analysis import evaluate_events
    >>> found = evaluate_events([0, 1, 1, 0], [0.1, 0.9, 0.7, 0.2], n_bins=2)
    >>> found.n_events
    2
    """

    n: int
    n_events: int
    climatology: float
    scores: Mapping[str, ScoreEstimate]
    reliability: tuple[ForecastBin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON.

        Returns
        -------
        dict
            All scores and the reliability table.
        """
        return {
            "n": self.n,
            "n_events": self.n_events,
            "climatology": self.climatology,
            "scores": {name: estimate.to_dict() for name, estimate in self.scores.items()},
            "reliability": [asdict(one) for one in self.reliability],
        }

    def reliability_frame(self) -> pd.DataFrame:
        """Return the reliability table.

        Returns
        -------
        pandas.DataFrame
            One row for each bin: low, high, n, forecast, frequency, frequency_low, frequency_high.
        """
        return pd.DataFrame([asdict(one) for one in self.reliability])


def evaluate_events(
    occurred: ArrayLike,
    probabilities: ArrayLike,
    *,
    climatology: float | None = None,
    groups: Sequence[Any] | None = None,
    resampling: Resampling | None = None,
    n_bins: int = 10,
) -> HeldOutEvents:
    """Evaluate forecast probabilities of an event on held-out examples.

    Parameters
    ----------
    occurred : array_like of bool
        Whether the event occurred (n,), True or 1, False or 0.
    probabilities : array_like of float
        Its forecast probability (n,), 0 to 1.
    climatology : float, optional
        Probability to measure the skill against, 0 to 1: the share of events in the training part. By default the
        share among these examples, which no forecast could know.
    groups : sequence, optional
        Group of each example (n,), such as its year. If given, whole groups are resampled for intervals, which is
        needed where forecasts follow each other in time.
    resampling : Resampling, optional
        Bootstrap settings. By default 1,000 resamples and 95 % intervals.
    n_bins : int, default 10
        Number of bins of the reliability table, of equal width.

    Returns
    -------
    HeldOutEvents
        The scores and the reliability table.

    Raises
    ------
    RequestError
        If shapes do not match, or a number is out of range.

    Examples
    --------
    >>> from aifs_tune.analysis import evaluate_events
    >>> found = evaluate_events([0, 1, 1, 0, 0], [0.1, 0.9, 0.7, 0.2, 0.0], climatology=0.25)
    >>> print(round(found.scores["brier"].value, 3), round(found.scores["brier_skill"].value, 3))
    0.03 0.886
    """
    happened, given = _checked(occurred, probabilities)
    if climatology is not None and not 0 <= climatology <= 1:
        raise RequestError(f"climatology: {climatology!r} is not allowed; allowed: a number from 0 to 1")
    if n_bins < 1:
        raise RequestError(f"n_bins: {n_bins} is not allowed; allowed: 1 or more")
    scores = (resampling or Resampling()).estimates(_EventScores(happened, given, climatology), len(given), groups)
    bins = tuple(
        ForecastBin(
            one.low,
            one.high,
            one.n,
            one.confidence,
            one.accuracy,
            *((None, None) if one.accuracy is None else wilson_interval(one.accuracy, one.n)),
        )
        for one in Reliability(given, happened > 0, n_bins).bins()
    )
    known = float(happened.mean()) if climatology is None else climatology
    return HeldOutEvents(len(given), int(happened.sum()), known, scores, bins)


class _EventScores:
    """Function that computes the scores of :class:`HeldOutEvents` from the weights of the examples."""

    def __init__(self, happened: Array, given: Array, climatology: float | None) -> None:
        self._happened, self._squares, self._climatology = happened, (given - happened) ** 2, climatology

    def __call__(self, weights: Array) -> dict[str, float]:
        total = weights.sum()
        share = weights @ self._happened / total
        brier = weights @ self._squares / total
        known = share if self._climatology is None else self._climatology
        reference = share * (1 - known) ** 2 + (1 - share) * known**2
        return {"brier": float(brier), "brier_skill": float(1 - brier / reference) if reference > 0 else float("nan")}


def evaluate_warnings(
    times: ArrayLike, forecasts: ArrayLike, events: ArrayLike, *, thresholds: Sequence[float], window: float
) -> pd.DataFrame:
    """Evaluate warnings of events in time: how early they come against how often they are false.

    From each time at which the forecast reaches a threshold, a warning holds for the ``window``. Warnings that follow
    each other without a gap are one. An event is warned of if it begins while a warning holds, and its lead time is
    that since this warning began. A warning without an event is a false alarm.

    Parameters
    ----------
    times : array_like of float
        Times of the forecasts (n,), ascending, in any unit.
    forecasts : array_like of float
        What is forecast at each time (n,), such as the probability of an event within the window.
    events : array_like of float
        Times at which events begin (m,), after the first forecast and at most a window after the last one.
    thresholds : sequence of float
        Values of the forecast from which a warning is given.
    window : float
        How long a warning holds, in the unit of ``times``.

    Returns
    -------
    pandas.DataFrame
        One row for each threshold: ``threshold``; ``warnings``, ``false_alarms`` and ``false_alarm_ratio``, the share
        of warnings that are false; ``events``, ``warned`` and ``hit_rate``, the share of events that are warned of,
        with its 95 % interval ``hit_rate_low``, ``hit_rate_high`` (Wilson 1927), which takes events as independent;
        ``median_lead``, the median lead time of the events that are warned of; ``warned_time``, the share of the time
        in which a warning holds. What is undefined is NaN. Names are those of Barnes et al. (2009); hit rate against
        warned time is the diagram of Molchan (1991), where chance has a hit rate equal to the warned time.

    Raises
    ------
    RequestError
        If shapes do not match, times do not ascend, an event is outside of them, or a number is not finite.

    Examples
    --------
    >>> from aifs_tune.analysis import evaluate_warnings
    >>> level = [0.1, 0.6, 0.7, 0.2, 0.1, 0.8, 0.1, 0.1]
    >>> table = evaluate_warnings(range(8), level, [3.5], thresholds=[0.5], window=2.0)
    >>> table.loc[0, ["warnings", "false_alarms", "warned", "median_lead"]].tolist()
    [2.0, 1.0, 1.0, 2.5]
    """
    at, values, begun = (np.asarray(given, np.float64) for given in (times, forecasts, events))
    _check_times(at, values, begun, window)
    rows = [
        {"threshold": float(threshold)} | _warned(at[values >= threshold], begun, window) for threshold in thresholds
    ]
    for row in rows:
        row["warned_time"] = row["warned_time"] / (at[-1] + window - at[0])
    return pd.DataFrame(rows)


def _warned(reached: Array, events: Array, window: float) -> dict[str, float]:
    """Columns of a threshold that is ``reached`` at these times; ``warned_time`` is in the unit of the times."""
    is_new = np.diff(reached, prepend=-np.inf) > window * (1 + _TOLERANCE)
    begins = reached[is_new]
    ends = reached[np.append(is_new[1:], True)] + window if len(reached) else begins
    latest = np.searchsorted(begins, events, side="left") - 1
    is_warned = latest >= 0
    is_warned[is_warned] = events[is_warned] <= ends[latest[is_warned]]
    n_warned, n_events, n_warnings = int(is_warned.sum()), len(events), len(begins)
    n_false = n_warnings - len(np.unique(latest[is_warned]))
    leads = events[is_warned] - begins[latest[is_warned]]
    nan = float("nan")
    low, high = wilson_interval(n_warned / n_events, n_events) if n_events else (nan, nan)
    return {
        "warnings": n_warnings,
        "false_alarms": n_false,
        "false_alarm_ratio": n_false / n_warnings if n_warnings else nan,
        "events": n_events,
        "warned": n_warned,
        "hit_rate": n_warned / n_events if n_events else nan,
        "hit_rate_low": low,
        "hit_rate_high": high,
        "median_lead": float(np.median(leads)) if n_warned else nan,
        "warned_time": float((ends - begins).sum()),
    }


def _check_times(times: Array, forecasts: Array, events: Array, window: float) -> None:
    if times.ndim != 1 or forecasts.shape != times.shape or len(times) == 0:
        raise RequestError(f"forecasts: shape {forecasts.shape}; allowed: one for each of the times, {times.shape}")
    if not (np.isfinite(times).all() and np.isfinite(forecasts).all()):
        raise RequestError("times, forecasts: a number is not finite; allowed: finite numbers")
    if (falls := np.flatnonzero(np.diff(times) <= 0)).size:
        raise RequestError(f"times: {times[falls[0] + 1]:g} after {times[falls[0]]:g}; allowed: ascending times")
    if not 0 < window < np.inf:
        raise RequestError(f"window: {window!r} is not allowed; allowed: a number above 0")
    outside = events[~((events > times[0]) & (events <= times[-1] + window))]
    if len(outside):
        raise RequestError(
            f"events: {outside[0]:g} is outside of the forecasts; allowed: after {times[0]:g}, up to "
            f"{times[-1] + window:g}"
        )


def _checked(occurred: ArrayLike, probabilities: ArrayLike) -> tuple[Array, Array]:
    happened, given = np.asarray(occurred, np.float64), np.asarray(probabilities, np.float64)
    if given.ndim != 1 or happened.shape != given.shape or len(given) == 0:
        raise RequestError(f"probabilities: shape {given.shape}; allowed: one for each outcome, {happened.shape}")
    for name, values, is_allowed, allowed in (
        ("occurred", happened, np.isin(happened, (0, 1)), "0 or 1"),
        ("probabilities", given, (given >= 0) & (given <= 1), "a number from 0 to 1"),
    ):
        if not is_allowed.all():
            example = int(np.flatnonzero(~is_allowed)[0])
            raise RequestError(f"{name}: {values[example]:g} of example {example}; allowed: {allowed}")
    return happened, given
