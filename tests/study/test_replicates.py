"""Repeated measurements: who asks for them, what they say of the noise, and what is best then."""

from __future__ import annotations

import json
import math

import pytest

from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import SweepFileError
from aifs_tune.study.open import open_study
from aifs_tune.study.ranking import noise_in

SPACE = {"x": {"type": "float", "low": 0.0, "high": 1.0}}


def test_each_configuration_is_measured_as_often_as_asked(url):
    study = open_study("r", space=SPACE, storage=url, replicates=3, initial={"design": "sobol", "points": 2})
    asked = []
    for _ in range(12):
        trial = study.ask()
        asked.append(trial.params["x"])
        study.tell(trial, trial.params["x"])
    assert len(set(asked[:2])) == 2  # the plan is gone through as a whole, again and again
    assert sorted(asked[:6]) == sorted(asked[:2] * 3)
    assert asked[6] == asked[7] == asked[8] != asked[9] == asked[10] == asked[11]
    assert len({trial.seed for trial in study.all_trials()}) == 12


def test_best_is_the_best_mean_not_the_luckiest_result(url):
    study = open_study("r", space=SPACE, storage=url, replicates=2)
    for x, value in [(0.1, 5.0), (0.1, 1.0), (0.2, 4.0), (0.2, 3.0), (0.9, 9.0)]:
        study.attach({"x": x}, value)
    best = study.best
    assert (best.number, best.value) == (2, 4.0)
    assert best.replicates is not None
    assert best.replicates.trials == (2, 3)
    assert best.replicates.mean == 3.5
    assert best.replicates.standard_error == pytest.approx(0.5)
    # 0.9 was measured once and stands behind those that have two
    assert [trial.number for trial in study.best_trials(9)] == [2, 3, 0, 1, 4]
    assert [trial.number for trial in study.front] == [2]
    assert best.to_json()["replicates"] == {"trials": [2, 3], "mean": 3.5, "standard_error": pytest.approx(0.5)}


def test_without_replicates_asked_for_means_are_compared_as_they_are(url):
    study = open_study("r", space=SPACE, storage=url, mode="min")
    for x, value in [(0.1, 1.0), (0.1, 5.0), (0.2, 2.0)]:
        study.attach({"x": x}, value)
    assert [trial.number for trial in study.best_trials(3)] == [2, 0, 1]


def test_the_front_is_of_means_too(url):
    study = open_study("r", space=SPACE, storage=url, metric="a", trade_off={"b": "min"})
    for x, a, b in [(0.1, 5.0, 1.0), (0.1, 1.0, 3.0), (0.2, 4.0, 1.5), (0.3, 2.0, 0.5)]:
        study.attach({"x": x}, {"a": a, "b": b})
    assert [trial.number for trial in study.front] == [2, 3]  # 0.1 has the means 3 and 2


def test_the_noise_is_pooled_over_all_that_was_repeated(url):
    study = open_study("r", space=SPACE, storage=url)
    assert noise_in(study.all_trials()) is None
    for x, value in [(0.1, 1.0), (0.1, 3.0), (0.5, 10.0), (0.5, 11.0), (0.5, 12.0), (0.9, 100.0)]:
        study.attach({"x": x}, value)
    assert noise_in(study.all_trials()) == (pytest.approx(math.sqrt((2.0 + 2.0) / 3)), 3)


def test_a_trainer_that_keeps_weights_is_not_repeated():
    with pytest.raises(SweepFileError, match="cnn keeps the weights of the best single trial"):
        parse_sweep({"name": "s", "space": {"filters": 8}, "trainer": "cnn", "search": {"replicates": 2}})


def test_the_largest_numbers_are_recommended_upon_too(url):
    study = open_study("large", space={"kind": "a"}, storage=url)
    for value in (1.7e308, -1.7e308, 1e308):
        study.tell(study.ask(), value)
    json.dumps(study.recommendation().to_json(), allow_nan=False)
    assert study.best.replicates.mean == pytest.approx(1e308 / 3)
