"""Values that a batch shares, and costs of configurations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aifs_tune import open_study
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import ConflictError, RequestError, SweepFileError

FURNACE = {
    "temperature": {"type": "float", "low": 600, "high": 1400},
    "hold": {"type": "float", "low": 1, "high": 100, "log": True},
    "flux": {"type": "choice", "choices": ["KF", "NaCl", "none"]},
}


def grown(params) -> float:
    """Size of a crystal: best at 1,000 K, a little better the longer it is held."""
    flux = {"KF": 0.3, "NaCl": 0.1, "none": 0.0}[params["flux"]]
    return flux - ((params["temperature"] - 1000) / 400) ** 2 + 0.02 * math.log(params["hold"])


def test_the_trials_of_a_batch_share_a_value_and_differ_in_the_others(url):
    study = open_study("furnace", space=FURNACE, storage=url, shared=["temperature"])
    seen = []
    for _ in range(4):
        batch = study.ask_batch(4)
        temperatures = {trial.params["temperature"] for trial in batch}
        assert len(temperatures) == 1
        assert len({(trial.params["hold"], trial.params["flux"]) for trial in batch}) == 4
        seen += temperatures
        for trial in batch:
            study.tell(trial, grown(trial.params))
    assert len(set(seen)) == 4, "each batch has a value of its own"
    assert abs(seen[-1] - 1000) < 100


def test_a_batch_is_what_runs(url):
    study = open_study("furnace", space=FURNACE, storage=url, shared=["temperature", "flux"])
    first, second = study.ask(), study.ask()
    study.tell(first, 0.5)
    third = study.ask()
    for name in ("temperature", "flux"):
        assert first.params[name] == second.params[name] == third.params[name]
    study.tell(second, 0.5)
    study.tell(third, state="failed")
    assert study.ask().params["temperature"] != first.params["temperature"]


@pytest.mark.parametrize("trade_off", [None, {"purity": "max"}])
def test_what_costs_less_is_tried_where_little_is_lost(url, trade_off):
    def spent(**options) -> float:
        names = {"space": FURNACE, "storage": url, "metric": "size", "trade_off": trade_off}
        study = open_study(f"of_{len(options)}", **names, **options)
        for _ in range(20):
            trial = study.ask()
            size = grown(trial.params)
            study.tell(trial, {"size": size, **({"purity": -size * size} if trade_off else {})})
        return float(np.mean([trial.params["hold"] for trial in study.all_trials()[6:]]))

    assert spent(cost="hold") < 0.5 * spent()


def test_nothing_is_proposed_that_costs_more_than_is_left(url):
    study = open_study("furnace", space=FURNACE, storage=url, cost="10 + hold", budget=200)
    for _ in range(12):
        trial = study.ask()
        spent = sum(10 + each.params["hold"] for each in study.all_trials()[:-1])
        if trial.number >= 6 and 200 - spent > 11.5:
            assert 10 + trial.params["hold"] <= 200 - spent
        study.tell(trial, grown(trial.params))


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"shared": ["temprature"]}, r"search.shared.0: no parameter temprature, did you mean temperature\?"),
        ({"shared": ["a"]}, "search.shared.0: a is a component of a mixture; allowed: other parameters"),
        ({"shared": ["hold"], "sampler": "tpe"}, "search.shared: tpe does not support it; allowed: sampler: aifs"),
        ({"shared": ["hold"], "initial": {"design": "sobol", "points": 4}}, "search.shared: .*; allowed: shared with"),
        ({"cost": "hold", "sampler": "random"}, "search.cost: random does not support it; allowed: sampler: aifs"),
        ({"cost": "holt"}, r"search.cost: no parameter 'holt', did you mean hold\?"),
        ({"cost": "hold > 3"}, "search.cost: hold > 3 is true or false; allowed: a number"),
        ({"cost": "3"}, "search.cost: '3' mentions no parameter; allowed: an expression that is above 0"),
        ({"cost": "hold - 50"}, "search.cost: hold - 50 is not a positive number for hold .*; allowed: an expression"),
        ({"cost": "flux * 2"}, "search.cost: flux is text, as an operand of \\*; allowed: a number"),
        ({"cost": "ramp"}, "search.cost: ramp is inactive in some configurations; allowed: parameters without when"),
        ({"budget": 20}, "search.budget: 20 is a total of costs, but there is no cost; allowed: a budget with cost"),
        ({"cost": "hold", "budget": 0}, "search.budget: 0 is too small; allowed: a number above 0"),
    ],
)
def test_what_does_not_fit_is_refused(search, message):
    space = {
        **FURNACE,
        "ramp": {"type": "float", "low": 1, "high": 9, "when": {"flux": ["KF"]}},
        "a": {"type": "float", "low": 0, "high": 1},
        "b": {"type": "float", "low": 0, "high": 1},
    }
    sweep = {"name": "furnace", "space": space, "mixtures": [{"components": ["a", "b"]}]}
    with pytest.raises(SweepFileError, match=message):
        parse_sweep({**sweep, "search": {"scheduler": "none", **search}})


def test_a_sweep_has_no_batches():
    sweep = {"name": "s", "trainer": "lab:grow", "space": FURNACE, "search": {"shared": ["hold"]}}
    with pytest.raises(SweepFileError, match=r"search.shared: the trials of a sweep start one by one"):
        parse_sweep(sweep)


def test_a_value_that_some_trials_lack_is_shared_by_the_others(url):
    space = {
        "heated": {"type": "choice", "choices": [True, False]},
        "power": {"type": "float", "low": 0, "high": 1, "when": {"heated": True}},
        "x": {"type": "float", "low": 0, "high": 1},
    }
    batch = open_study("lamp", space=space, storage=url, shared="power").ask_batch(10)
    powers = [trial.params["power"] for trial in batch if "power" in trial.params]
    assert 1 < len(powers) < 10
    assert len(set(powers)) == 1


def test_costs_and_constraints_may_use_fixed_parameters(url):
    space = {"a": {"type": "float", "low": 0, "high": 1}, "k": {"type": "fixed", "value": 3}}
    study = open_study("fixed", space=space, storage=url, cost="k + a", constraints=["a * k <= 1.5"])
    for _ in range(14):
        trial = study.ask()
        assert 3 * trial.params["a"] <= 1.5
        study.tell(trial, trial.params["a"])


def test_an_existing_study_keeps_its_shared_parameters_cost_and_budget(url):
    first = open_study("kept", space=FURNACE, storage=url, shared=["temperature"], cost="hold", budget=50)
    with pytest.raises(ConflictError, match="with other parameters that a batch shares"):
        open_study("kept", space=FURNACE, storage=url)
    with pytest.raises(ConflictError, match="with another cost"):
        open_study("kept", space=FURNACE, storage=url, shared=["temperature"], cost="2 * hold")
    again = open_study("kept", space=FURNACE, storage=url, shared=["temperature"], cost="hold")
    assert again.spec == first.spec
    more = open_study("kept", space=FURNACE, storage=url, shared=["temperature"], cost="hold", budget=80)
    assert more.spec.search.budget == 80


@pytest.mark.parametrize("n_trials", [0, -1, 1.5, "3", True, 2_000_000])
def test_a_batch_has_a_number_of_trials(url, n_trials):
    study = open_study("furnace", space=FURNACE, storage=url)
    with pytest.raises(RequestError, match=r"n_trials: .* is not a number of trials; allowed: 1 to 1000"):
        study.ask_batch(n_trials)
    assert study.all_trials() == []


@pytest.mark.parametrize("value", ["2", 10**400, [1.0], {"value": "x"}])
def test_a_result_that_is_no_number_leaves_the_trial_running(url, value):
    study = open_study("furnace", space=FURNACE, storage=url)
    trial = study.ask()
    with pytest.raises(RequestError, match=r"trial 0: .* is not a value of value; allowed: a number up to 1e308"):
        study.tell(trial, value)
    assert study.trial(trial).state == "running"
    assert study.tell(trial, 1.0).state == "complete"
