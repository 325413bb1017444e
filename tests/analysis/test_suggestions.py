"""Suggestions are made where the truth is known, and hardly ever by chance."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aifs_tune.analysis.study_tables import analyse

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from suggestions import WORLDS, made, rates


@pytest.mark.parametrize(
    ("world", "n_studies"),
    [
        ("fails", 5),
        ("unfinished", 5),
        ("noise known", 5),
        *(pytest.param(world, 10, marks=pytest.mark.soak) for world in ("still gains", "drop")),
    ],
)
def test_a_true_suggestion_is_made(world, n_studies):
    assert rates(world, n_studies, 60, seed=7)["true"][0] >= 0.6


@pytest.mark.soak
def test_a_parameter_without_effect_is_fixed_and_one_with_a_small_effect_is_not():
    assert rates("fix", 3, 80, seed=7)["true"][0] > 0
    said = [analyse(made(WORLDS["slight"], 80, seed)).suggestions() for seed in range(3)]
    assert not any(((table["kind"] == "fix") & (table["parameter"] == "layers")).any() for table in said)


@pytest.mark.parametrize(
    ("world", "n_studies"),
    [("noise", 10), *(pytest.param(w, 20, marks=pytest.mark.soak) for w in ("noise", "noise, tpe"))],
)
def test_chance_gives_hardly_any_suggestion(world, n_studies):
    assert rates(world, n_studies, 60, seed=7)["untrue"][0] <= 0.15
