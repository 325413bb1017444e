"""Parameters, conditions and the space."""

from __future__ import annotations

import json
import warnings

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from strategies import RandomSource, spaces, without

from aifs_tune.errors import RequestError
from aifs_tune.space.constraints import Constraint, check_constraints
from aifs_tune.space.parameters import ChoiceParameter, FixedParameter, FloatParameter, IntParameter
from aifs_tune.space.search_space import Space

SGD = {
    "optimizer": {"type": "choice", "choices": ["adam", "sgd"], "default": "adam"},
    "momentum": {"type": "float", "low": 0, "high": 0.9, "step": 0.1, "default": 0.9, "when": {"optimizer": "sgd"}},
    "batch": {"type": "int", "low": 16, "high": 64, "step": 16, "default": 32, "unit": "images"},
    "flip": True,
}


@pytest.fixture
def sgd() -> Space:
    return Space.model_validate(SGD)


@given(spaces, st.integers(0, 2**32))
def test_what_a_space_suggests_it_accepts(space: Space, seed: int) -> None:
    params = space.suggest(RandomSource(seed))
    checked = space.check(params)
    assert checked == params
    assert list(checked) == [name for name, _ in space.items() if space.is_active(name, params)]
    assert all(type(checked[name]) is type(params[name]) for name in params)


@given(spaces, st.integers(0, 2**32))
def test_leaving_out_or_adding_a_parameter_is_refused(space: Space, seed: int) -> None:
    params = space.suggest(RandomSource(seed))
    for name in params:
        with pytest.raises(RequestError, match=name):
            space.check(without(params, name))
    with pytest.raises(RequestError, match="no such parameter"):
        space.check({**params, "no such": 1})


@given(spaces)
def test_round_trip_through_json(space: Space) -> None:
    again = Space.model_validate(json.loads(json.dumps(space.model_dump(mode="json"))))
    assert again == space
    assert list(again.model_dump()) == list(space.model_dump())
    assert repr(again) == repr(space)  # == would not tell 1 from True


@given(spaces)
def test_stated_defaults_are_a_configuration(space: Space) -> None:
    defaults = space.default_params()
    if defaults is None:
        assert any(parameter.default_value is None for _, parameter in space.items())
    else:
        assert space.check(defaults) == defaults


@settings(max_examples=25, deadline=None)
@given(spaces, st.integers(0, 2**31))
def test_an_optuna_trial_is_a_source(space: Space, seed: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Optuna's word that a range was changed
        trial = study.ask()
        params = space.suggest(trial)
    assert space.check(params) == params
    assert set(trial.params) == set(params)


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ({"type": "float", "low": 1, "high": 1}, "high"),
        ({"type": "float", "low": 2, "high": 1}, "high"),
        ({"type": "float", "low": 0, "high": 1, "log": True}, "low"),
        ({"type": "float", "low": 1, "high": 2, "log": True, "step": 1}, "step"),
        ({"type": "float", "low": 0, "high": 1, "step": 0.3}, "high"),
        ({"type": "float", "low": 0, "high": 1, "step": 1e-12}, "step"),
        ({"type": "float", "low": 0, "high": 1, "default": 1.1}, "default"),
        ({"type": "float", "low": 0, "high": 1, "step": 0.5, "default": 0.3}, "default"),
        ({"type": "int", "low": 1, "high": 8, "log": True, "step": 2}, "step"),
        ({"type": "int", "low": 0, "high": 5, "step": 2}, "high"),
        ({"type": "int", "low": 0, "high": 4, "step": 2, "default": 3}, "default"),
        ({"type": "choice", "choices": ["a", "a"]}, "choices.1"),
        ({"type": "choice", "choices": [1, True]}, "choices.1"),
        ({"type": "choice", "choices": [1, 1.0]}, "choices.1"),
        ({"type": "choice", "choices": [[1, 2], [1.0, 2]]}, "choices.1"),
        ({"type": "choice", "choices": [None, "null"]}, "choices.1"),
        ({"type": "choice", "choices": [True, False], "default": 1}, "default"),
        ({"type": "choice", "choices": [0, 1], "default": False}, "default"),
    ],
)
def test_a_parameter_that_contradicts_itself_is_refused(entry: dict[str, object], key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Space.model_validate({"x": entry})
    [details] = caught.value.errors()
    assert details["type"] == "aifs_tune"
    assert details["ctx"]["key"] == key
    assert details["ctx"]["allowed"]


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "float", "low": "zero", "high": 1},
        {"type": "float", "low": "1e-4.", "high": 1},
        {"type": "float", "low": False, "high": 1},
        {"type": "float", "low": 0, "high": float("inf")},
        {"type": "float", "low": 0, "high": float("nan")},
        {"type": "float", "low": 0, "high": 1, "log": 1},
        {"type": "int", "low": 0.5, "high": 1},
        {"type": "int", "low": 0, "high": 2**53 + 1},
        {"type": "int", "low": 0, "high": 4, "step": 0},
        {"type": "choice", "choices": []},
        {"type": "choice", "choices": [{"a": 1}]},
        {"type": "choice", "choices": [[1, {"a": 1}]]},
        {"type": "choice", "choices": [[float("nan")]]},
        {"type": "choice", "choices": [list(range(1000))]},
        {"type": "choice", "choices": ["a\nb"]},
        {"type": "choice", "choices": ["\ud800"]},
        {"type": "choice", "choices": "ab"},
        {"type": "choice", "choices": list(range(1001))},
        {"type": "fixed", "value": float("inf")},
        {"type": "fixed", "value": 1, "default": 1},
        {"type": "normal"},
        {"low": 0, "high": 1},
        None,
        [1, 2],
        float("nan"),
    ],
)
def test_what_is_no_parameter_is_refused(entry: object) -> None:
    with pytest.raises(ValidationError):
        Space.model_validate({"x": entry})


