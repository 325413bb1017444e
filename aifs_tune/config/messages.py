"""Translation of pydantic's validation errors to plain words: the key, the value and what is allowed.

What is allowed is read from the JSON Schema of the model, so messages always agree with the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from aifs_tune._util.scalars import MAX_FLOAT, MAX_INT, brief, did_you_mean, show
from aifs_tune.config.yaml import KeyPath, key_path

_SAID = {
    "float_type": "is not a number",
    "float_parsing": "is not a number",
    "int_type": "is not a whole number",
    "int_from_float": "is not a whole number",
    "bool_type": "is not true or false",
    "string_type": "is not text",
    "path_type": "is not a path",
    "tuple_type": "is not a list",
    "dict_type": "is not a mapping",
    "model_type": "is not a mapping",
    "model_attributes_type": "is neither a value nor a mapping",
    "finite_number": "is not a finite number",
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than": "is too large",
    "less_than_equal": "is too large",
    "string_too_short": "is too short",
    "string_too_long": "is too long",
    "too_short": "has too few entries",
    "too_long": "has too many entries",
}
_TYPES = ("float", "int", "choice", "fixed")


class ValidationProblem(NamedTuple):
    """One problem in the given data."""

    path: KeyPath
    problem: str
    allowed: str


def validation_problems(
    error: ValidationError, given: object, schema: Mapping[str, Any], *, most: int
) -> list[ValidationProblem]:
    """Return at most ``most`` problems of ``given``, one per key.

    ``schema`` is the JSON Schema of the model that ``given`` was validated with.
    """
    by_path: dict[KeyPath, ValidationProblem] = {}
    # Missing keys come last: often such a key is present but misspelt.
    every = sorted(error.errors(include_url=False), key=lambda details: details["type"] == "missing")
    for details in every[: 3 * most]:
        found = _validation_problem(details, given, schema)
        by_path.setdefault(found.path, found)
    # If a value matches none of several forms, the deepest key is the most precise.
    shallow = {path[:i] for path in by_path for i in range(len(path))}
    return [found for path, found in by_path.items() if path not in shallow][:most]


def _validation_problem(details: ErrorDetails, given: object, schema: Mapping[str, Any]) -> ValidationProblem:
    kind, context, value = details["type"], details.get("ctx", {}), details["input"]
    path = _path_of(details["loc"], given, keeps_last=kind == "missing")
    if kind == "aifs_tune":
        return ValidationProblem(_below(path, context["key"], given), context["text"], context["allowed"])
    if kind == "extra_forbidden":
        forms = _nodes_at(path[:-1], given, schema)
        keys = list(dict.fromkeys(key for form in forms for key in form.get("properties", {})))
        return ValidationProblem(path, f"unknown key {brief(path[-1])}{did_you_mean(path[-1], keys)}", ", ".join(keys))
    if kind in ("union_tag_not_found", "union_tag_invalid") and not isinstance(value, Mapping):
        kind = "model_attributes_type"  # such as a distribution of another tuner, which has attributes
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tag = value.get("type")
        said = "missing" if tag is None else f"{brief(tag)} is not a parameter type{did_you_mean(tag, _TYPES)}"
        return ValidationProblem((*path, "type"), said, _any_of(_TYPES))
    allowed = _allowed(path, given, schema)
    if kind == "missing":
        return ValidationProblem(path, "missing", allowed)
    said = "no value given" if value is None else f"{brief(value)} {_SAID.get(kind, 'is not allowed')}"
    if isinstance(value, str):
        said += did_you_mean(value, _words_at(path, given, schema))
    return ValidationProblem(path, said, allowed)


def _path_of(location: Sequence[str | int], given: object, *, keeps_last: bool) -> KeyPath:
    """Return pydantic's location without the names of union members, which are not keys of ``given``."""
    path: list[str | int] = []
    for i, part in enumerate(location):
        if _has(given, part):
            given = given[part]  # type: ignore[index]
            path.append(part)
        elif keeps_last and i == len(location) - 1:
            path.append(part)
    return tuple(path)


def _has(given: object, part: object) -> bool:
    if isinstance(given, Mapping):
        return part in given
    return isinstance(given, list | tuple) and isinstance(part, int) and part < len(given)


def _below(path: KeyPath, key: str, given: object) -> KeyPath:
    return (*path, *key_path(key, _value_at(path, given))) if key else path


def _value_at(path: KeyPath, given: object) -> object:
    for part in path:
        given = given[part] if _has(given, part) else None  # type: ignore[index]
    return given


