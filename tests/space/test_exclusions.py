"""What is never proposed: excluded points and groups, forbidden combinations, and what was measured already."""

from __future__ import annotations

import pytest

from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import RequestError, SweepFileError
from aifs_tune.study.open import open_study

SMALL = {
    "flux": {"type": "choice", "choices": ["none", "KCl"]},
    "level": {"type": "choice", "choices": ["low", "mid", "high"], "ordered": True},
    "t": {"type": "int", "low": 1, "high": 3},
}
SAMPLERS = ["aifs", "tpe", "random", "qmc", "nsga2"]


def value(params):
    return params["t"] + (params["flux"] == "KCl")


def drive(study, n):
    for _ in range(n):
        trial = study.ask()
        study.tell(trial, value(trial.params))
    return [tuple(trial.params.values()) for trial in study.all_trials()]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_is_measured_twice_while_something_new_is_left(url, sampler):
    study = open_study("e", space=SMALL, storage=url, sampler=sampler)
    study.attach({"flux": "KCl", "level": "mid", "t": 3}, 4.0)
    tried = drive(study, 18)
    assert len(set(tried[:18])) == 18  # all there are
    assert tried[18] in tried[:18]  # then again


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_excluded_points_and_groups_are_never_proposed(url, sampler):
    exclude = [{"flux": "none", "level": "low"}, {"flux": "KCl", "level": "high", "t": 3}]
    study = open_study("e", space=SMALL, storage=url, sampler=sampler, exclude=exclude)
    tried = drive(study, 16)
    assert len(set(tried)) == 18 - 3 - 1
    assert not [each for each in tried if each[:2] == ("none", "low") or each == ("KCl", "high", 3)]


def test_what_is_excluded_can_still_be_told_and_more_of_it_given(url):
    study = open_study("e", space=SMALL, storage=url, exclude=[{"t": 3}])
    assert study.attach({"flux": "KCl", "level": "mid", "t": 3}, 4.0).state == "complete"
    again = open_study("e", space=SMALL, storage=url, exclude=[{"t": 3}, {"t": 2}])
    assert {each[2] for each in drive(again, 6)[1:]} == {1}


def test_with_everything_excluded_nothing_is_proposed(url):
    study = open_study("e", space=SMALL, storage=url, sampler="random", exclude=[{"flux": "none"}, {"flux": "KCl"}])
    with pytest.raises(RequestError, match="constraints, exclude: none of 50,000"):
        study.ask()


def test_a_forbidden_combination_is_a_constraint(url):
    space = {**SMALL, "t": {"type": "float", "low": 600, "high": 1200}}
    study = open_study("e", space=space, storage=url, constraints=["not (flux == 'KCl' and t > 900)"])
    for flux, t in {(each[0], each[2]) for each in drive(study, 14)}:
        assert flux == "none" or t <= 900
    with pytest.raises(RequestError, match="flux KCl, t 1000: not allowed"):
        study.enqueue({"flux": "KCl", "level": "low", "t": 1000})


@pytest.mark.parametrize("sampler", ["aifs", "tpe"])
def test_a_small_part_of_a_space_is_searched_well(url, sampler):
    """A thousandth of the space is allowed: the best of it is found, and with few uniform draws in vain."""
    space = {name: {"type": "float", "low": 0.0, "high": 1.0} for name in "abc"}
    study = open_study("e", space=space, storage=url, sampler=sampler, constraints=["a + b + c <= 0.18"])
    for _ in range(16):
        trial = study.ask()
        assert sum(trial.params.values()) <= 0.18 + 1e-9
        study.tell(trial, trial.params["a"] - trial.params["b"])
    assert study.best.value > 0.05


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"x": 1}, "exclude.0.x: no parameter 'x'"),
        ({"t": 9}, "exclude.0.t: 9 is not a value of t; allowed: a whole number from 1 to 3"),
        ({}, "exclude.0"),
    ],
)
def test_entries_that_name_nothing_are_refused_in_the_file(entry, words):
    with pytest.raises(SweepFileError, match=words):
        parse_sweep({"name": "s", "space": SMALL, "exclude": [entry]})
