"""Scalars, the values of parameters: conversion, comparison and display."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TypeAlias

from pydantic_core import PydanticCustomError

Scalar: TypeAlias = bool | int | float | str
"""Value of a parameter."""

MAX_INT = 2**53
"""Largest integer that is exact as a floating-point number, the form in which Optuna stores it."""
MAX_FLOAT = 1e300
MAX_TEXT_LENGTH = 200


def problem(key: str, text: str, allowed: str) -> PydanticCustomError:
    """Build a validation error about ``key``, a dotted path below the value that is being checked."""
    return PydanticCustomError(
        "aifs_tune", "{key}: {text}; allowed: {allowed}", {"key": key, "text": text, "allowed": allowed}
    )


def show(value: object) -> str:
    """Format a value as a sweep file writes it: ``true``, ``1e-05``, ``adam``."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


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
    """Whether two values are equal; ``True`` and ``1`` are not, ``1`` and ``1.0`` are."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, str) or isinstance(other, str):
        return isinstance(one, str) and isinstance(other, str) and one == other
    return number(one) is not None and number(one) == number(other)


def number(value: object) -> int | float | None:
    """Convert a number of any library to int or float; return None for anything else, including booleans."""
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return int(value) if abs(int(value)) <= MAX_INT else None
    return float(value) if isinstance(value, Real) and abs(float(value)) <= MAX_FLOAT else None


def scalar(value: object) -> Scalar:
    """Return ``value`` if a parameter can take it, else raise a validation error."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= MAX_TEXT_LENGTH and value.isprintable():
        return str(value)
    found = number(value)
    if found is None:
        raise problem(
            "",
            f"{brief(value)} is not a valid parameter value",
            f"true, false, a number (integers up to 2**53), or printable text of at most {MAX_TEXT_LENGTH} characters",
        )
    return found
