"""Search spaces that are read from what a program asks for."""

from __future__ import annotations

import pytest

from aifs_tune.errors import RequestError
from aifs_tune.space.define_by_run import (
    Run,
    choice_entry,
    choice_value,
    float_entry,
    int_entry,
    parameter_name,
    parameter_names,
    runs_to_try,
    space_of,
)


def found(program):
    """The space of a program, and how often it ran."""
    first = Run()
    program(first)
    runs = [first]
    for run in runs_to_try(first):
        program(run)
        runs.append(run)
    return space_of(runs), len(runs)


KIND = choice_entry(["a", "b", "c"])


def test_a_program_without_conditions_has_a_plain_space():
    def program(run):
        run.ask("x", float_entry(0, 1))
        run.ask("n", int_entry(1, 3))

    space, n_runs = found(program)
    assert space == {"x": float_entry(0, 1), "n": {"type": "int", "low": 1, "high": 3}}
    assert n_runs == 4  # all smallest, x largest, n 2 and 3


def test_what_depends_on_one_choice_or_small_integer_is_conditional():
    def program(run):
        kind = run.ask("kind", KIND)
        if kind != "a":
            run.ask("rate", float_entry(0.1, 1, log=True))
        if kind == "c":
            n = run.ask("n", int_entry(1, 3))
            for i in range(n):
                run.ask(f"units_{i}", int_entry(8, 512, log=True))

    space, _ = found(program)
    assert space["kind"] == KIND
    assert space["rate"]["when"] == {"kind": ["b", "c"]}
    assert space["n"]["when"] == space["units_0"]["when"] == {"kind": ["c"]}
    assert space["units_1"]["when"] == {"n": [2, 3]}
    assert space["units_2"]["when"] == {"n": [3]}


def test_what_depends_on_two_parameters_is_found_too():
    def program(run):
        kind, n = run.ask("kind", KIND), run.ask("n", int_entry(1, 2))
        run.ask("of_kind" if kind == "b" else "of_others", float_entry(0, 1))
        if n == 2:
            run.ask("of_n", float_entry(0, 1))
            if kind == "b":
                run.ask("of_both", float_entry(0, 1))

    space, _ = found(program)
    assert space["of_others"]["when"] == {"kind": ["a", "c"]}
    assert space["of_both"]["when"] in ({"kind": ["b"], "n": [2]}, {"of_kind": [0.0], "n": [2]})


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (
            lambda run, x: run.ask("y", float_entry(0, 1 + x)),
            r"y: float 0 to 1 in one run and float 0 to 2 in another.*",
        ),
        (lambda run, x: x > 0.5 and run.ask("y", float_entry(0, 1)), r"y: asked for only with some values of x;.*"),
    ],
)
def test_what_depends_on_a_float_is_refused_by_name(ask, told):
    def program(run):
        ask(run, run.ask("x", float_entry(0, 1)))

    with pytest.raises(RequestError, match=told + r"give the search space as space="):
        found(program)


def test_either_of_two_conditions_is_no_condition():
    def program(run):
        one, other = run.ask("one", choice_entry(["a", "b"])), run.ask("other", choice_entry(["a", "b"]))
        if "b" in (one, other):
            run.ask("y", float_entry(0, 1))

    with pytest.raises(RequestError, match=r"y: asked for in some runs only.*Allowed: conditions such as"):
        found(program)


def test_a_range_that_depends_on_a_choice_is_refused():
    def program(run):
        run.ask("y", int_entry(0, 5 if run.ask("kind", KIND) == "a" else 9))

    with pytest.raises(RequestError, match="y: int 0 to 5 in one run and int 0 to 9 in another"):
        found(program)


def test_too_many_combinations_are_refused():
    def program(run):
        for i in range(4):
            for j in range(run.ask(f"n{i}", int_entry(0, 3))):
                run.ask(f"x{i}{j}", float_entry(0, 1))

    with pytest.raises(RequestError, match="n0, n1, n2, n3, which have 256 combinations; up to 64 can be tried"):
        found(program)


def test_entries_are_as_optuna_means_them():
    assert int_entry(1, 10, step=4) == {"type": "int", "low": 1, "high": 9, "step": 4}
    assert float_entry(0, 1, step=0.3) == {"type": "float", "low": 0.0, "high": 0.9, "step": 0.3}
    assert float_entry(2, 2) == {"type": "fixed", "value": 2.0}
    assert int_entry(1, 3, step=5) == {"type": "fixed", "value": 1}
    assert choice_entry(["one"]) == {"type": "fixed", "value": "one"}
    assert choice_entry([None, (8, 16), True, 2]) == {"type": "choice", "choices": ["null", "[8, 16]", True, 2]}
    assert choice_value("a\nb") == "'a\\nb'"


def test_names_of_others_become_names_of_a_space():
    assert [parameter_name(name) for name in ("lr", "model.lr", "größe", "1st", "a b", "a..1", "")] == [
        "lr",
        "model.lr",
        "größe",
        "_1st",
        "a_b",
        "a._._1",
        "_",
    ]
    assert len(parameter_name("1" * 300)) == 100
    assert parameter_names(["a/b", "c"]) == {"a/b": "a_b", "c": "c"}
    with pytest.raises(RequestError, match=r"'a/b' and 'a b' would both be called a_b"):
        parameter_names(["a/b", "a b"])
