"""Forecasts of events: against the formulas of others, and warnings counted on a fine grid of time."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from aifs_tune.analysis import Resampling, evaluate_events, evaluate_warnings
from aifs_tune.errors import RequestError

NONE = Resampling(0)


def drawn(n: int = 3000, *, is_honest: bool = True) -> tuple[Any, Any]:
    """Outcomes, and probabilities that are those of the outcomes or too sure."""
    random = np.random.default_rng(7)
    true = random.beta(0.6, 2, n)
    stated = true if is_honest else np.clip(1.8 * true - 0.2, 0, 1)
    return random.random(n) < true, stated


def test_scores_are_those_of_scikit_learn() -> None:
    occurred, stated = drawn()
    found = evaluate_events(occurred, stated, resampling=NONE)
    brier, share = brier_score_loss(occurred, stated), occurred.mean()
    assert found.scores["brier"].value == pytest.approx(brier)
    assert found.scores["brier_skill"].value == pytest.approx(1 - brier / (share * (1 - share)))
    assert (found.n, found.n_events, found.climatology) == (3000, occurred.sum(), pytest.approx(share))
    known = evaluate_events(occurred, stated, climatology=0.1, resampling=NONE)
    reference = brier_score_loss(occurred, np.full(3000, 0.1))
    assert known.scores["brier_skill"].value == pytest.approx(1 - brier / reference)


def test_the_climatology_has_no_skill_and_an_oracle_all() -> None:
    occurred, _ = drawn(200)
    assert evaluate_events(occurred, np.full(200, occurred.mean()), resampling=NONE).scores[
        "brier_skill"
    ].value == pytest.approx(0)
    assert evaluate_events(occurred, occurred, resampling=NONE).scores["brier_skill"].value == 1
    never = evaluate_events([0, 0, 0], [0.1, 0.0, 0.2], resampling=NONE)
    assert never.scores["brier_skill"].value is None, "the climatology makes no error"


def test_the_reliability_table_is_that_of_scikit_learn() -> None:
    occurred, stated = drawn()
    table = evaluate_events(occurred, stated, resampling=NONE).reliability_frame()
    frequency, forecast = calibration_curve(occurred, stated, n_bins=10)
    np.testing.assert_allclose(table["frequency"], frequency)
    np.testing.assert_allclose(table["forecast"], forecast)
    assert table["n"].sum() == 3000


@pytest.mark.parametrize(("is_honest", "least", "most"), [(True, 8, 10), (False, 0, 4)])
def test_intervals_of_the_table_tell_honest_probabilities_from_others(is_honest: bool, least: int, most: int) -> None:
    bins = evaluate_events(*drawn(is_honest=is_honest), resampling=NONE).reliability
    inside = [one.frequency_low <= one.forecast <= one.frequency_high for one in bins if one.n]
    assert least <= sum(inside) <= most


def test_an_empty_bin_has_no_frequency() -> None:
    empty, full = evaluate_events([1, 0], [0.9, 0.8], n_bins=2, resampling=NONE).reliability
    assert (empty.n, empty.forecast, empty.frequency, empty.frequency_low) == (0, None, None, None)
    assert (full.n, full.frequency) == (2, 0.5)


def test_intervals_resample_whole_years() -> None:
    random = np.random.default_rng(0)
    years = np.repeat(np.arange(12), 50)
    occurred = (random.random(12) < 0.4)[years]  # all days of a year are alike
    widths = []
    for groups in (None, years.tolist()):
        found = evaluate_events(occurred, np.full(600, 0.4), climatology=0.5, groups=groups).scores["brier"]
        assert found.low is not None
        assert found.high is not None
        widths.append(found.high - found.low)
    assert widths[1] > 3 * widths[0]


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.9])
def test_warnings_are_those_counted_on_a_fine_grid_of_time(threshold: float) -> None:
    random = np.random.default_rng(3)
    n, window, fine = 200, 2.5, 0.01
    times = np.cumsum(random.uniform(0.5, 2.0, n)).round(2)
    level = random.random(n)
    events = np.sort(random.uniform(times[0] + 0.01, times[-1] + window, 25)).round(2) + 0.005
    row = evaluate_warnings(times, level, events, thresholds=[threshold], window=window).iloc[0]

    grid = np.arange(times[0], times[-1] + window, fine) + fine / 2  # the middles of steps
    holds = np.zeros(len(grid), bool)
    for time in times[level >= threshold]:
        holds |= (grid > time) & (grid < time + window)
    edges = np.flatnonzero(np.diff(holds.astype(int), prepend=0) == 1)
    ends = np.flatnonzero(np.diff(holds.astype(int), append=0) == -1)
    leads, used = [], set()
    for event in events:
        for number, (first, last) in enumerate(zip(edges, ends, strict=True)):
            if grid[first] - fine / 2 < event <= grid[last] + fine / 2:
                leads.append(event - grid[first] + fine / 2)
                used.add(number)
    assert row["warnings"] == len(edges)
    assert row["false_alarms"] == len(edges) - len(used)
    assert row["warned"] == len(leads)
    assert row["hit_rate"] == pytest.approx(len(leads) / 25)
    assert row["median_lead"] == pytest.approx(np.median(leads), abs=1e-6)
    assert row["warned_time"] == pytest.approx(holds.mean(), abs=1e-3)
    assert row["hit_rate_low"] < row["hit_rate"] < row["hit_rate_high"]


def test_a_lower_threshold_warns_of_more_at_more_time() -> None:
    random = np.random.default_rng(1)
    table = evaluate_warnings(
        np.arange(300), random.random(300), [20.5, 100.0, 222.2], thresholds=[0.0, 0.5, 0.99, 2.0], window=1
    )
    assert table["warned_time"].is_monotonic_decreasing
    always, never = table.iloc[0], table.iloc[-1]
    assert (always["warnings"], always["hit_rate"], always["warned_time"]) == (1, 1, 1)
    assert (never["warnings"], never["hit_rate"], never["warned_time"]) == (0, 0, 0)
    assert np.isnan(never["false_alarm_ratio"])
    assert np.isnan(never["median_lead"])


def test_rounded_times_do_not_break_a_warning() -> None:
    times = np.arange(10) * 0.1
    assert evaluate_warnings(times, np.ones(10), [], thresholds=[1], window=0.1)["warnings"].tolist() == [1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([0, 1], [0.5]), "probabilities: shape (1,); allowed: one for each outcome, (2,)"),
        (([0, 2], [0.5, 0.5]), "occurred: 2 of example 1; allowed: 0 or 1"),
        (([0, 1], [0.5, 1.2]), "probabilities: 1.2 of example 1; allowed: a number from 0 to 1"),
        (([0, 1], [float("nan"), 0.2]), "probabilities: nan of example 0; allowed: a number from 0 to 1"),
    ],
)
def test_wrong_probabilities_are_refused(given: Any, message: str) -> None:
    with pytest.raises(RequestError, match=re.escape(message)):
        evaluate_events(*given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"forecasts": [1, 2]}, "forecasts: shape (2,); allowed: one for each of the times, (3,)"),
        ({"times": [0, 2, 2]}, "times: 2 after 2; allowed: ascending times"),
        ({"forecasts": [0, np.inf, 1]}, "times, forecasts: a number is not finite"),
        ({"window": 0}, "window: 0 is not allowed; allowed: a number above 0"),
        ({"events": [5.0]}, "events: 5 is outside of the forecasts; allowed: after 0, up to 3"),
        ({"events": [0.0]}, "events: 0 is outside of the forecasts"),
    ],
)
def test_warnings_that_cannot_be_counted_are_refused(changes: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"times": [0, 1, 2], "forecasts": [0, 1, 0], "events": [], "window": 1} | changes
    with pytest.raises(RequestError, match=re.escape(message)):
        evaluate_warnings(**given, thresholds=[0.5])