@pytest.mark.parametrize(
    "name",
    ["", "1a", "a b", "a..b", ".a", "a.", "a.1", "a\n", "a-b", "e\u0301", "x" * 101, "../x", "<b>", "a\0", "a\u200d"],
)
def test_a_name_that_is_not_allowed_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Space.model_validate({name: 1})


@pytest.mark.parametrize("name", ["model.lr", "größe", "θ", "学习率", "_a._b.c1", "x" * 100, "lambda"])
def test_a_name_may_have_dots_and_letters_of_any_alphabet(name: str) -> None:
    space = Space.model_validate({name: {"type": "float", "low": 0, "high": 1}})
    assert space.check({name: 0.5}) == {name: 0.5}
    constraint = Constraint.model_validate(f"{name} + 2 * {name} < 2.5")
    assert constraint.names == (name,)
    assert constraint.holds({name: 0.5})
    assert not constraint.holds({name: 0.9})
    check_constraints(space, [constraint])


def test_two_names_that_python_reads_as_one_are_refused() -> None:
    with pytest.raises(ValidationError, match="is the same name as"):
        Space.model_validate({"\u00b5": 1, "\u03bc": 2})


def test_an_empty_space_is_refused() -> None:
    with pytest.raises(ValidationError):
        Space.model_validate({})


@pytest.mark.parametrize(
    ("when", "key"),
    [
        ({"later": 1}, "x.when.later"),
        ({"x": 1}, "x.when.x"),
        ({"nowhere": 1}, "x.when.nowhere"),
        ({"kind": "c"}, "x.when.kind"),
        ({"kind": ["a", "c"]}, "x.when.kind"),
        ({"flag": 1}, "x.when.flag"),
        ({"size": 3}, "x.when.size"),
        ({"size": True}, "x.when.size"),
    ],
)
def test_a_condition_that_cannot_hold_is_refused(when: dict[str, object], key: str) -> None:
    entries = {
        "kind": {"type": "choice", "choices": ["a", "b"]},
        "flag": {"type": "choice", "choices": [True, False]},
        "size": {"type": "int", "low": 0, "high": 8, "step": 2},
        "x": {"type": "fixed", "value": 1, "when": when},
        "later": {"type": "int", "low": 0, "high": 2},
    }
    with pytest.raises(ValidationError) as caught:
        Space.model_validate(entries)
    assert caught.value.errors()[0]["ctx"]["key"] == key


def test_a_child_of_a_fixed_parent_may_never_be_active() -> None:
    space = Space.model_validate({**SGD, "optimizer": "adam"})
    assert space.default_params() == {"optimizer": "adam", "batch": 32, "flip": True}


def test_a_condition_follows_its_parent(sgd: Space) -> None:
    assert sgd.is_active("momentum", {"optimizer": "sgd"})
    assert not sgd.is_active("momentum", {"optimizer": "adam"})
    assert not sgd.is_active("momentum", {})
    assert sgd.is_active("batch", {})


def test_an_inactive_parent_makes_its_child_inactive() -> None:
    nested = {
        **SGD,
        "nesterov": {"type": "choice", "choices": [True, False], "default": True, "when": {"momentum": [0.8, 0.9]}},
    }
    space = Space.model_validate(nested)
    assert "nesterov" not in (space.default_params() or {})
    params = {"optimizer": "sgd", "momentum": 0.9, "batch": 16, "flip": True, "nesterov": False}
    assert space.check(params) == params


