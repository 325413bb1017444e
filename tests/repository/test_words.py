"""Retired words: no module, class, function, JSON key or route has a private word where the field has its own."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "aifs_tune"

ANYWHERE = [
    "advising",
    "artefact",
    "artefacts",
    "contender",
    "contenders",
    "crew",
    "desk",
    "dealing",
    "footprint",
    "knob",
    "knobs",
    "leaning",
    "lend",
    "lending",
    "lent",
    "lesson",
    "lessons",
    "likeness",
    "loan",
    "loans",
    "luck",
    "obedient",
    "promise",
    "promises",
    "seat",
    "seats",
    "shelf",
    "shortage",
    "shaping",
    "truths",
    "unaware",
    "course",
    "courses",
]
"""Retired also as a part of a name."""

WHOLE = [
    "Advice",
    "Answer",
    "Answered",
    "Belief",
    "Border",
    "Classes",
    "Course",
    "Expert",
    "Family",
    "FAMILIES",
    "Gate",
    "Guess",
    "Hall",
    "HeldSession",
    "Inherited",
    "Lead",
    "Lean",
    "LeftOut",
    "LEAST_PROMISE",
    "Listener",
    "Meter",
    "Move",
    "Occupied",
    "Pace",
    "Pass",
    "Place",
    "Program",
    "Searched",
    "Silent",
    "Step",
    "StudyLending",
    "StudyReading",
    "StudyWriting",
    "TokenBook",
    "Unaware",
    "Values",
    "advice",
    "answer_test",
    "awaiting",
    "border_of",
    "by_name",
    "cli_doors",
    "cli_elsewhere",
    "confirmed",
    "confirming",
    "divisions",
    "exchange",
    "explored",
    "exploring",
    "forget",
    "fraction",
    "guess",
    "heard",
    "inherited",
    "looking",
    "make_foreign",
    "mixing",
    "one_core",
    "place",
    "plain",
    "put_aside",
    "say",
    "screens",
    "sit",
    "take_aside",
    "told_parts",
    "watch",
]
"""Retired as a whole name; longer names may have the word, such as ``fractional_factorial``."""


def names() -> set[tuple[str, str]]:
    """Each module, class, function, JSON key and route with the file that has it."""
    found: set[tuple[str, str]] = set()
    for file in PACKAGE.rglob("*.py"):
        where = str(file.relative_to(ROOT))
        found.add((file.stem, where))
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.add((node.name, where))
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add((node.target.id, where))  # a field of a dataclass or a pydantic model
            if isinstance(node, ast.Dict):
                found |= {(key.value, where) for key in node.keys if isinstance(key, ast.Constant)}
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.fullmatch(r"(/[\w{}]+)+", node.value)
            ):
                found |= {(piece, where) for piece in re.findall(r"\w+", node.value)}
    return {(name, where) for name, where in found if isinstance(name, str)}


NAMES = names()


@pytest.mark.parametrize("word", ANYWHERE)
def test_no_name_contains_a_retired_word(word):
    parts = {
        (name, where)
        for name, where in NAMES
        if word in re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())
    }
    assert not parts


@pytest.mark.parametrize("word", WHOLE)
def test_no_name_is_a_retired_word(word):
    assert not {(name, where) for name, where in NAMES if name.strip("_") == word}
