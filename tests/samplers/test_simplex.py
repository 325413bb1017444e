"""Amounts that keep a total: near given ones, and spread evenly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifs_tune.samplers.simplex import Simplex
from aifs_tune.space.mixtures import project_to_total


@st.composite
def mixtures(draw):
    """Ranges, and a total that is possible in them."""
    lows = draw(st.lists(st.floats(0.0, 5.0), min_size=2, max_size=6))
    widths = [draw(st.floats(0.01, 5.0)) for _ in lows]
    share = draw(st.floats(0.02, 0.98))
    return [(low, low + width) for low, width in zip(lows, widths, strict=True)], sum(lows) + share * sum(widths)


@given(mixtures(), st.integers(0, 1000))
def test_projected_amounts_keep_their_ranges_and_the_total(mixture, seed):
    ranges, total = mixture
    given_amounts = np.random.default_rng(seed).uniform(-1.0, 12.0, len(ranges)).tolist()
    found = project_to_total(given_amounts, ranges, total)
    assert math.isclose(math.fsum(found), total, rel_tol=1e-12)
    assert all(low - 1e-9 <= x <= high + 1e-9 for x, (low, high) in zip(found, ranges, strict=True))


def test_what_has_the_total_stays():
    assert project_to_total([0.2, 0.3, 0.5], [(0.0, 1.0)] * 3, 1.0) == pytest.approx([0.2, 0.3, 0.5], abs=1e-12)


def test_the_nearest_point_is_taken():
    # by hand: the shift is -0.1 for the two that can move, and the third is cut at its end
    assert project_to_total([0.6, 0.6, -0.5], [(0.0, 1.0)] * 3, 1.0) == pytest.approx([0.5, 0.5, 0.0])


@given(mixtures(), st.integers(0, 1000))
def test_unit_points_keep_the_total_too(mixture, seed):
    ranges, total = mixture
    low, high = np.array(ranges).T
    simplex = Simplex(list(range(len(low))), low, high - low, total)
    drawn = np.random.default_rng(seed).random((20, len(low)))
    for unit_points in (simplex.spread(drawn), simplex.project_to_total(drawn)):
        assert np.allclose((low + unit_points * (high - low)).sum(1), total, rtol=1e-10)
        assert unit_points.min() >= 0.0
        assert unit_points.max() <= 1.0


def test_uniform_points_are_spread_evenly_over_the_triangle():
    simplex = Simplex([0, 1, 2], np.zeros(3), np.ones(3), 1.0)
    amounts = simplex.spread(np.random.default_rng(0).random((20_000, 3)))
    # the chance that a component is above t is (1 - t) ** 2, by the areas of triangles
    for t in (0.1, 0.5, 0.8):
        assert np.allclose((amounts > t).mean(0), (1 - t) ** 2, atol=0.012)


def test_uniform_points_are_spread_evenly_over_a_cut_triangle():
    low, high = np.array([0.1, 0.2, 0.0]), np.array([0.6, 0.7, 0.3])
    simplex = Simplex([0, 1, 2], low, high - low, 1.0)
    amounts = low + simplex.spread(np.random.default_rng(0).random((20_000, 3))) * (high - low)
    whole = np.random.default_rng(1).dirichlet(np.ones(3), 400_000)
    kept = whole[np.all((whole >= low) & (whole <= high), axis=1)]
    assert np.allclose(amounts.mean(0), kept.mean(0), atol=0.005)
    assert np.allclose(np.cov(amounts.T), np.cov(kept.T), atol=0.001)
