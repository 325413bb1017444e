"""Groups of parameters in a search space: written as mappings, read as names with dots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from aifs_tune.config.yaml import Document, KeyPath, dotted
from aifs_tune.errors import SweepFileError
from aifs_tune.space.search_space import Parameter

_KEYS = frozenset(key for kind in get_args(Parameter) for key in kind.model_fields)
"""Keys of the entry of a parameter."""


def flat_space(space: Mapping[str, Any], source: str = "sweep") -> dict[str, Any]:
    """A search space without groups: ``{"model": {"lr": {"type": "float"}}}`` becomes ``{"model.lr": {...}}``.

    A group is a mapping without ``type`` that contains the entry of a parameter with a ``type``, or another group.

    Raises
    ------
    SweepFileError
        If two parameters have the same name then; its source is ``source``.
    """
    flat: dict[str, Any] = {}
    for path, entry in _leaves(space, ()):
        name = dotted(path)
        if name in flat:
            text = "is in the space twice, once with dots and once in a group"
            raise SweepFileError(text, source=source, key=f"space.{name}", allowed="each parameter once")
        flat[name] = entry
    return flat


def without_groups(document: Document, source: str) -> Document:
    """A sweep file whose space has no groups, with the lines of the parameters that were in one."""
    if not isinstance(document.data, dict) or not isinstance(document.data.get("space"), dict):
        return document
    space = document.data["space"]
    assert isinstance(space, dict)
    lines = dict(document.lines)
    for path in (path for path, _ in _leaves(space, ()) if len(path) > 1):
        above: KeyPath = ("space", *path)
        below = {key[len(above) :]: line for key, line in lines.items() if key[: len(above)] == above}
        lines |= {("space", dotted(path), *key): line for key, line in below.items()}
    return Document({**document.data, "space": flat_space(space, source)}, lines)


def _leaves(space: Mapping[str, Any], above: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """The entries of all parameters with their keys, in order."""
    for name, entry in space.items():
        if _is_group(entry):
            yield from _leaves(entry, (*above, name))
        else:
            yield (*above, name), entry


def _is_group(entry: Any) -> bool:
    if not isinstance(entry, Mapping) or "type" in entry:
        return False
    inside = [each for name, each in entry.items() if name not in _KEYS and isinstance(each, Mapping)]
    return any(isinstance(each.get("type"), str) or _is_group(each) for each in inside)
