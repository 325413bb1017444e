"""Differences of two search spaces, in words."""

from __future__ import annotations

from typing import Any

from aifs_tune._util.scalars import show
from aifs_tune.space.parameters import Parameter
from aifs_tune.space.search_space import Space

MAX_NAMED = 6
"""Largest number of differences that one message names."""
_LONGEST = 80


def differences(now: Space, before: Space) -> str:
    """Return how ``now`` differs from ``before``, parameter by parameter; empty if it does not."""
    found = [f"{name} is new" for name in now.root if name not in before]
    found += [f"{name} is missing" for name in before.root if name not in now]
    for name, parameter in now.items():
        if name in before:
            found += _changes(name, parameter, before[name])
    more = len(found) - MAX_NAMED
    return "; ".join(found[:MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _changes(name: str, now: Parameter, before: Parameter) -> list[str]:
    if type(now) is not type(before):
        return [f"{name}.type is {now.type} and was {before.type}"]
    keys = [key for key in type(now).model_fields if getattr(now, key) != getattr(before, key)]
    return [f"{name}.{key} is {_shown(getattr(now, key))} and was {_shown(getattr(before, key))}" for key in keys]


def _shown(value: Any) -> str:
    if value is None or value in ("", {}, ()):
        return "not given"
    if isinstance(value, tuple):
        text = f"[{', '.join(map(show, value))}]"
    elif isinstance(value, dict):
        text = ", ".join(f"{key}: {_shown(each)}" for key, each in value.items())
    else:
        text = show(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
