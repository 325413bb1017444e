"""Fractional factorial designs: what is aliased with what."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from aifs_tune.errors import RequestError
from aifs_tune.samplers.initial_design import read_generators, resolution_of, runs_of, smallest_fraction


@pytest.mark.parametrize(
    ("n_factors", "resolution", "n_runs"),
    [
        (3, 3, 4),
        (4, 4, 8),
        (5, 3, 8),
        (5, 5, 16),
        (6, 4, 16),
        (7, 3, 8),
        (8, 4, 16),
        (15, 3, 16),
        (3, 4, 8),
        (6, 5, 32),
    ],
)
def test_the_fraction_is_the_smallest_of_its_resolution(n_factors, resolution, n_runs):
    # the numbers of runs are those of table 6.22 of Box, Hunter & Hunter
    generators = smallest_fraction(n_factors, resolution)
    assert len(runs_of(n_factors, generators)) == n_runs
    assert (resolution_of(generators) or 99) >= resolution


@pytest.mark.parametrize(("n_factors", "resolution"), [(5, 3), (7, 4), (8, 5)])
def test_effects_are_apart_as_the_resolution_says(n_factors, resolution):
    runs = runs_of(n_factors, smallest_fraction(n_factors, resolution))
    assert len(np.unique(runs, axis=0)) == len(runs)
    for one, other in combinations(range(n_factors), 2):
        assert runs[:, one] @ runs[:, other] == 0
        for third in range(n_factors):
            if resolution >= 4 and third not in (one, other):
                assert runs[:, third] @ (runs[:, one] * runs[:, other]) == 0
    if resolution >= 5:
        pairs = [runs[:, i] * runs[:, j] for i, j in combinations(range(n_factors), 2)]
        assert all(a @ b == 0 for a, b in combinations(pairs, 2))


def test_generators_are_read_as_a_sweep_file_writes_them():
    generators = read_generators(["a", "b", "c", "d"], {"d": "- a * b*c"})
    runs = runs_of(4, generators)
    assert np.array_equal(runs[:, 3], -runs[:, 0] * runs[:, 1] * runs[:, 2])
    assert resolution_of(generators) == 4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"x": "a * b"}, "generators.x: 'x' is not a factor"),
        ({"d": "a * x"}, "'x' in 'a \\* x' is not a free factor; allowed: a product of different factors of a, b, c"),
        ({"d": "a * a"}, "'a'"),
        ({"d": "c", "c": "d"}, "not a free factor"),
        ({"d": ""}, "not a free factor"),
    ],
)
def test_other_generators_are_refused_by_name(given, words):
    with pytest.raises(RequestError, match=words):
        read_generators(["a", "b", "c", "d"], given)
