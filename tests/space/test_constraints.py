"""Constraints of a sweep: whether they fit its space, what a configuration must satisfy, where a mistake is."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console
from sweep_text import BASE, refusal

from aifs_tune.cli.tables import render_space
from aifs_tune.config.loading import json_schema, load_sweep_file, parse_sweep
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import RequestError, SweepFileError

SPACE: dict[str, Any] = {
    "filters": {"type": "int", "low": 16, "high": 64, "step": 16, "default": 32},
    "units": {"type": "choice", "choices": [64, 128, 256, 512], "default": 128},
    "rate": {"type": "float", "low": 1e-5, "high": 1e-2, "log": True, "default": 1e-4},
    "optimizer": {"type": "choice", "choices": ["adam", "sgd"], "default": "adam"},
    "momentum": {"type": "float", "low": 0, "high": 0.9, "default": 0.9, "when": {"optimizer": "sgd"}},
    "flip": {"type": "choice", "choices": [True, False], "default": True},
    "size": {"type": "choice", "choices": [1, 8, "auto"], "default": "auto"},
    "lambda": {"type": "float", "low": 0, "high": 1, "step": 0.1, "default": 0.5},
    "steps": {"type": "int", "low": 1, "high": 1000, "log": True, "default": 10},
    "width": 3,
}
DEFAULTS = {"filters": 32, "units": 128, "rate": 1e-4, "optimizer": "adam", "flip": True, "size": "auto"}
DEFAULTS |= {"lambda": 0.5, "steps": 10, "width": 3}


def spec(*constraints: str, **changes: object) -> SweepSpec:
    """A sweep over ``SPACE``, with other entries for some parameters."""
    return parse_sweep({"name": "x", "space": SPACE | changes, "constraints": list(constraints)})


def test_a_sweep_has_constraints_and_keeps_them() -> None:
    sweep = spec("filters * units <= 8192", 'optimizer != "sgd" or rate >= 1e-3', "lambda <= 0.7", "width < filters")
    assert [constraint.names for constraint in sweep.constraints][:2] == [("filters", "units"), ("optimizer", "rate")]
    assert parse_sweep(json.loads(json.dumps(sweep.model_dump(mode="json")))) == sweep
    assert spec().constraints == ()
    assert spec() != sweep


def test_check_params_holds_a_configuration_to_the_constraints() -> None:
    sweep = spec("filters * units <= 8192", "momentum < 0.5 or rate < 1e-3")
    checked = sweep.check_params(DEFAULTS | {"filters": 32.0})
    assert (checked, type(checked["filters"]), list(checked)) == (DEFAULTS, int, list(DEFAULTS))
    with pytest.raises(RequestError) as caught:
        sweep.check_params(DEFAULTS | {"filters": 64, "units": 256})
    assert str(caught.value) == "filters 64, units 256: not allowed; allowed: filters * units <= 8192"
    with pytest.raises(RequestError, match="units: 3 is not allowed"):
        sweep.check_params(DEFAULTS | {"units": 3})
    fast = DEFAULTS | {"rate": 1e-2}
    assert sweep.check_params(fast) == fast  # momentum is inactive
    with pytest.raises(RequestError, match=r"momentum 0.9, rate 0.01: not allowed; allowed: momentum < 0.5 or rate"):
        sweep.check_params(fast | {"optimizer": "sgd", "momentum": 0.9})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("filtres < 3", "constraints.1: no parameter 'filtres', did you mean filters?; allowed: filters, units, rate,"),
        ("optimizer == sgd", "constraints.1: no parameter 'sgd'; allowed: filters, units, rate, optimizer,"),
        ("optimizer < 3", "constraints.1: optimizer is text, as an operand of <; allowed: a number"),
        ("filters or flip", "constraints.1: filters is a number, as an operand of or; allowed: true or false"),
        ("filters", "constraints.1: filters is a number; allowed: true or false, such as a comparison"),
        ("flip == 1", "constraints.1: flip is true or false and 1 is a number, never equal"),
        ("rate == optimizer", "constraints.1: rate is a number and optimizer is text, never equal"),
        ("optimizer == 'smg' or flip", "constraints.1: 'smg' is not a value of optimizer; allowed: one of adam, sgd"),
        ("'rms' != optimizer", "constraints.1: 'rms' is not a value of optimizer"),
        ("units in [64, 100] or flip", "constraints.1: 100 is not a value of units; allowed: one of 64, 128, 256, 512"),
        (
            "filters * units < 4096",
            "constraints.1: violated by the defaults filters 32, units 128; allowed: defaults with",
        ),
    ],
)
def test_a_constraint_that_does_not_fit_the_space_is_refused(text: str, words: str) -> None:
    with pytest.raises(SweepFileError) as caught:
        spec("filters > 0", text)
    assert str(caught.value).startswith(f"sweep: {words}")


def test_a_choice_of_several_kinds_may_be_asked_for_its_kind_first() -> None:
    sweep = spec('size == "auto" or size < 8')
    assert sweep.check_params(DEFAULTS | {"size": 1})["size"] == 1
    with pytest.raises(RequestError, match="size 8: not allowed"):
        sweep.check_params(DEFAULTS | {"size": 8})


def test_constraints_that_leave_nothing_are_refused() -> None:
    open_end = {"type": "float", "low": 0, "high": 1}
    with pytest.raises(SweepFileError) as caught:
        spec("filters > 16", "x + y > 2.5", "flip", x=open_end, y=open_end)
    assert str(caught.value) == (
        "sweep: constraints: none of 10000 random configurations satisfies x + y > 2.5; "
        "allowed: constraints that leave a part of the space to search"
    )
    with pytest.raises(SweepFileError, match=r"constraints: none of 10000 random .* satisfies x < 0.5 and x > 0.5"):
        spec("x < 0.5", "x > 0.5", x=open_end)
    with pytest.raises(SweepFileError, match=r"constraints: none of 10000 random .* satisfies lambda == rate"):
        spec("lambda == rate", rate={**SPACE["rate"], "default": None})


def test_a_small_part_of_the_space_is_enough_wherever_it_lies() -> None:
    no_default = {"steps": {**SPACE["steps"], "default": None}, "x": {"type": "float", "low": 0, "high": 1}}
    for text in ("steps == 1", "steps >= 999", "x < 0.001", "lambda == 1", "momentum < 0.01", "rate > 0.0099"):
        assert spec(text, **no_default, filters=32).constraints[0].text == text


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (
            "\n  - rate < 1\n  - rate <",
            "16: constraints.1: 'rate <' is not an expression (invalid syntax); allowed: param",
        ),
        ("\n  - rate < 1\n\n  - rat < 1", "17: constraints.1: no parameter 'rat', did you mean rate?; allowed: rate, "),
        (
            "\n  - rate > 1e-3",
            "15: constraints.0: violated by the defaults rate 0.0001; allowed: defaults with rate > 1e-3",
        ),
        ("\n  - rate == 1e-4", "14: constraints: none of 10000 random configurations satisfies rate == 1e-4"),
        ("\n  - true", "15: constraints.0: True is not text; allowed: text of at most 500 characters"),
        ("\n  - rate: 3", "15: constraints.0: {'rate': 3} is not text"),
        ("\n  - rate < 1" + " and rate < 1" * 50, "15: constraints.0: 'rate < 1 and rate"),
        (" rate < 1", "14: constraints: 'rate < 1' is not a list; allowed: a list"),
        ("", "14: constraints: no value given; allowed: a list"),
        (" [" + "rate < 1, " * 101 + "]", "14: constraints: ['rate < 1', "),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, entries: str, words: str) -> None:
    file = tmp_path / "base.yaml"
    assert str(refusal(file, f"{BASE}constraints: {entries}\n")).startswith(f"{file}:{words}")


def test_overrides_set_constraints_as_a_whole_and_are_held_to_them(tmp_path: Path) -> None:
    file, text = tmp_path / "base.yaml", BASE + "constraints:\n  - rate < 1e-3 or width > 2\n"
    file.write_text(text)
    assert load_sweep_file(file, ["constraints=[]"]).constraints == ()
    assert load_sweep_file(file, ['constraints=["rate < 1e-3", width in (3)]', "constraints=[width > 2]"]).constraints
    set_wrong = {
        "constraints=[rat < 1]": "--set: constraints.0: no parameter 'rat'",
        "constraints=rate < 1": "--set: constraints: 'rate < 1' is not a list; allowed: a list",
        "constraints.0=rate < 1": "--set: constraints: ['rate < 1e-3 or width > 2'] has no keys",
    }
    for override, words_of in set_wrong.items():
        assert str(refusal(file, text, override)).startswith(words_of)
    broken = refusal(file, text, "space.rate=0.01", "space.width=1", "space.momentum.default=0.5")
    assert str(broken).startswith(
        f"{file}:15: constraints.0: violated by the defaults rate 0.01, width 1; allowed: defau"
    )


def test_the_schema_and_the_table_show_constraints() -> None:
    sweep = spec("filters * units <= 8192", "flip or rate in [1e-3]")
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator(schema)
    data = json.loads(json.dumps(sweep.model_dump(mode="json", exclude_none=True)))
    assert data["constraints"] == ["filters * units <= 8192", "flip or rate in [1e-3]"]
    assert checker.is_valid(data)
    assert not checker.is_valid(data | {"constraints": [3]})
    assert not checker.is_valid(data | {"constraints": ["a" * 501]})
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render_space(sweep))
    shown = console.export_text()
    assert "constraint: filters * units <= 8192\nconstraint: flip or rate in [1e-3]\n" in shown


def test_pages_of_constraints_that_leave_nothing_are_refused() -> None:
    entries = {f"x{i}": {"type": "float", "low": 0, "high": 1} for i in range(9)}
    never = [" + ".join(f"x{(i + k) % 9} * {i}" for k in range(40)) + f" < -{i + 1}" for i in range(30)]
    apart = [f"{' and '.join([f'x{i % 9} != 2'] * 30)} and not {i} < x0 * 30 <= {i + 1}" for i in range(30)]
    for constraints in (never, [*apart, "x0 > 0"]):
        with pytest.raises(SweepFileError) as caught:
            parse_sweep({"name": "x", "space": entries, "constraints": constraints})
        assert "configurations satisfies x" in str(caught.value)
        assert len(str(caught.value)) < 2000
