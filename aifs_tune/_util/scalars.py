"""Scalars, the values of parameters: conversion, comparison and display."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias

from pydantic_core import PydanticCustomError

Scalar: TypeAlias = bool | int | float | str
"""Value of a parameter: null and lists are a :class:`JsonText` in the program and in storage."""

MAX_INT = 2**53
"""Largest integer that is exact as a floating-point number, the form in which Optuna stores it."""
MAX_FLOAT = 1e300
MAX_TEXT_LENGTH = 200
MAX_LIST_LENGTH = 1000
"""Largest length of a list that is a value of a parameter, in characters of JSON."""


class JsonText(str):
    """Null or a list as the value of a parameter: its JSON text, such as ``[3, 3]``.

    A text can be compared, hashed and stored like any other choice. :func:`decoded` returns the value itself, which is
    what a trial, its function and all output have.
    """


def coded(value: Any) -> Any:
    """Return None, a list or a tuple as :class:`JsonText`; any other value as it is."""
    return JsonText(json.dumps(value)) if value is None or isinstance(value, list | tuple) else value


def decoded(value: Any) -> Any:
    """Return what a :class:`JsonText` stands for, with tuples as lists; any other value as it is."""
    return json.loads(value) if isinstance(value, JsonText) else value


def coded_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with each value :func:`coded`, so that it can be compared and hashed."""
    return {name: coded(value) for name, value in params.items()}


def decoded_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with each value :func:`decoded`."""
    return {name: decoded(value) for name, value in params.items()}


def problem(key: str, text: str, allowed: str) -> PydanticCustomError:
    """Build a validation error about ``key``, a dotted path below the value that is being checked."""
    return PydanticCustomError(
        "aifs_tune", "{key}: {text}; allowed: {allowed}", {"key": key, "text": text, "allowed": allowed}
    )


def show(value: object) -> str:
    """Format a value as a sweep file writes it: ``true``, ``1e-05``, ``adam``, ``null``, ``[3, 3]``."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(coded(value))


def brief(value: object) -> str:
    """Return the ``repr`` of a value from outside, shortened to 80 characters."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def did_you_mean(key: object, known: Sequence[str]) -> str:
    """Return ``", did you mean x?"`` with the nearest of ``known``, or an empty text if none is near."""
    near = difflib.get_close_matches(str(key)[:100], known, n=1)
    return f", did you mean {near[0]}?" if near else ""


def is_same(one: object, other: object) -> bool:
    """Whether two values are equal; ``True`` and ``1`` are not, ``1`` and ``1.0`` are, also in lists."""
    one, other = coded(one), coded(other)
    if isinstance(one, JsonText) and isinstance(other, JsonText):
        return one == other or _are_same_items(decoded(one), decoded(other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, str) or isinstance(other, str):
        return isinstance(one, str) and isinstance(other, str) and one == other
    return number(one) is not None and number(one) == number(other)


def _are_same_items(one: object, other: object) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_are_same_items, one, other))
    if isinstance(one, list) or isinstance(other, list):
        return False
    return is_same(one, other) if one is not None and other is not None else one is other


def number(value: object) -> int | float | None:
    """Convert a number of any library to int or float; return None for anything else, including booleans."""
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return int(value) if abs(int(value)) <= MAX_INT else None
    return float(value) if isinstance(value, Real) and abs(float(value)) <= MAX_FLOAT else None


def without_numpy(value: Any) -> Any:
    """Return ``value`` with a range, an array or a column of a table as a list, and a number of NumPy as Python's."""
    if isinstance(value, range):
        return list(value)
    return value.tolist() if callable(getattr(value, "tolist", None)) else value


def number_in(value: Any) -> Any:
    """Return a number of any library, or text that is one, as int or float; anything else as it is.

    A whole number is an int. Readers of YAML 1.1 take ``1e-4`` for text, as it has no dot.
    """
    value = without_numpy(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    if isinstance(value, Integral):
        return int(value)
    real = float(value)
    return int(real) if abs(real) <= MAX_INT and real.is_integer() else real


_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def scalar(value: object) -> Scalar:
    """Return ``value`` as a parameter has it, null and lists as :class:`JsonText`; a validation error if none can."""
    if isinstance(value, JsonText):
        return value
    plain = _json_value(value)
    text = json.dumps(plain) if plain is None or isinstance(plain, list) else ""
    if len(text) > MAX_LIST_LENGTH:
        text = f"a list of {len(text)} characters"
        raise problem("", f"{text} is not a valid parameter value", f"lists of at most {MAX_LIST_LENGTH} characters")
    return JsonText(text) if text else plain


def _json_value(value: Any) -> Any:
    """Return ``value`` as JSON has it, with lists for tuples and arrays."""
    value = without_numpy(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, list | tuple):
        return [_json_value(each) for each in value]
    if isinstance(value, str) and len(value) <= MAX_TEXT_LENGTH and value.isprintable():
        return str(value)
    found = number(value)
    if found is None:
        allowed = (
            f"true, false, null, a number (integers up to 2**53), printable text of at most {MAX_TEXT_LENGTH} "
            "characters, or a list of these"
        )
        if isinstance(value, Mapping):
            allowed += "; for mappings, let the choices be names and look these up"
        raise problem("", f"{brief(value)} is not a valid parameter value", allowed)
    return found
