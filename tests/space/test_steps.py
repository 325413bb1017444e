"""Ranges with a step: what fits to rounding, and what Optuna makes of it."""

from __future__ import annotations

import math
import warnings

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import distribution_to_json, json_to_distribution
from pydantic import ValidationError
from strategies import RandomSource

import aifs_tune
from aifs_tune.errors import RequestError
from aifs_tune.space.distributions import space_distributions
from aifs_tune.space.parameters import FloatParameter
from aifs_tune.space.search_space import Space

ROUNDED = [
    (0, 1, 1 / 3, 3),
    (0, math.pi, math.pi / 4, 4),
    (-math.pi / 4, 15 * math.pi / 4, math.pi / 2, 8),
    (0, 2 * math.pi, math.pi / 6, 12),
    (0, 1, 1 / 7, 7),
    (1e-3, 1e-2, (1e-2 - 1e-3) / 9, 9),
    (0.05, 0.95, (0.95 - 0.05) / 18, 18),
    (0, 0.9, 0.1 + 0.2, 3),
    (1e6, 1e6 + math.pi, math.pi / 3, 3),
]


@pytest.mark.parametrize(("low", "high", "step", "n"), ROUNDED)
def test_a_step_that_fits_to_rounding_gives_every_value(low: float, high: float, step: float, n: int) -> None:
    parameter = FloatParameter(low=low, high=high, step=step)
    wanted = [low + i * step for i in range(n)] + [high]
    assert [parameter.convert(value) for value in wanted] == pytest.approx(wanted, rel=1e-15)
    assert parameter.convert(high) == high
    assert parameter.convert(low + step / 2) is None
    assert parameter.convert(high + step) is None
    drawn = {parameter.take("x", parameter.suggest("x", RandomSource(i)), is_stored=True) for i in range(400)}
    assert sorted(map(float, drawn)) == pytest.approx(wanted, rel=1e-15)


@pytest.mark.parametrize(("low", "high", "step", "n"), ROUNDED)
def test_optuna_keeps_the_range_each_time_that_it_reads_it(low: float, high: float, step: float, n: int) -> None:
    space = Space.model_validate({"x": {"type": "float", "low": low, "high": high, "step": step}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = space_distributions(space)["x"]
        again = json_to_distribution(distribution_to_json(json_to_distribution(distribution_to_json(made))))
    assert again == made
    for value in (low, low + step, high):
        assert made._contains(float(space.stored({"x": float(value)})["x"]))


@settings(max_examples=300, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e4), st.integers(1, 2000), st.integers(0, 2**31))
def test_what_is_stored_is_read_again(low: float, step: float, n: int, i: int) -> None:
    high = low + n * step
    try:
        parameter = FloatParameter(low=low, high=high, step=step)
    except ValidationError:
        return  # rounded too far, or a step that is too small for the range
    value = parameter.convert(low + (i % (n + 1)) * step)
    assert value is not None
    stored = parameter.store(value)
    assert parameter.load(stored) == value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [made] = space_distributions(Space.model_validate({"x": parameter})).values()
    assert made._contains(float(stored))


@pytest.mark.parametrize(
    ("entry", "nearest"),
    [
        ({"type": "float", "low": 0.1, "high": 1, "step": 0.25}, "such as 0.85 or 1.1"),
        ({"type": "float", "low": 0, "high": 1, "step": 2}, "such as 2"),
        ({"type": "float", "low": 0, "high": 1, "step": 0.1 + 0.2}, "such as 0.9000000000000001 or 1.2000000000000002"),
        ({"type": "int", "low": 1, "high": 10, "step": 4}, "such as 9 or 13"),
        ({"type": "int", "low": 0, "high": 2**53, "step": 2**53 - 1}, f"such as {2**53 - 1} or {2**54 - 2}"),
    ],
)
def test_the_nearest_ends_are_named(entry: dict[str, object], nearest: str) -> None:
    with pytest.raises(ValidationError, match="low plus a multiple of step") as caught:
        Space.model_validate({"x": entry})
    assert str(caught.value).split(" [")[0].endswith(nearest)


def test_low_that_is_high_is_told_how_to_write_one_value() -> None:
    with pytest.raises(RequestError, match=r"x\.high: 3 is also low.*for one value write 3"):
        aifs_tune.open_study("one", space={"x": {"type": "int", "low": 3, "high": 3}})


@pytest.mark.parametrize("sampler", ["aifs", "random", "tpe", "grid", "brute_force", "qmc", "nsga2"])
def test_every_sampler_proposes_values_of_the_grid(url: str, sampler: str) -> None:
    angles = {"type": "float", "low": 0, "high": math.pi, "step": math.pi / 4}
    allowed = [i * math.pi / 4 for i in range(5)]
    space = {"a": angles, "b": {"type": "float", "low": 0, "high": 1, "step": 0.1}}
    study = aifs_tune.open_study("angles", space=space, storage=url, sampler=sampler)
    for i in range(14):
        trial = study.ask()
        assert trial.params["a"] in allowed
        assert trial.params["b"] in [round(0.1 * k, 1) for k in range(11)]
        study.tell(trial, float(i))
    again = aifs_tune.load_study("angles", url)
    assert [t.params for t in again.all_trials()] == [t.params for t in study.all_trials()]
    assert all(t.problem is None for t in again.all_trials())
    assert len({frozenset(t.params.items()) for t in again.all_trials()}) == 14
    assert again.enqueue({"a": math.pi, "b": 0.30000000000000004}).params == {"a": math.pi, "b": 0.3}


def test_optuna_alone_can_go_on_with_a_third(url: str) -> None:
    study = aifs_tune.open_study(
        "thirds", space={"x": {"type": "float", "low": 0, "high": 1, "step": 1 / 3}}, storage=url
    )
    study.tell(study.ask(), 1.0)
    theirs = optuna.load_study(study_name="thirds", storage=url)
    [frozen] = theirs.trials
    theirs.enqueue_trial({"x": 1 / 3})
    theirs.add_trial(optuna.trial.create_trial(params={"x": 0.0}, distributions=frozen.distributions, value=2.0))
    assert study.trial(2).params == {"x": 0.0}
    assert study.trial(2).problem is None
    assert study.ask().params == {"x": 1 / 3}


def test_numbers_of_numpy_and_whole_floats_are_taken(url: str) -> None:
    space = {
        "n": {"type": "int", "low": np.int64(1), "high": 8.0, "step": np.int32(1)},
        "x": {"type": "float", "low": np.float32(0.5), "high": np.float64(1), "step": np.float64(0.25)},
        "rate": {"type": "float", "low": "1e-4", "high": "1e-2", "log": True, "default": "1e-3"},
        "size": {"type": "choice", "choices": np.array([16, 32])},
        "k": {"type": "choice", "choices": range(3)},
        "pair": {"type": "choice", "choices": np.array([[1, 2], [3, 4]])},
        "fixed": np.int64(5),
    }
    study = aifs_tune.open_study("numbers", space=space, storage=url)
    params = study.ask().params
    assert type(params["n"]) is int
    assert type(params["size"]) is int
    assert params["fixed"] == 5
    assert params["pair"] in ([1, 2], [3, 4])
    assert study.spec.space["rate"].default_value == 1e-3


@pytest.mark.parametrize("text", ["1e-4.", "one", "0x10", "1_000", "nan", "inf", "", "1e999"])
def test_text_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match=r"space\.x\.low"):
        aifs_tune.open_study("text", space={"x": {"type": "float", "low": text, "high": 10}})
