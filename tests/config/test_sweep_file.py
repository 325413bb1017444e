"""Sweep files: what is read, what is refused and in which words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from strategies import space_entries
from sweep_text import BASE, refusal

from aifs_tune.config.loading import (
    MAX_FILE_BYTES,
    find_sweep_file,
    json_schema,
    load_sweep_file,
    parse_sweep,
    shipped_sweep_files,
)
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import NotFoundError, RequestError, SweepFileError
from aifs_tune.space.parameters import FixedParameter, FloatParameter


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


def test_a_sweep_file_becomes_a_spec(file: Path) -> None:
    spec = load_sweep_file(file)
    assert spec.trainer is not None
    assert (spec.name, spec.trainer.name, spec.search.trials) == ("base", "cnn", 5)
    assert spec.space["rate"] == FloatParameter(low=1e-5, high=1e-2, log=True, default=1e-4, unit="step")
    assert spec.space["width"] == FixedParameter(value=3)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(space_entries())
def test_any_space_survives_a_file(tmp_path: Path, space: dict[str, object]) -> None:
    given = parse_sweep({"name": "x", "space": space})
    path = tmp_path / "sweep.yaml"
    path.write_text(json.dumps(given.model_dump(mode="json"), ensure_ascii=False), encoding="utf-8")
    assert load_sweep_file(path) == given
    assert parse_sweep(given.model_dump(mode="json")) == given


GROUPS = """
name: groups
constraints: ["model.lr + model.head.width < 9"]
space:
  model:
    lr: {type: float, low: 0.001, high: 1, log: true}
    head: {width: {type: int, low: 1, high: 8}, kind: linear}
  optimizer.name: {type: choice, choices: [adam, sgd]}
  optimizer: {momentum: {type: float, low: 0, high: 1, when: {optimizer.name: sgd}}}
