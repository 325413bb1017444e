"""Overrides of a sweep file's keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep_text import BASE, refusal

from aifs_tune.config.loading import load_sweep_file
from aifs_tune.space.parameters import FixedParameter


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


def test_an_override_sets_any_key(file: Path) -> None:
    spec = load_sweep_file(
        file,
        [
            "search.trials=9",
            "search.timeout_s=1e3",
            "space.rate.high=0.1",
            "space.optimizer.choices=[adam, sgd, adamw]",
            "trainer.patience=4",
            "data.simulate.images=100",
            "description=a = b",
            "space.depth={type: int, low: 1, high: 3}",
            "search.trials=10",
        ],
    )
    assert (spec.search.trials, spec.search.timeout_s, spec.description) == (10, 1000.0, "a = b")
    assert spec.trainer is not None
    assert (spec.trainer.name, spec.trainer.patience) == ("cnn", 4)
    assert spec.data is not None
    assert spec.data.simulate is not None
    assert spec.data.simulate.images == 100
    assert [row.range for row in spec.space.rows()] == [
        "1e-05 to 0.1, log",
        "adam, sgd, adamw",
        "0 to 0.9",
        "3",
        "1 to 3",
    ]


def test_a_parameter_set_to_a_value_is_fixed_and_keeps_its_condition(file: Path) -> None:
    space = load_sweep_file(file, ["space.momentum=1", "space.rate=0.3", "space.width=5"]).space
    assert space["momentum"] == FixedParameter(value=1.0, when={"optimizer": ("sgd",)})
    assert space["rate"] == FixedParameter(value=0.3, unit="step")
    assert type(space.check({"optimizer": "sgd", "momentum": 1, "rate": 0.3, "width": 5})["momentum"]) is float
    adam = load_sweep_file(file, ["space.optimizer=adam"]).space
    assert "momentum" not in (adam.default_params() or {})


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("search.trails=9", "search.trails: unknown key 'trails', did you mean trials?; allowed: sampler,"),
        ("serch.trials=9", "serch: unknown key 'serch', did you mean search?; allowed: version, name,"),
        ("search.trials=x", "search.trials: 'x' is not a whole number; allowed: a whole number from 1 to 1000000"),
        ("search.trials.x=3", "search.trials: 5 has no keys; allowed: to set the whole value, search.trials="),
        ("space.wdith=3", "space.wdith: no parameter 'wdith', did you mean width?; allowed: rate, optimizer,"),
        ("space.wdith.low=3", "space.wdith.low: no parameter 'wdith', did you mean width?; allowed: rate,"),
        ("space.rate=fast", "space.rate: 'fast' is not a number; allowed: a number, which then fixes the parameter"),
        ("space.rate=true", "space.rate: True is not a number; allowed: a number, which then fixes the parameter"),
        ("space.optimizer=rms", "space.optimizer: 'rms' is not a choice; allowed: one of adam, sgd"),
        ("space.depth=true", "space.depth: True is not a choice; allowed: one of 1, 2"),
        ("space.width.high=3", "space.width.high: unknown key 'high'; allowed: type, value, when, unit, description"),
        (
            "space.rate.high=1e-6",
            "space.rate.high: 1e-06 is not greater than low (1e-05); allowed: a number above 1e-05",
        ),
        ("name=", "name: no value given; allowed: 1 to 63 lower-case letters"),
        ("search.trials", "'search.trials' is not key=value; allowed: key=value, such as search.trials=100"),
        ("=3", "'=3' is not key=value"),
        ("space..low=3", "'space..low=3' is not key=value"),
        (
            "description=a: b",
            "description: 'a: b' is a list or a mapping without brackets; allowed: a value, [a, list] or",
        ),
        ("search.trials=[", "search.trials: '[': not valid YAML: "),
        ("name=!!python/name:os.system x", "name: '!!python/name:os.system x': tag "),
        ("name=&a x", "name: '&a x': anchor &a is not allowed; allowed: plain values"),
        ("name=" + "x" * 20_000, "name: the value has 20000 characters; allowed: at most 10000"),
    ],
)
def test_an_override_that_is_wrong_is_named(file: Path, override: str, words: str) -> None:
    error = refusal(file, BASE + "  depth: {type: choice, choices: [1, 2]}\n", override)
    assert str(error).startswith(f"--set: {words}")
    assert (error.source, error.line) == ("--set", None)


def test_a_problem_of_the_file_names_the_file_in_spite_of_overrides(file: Path) -> None:
    error = refusal(file, BASE.replace("low: 1e-5", "low: tiny"), "space.rate.high=1", "search.trials=3")
    assert str(error).startswith(f"{file}:6: space.rate.low")
