"""The examples of experiment design run, and come to what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name, folder, n):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), str(n)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["furnace", "mixture", "trade_off"])
def test_each_is_under_a_page(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 80


def test_the_furnace_improves_on_its_plan_and_says_how_sure_it_is(tmp_path):
    said = run("furnace", tmp_path, 24)
    study = get_study(Storage(f"sqlite:///{tmp_path}/furnace.db"), "furnace")
    trials = study.all_trials()
    assert len(trials) == 24
    assert sum(dict(t.params) == dict(trials[0].params) for t in trials[:14]) == 4  # the centre points
    assert max(t.value for t in trials[14:]) > max(t.value for t in trials[:14])
    assert study.recommendation().noise_freedom >= 3
    assert "take trial" in said


def test_the_mixture_keeps_its_total_and_its_limit(tmp_path):
    said = run("mixture", tmp_path, 16)
    study = get_study(Storage(f"sqlite:///{tmp_path}/composite.db"), "composite")
    for trial in study.all_trials():
        assert abs(trial.params["resin"] + trial.params["hardener"] + trial.params["filler"] - 1.0) < 1e-12
    assert study.best.metrics["viscosity"] <= 6
    assert f"trial {study.best.number}:" in said


def test_the_trade_off_ends_with_a_front_of_repeated_recipes(tmp_path):
    said = run("trade_off", tmp_path, 28)
    study = get_study(Storage(f"sqlite:///{tmp_path}/synthesis.db"), "synthesis")
    assert len(said.splitlines()) == len(study.front) >= 3
    assert all(len(trial.replicates.trials) == 2 for trial in study.front)
