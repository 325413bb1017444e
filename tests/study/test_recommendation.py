"""What a study advises: when to stop, and which configuration to take."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from aifs_tune.cli.main import app
from aifs_tune.study.open import open_study

SPACE = {"x": {"type": "float", "low": 0.0, "high": 1.0}}


def hill(x):
    return 1.0 - (x - 0.6) ** 2


def fill(study, n, noise, seed=0):
    rng = np.random.default_rng(seed)
    for x in np.linspace(0.0, 1.0, n):
        study.attach({"x": float(x)}, hill(x) + noise * rng.standard_normal())
    for _ in range(6):
        study.attach({"x": 0.5}, hill(0.5) + noise * rng.standard_normal())


def test_it_stops_where_the_gain_is_below_the_noise(url):
    study = open_study("a", space=SPACE, storage=url)
    fill(study, 14, noise=0.1)
    recommendation = study.recommendation()
    assert recommendation.should_stop
    assert recommendation.expected_gain < recommendation.noise
    assert recommendation.noise == pytest.approx(0.1, rel=0.6)
    assert recommendation.noise_freedom == 5
    assert "is below the measured noise" in recommendation.reason


def test_it_goes_on_where_much_is_unknown(url):
    """Ten results in one corner and next to no noise: elsewhere much may be gained."""
    study = open_study("a", space=SPACE, storage=url)
    for x in (0.0, 0.02, 0.04, 0.06, 0.08, 0.1):
        study.attach({"x": x}, x)
    for _ in range(4):
        study.attach({"x": 0.05}, 0.05 + 1e-4 * _)
    recommendation = study.recommendation()
    assert not recommendation.should_stop
    assert recommendation.expected_gain > recommendation.noise


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_recommended_trial_is_not_the_luckiest(url, mode):
    """One result at the edge is far too good; all others say that the optimum is at 0.6."""
    sign = 1.0 if mode == "max" else -1.0
    study = open_study("a", space=SPACE, storage=url, mode=mode)
    rng = np.random.default_rng(1)
    for x in np.linspace(0.0, 1.0, 30):
        study.attach({"x": float(x)}, sign * (hill(x) + 0.03 * rng.standard_normal()))
    for value in (1.15, 0.62, 0.66, 0.6):
        study.attach({"x": 0.011}, sign * value)
    recommendation = study.recommendation()
    assert abs(study.trial(recommendation.recommended).params["x"] - 0.6) < 0.2
    assert sign * recommendation.expected_value == pytest.approx(1.0, abs=0.06)


def test_too_little_is_known_at_first(url):
    study = open_study("a", space=SPACE, storage=url)
    assert study.recommendation().to_json() == {
        "should_stop": False,
        "reason": "Too few results are known.",
        "noise": None,
        "noise_freedom": 0,
        "expected_gain": None,
        "recommended": None,
        "expected_value": None,
    }
    for x in (0.1, 0.4, 0.7, 0.9):
        study.attach({"x": x}, hill(x))
    recommendation = study.recommendation()
    assert recommendation.recommended in (1, 2)
    assert recommendation.reason == "Noise unknown: repeat a configuration 3 times (0 of 3 so far)."


def test_several_objectives_are_not_judged_by_one(url):
    study = open_study("a", space=SPACE, storage=url, trade_off={"cost": "min"})
    assert "several objectives" in study.recommendation().reason


def test_the_command_says_it(url, tmp_path):
    fill(open_study("a", space=SPACE, storage=url), 14, noise=0.1)
    told = CliRunner().invoke(app, ["recommend", "a", "--storage", url, "--json"])
    assert told.exit_code == 0, told.output
    answer = json.loads(told.stdout)
    assert answer["study"] == "a"
    assert answer["should_stop"] is True
    assert answer == {"study": "a", **open_study("a", space=SPACE, storage=url).recommendation().to_json()}
    said = CliRunner().invoke(app, ["recommend", "a", "--storage", url]).stdout
    assert said.startswith("Stop. The expected gain")
    assert f"Recommended: trial {answer['recommended']}, expected value" in said