def _leaves(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Iterate over the alternatives of ``node``, with references resolved and without null."""
    if "$ref" in node:
        yield from _leaves(schema["$defs"][node["$ref"].rsplit("/", 1)[-1]], schema)
    elif alternatives := node.get("anyOf") or node.get("oneOf"):
        for alternative in alternatives:
            yield from _leaves(alternative, schema)
    elif node.get("type") != "null":
        yield node


def _nodes_at(path: KeyPath, given: object, schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Iterate over the forms that the schema allows at ``path``; of parameter types, only the one given."""
    nodes = [schema]
    for i, part in enumerate(path):
        here = _value_at(path[:i], given)
        nodes = [child for node in nodes for leaf in _leaves(node, schema) for child in _children(leaf, part, here)]
    for node in nodes:
        yield from _fitting(_leaves(node, schema), _value_at(path, given))


def _fitting(leaves: Iterator[Mapping[str, Any]], given: object) -> Iterator[Mapping[str, Any]]:
    return (leaf for leaf in leaves if not isinstance(given, Mapping) or _is_of_type(leaf, given))


def _is_of_type(leaf: Mapping[str, Any], given: Mapping[Any, Any]) -> bool:
    tag = leaf.get("properties", {}).get("type", {}).get("const")
    return tag is None or given.get("type") in (None, tag)


def _children(leaf: Mapping[str, Any], part: str | int, here: object) -> list[Mapping[str, Any]]:
    if isinstance(here, Mapping) and not _is_of_type(leaf, here):
        return []
    if isinstance(part, int):
        return [leaf["prefixItems"][part]] if "prefixItems" in leaf else [leaf["items"]] if "items" in leaf else []
    others = [*leaf.get("patternProperties", {}).values(), leaf.get("additionalProperties")]
    return [child for child in [leaf.get("properties", {}).get(part), *others] if isinstance(child, Mapping)][:1]


def _words_at(path: KeyPath, given: object, schema: Mapping[str, Any]) -> list[str]:
    """The words that are allowed at ``path``."""
    found: list[str] = []
    for node in _nodes_at(path, given, schema):
        listed = str(node.get("description", "")) if "pattern" in node else ""
        found += [word for word in listed.replace(" or ", ", ").split(", ") if word.isidentifier()]
        found += [word for word in node.get("enum", ()) if isinstance(word, str)]
    return found


def _allowed(path: KeyPath, given: object, schema: Mapping[str, Any]) -> str:
    if path[-1:] in {("low",), ("high",)} and _value_at((*path[:-1], "log"), given) is True:
        return "a number above 0 because log is true"
    phrases = list(dict.fromkeys(_phrase(node) for node in _nodes_at(path, given, schema)))
    if "a number" in phrases and "a whole number" in phrases:
        phrases.remove("a whole number")
    return _any_of(phrases)


def _any_of(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _phrase(node: Mapping[str, Any]) -> str:
    """Describe one form of a value: ``a whole number from 1 to 100``, ``max or min``."""
    if "const" in node:
        return show(node["const"])
    if "minimum" in node and node["minimum"] == node.get("maximum"):
        return show(node["minimum"])
    if "enum" in node:
        return _any_of([show(value) for value in node["enum"]])
    kind = node.get("type")
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _bounds(node)
    if kind == "string":
        return str(node.get("description") or "text") if "pattern" in node else _text(node)
    if kind == "array":
        size = node.get("minItems", 0)
        more = "" if size == node.get("maxItems") else " or more"
        return f"a list of {size}{more} {'value' if size == 1 and not more else 'values'}" if size else "a list"
    if "type" in node.get("properties", {}):
        return f"a mapping with type: {_any_of(_TYPES)}"
    if "properties" in node:
        return f"a mapping with some of {', '.join(node['properties'])}"
    if kind == "object":
        return "a mapping" + (" of at least one entry" if node.get("minProperties") else "")
    return "true or false" if kind == "boolean" else "another value"


def _text(node: Mapping[str, Any]) -> str:
    longest = f" of at most {node['maxLength']} characters" if "maxLength" in node else ""
    return "a path" if node.get("format") == "path" else "text" + longest


def _bounds(node: Mapping[str, Any]) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if (low, high) == (-MAX_INT, MAX_INT):
        return " from -2**53 to 2**53"
    if (low, high) == (-MAX_FLOAT, MAX_FLOAT):
        return ""
    if low is not None and high is not None:
        return f" from {show(low)} to {show(high)}"
    words = (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    )
    bounds = [f"{word} {show(node[key])}" for key, word in words if key in node]
    return f" {' and '.join(bounds)}" if bounds else ""
