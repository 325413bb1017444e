"""Samplers by name on a real study, and predictions of its model."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import optuna
import pytest

from aifs_tune.config.search import SAMPLERS, SearchSpec
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.config.trusted_code import trust
from aifs_tune.errors import ConflictError, RequestError
from aifs_tune.samplers.learning_curves import KERNEL
from aifs_tune.samplers.optuna_samplers import OPTUNA_SAMPLERS
from aifs_tune.samplers.proposer import check_sampler
from aifs_tune.samplers.stopping import MIN_CONTINUATION_VALUE, is_rung
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import open_study, start_study

SPACE = {
    "rate": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "units": {"type": "int", "low": 16, "high": 64, "step": 16},
    "optimizer": {"type": "choice", "choices": ["adam", "sgd"]},
    "momentum": {"type": "float", "low": 0.0, "high": 0.9, "when": {"optimizer": "sgd"}},
    "depth": {"type": "fixed", "value": 2},
}
GRID = {
    "a": {"type": "choice", "choices": [1, 2, 3], "default": 2},
    "b": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.5, "default": 0.5},
}
INSTALLED = [name for name in SAMPLERS if name not in ("gp", "cmaes", "grid", "brute_force")]


def value_of(params) -> float:
    return params["units"] / 64 - (params["optimizer"] == "adam") - params.get("momentum", 0.0)


def test_the_names_of_a_sweep_file_are_those_that_can_be_made():
    assert ("aifs", *OPTUNA_SAMPLERS) == SAMPLERS


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("constraints", [[], ["units <= 32 or optimizer == 'sgd'"]], ids=["free", "constrained"])
def test_every_sampler_proposes_before_other_workers_have_results(url, name, constraints):
    study = open_study("s", space=SPACE, storage=url, sampler=name, constraints=constraints)
    for _ in range(5):
        trials = [study.ask() for _ in range(4)]
        for trial in trials:
            assert study.spec.check_params(trial.params) == dict(trial.params)
            study.tell(trial, value_of(trial.params))
    assert study.counts()["complete"] == 20
    assert len({json.dumps(dict(trial.params)) for trial in study.all_trials()}) >= 15


@pytest.mark.parametrize("name", ["grid", "brute_force"])
def test_a_grid_is_searched_to_the_end(url, name):
    study = open_study("s", space=GRID, storage=url, sampler=name)
    for _ in range(9):
        study.tell(study.ask(), 1.0)
    assert len({tuple(trial.params.values()) for trial in study.all_trials()}) == 9


@pytest.mark.parametrize("name", ["grid", "brute_force"])
def test_a_grid_needs_steps(name):
    spec = SweepSpec(name="s", space=SPACE, search=SearchSpec(sampler=name))
    with pytest.raises(RequestError, match="rate is continuous; a grid needs a step or choices for it"):
        check_sampler(spec)


@pytest.mark.parametrize(("name", "package"), [("gp", "torch"), ("cmaes", "cmaes")])
def test_a_sampler_whose_package_is_missing_says_so_before_anything_runs(monkeypatch, name, package):
    monkeypatch.setattr("aifs_tune.samplers.optuna_samplers.find_spec", lambda asked: None)
    with pytest.raises(RequestError, match=rf"{name!r} needs the package {package}.*pip install {package}"):
        check_sampler(SweepSpec(name="s", space=SPACE, search=SearchSpec(sampler=name)))


def test_a_user_s_own_sampler_is_imported_and_seeded(url, tmp_path, monkeypatch):
    (tmp_path / "labsampler.py").write_text(
        "from optuna.samplers import RandomSampler\nclass Ours(RandomSampler): pass\nthing = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    one, two = (open_study(name, space=SPACE, storage=url, sampler="labsampler:Ours", seed=4) for name in "ab")
    assert dict(one.ask().params) == dict(two.ask().params)
    sys.modules.pop("labsampler")
    wrongs = {
        "labsampler:thing": "a subclass of optuna.samplers.BaseSampler",
        "labsampler:No": "has no 'No'",
        "no_lab:X": "cannot import",
        "os:system": "of Python itself",
    }
    for wrong, words in wrongs.items():
        trust([wrong])
        with pytest.raises(RequestError, match=words):
            check_sampler(SweepSpec(name="s", space=SPACE, search=SearchSpec(sampler=wrong)))


def test_constraints_of_any_sampler_are_kept_even_where_few_configurations_keep_them(url):
    study = open_study("s", space=SPACE, storage=url, sampler="tpe", constraints=["units == 48", "rate > 0.05"])
    for _ in range(6):
        trial = study.ask()
        assert trial.params["units"] == 48
        assert trial.params["rate"] > 0.05
        study.tell(trial, 1.0)


@pytest.mark.parametrize(("grace", "rungs"), [(1, [1, 2, 4, 8, 16, 32]), (3, [3, 6, 12, 24, 48]), (5, [5, 10, 20, 40])])
def test_rungs_double(grace, rungs):
    assert [epoch for epoch in range(50) if is_rung(epoch, grace)] == rungs


@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_hopeless_trial_has_a_smaller_expected_improvement_than_a_new_one(url, mode):
    sign = 1.0 if mode == "max" else -1.0
    space = {"x": {"type": "float", "low": 0.0, "high": 1.0}, "y": {"type": "float", "low": 0.0, "high": 1.0}}
    spec = SweepSpec(name="s", space=space, search=SearchSpec(epochs=16), objective={"metric": "score", "mode": mode})
    study = start_study(Storage(url, create=True), spec, "s")

    def score(params, epoch):
        return sign * (params["x"] - 1 / epoch)

    first = study.ask()
    assert study.continuation_value(first, 1, score(first.params, 1)) is None, "nothing is known yet"
    study.requeue(first)
    for _ in range(14):
        trial = study.ask()
        for epoch in range(1, 17):
            study.report(trial, epoch, {"score": score(trial.params, epoch)})
        study.tell(trial)
    good, bad = study.enqueue({"x": 1.0, "y": 0.1}), study.enqueue({"x": 0.01, "y": 0.9})
    assert [study.ask().number, study.ask().number] == [good.number, bad.number]
    for epoch in (1, 2, 4):
        continuation_values = [study.continuation_value(t, epoch, score(t.params, epoch)) for t in (good, bad)]
        assert MIN_CONTINUATION_VALUE > continuation_values[1] >= 0
        assert continuation_values[0] > 3 * continuation_values[1]
        for trial in (good, bad):
            study.report(trial, epoch, {"score": score(trial.params, epoch)})
    assert study.continuation_value(good, 8, sign * 5.0) == math.inf
    stored = optuna.load_study(study_name="s", storage=url)
    assert any(KERNEL in t.system_attrs for t in stored.trials)


def test_a_trial_worth_starting_continues_where_first_epochs_are_uninformative(url):
    """Values of epoch 1 are random; epoch 4 reveals half of the true difference."""
    space = {"x": {"type": "float", "low": 0.0, "high": 1.0}}
    spec = SweepSpec(name="s", space=space, search=SearchSpec(epochs=16), objective={"metric": "score", "mode": "max"})
    study = start_study(Storage(url, create=True), spec, "s")
    rng = np.random.default_rng(0)

    for x in np.linspace(0.0, 1.0, 16).tolist():
        trial = running_at(study, x)
        for epoch in range(1, 17):
            study.report(trial, epoch, {"score": 1 - (x - 0.6) ** 2 if epoch >= 4 else rng.random()})
        study.tell(trial)
    worst = 0.0  # the lowest possible value

    def continuation_value(x):
        return study.continuation_value(running_at(study, x), 1, worst)

    assert all(continuation_value(x) > MIN_CONTINUATION_VALUE for x in (0.59, 0.6, 0.61)), (
        "their first epoch says nothing against them"
    )
    assert all(continuation_value(x) < MIN_CONTINUATION_VALUE for x in (0.3, 0.9)), "these were not worth starting"


def a_rising_study(url, **spec):
    """Eleven complete trials at x from 0 to 0.4, the more the better."""
    space = {"x": {"type": "float", "low": 0.0, "high": 1.0}}
    objective = {"metric": "score", "mode": "max"}
    sweep = SweepSpec(name="s", space=space, search=SearchSpec(epochs=16), objective=objective, **spec)
    study = start_study(Storage(url, create=True), sweep, "s")
    for x in np.linspace(0.0, 0.4, 11):
        study.enqueue({"x": float(x)})
        trial = study.ask()
        for epoch in (1, 2, 4, 8, 16):
            study.report(trial, epoch, {"score": x - 1 / epoch})
        study.tell(trial)
    return study


def running_at(study, x):
    study.enqueue({"x": x})
    return study.ask()


def test_a_trial_is_not_stopped_for_a_configuration_that_constraints_exclude(tmp_path):
    free = a_rising_study(f"sqlite:///{tmp_path}/free.db")
    held = a_rising_study(f"sqlite:///{tmp_path}/held.db", constraints=("x <= 0.41",))
    free_value = free.continuation_value(running_at(free, 0.39), 1, 0.39 - 1)
    held_value = held.continuation_value(running_at(held, 0.39), 1, 0.39 - 1)
    assert held_value > 3 * free_value, "beyond 0.41, where more is to be had, nothing is allowed"


def test_a_trial_is_not_stopped_for_a_configuration_that_fails(tmp_path):
    free, failing = (a_rising_study(f"sqlite:///{tmp_path}/{name}.db") for name in ("free", "failing"))
    for x in np.linspace(0.41, 1.0, 16):
        failing.tell(running_at(failing, float(x)), state="failed", reason="meltdown")
    free_value = free.continuation_value(running_at(free, 0.39), 1, 0.39 - 1)
    failing_value = failing.continuation_value(running_at(failing, 0.39), 1, 0.39 - 1)
    assert failing_value > 2 * free_value


def test_only_a_running_trial_has_a_continuation_value(url):
    study = a_rising_study(url)
    with pytest.raises(ConflictError, match="trial 3 is complete; only a running trial"):
        study.continuation_value(3, 1, 0.5)
