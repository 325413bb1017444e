"""Initial designs: which configurations, in which order."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import RequestError, SweepFileError
from aifs_tune.samplers.initial_design import initial_design
from aifs_tune.study.open import open_study

SPACE = {
    "t": {"type": "float", "low": 600, "high": 1400, "step": 50},
    "h": {"type": "float", "low": 1.0, "high": 100.0, "log": True},
    "n": {"type": "int", "low": 1, "high": 5},
    "gas": {"type": "choice", "choices": ["argon", "air"]},
}


def spec(initial, space=SPACE, seed=0, replicates=1, **parts):
    search = {"initial": initial, "seed": seed, "replicates": replicates}
    return parse_sweep({"name": "s", "space": space, "search": search, **parts})


@pytest.mark.parametrize("design", ["sobol", "latin_hypercube"])
def test_points_fill_the_space_and_depend_on_the_seed_alone(design):
    plan = initial_design(spec({"design": design, "points": 32}))
    assert len(plan) == 32
    assert plan == initial_design(spec({"design": design, "points": 32}))
    assert plan != initial_design(spec({"design": design, "points": 32}, seed=1))
    quarters = Counter(int(4 * np.log(params["h"]) / np.log(100.0 + 1e-9)) for params in plan)
    assert all(6 <= quarters[i] <= 10 for i in range(4)), quarters
    assert Counter(params["gas"] for params in plan)["air"] in range(12, 21)


def test_a_latin_hypercube_has_one_point_in_each_stratum():
    space = {name: {"type": "float", "low": 0.0, "high": 1.0} for name in "ab"}
    plan = initial_design(spec({"design": "latin_hypercube", "points": 10}, space))
    for name in "ab":
        assert sorted(int(10 * params[name]) for params in plan) == list(range(10))


def test_points_satisfy_constraints_mixtures_and_exclusions():
    space = {name: {"type": "float", "low": 0.0, "high": 1.0} for name in "abc"} | {"gas": SPACE["gas"]}
    asked = spec(
        {"design": "sobol", "points": 40},
        space,
        mixtures=[{"components": ["a", "b", "c"]}],
        constraints=["a <= 0.1 or b > 0.5"],
        exclude=[{"gas": "air"}],
    )
    for params in initial_design(asked):
        assert asked.check_params(params) == params
        assert params["gas"] == "argon"


def test_a_full_factorial_has_every_combination_once():
    plan = initial_design(spec({"design": "factorial", "levels": {"t": 3, "h": 2, "n": 2}}))
    levels = [600, 1000, 1400], [1.0, 100.0], [1, 5], ["argon", "air"]
    assert {tuple(p.values()) for p in plan} == {tuple(each) for each in itertools.product(*levels)}
    assert len(plan) == 24


def test_a_factorial_leaves_out_what_constraints_do_not_allow_and_what_is_inactive():
    space = {
        "flux": {"type": "choice", "choices": ["none", "KF"]},
        "ratio": {"type": "float", "low": 1.0, "high": 3.0, "when": {"flux": "KF"}},
        "t": {"type": "float", "low": 0.0, "high": 1.0},
    }
    plan = initial_design(spec({"design": "factorial"}, space, constraints=["not (flux == 'KF' and t > 0.5)"]))
    assert sorted(map(str, plan)) == sorted(
        map(
            str,
            [
                {"flux": "none", "t": 0.0},
                {"flux": "none", "t": 1.0},
                {"flux": "KF", "ratio": 1.0, "t": 0.0},
                {"flux": "KF", "ratio": 3.0, "t": 0.0},
            ],
        )
    )


def test_the_corners_of_a_mixture_are_its_extreme_vertices():
    space = {
        "a": {"type": "float", "low": 0.2, "high": 0.7},
        "b": {"type": "float", "low": 0.1, "high": 0.6},
        "c": {"type": "float", "low": 0.1, "high": 0.4},
    }
    asked = spec({"design": "factorial", "centre_points": 1}, space, mixtures=[{"components": ["a", "b", "c"]}])
    plan = initial_design(asked)
    corners = {tuple(np.round(list(params.values()), 6)) for params in plan[:-1]}
    assert corners == {
        (0.7, 0.1, 0.2),
        (0.7, 0.2, 0.1),
        (0.5, 0.1, 0.4),
        (0.2, 0.6, 0.2),
        (0.3, 0.6, 0.1),
        (0.2, 0.4, 0.4),
    }
    assert all(asked.check_params(params) for params in plan)


def test_a_fraction_varies_all_factors_in_half_of_the_runs():
    plan = initial_design(spec({"design": "fractional_factorial"}))
    assert len(plan) == 8
    high = {"t": 1400, "h": 100.0, "n": 5, "gas": "air"}
    signs = np.array([[1 if params[name] == high[name] else -1 for name in high] for params in plan])
    assert abs(signs.prod(1).sum()) == 8  # one word: all four factors
    assert np.array_equal(signs.T @ signs, 8 * np.eye(4))


def test_generators_define_the_dependent_factors():
    plan = initial_design(spec({"design": "fractional_factorial", "generators": {"gas": "t * h"}}))
    assert len(plan) == 8
    assert all((p["gas"] == "air") == ((p["t"] == 1400) == (p["h"] == 100.0)) for p in plan)


def test_centre_points_are_the_middle_and_spread_over_the_plan():
    plan = initial_design(spec({"design": "factorial", "centre_points": 3}, replicates=2))
    middle = {"t": 1000.0, "h": pytest.approx(10.0), "n": 3, "gas": "argon"}
    at = [i for i, params in enumerate(plan) if params == middle]
    assert len(plan) == 2 * 16 + 3
    assert at[0] == 0
    assert at[-1] == len(plan) - 1
    corners = [tuple(p.values()) for i, p in enumerate(plan) if i not in at]
    assert len(set(corners[:16])) == len(set(corners[16:])) == 16  # each block is whole
    assert corners[:16] != corners[16:]


@pytest.mark.parametrize(
    ("initial", "parts", "words"),
    [
        ({"design": "factorial", "levels": 20}, {"space": SPACE | {"q": SPACE["h"], "r": SPACE["h"]}}, "combinations"),
        (
            {"design": "sobol", "points": 30},
            {"space": {"gas": SPACE["gas"]}},
            "only 2 different, allowed points were found",
        ),
        (
            {"design": "fractional_factorial"},
            {"space": {"g": {"type": "choice", "choices": [1, 2, 3]}}},
            "g has 3 unordered choices",
        ),
        ({"design": "factorial"}, {"constraints": ["t > 700 and t < 1300"]}, "the constraints exclude every point"),
        ({"design": "centre", "centre_points": 2}, {"constraints": ["t > 1100"]}, "do not allow the centre"),
        ({"design": "sobol", "points": 4}, {"space": {"x": 1.0}}, "every parameter is fixed"),
    ],
)
def test_a_design_that_cannot_be_made_says_why(initial, parts, words):
    with pytest.raises(RequestError, match=words):
        initial_design(spec(initial, **parts))


@pytest.mark.parametrize(
    ("initial", "words"),
    [
        ({"design": "sobol"}, "initial.points: missing"),
        ({"design": "centre"}, "initial.centre_points: missing"),
        ({"design": "factorial", "points": 3}, "initial.points: cannot be used with factorial"),
        ({"design": "sobol", "points": 3, "levels": 3}, "initial.levels: cannot be used"),
        ({"design": "star"}, "initial.design"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused_in_the_file(initial, words):
    with pytest.raises(SweepFileError, match=words):
        spec(initial)


def test_a_study_measures_its_design_first_and_continues_it_when_reopened(url):
    plan = initial_design(spec({"design": "latin_hypercube", "points": 6, "centre_points": 2}))
    options = {
        "space": SPACE,
        "storage": url,
        "initial": {"design": "latin_hypercube", "points": 6, "centre_points": 2},
    }
    asked = []
    for _ in range(4):  # each time as a new process would
        study = open_study("s", **options)
        for _ in range(2):
            trial = study.ask()
            asked.append(dict(trial.params))
            study.tell(trial, 1.0)
    assert asked == plan
    assert dict(study.ask().params) not in plan
