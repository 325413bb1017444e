"""Mixtures in sweep files and studies: every configuration has the total, whoever made it."""

from __future__ import annotations

import math

import pytest

from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import RequestError, SweepFileError
from aifs_tune.study.open import open_study

SPACE = {
    "resin": {"type": "float", "low": 0.3, "high": 0.9},
    "hardener": {"type": "float", "low": 0.05, "high": 0.5},
    "filler": {"type": "float", "low": 0.0, "high": 0.2},
    "oven": {"type": "choice", "choices": ["a", "b"]},
}
MIXTURES = [{"components": ["resin", "hardener", "filler"], "total": 1.0}]


def strength(params):
    return -((params["resin"] - 0.6) ** 2) - (params["hardener"] - 0.3) ** 2 + 0.01 * (params["oven"] == "a")


@pytest.mark.parametrize("sampler", ["aifs", "tpe", "qmc", "random", "nsga2"])
def test_every_sampler_proposes_amounts_that_sum_to_the_total(url, sampler):
    study = open_study(
        "m", space=SPACE, mixtures=MIXTURES, storage=url, sampler=sampler, constraints=["filler < resin"]
    )
    for _ in range(14):
        trial = study.ask()
        amounts = [trial.params[name] for name in MIXTURES[0]["components"]]
        assert math.isclose(math.fsum(amounts), 1.0, rel_tol=1e-12)
        assert study.spec.check_params(trial.params) == dict(trial.params)
        study.tell(trial, strength(trial.params))
    assert len({tuple(trial.params.values()) for trial in study.all_trials()}) == 14


def test_a_total_that_is_missed_is_refused_and_rounding_is_not(url):
    study = open_study("m", space=SPACE, mixtures=MIXTURES, storage=url)
    with pytest.raises(RequestError, match=r"resin \+ hardener \+ filler = 1.05: not allowed; allowed: 1"):
        study.enqueue({"resin": 0.6, "hardener": 0.35, "filler": 0.1, "oven": "a"})
    with pytest.raises(RequestError, match=r"= 0.999"):
        study.attach({"resin": 0.6, "hardener": 0.299, "filler": 0.1, "oven": "a"}, 1.0)
    study.attach({"resin": 0.6333333, "hardener": 0.2666667, "filler": 0.1, "oven": "a"}, 1.0)


def test_a_component_can_be_fixed(url):
    study = open_study("m", space={**SPACE, "filler": 0.1}, mixtures=MIXTURES, storage=url)
    for _ in range(8):
        trial = study.ask()
        assert trial.params["filler"] == 0.1
        assert trial.params["resin"] + trial.params["hardener"] == pytest.approx(0.9, abs=1e-12)
        study.tell(trial, strength(trial.params))


@pytest.mark.parametrize(
    ("mixture", "space", "words"),
    [
        ({"components": ["resin", "water"]}, {}, "mixtures.0.components.1: no parameter 'water'"),
        ({"components": ["resin", "resin"]}, {}, "resin is listed twice"),
        (
            {"components": ["resin", "oven"]},
            {},
            "oven is not a plain float parameter; allowed: float parameters without",
        ),
        ({"components": ["resin", "hardener"], "total": 2.0}, {}, "total: the components sum to 0.35 to 1.4, so they"),
        ({"components": ["resin"]}, {}, "components"),
        (
            MIXTURES[0],
            {name: {**SPACE[name], "default": 0.2 if name == "filler" else 0.5} for name in list(SPACE)[:3]}
            | {"oven": "a"},
            "the defaults of resin, hardener, filler do not sum to 1",
        ),
    ],
)
def test_a_mixture_that_cannot_be_is_refused_in_the_file(mixture, space, words):
    with pytest.raises(SweepFileError, match=words):
        parse_sweep({"name": "m", "space": {**SPACE, **space}, "mixtures": [mixture]})


def test_a_parameter_is_in_one_mixture():
    two = [*MIXTURES, {"components": ["filler", "hardener"], "total": 0.4}]
    with pytest.raises(SweepFileError, match=r"filler is also in mixtures\.0"):
        parse_sweep({"name": "m", "space": SPACE, "mixtures": two})
