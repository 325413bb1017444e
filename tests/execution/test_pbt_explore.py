"""What a trial tries after it took over another one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import RandomSource, space_entries

from aifs_tune.config.loading import parse_sweep
from aifs_tune.execution.pbt import explore


def spec(space, **sections):
    return parse_sweep({"name": "e", "space": space, **sections})


@settings(max_examples=60, deadline=None)
@given(space_entries(), st.integers(0, 2**32), st.data())
def test_what_is_explored_is_a_configuration_that_keeps_what_must_stay(space, seed, data):
    sweep = spec(space)
    static_params = data.draw(st.sets(st.sampled_from(sorted(space))))
    params = sweep.space.suggest(RandomSource(seed))
    once = explore(sweep, params, static_params=static_params, rng=random.Random(seed))
    assert once == explore(sweep, params, static_params=static_params, rng=random.Random(seed))
    assert sweep.check_params(once) == once
    fixed = {name for name, parameter in sweep.space.items() if parameter.type == "fixed"}
    assert {name: once.get(name) for name in static_params} == {name: params.get(name) for name in static_params}
    assert all(once[name] == params[name] for name in fixed & set(once) & set(params))


RATE = {"type": "float", "low": 1e-4, "high": 1.0, "log": True}


def draws(space, params, **options):
    sweep, rng = spec(space, **options), random.Random(0)
    return [explore(sweep, params, static_params=(), rng=rng) for _ in range(200)]


def test_numbers_are_scaled_or_drawn_anew_and_choices_stay_or_are_drawn_anew():
    space = {"rate": RATE, "kind": {"type": "choice", "choices": ["a", "b", "c", "d"]}}
    found = draws(space, {"rate": 0.01, "kind": "a"})
    rates = [params["rate"] for params in found]
    scaled = [rate for rate in rates if rate in (0.01 * 0.8, 0.01 * 1.2)]
    assert 130 <= len(scaled) <= 170
    assert len(set(scaled)) == 2
    assert 130 <= sum(params["kind"] == "a" for params in found) <= 185, "a quarter of the quarter drawn anew is a too"


@pytest.mark.parametrize(
    ("entry", "value", "allowed"),
    [
        ({"type": "int", "low": 0, "high": 100}, 50, {40, 60}),
        ({"type": "int", "low": 1, "high": 100}, 1, {1, 2}),
        ({"type": "int", "low": 0, "high": 8, "step": 4}, 4, {0, 8}),
        ({"type": "int", "low": -100, "high": 0}, -50, {-60, -40}),
        ({"type": "float", "low": 0, "high": 0.9, "step": 0.3}, 0.0, {0.0, 0.3}),
        ({"type": "float", "low": 0, "high": 1}, 0.9, {0.9 * 0.8, 1.0}),
        ({"type": "float", "low": 0, "high": 1}, 0.0, {0.0}),
    ],
)
def test_a_move_stays_in_range_and_goes_a_step_at_least(entry, value, allowed):
    found = [params["x"] for params in draws({"x": entry}, {"x": value})]
    assert sum(x in allowed for x in found) >= 120
    assert allowed <= set(found)


def test_a_constraint_holds_and_where_nothing_else_does_all_stays():
    space = {"rate": RATE, "momentum": {"type": "float", "low": 0, "high": 1}}
    found = draws(space, {"rate": 0.4, "momentum": 0.5}, constraints=["rate + momentum < 0.95"])
    assert all(params["rate"] + params["momentum"] < 0.95 for params in found)
    space = {"x": {"type": "choice", "choices": [1, 2, 3]}, "y": {"type": "choice", "choices": [1, 2, 3]}}
    tight = spec(space, constraints=["x == y"])
    stays = [explore(tight, {"x": 2, "y": 2}, static_params=("y",), rng=random.Random(n)) for n in range(20)]
    assert stays == [{"x": 2, "y": 2}] * 20


def test_what_becomes_active_is_drawn_and_what_shapes_is_never_switched():
    space = {
        "kind": {"type": "choice", "choices": ["plain", "extra"]},
        "more": {"type": "float", "low": 0, "high": 1, "when": {"kind": "extra"}},
    }
    found = draws(space, {"kind": "plain"})
    assert any("more" in params for params in found)
    assert all(("more" in params) == (params["kind"] == "extra") for params in found)
    held = [explore(spec(space), {"kind": "plain"}, static_params=("more",), rng=random.Random(n)) for n in range(40)]
    assert held == [{"kind": "plain"}] * 40
