"""Suggestions come where something is known to be true, and not of luck."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aifs_tune.analysis.study_tables import analyse

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from suggestions import WORLDS, made, rates


@pytest.mark.parametrize(
    "world", ["fails", "still gains", "unfinished", "noise known", pytest.param("drop", marks=pytest.mark.soak)]
)
def test_what_is_true_is_said(world):
    assert rates(world, 10, 60, seed=7)["true"][0] >= 0.6


@pytest.mark.soak
def test_what_does_nothing_is_fixed_and_what_does_a_little_is_not():
    assert rates("fix", 3, 80, seed=7)["true"][0] > 0
    said = [analyse(made(WORLDS["slight"], 80, seed)).suggestions() for seed in range(3)]
    assert not any(((table["kind"] == "fix") & (table["parameter"] == "layers")).any() for table in said)


@pytest.mark.parametrize("world", ["noise", pytest.param("noise, tpe", marks=pytest.mark.soak)])
def test_luck_suggests_next_to_nothing(world):
    assert rates(world, 20, 60, seed=7)["untrue"][0] <= 0.15
