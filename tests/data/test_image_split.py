"""Units and splits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifs_tune.data.split import split, units_of, units_per_class

SHARES = (0.6, 0.2, 0.2)


def test_copies_and_groups_chain_into_one_unit() -> None:
    units = units_of(["a", "b", "b", "c", "d"], ["g", "g", "h", "i", "h"])
    assert units.tolist() == [0, 0, 0, 1, 0]
    assert units_of(["a", "b", "b"], None).tolist() == [0, 1, 1]


def test_units_per_class_counts_a_shared_unit_for_both() -> None:
    labels, units = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 2, 2])
    assert units_per_class(labels, units, 3).tolist() == [2, 2, 0]


@given(st.lists(st.integers(3, 60), min_size=2, max_size=5), st.integers(0, 2**32 - 1))
def test_without_groups_every_class_has_its_share_up_to_one(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    parts = split(labels, np.arange(len(labels)), SHARES, seed)
    for c, n in enumerate(sizes):
        counts = np.bincount(parts[labels == c], minlength=3)
        assert counts.min() >= 1
        assert (np.abs(counts - n * np.array(SHARES)) <= 1).all() or n < 6


@given(st.data(), st.integers(0, 1000))
def test_a_unit_is_never_divided(data: st.DataObject, seed: int) -> None:
    n = data.draw(st.integers(6, 60))
    units = np.unique(data.draw(st.lists(st.integers(0, 20), min_size=n, max_size=n)), return_inverse=True)[1]
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    labels[:3] = [0, 1, 2]
    parts = split(labels, units, SHARES, seed)
    assert len(np.unique(np.stack([units, parts]), axis=1).T) == len(np.unique(units))


def test_a_seed_gives_one_split_and_another_seed_another() -> None:
    labels = np.repeat([0, 1], 50)
    units = np.arange(100) // 2
    first, again, other = (split(labels, units, SHARES, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("seed", range(5))
def test_unequal_groups_still_give_shares_and_classes_as_requested(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 200, 30)
    units = np.repeat(np.arange(30), sizes)
    labels = (random.random(len(units)) < random.uniform(0.05, 0.5, 30)[units]).astype(np.int64)
    parts = split(labels, units, SHARES, seed)
    for part, share in enumerate(SHARES):
        assert abs((parts == part).mean() - share) < 0.03
        assert abs(labels[parts == part].mean() - labels.mean()) < 0.04


def test_three_groups_are_enough_for_three_subsets() -> None:
    labels, units = np.array([0, 1] * 9), np.repeat([0, 1, 2], 6)
    parts = split(labels, units, SHARES, 0)
    assert sorted(np.unique(parts)) == [0, 1, 2]
