"""The strict subset of YAML: what it means, and what is refused before anything is built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import texts
from sweep_text import BASE, refusal

from aifs_tune.config import yaml as strict_yaml
from aifs_tune.config.yaml import read_yaml


def test_scalars_follow_yaml_1_2() -> None:
    text = "[1e-4, 1.0e-4, .5, 5., -3, 0x1f, 0o17, 010, true, yes, No, on, ~, 1_000, '3', 12:30, .inf, 2026-01-01]"
    expected = [1e-4, 1e-4, 0.5, 5.0, -3, 31, 15, 10, True, "yes", "No", "on", None, "1_000", "3", "12:30"]
    data = read_yaml(text, source="x").data
    assert data == [*expected, float("inf"), "2026-01-01"]
    assert isinstance(data, list)
    assert [type(value) for value in data[:16]] == [type(value) for value in expected]


WORDS = texts.filter(lambda text: "Infinity" not in text)  # which JSON as Python writes it has for a number


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats(allow_nan=False) | WORDS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
        max_leaves=12,
    )
)
def test_json_is_read_as_json_means_it(data: object) -> None:
    assert read_yaml(json.dumps(data, ensure_ascii=False).replace("Infinity", ".inf"), source="x").data == data


@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
def test_both_parsers_read_the_same(monkeypatch: pytest.MonkeyPatch, loader: str) -> None:
    monkeypatch.setattr(strict_yaml, "_LOADER", getattr(yaml, loader))
    document = read_yaml(BASE, source="x")
    assert document.data == yaml.safe_load(BASE.replace("1e-5", "0.00001").replace("1e-4", "0.0001"))
    assert document.lines[("space", "momentum", "high")] == 11
    assert document.lines[("space", "optimizer", "choices", 1)] == 7


HOSTILE = {
    "python tag": "name: !!python/object/apply:os.system ['touch owned']",
    "python name": "name: !!python/name:os.system ''",
    "own tag": "%TAG ! tag:example.org,2000:\n---\nname: !thing x",
    "standard tag": "name: !!str x",
    "anchor": "name: &a x",
    "alias": "a: 1\nname: *a",
    "alias bomb": "a: &a [x, x]\n"
    + "\n".join(f"{b}: &{b} [*{a}, *{a}]" for a, b in ["ab", "bc", "cd", "de", "ef", "fg"]),
    "merge with alias": "a: &a {x: 1}\n<<: *a",
    "tagged key": "!!str name: x",
    "list as key": "? [name]\n: x",
    "duplicate key": "name: a\nname: b",
    "duplicate key below": "name: a\nspace:\n  x: 1\n  x: 2",
    "two documents": "name: a\n---\nname: b",
    "many documents": "---\n" * 60_000,
    "deep brackets": "[" * 200_000,
    "deep braces": "{a: " * 60_000,
    "deep blocks": "\n".join("  " * i + "a:" for i in range(200)),
    "deep dashes": "- " * 100_000,
    "open quotes": '"' * 200_000,
    "many values": "a: [" + "1," * 100_000 + "]",
    "many keys": "\n".join(f"k{i}: 1" for i in range(20_000)),
    "long number": "a: " + "9" * 200_000,
    "long key": "? " + "k" * 200_000 + "\n: 1",
    "not closed": "a: [1, 2",
    "tab": "a:\n\tb: 1",
    "list on top": "- name",
    "text on top": "name",
    "nothing": "",
    "comment only": "# nothing\n",
    "NUL": "name: a\0b",
    "bell": "name: a\x07b",
    "escaped NUL": 'name: "a\\0b"',
    "escaped surrogate": 'name: "\\ud800"',
    "regular expression": "name: a\nspace: {x: 1}\ndata: {group_by: '" + "(" * 100_000 + "'}",
    "too many problems": "name: a\nspace:\n" + "\n".join(f"  x{i}: []" for i in range(4000)),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, loader: str) -> None:
    monkeypatch.setattr(strict_yaml, "_LOADER", getattr(yaml, loader))
    monkeypatch.chdir(tmp_path)
    error = refusal(tmp_path / "hostile.yaml", text)
    assert error.source.endswith("hostile.yaml")
    assert error.line is not None
    assert len(str(error)) < 4000
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("name: a\nspace:\n  x: !!float 3", 3, "space.x"),
        ("name: a\nspace:\n  x: &one 3", 3, "space.x"),
        ("name: a\nspace:\n  x: 1\n  y: 2\n  x: 3", 5, "space.x"),
        ('name: a\nspace:\n  x:\n    choices:\n      - "\\0"', 5, "space.x.choices.0"),
        ("name: a\n\n\n---\nname: b", 4, ""),
        ("name: a\nspace: \x01", 2, ""),
    ],
)
def test_a_refusal_names_line_and_key(tmp_path: Path, text: str, line: int, key: str) -> None:
    error = refusal(tmp_path / "hostile.yaml", text)
    assert (error.line, error.key) == (line, key)
    assert error.allowed
