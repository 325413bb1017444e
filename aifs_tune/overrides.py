"""Overrides of a sweep file's keys: ``search.trials=100``, ``space.dropout=0.3``."""

from __future__ import annotations

from collections.abc import Sequence

from aifs_tune.errors import SweepFileError
from aifs_tune.scalars import brief, did_you_mean, is_same, number, show
from aifs_tune.strict_yaml import Data, KeyPath, dotted, read_yaml

SET = "--set"
"""What an error names as the source of an override."""

LONGEST = 10_000


def apply_overrides(sweep: dict[str, Data], overrides: Sequence[str]) -> frozenset[KeyPath]:
    """Change ``sweep`` in place, in order; returns the keys that were set, and those made on the way.

    Raises
    ------
    SweepFileError
        If an override is not ``key=value``, or its key leads nowhere. Whether the value is allowed is
        for the check of the whole sweep to say.
    """
    return frozenset(path for override in overrides for path in _apply(sweep, override))


def _apply(sweep: dict[str, Data], override: str) -> list[KeyPath]:
    key, equals, text = override.partition("=")
    path: KeyPath = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise SweepFileError(f"{brief(override)} is not key=value", source=SET, allowed="such as search.trials=100")
    value = _value(text, path)
    if path[0] == "space" and len(path) > 1:
        value = _known_parameter(sweep, path, value)
    here, touched = sweep, [path]
    for i, part in enumerate(path[:-1], start=1):
        if here.get(str(part)) is None:
            touched.append(path[:i])
        here = _inside(here, str(part), path[:i])
    here[str(path[-1])] = value
    return touched


def _value(text: str, path: KeyPath) -> Data:
    if len(text) > LONGEST:
        raise _refusal(path, f"{len(text)} characters", f"at most {LONGEST}")
    try:
        value = read_yaml(text, source=SET).data
    except SweepFileError as error:
        raise _refusal(path, f"{brief(text)}: {error.problem}", error.allowed or "a value as YAML has it") from None
    if isinstance(value, list | dict) and text.lstrip()[:1] not in ("[", "{"):
        raise _refusal(path, brief(text), "a value, [a, list] or {a: mapping}; text with ': ' or '- ' in quotes")
    return value


def _inside(parent: dict[str, Data], key: str, path: KeyPath) -> dict[str, Data]:
    """The mapping under ``key``; made where there is none, spelled out where the file has the short form."""
    value = parent.get(key)
    if value is None:
        value = {}
    elif path == ("trainer",) and isinstance(value, str):
        value = {"name": value}
    elif path[0] == "space" and len(path) == 2 and not isinstance(value, list | dict):
        value = {"type": "fixed", "value": value}
    if not isinstance(value, dict):
        raise _refusal(path, f"{brief(value)} has no keys of its own", "to set it as a whole")
    parent[key] = value
    return value


def _known_parameter(sweep: dict[str, Data], path: KeyPath, value: Data) -> Data:
    """``value``, or what stands for it when it fixes a parameter; refuses to start a parameter by a typing error."""
    space, name = sweep.get("space"), str(path[1])
    if not isinstance(space, dict):
        return value
    if name not in space:
        if len(path) == 2 and isinstance(value, dict) and "type" in value:
            return value
        raise _refusal(
            path,
            f"no parameter {brief(name)}{did_you_mean(name, list(space))}",
            f"{', '.join(space)}; or a new one as a whole, {{type: fixed, value: ...}}",
        )
    entry = space[name]
    if len(path) > 2 or not isinstance(entry, dict) or isinstance(value, list | dict):
        return value
    kept = {key: kept for key, kept in entry.items() if key in ("when", "unit", "description")}
    return {"type": "fixed", "value": _of_kind(entry, path, value), **kept}


def _of_kind(entry: dict[str, Data], path: KeyPath, value: Data) -> Data:
    """``value`` as the kind of value that the parameter had; a number may leave the range it was searched in."""
    real, choices = number(value), entry.get("choices")
    if entry.get("type") == "float":
        if real is None:
            raise _refusal(path, f"{brief(value)} is not a number", "a number, which fixes the parameter")
        return float(real)
    if entry.get("type") == "int" and not isinstance(real, int):
        raise _refusal(path, f"{brief(value)} is not a whole number", "a whole number, which fixes the parameter")
    if not isinstance(choices, list) or any(is_same(value, choice) for choice in choices):
        return value
    if real is None or all(number(choice) is None for choice in choices):
        raise _refusal(path, f"{brief(value)} is not a choice", f"one of {', '.join(map(show, choices))}")
    return value


def _refusal(path: KeyPath, problem: str, allowed: str) -> SweepFileError:
    return SweepFileError(problem, source=SET, key=dotted(path), allowed=allowed)