def test_true_and_1_are_different_values() -> None:
    flag = ChoiceParameter(choices=(True, False))
    assert flag.convert(True) is True
    assert flag.convert(1) is None
    count = ChoiceParameter(choices=(1, 2))
    assert count.convert(True) is None
    assert count.convert(1.0) == 1
    assert type(count.convert(1.0)) is int
    assert IntParameter(low=0, high=3).convert(True) is None
    assert FloatParameter(low=0, high=3).convert(True) is None
    assert FixedParameter(value=False).convert(0) is None


def test_values_become_the_parameters_own_type(sgd: Space) -> None:
    space = Space.model_validate({**SGD, "rate": {"type": "float", "low": 0, "high": 5}})
    checked = space.check(
        {
            "rate": 3,
            "flip": True,
            "batch": np.float64(48),
            "momentum": np.float32(0.5),
            "optimizer": "sgd",
        }
    )
    assert checked == {"optimizer": "sgd", "momentum": 0.5, "batch": 48, "flip": True, "rate": 3.0}
    assert list(checked) == ["optimizer", "momentum", "batch", "flip", "rate"]
    assert {name: type(value) for name, value in checked.items()} == {
        "optimizer": str,
        "momentum": float,
        "batch": int,
        "flip": bool,
        "rate": float,
    }
    assert type(IntParameter(low=0, high=9).convert(np.int64(4))) is int


def test_values_a_rounding_error_off_the_grid_are_on_it() -> None:
    tenths = FloatParameter(low=0, high=0.3, step=0.1)
    assert tenths.convert(0.1 + 0.2) == 0.3
    assert tenths.convert(0.15) is None
    assert tenths.convert(0.4) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": 20}, "batch: 20 is not allowed; allowed: a whole number from 16 to 64, step 16"),
        ({"batch": 16.5}, "batch: 16.5 is not allowed"),
        ({"batch": "32"}, "batch: '32' is not allowed"),
        ({"batch": None}, "batch: None is not allowed"),
        ({"batch": float("nan")}, "batch: nan is not allowed"),
        ({"batch": 10**5000}, "batch: a number of 16610 bits is not allowed"),
        ({"optimizer": "rms"}, "optimizer: 'rms' is not allowed; allowed: one of adam, sgd"),
        ({"flip": 1}, "flip: 1 is not allowed; allowed: only true"),
        ({"momentum": 0.5}, "momentum: 0.5 is given but inactive; allowed: no value unless optimizer is sgd"),
        ({"optimizer": "sgd"}, "momentum: missing; allowed: a number from 0 to 0.9, step 0.1"),
        (
            {"batches": 3},
            "'batches': no such parameter, did you mean batch?; allowed: optimizer, momentum, batch, flip",
        ),
        ({3: 3}, "3: no such parameter"),
    ],
)
def test_check_says_what_is_wrong(sgd: Space, change: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError) as caught:
        sgd.check({"optimizer": "adam", "batch": 32, "flip": True, **change})
    assert str(caught.value).startswith(words)


def test_an_answer_outside_the_range_is_refused(sgd: Space) -> None:
    class Stubborn(RandomSource):
        def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
            return high + step

    with pytest.raises(RequestError, match="batch: 80 is not allowed"):
        sgd.suggest(Stubborn(0))


def test_a_parameter_without_default_leaves_no_default_configuration() -> None:
    open_end = {"type": "float", "low": 0, "high": 1}
    assert Space.model_validate({"x": open_end}).default_params() is None
    inactive = {**SGD, "x": {**open_end, "when": {"optimizer": "sgd"}}}
    assert Space.model_validate(inactive).default_params() == {"optimizer": "adam", "batch": 32, "flip": True}


def test_rows_read_like_the_sweep_file(sgd: Space) -> None:
    space = Space.model_validate({"rate": {"type": "float", "low": 1e-5, "high": 0.01, "log": True}, **SGD})
    assert [tuple(row) for row in space.rows()] == [
        ("rate", "float", "1e-05 to 0.01, log", "", "", ""),
        ("optimizer", "choice", "adam, sgd", "adam", "", ""),
        ("momentum", "float", "0 to 0.9, step 0.1", "0.9", "optimizer is sgd", ""),
        ("batch", "int", "16 to 64, step 16", "32", "", "images"),
        ("flip", "fixed", "true", "true", "", ""),
    ]


def test_values_cannot_be_changed(sgd: Space) -> None:
    with pytest.raises(ValidationError):
        sgd["batch"].low = 0  # type: ignore[union-attr]
    with pytest.raises(ValidationError):
        sgd.root = {}
