"""The public names: documented in full, with examples that run."""

from __future__ import annotations

import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import aifs_tune

ROOMS = (
    "aifs_tune",
    "aifs_tune.analysis",
    "aifs_tune.artifacts",
    "aifs_tune.client",
    "aifs_tune.config",
    "aifs_tune.data",
    "aifs_tune.publishing.report",
    "aifs_tune.samplers",
    "aifs_tune.study",
    "aifs_tune.testing",
    "aifs_tune.trainers",
)
SECTIONS = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)


def public() -> list[Any]:
    """Each public function, class and public method of such a class, once."""
    found: dict[str, Any] = {}
    for room in ROOMS:
        module = import_module(room)
        for name in module.__all__:
            thing = getattr(module, name)
            if not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            key = f"{thing.__module__}.{thing.__qualname__}"
            found.setdefault(key, thing)
            if inspect.isclass(thing) and not issubclass(thing, BaseException):
                for method, member in vars(thing).items():
                    if inspect.isfunction(member) and not method.startswith("_"):
                        found.setdefault(f"{key}.{method}", member)
    return [pytest.param(thing, id=key.removeprefix("aifs_tune.")) for key, thing in sorted(found.items())]


def documented(thing: Any) -> tuple[str, dict[str, str]]:
    """The summary and the sections of its docstring."""
    text = inspect.getdoc(thing) or ""
    pieces = SECTIONS.split(text)
    return pieces[0].strip(), dict(zip(pieces[1::2], pieces[2::2], strict=True))


def test_the_front_door_names_all_it_has_and_nothing_else():
    assert dir(aifs_tune) == sorted(aifs_tune.__all__)
    assert all(getattr(aifs_tune, name) is not None for name in aifs_tune.__all__)


@pytest.mark.parametrize("thing", public())
def test_a_public_name_is_documented_in_full(thing):
    summary, sections = documented(thing)
    assert summary.split("\n\n")[0].endswith("."), "the summary is one paragraph that ends with a full stop"
    takes_message = inspect.isclass(thing) and issubclass(thing, BaseException) and "__init__" not in vars(thing)
    parameters = [
        name
        for name, parameter in (() if takes_message else inspect.signature(thing).parameters.items())
        if name != "self" and not name.startswith("_") and parameter.kind is not parameter.VAR_KEYWORD
    ]
    text = sections.get("Parameters", "") + sections.get("Attributes", "")
    heads = re.findall(r"^(\S.*)$", text, re.MULTILINE)
    entries = {name.strip("* ") for head in heads for name in head.split(":")[0].split(",")}
    assert not (missing := [name for name in parameters if name not in entries]), f"not in Parameters: {missing}"
    if inspect.isfunction(thing) and inspect.signature(thing).return_annotation not in (None, "None"):
        assert "Returns" in sections or "Yields" in sections


EXAMPLES = [case for case in public() if ">>>" in (inspect.getdoc(case.values[0]) or "")]


def test_every_public_function_and_class_has_an_example():
    with_one = {case.id for case in EXAMPLES}
    without = [case.id for case in public() if case.id not in with_one and "." not in case.values[0].__qualname__]
    assert not [name for name in without if not name.startswith("errors.")]


@pytest.mark.parametrize("thing", EXAMPLES)
def test_the_example_of_a_public_name_runs(thing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    text = inspect.getdoc(thing) or ""
    example = doctest.DocTestParser().get_doctest(text, {"aifs_tune": aifs_tune}, thing.__qualname__, None, 0)
    said: list[str] = []
    assert runner.run(example, out=said.append).failed == 0, "".join(said)
