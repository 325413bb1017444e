from __future__ import annotations

import statistics
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifs_tune._util.averages import mean, pooled_standard_deviation, standard_deviation

LARGEST = sys.float_info.max


@given(st.lists(st.floats(-1e6, 1e6), min_size=2))
def test_ordinary_numbers_have_the_figures_of_python(values):
    assert mean(values) == statistics.fmean(values)
    assert standard_deviation(values) == pytest.approx(statistics.stdev(values))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2))
def test_any_finite_numbers_have_finite_figures(values):
    assert min(values) <= mean(values) <= max(values) or mean(values) == pytest.approx(values[0])
    assert 0.0 <= standard_deviation(values) <= LARGEST


def test_the_largest_numbers_do_not_overflow():
    assert mean([LARGEST, LARGEST]) == LARGEST
    assert mean([LARGEST, -LARGEST]) == 0.0
    assert standard_deviation([1.2e308, 1e308]) == pytest.approx(1.4142e307, rel=1e-3)
    assert standard_deviation([LARGEST, -LARGEST]) == LARGEST


def test_groups_are_pooled_by_their_degrees_of_freedom():
    assert pooled_standard_deviation([[1.0, 3.0], [10.0, 10.0, 10.0]]) == pytest.approx((2.0 / 3) ** 0.5)