"""


def test_a_group_of_parameters_is_read_as_names_with_dots(tmp_path: Path) -> None:
    path = tmp_path / "groups.yaml"
    path.write_text(GROUPS)
    space = load_sweep_file(path).space
    assert list(space.root) == [
        "model.lr",
        "model.head.width",
        "model.head.kind",
        "optimizer.name",
        "optimizer.momentum",
    ]
    changed = load_sweep_file(
        path, ["space.model.lr.high=0.1", "space.model.head.width=3", "space.model.wd={type: float, low: 0, high: 1}"]
    ).space
    assert changed["model.lr"] == FloatParameter(low=0.001, high=0.1, log=True)
    assert changed["model.head.width"] == FixedParameter(value=3)
    assert changed["model.wd"] == FloatParameter(low=0, high=1)
    jsonschema.validate(yaml.safe_load(GROUPS), json_schema())
    with pytest.raises(SweepFileError, match="no parameter 'modle', did you mean model"):
        load_sweep_file(path, ["space.modle.lr=0.1"])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("low: 1, high: 8", "low: 9, high: 8", r"7: space\.model\.head\.width\.high: 8 is not greater"),
        (
            "optimizer.name: sgd",
            "optimizer.nam: sgd",
            r"9: space\.optimizer\.momentum\.when\.optimizer\.nam: no earlier",
        ),
        ("optimizer: {momentum", "optimizer: {name", r"space\.optimizer\.name: is in the space twice"),
        ("{type: float, low: 0.001, high: 1, log: true}", "{low: 1, high: 2}", r"6: space\.model\.lr\.type: missing"),
        (
            "kind: linear",
            "'ki nd': linear",
            r"7: space\.model\.head\.ki nd: 'model\.head\.ki nd' is not a name because of ' '",
        ),
    ],
)
def test_a_problem_in_a_group_is_told_with_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "groups.yaml"
    assert old in GROUPS
    path.write_text(GROUPS.replace(old, new))
    with pytest.raises(SweepFileError, match=words):
        load_sweep_file(path)


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as stream:
        stream.truncate(50_000_000)
    with pytest.raises(SweepFileError, match="larger than 256 KiB"):
        load_sweep_file(path)
    path.write_text(BASE + "#" * (MAX_FILE_BYTES - len(BASE)))
    assert load_sweep_file(path).name == "base"
    path.write_text(BASE + "#" * (MAX_FILE_BYTES - len(BASE) + 1))
    with pytest.raises(SweepFileError, match="larger than"):
        load_sweep_file(path)


@pytest.mark.timeout(20)
def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.yaml"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, Path("/dev/zero")):
        with pytest.raises(SweepFileError, match=r"not a regular file|directory"):
            load_sweep_file(path)


def test_text_must_be_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(BASE.encode() + b"description: caf\xe9\n")
    with pytest.raises(SweepFileError, match=r"latin.yaml:14: byte 0xe9 is not UTF-8; allowed: text in UTF-8"):
        load_sweep_file(path)
    path.write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert load_sweep_file(path).name == "base"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("low: 1e-5", "low: tiny", "6: space.rate.low: 'tiny' is not a number; allowed: a number above 0 because log"),
        ("low: 1e-5", "low: -1", "6: space.rate.low: -1 has no logarithm; allowed: a number above 0 because log"),
        ("low: 1e-5", "lwo: 1e-5", "6: space.rate.lwo: unknown key 'lwo', did you mean low?; allowed: type, low, "),
        ("type: float, ", "", "6: space.rate.type: missing; allowed: float, int, choice or fixed"),
        ("type: float, ", "type: flaot, ", "6: space.rate.type: 'flaot' is not a parameter type, did you mean float?"),
        ("log: true", "log: yes", "6: space.rate.log: 'yes' is not true or false; allowed: true or false"),
        ("log: true", "log: true, step: 1", "6: space.rate.step: 1 cannot be combined with log: true"),
        ("unit: step", "unit: 3", "6: space.rate.unit: 3 is not text; allowed: text of at most 40 characters"),
        ("default: 1e-4", "default: 1", "6: space.rate.default: 1 is out of range; allowed: a number from 1e-05 to"),
        ("default: 1e-4", "default: 1e-4, prior: 1", "6: space.rate.prior: 1 is out of range; allowed: a number from"),
        ("[adam, sgd]", "[]", "7: space.optimizer.choices: [] has too few entries; allowed: a list of 1 or more"),
        ("[adam, sgd]", "adam", "7: space.optimizer.choices: 'adam' is not a list; allowed: a list of 1 or more"),
        ("[adam, sgd]", "[adam, {x: 1}]", "7: space.optimizer.choices.1: {'x': 1} is not a valid parameter value"),
        (
            "[adam, sgd]",
            "[1, true]",
            "7: space.optimizer.choices.1: true is equal to the earlier choice 1; allowed: different",
        ),
        ("high: 0.9", "high: .nan", "11: space.momentum.high: nan is not a finite number; allowed: a number"),
        ("high: 0.9", "high: 1e999", "11: space.momentum.high: inf is not a finite number; allowed: a number"),
        ("optimizer: sgd", "optimizer: rms", "12: space.momentum.when.optimizer: 'rms' is not a value of optimizer;"),
        ("optimizer: sgd", "width: 3", "12: space.momentum.when.width: no earlier parameter has this name;"),
        ("{optimizer: sgd}", "sgd", "12: space.momentum.when: 'sgd' is not a mapping; allowed: a mapping"),
        (
            "width: 3",
            "width:",
            "13: space.width: no value given; allowed: true, false, a number, text, a mapping with type",
        ),
        ("width: 3", "width: [3, 5]", "13: space.width: [3, 5] may be choices or one value; allowed: {type: choice, c"),
        (
            "width: 3",
            "wi dth: 3",
            "13: space.wi dth: 'wi dth' is not a name because of ' '; allowed: at most 100 letters of any alphabet",
        ),
        ("trials: 5", "trials: 0", "4: search.trials: 0 is too small; allowed: a whole number from 1 to 1000000"),
        ("trials: 5", "trials: five", "4: search.trials: 'five' is not a whole number; allowed: a whole number from"),
        ("trials: 5", "trials: true", "4: search.trials: True is not a whole number; allowed: a whole number from"),
        ("trials: 5", "trails: 5", "4: search.trails: unknown key 'trails', did you mean trials?; allowed: sampler, "),
        (
            "trials: 5",
            "sampler: tpee",
            "4: search.sampler: 'tpee' is not allowed, did you mean tpe?; allowed: aifs, tpe, gp, ",
        ),
        ("trials: 5", "timeout_s: 0", "4: search.timeout_s: 0 is too small; allowed: a number above 0"),
        (
            "\n  trials: 5",
            " {grace_epochs: 9, epochs: 8}",
            "3: search.grace_epochs: 9 is greater than epochs (8); allowed: a whole",
        ),
        ("trials: 5", "reduction_factor: 1", "4: search.reduction_factor: 1 is too small; allowed: a number above 1"),
        (
            "trainer: cnn",
            "trainer: c n n",
            "2: trainer: 'c n n' is not allowed; allowed: a trainer's name or module:function or a",
        ),
        (
            "trainer: cnn",
            "trainer: [cnn]",
            "2: trainer: ['cnn'] is not a mapping; allowed: a trainer's name or module:function",
        ),
        ("trainer: cnn", "version: 2", "2: version: 2 is too large; allowed: 1"),
        ("trainer: cnn", "version: true", "2: version: True is not a whole number; allowed: 1"),
        ("trainer: cnn", "objective: {mode: best}", "2: objective.mode: 'best' is not allowed; allowed: max or min"),
        ("trainer: cnn", "objective: {metric: ''}", "2: objective.metric: '' is too short; allowed: text of at most"),
        ("trainer: cnn", "objective: {metric: }", "2: objective.metric: no value given; allowed: text of at most"),
        (
            "trainer: cnn",
            "resources: {gpu: 65}",
            "2: resources.gpu: 65 is too large; allowed: a number from 0 to 64 or auto",
        ),
        (
            "trainer: cnn",
            "resources: {gpu: 1.5}",
            "2: resources.gpu: 1.5 is neither a fraction of one GPU nor a whole number; allowed: 0 to 1, 2, 3, ..., a",
        ),
        (
            "trainer: cnn",
            "resources: {gpu: all}",
            "2: resources.gpu: 'all' is not a number; allowed: a number from 0 to 64 or auto",
        ),
        (
            "trainer: cnn",
            "resources: {growth_mb: 0}",
            "2: resources.growth_mb: 0 is too small; allowed: a number above 0",
        ),
        ("trainer: cnn", "data: {range16: [1, x]}", "2: data.range16.1: 'x' is not a number; allowed: a number"),
        ("trainer: cnn", "data: {range16: 3}", "2: data.range16: 3 is not allowed; allowed: auto or a list of 2"),
        ("trainer: cnn", "data: {range16: [9, 3]}", "2: data.range16: [9, 3] is not increasing; allowed: auto, or two"),
        ("trainer: cnn", "data: {folder: 3}", "2: data.folder: 3 is not a path; allowed: a path"),
        ("trainer: cnn", "data: {group_by: '('}", "2: data.group_by: '(' is not a regular expression (missing )"),
        ("trainer: cnn", "data: {split: {val: .7, test: .3}}", "2: data.split.val: 0.7 and test 0.3 leave nothing to"),
        ("name: base", "name: Base", "1: name: 'Base' is not allowed; allowed: 1 to 63 lower-case letters, digits,"),
        ("name: base\n", "", "1: name: missing; allowed: 1 to 63 lower-case letters, digits, '-' and '_'"),
        ("name: base", "naem: base", "1: naem: unknown key 'naem', did you mean name?; allowed: version, name, "),
    ],
)
def test_an_error_names_line_key_value_and_what_is_allowed(file: Path, old: str, new: str, words: str) -> None:
    error = refusal(file, BASE.replace(old, new, 1))
    assert str(error).startswith(f"{file}:{words}")
    assert "Input should" not in str(error)


def test_all_problems_are_told_at_once(file: Path) -> None:
    error = refusal(file, BASE.replace("low: 1e-5", "low: tiny").replace("trials: 5", "trials: 0"))
    assert [line.split(": ")[1] for line in str(error).splitlines()] == ["search.trials", "space.rate.low"]
    assert error.key == "search.trials"
    many = refusal(file, "name: a\nspace:\n" + "\n".join(f"  x{i}: []" for i in range(30)))
    assert str(many).splitlines()[-1] == "10 of 30 problems shown"


def test_a_long_value_is_cut(file: Path) -> None:
    error = refusal(file, BASE.replace("trials: 5", f"trials: {'x' * 5000}"))
    assert len(str(error)) < len(str(file)) + 200


def test_plain_data_is_checked_like_a_file() -> None:
    with pytest.raises(SweepFileError, match=r"^sweep: space\.x\.low: 'a' is not a number; allowed: a number$"):
        parse_sweep({"name": "x", "space": {"x": {"type": "float", "low": "a", "high": 1}}})
    with pytest.raises(SweepFileError, match="space: missing"):
        parse_sweep({"name": "x"})
    with pytest.raises(SweepFileError, match=r"data\.folder: 'a\\x00b' has control characters"):
        parse_sweep({"name": "x", "space": {"x": 1}, "data": {"folder": "a\0b"}})


def test_a_file_is_found_by_path_or_by_shipped_name(file: Path) -> None:
    assert find_sweep_file(file) == file
    assert find_sweep_file("quick_sky").name == "quick_sky.yaml"
    assert load_sweep_file("quick_sky").name == "quick-sky"


@pytest.mark.parametrize("name", ["no_such", "no_such.yaml", "../quick_sky", "a\0b", "x" * 9000, ""])
def test_what_is_not_there_is_answered_with_what_is(name: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        find_sweep_file(name)
    assert all(shipped in str(caught.value) for shipped in shipped_sweep_files())
    assert isinstance(caught.value, RequestError)


def test_the_schema_names_every_key() -> None:
    schema = json_schema()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert set(schema["properties"]) == set(SweepSpec.model_fields)
    assert schema["additionalProperties"] is False


def test_reading_a_sweep_file_loads_nothing_heavy() -> None:
    heavy = ("tensorflow", "ray", "optuna", "sklearn", "pandas", "numpy")
    code = (
        "import sys; from aifs_tune.config.loading import load_sweep_file; load_sweep_file('quick_sky');"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("text", ["a\x1b[31mred", "bell\x07", "\x9b31m", "\x85", "\ud800"])
@pytest.mark.parametrize("key", ["description", "space.x.description", "space.x.unit"])
def test_text_that_no_sweep_file_can_hold_is_refused_from_python_too(text, key):
    sweep = {"name": "d", "objective": {"metric": "value"}, "space": {"x": {"type": "float", "low": 0, "high": 1}}}
    owner = sweep
    for part in key.split(".")[:-1]:
        owner = owner[part]
    owner[key.rpartition(".")[2]] = text
    with pytest.raises(SweepFileError, match=rf"sweep: {key}: .*(control character|'.ud800' is not allowed)"):
        parse_sweep(sweep)
