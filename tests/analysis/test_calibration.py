"""The benchmark of confirmations: its sweeps, what they count, its command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def calibration(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import calibration

    return calibration


def settings(calibration: ModuleType, **changes: Any) -> Any:
    whole = {"trials": 8, "top": 2, "examples": 120, "validation": 0.25, "folds": 5, "repeats": 2, "seed": 0}
    return calibration.Settings(**whole | changes)


def test_folds_test_every_example_once_a_repeat_and_train_on_all_others(calibration: ModuleType) -> None:
    tested, always = np.arange(0, 90), np.arange(90, 120)
    found = calibration.splits_of(tested, always, settings(calibration), np.random.default_rng(0))
    assert len(found) == 10
    for train, test in found:
        assert sorted([*train, *test]) == list(range(120))
        assert not set(test) & set(always)
    for repeat in (found[:5], found[5:]):
        assert sorted(np.concatenate([test for _, test in repeat])) == list(range(90))


@pytest.mark.parametrize("name", ["ridge", "seeds", "normal"])
def test_a_large_difference_is_found_and_none_is_not(calibration: ModuleType, name: str) -> None:
    large, few = (30 if name == "normal" else 10), settings(calibration, examples=600)
    rows = [calibration.one_sweep(i, name=name, extra=large, settings=few) for i in range(4)]
    assert sum(row["all"]["better"] for row in rows) >= 3
    assert [row["all"]["wrong"] for row in rows] == [False] * 4
    equal = [calibration.one_sweep(i, name=name, extra=0, settings=few) for i in range(4)]
    assert sum(row["all"]["better"] for row in equal) <= 1
    assert sum(row["raw"] for row in equal) >= 3
    assert equal == [calibration.one_sweep(i, name=name, extra=0, settings=few) for i in range(4)]


def test_its_ridge_regression_is_scikit_learns(calibration: ModuleType) -> None:
    rng = np.random.default_rng(0)
    features, answers = rng.normal(2, 1, (40, 5)), rng.normal(1, 1, 40)
    theirs = Ridge(alpha=1.0).fit(features, answers).predict(features)
    assert calibration.Ridge(features, answers).predict(features) == pytest.approx(theirs)


def test_a_sweep_of_classes_is_scored_by_accuracy(calibration: ModuleType) -> None:
    world = calibration.Columns("classes", 0, settings(calibration), np.random.default_rng(0))
    score = world.score(0, np.arange(80), np.arange(80, 120))
    assert (world.mode, score * 40) == ("max", pytest.approx(round(score * 40)))
    assert 0.5 < score < 1


def test_the_command_prints_rates_with_their_intervals() -> None:
    words = ["--worlds", "seeds", "normal", "--kinds", "equal", "--sweeps", "6", "--trials", "6", "--processes", "1"]
    command = [sys.executable, str(BENCHMARKS / "calibration.py"), *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seeds, normal = json.loads(done.stdout)["rows"]
    assert (seeds["world"], seeds["sweeps"], seeds["true_difference"]) == ("seeds", 6, 0.0)
    assert list(seeds["confirmed"]) == ["all", "unseen"]
    assert list(normal["confirmed"]) == ["all"]
    found = seeds["confirmed"]["unseen"]["better"]
    assert 0 <= found["low"] <= found["rate"] <= found["high"] <= 1
    assert found["high"] - found["low"] > 0.3
