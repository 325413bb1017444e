"""Strict JSON parser that refuses ambiguous documents and limits their depth and size."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, NoReturn

from aifs_tune._util.scalars import MAX_INT, brief
from aifs_tune.errors import RequestError

MAX_DEPTH = 64
MAX_VALUES = 10_000
"""Maximum number of values in one document; sweep files have the same limit."""


def read_json(body: bytes) -> Any:
    """Parse ``body``.

    Raises
    ------
    RequestError
        If it is not JSON in UTF-8, or has a number that is not finite, a repeated key, an unpaired surrogate, more than
        :data:`MAX_DEPTH` levels or more than :data:`MAX_VALUES` values.
    """
    try:
        data = json.loads(
            body.decode(), parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique_keys
        )
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not UTF-8: byte 0x{body[error.start]:02x} at {error.start}") from None
    except ValueError as error:  # a JSONDecodeError, or an integer with thousands of digits
        reason = f"{error.msg} at {error.pos}" if isinstance(error, json.JSONDecodeError) else "a number is too long"
        raise RequestError(f"the body is not JSON: {reason}") from None
    _check(data)
    return data


def canonical(data: Any) -> bytes:
    """Encode data so that equal data gives equal bytes, whatever the order of its keys."""
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def encoded(data: Any) -> bytes:
    """Encode ``data`` as the body of a response."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _check(data: Any) -> None:
    level, n_values = [data], 0
    for depth in range(MAX_DEPTH + 1):
        n_values += len(level)
        if n_values > MAX_VALUES:
            raise RequestError(f"the body has more than {MAX_VALUES} values; allowed: at most {MAX_VALUES}")
        deeper: list[Any] = []
        for value in level:
            if depth == MAX_DEPTH and isinstance(value, dict | list):
                raise _too_deep()
            if isinstance(value, dict):
                for key in value:
                    _check_text(key)
                deeper.extend(value.values())
            elif isinstance(value, list):
                deeper.extend(value)
            elif isinstance(value, str):
                _check_text(value)
        level = deeper


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestError(f"the text {brief(text)} has an unpaired surrogate; allowed: whole characters") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise RequestError(f"the key {brief(twice)} is given twice; allowed: each key once")
    return found


def _finite(text: str) -> float | int:
    """Parse a number; ``3.0`` is the integer 3, as in JSON Schema."""
    value = float(text)
    if not math.isfinite(value):
        raise RequestError(f"{brief(text)} is beyond the largest number; allowed: finite numbers")
    return int(value) if value.is_integer() and abs(value) <= MAX_INT else value


def _refuse_constant(word: str) -> NoReturn:
    raise RequestError(f"{word} is not JSON; allowed: finite numbers, or the state failed with a reason")


def _too_deep() -> RequestError:
    return RequestError(f"the body has more than {MAX_DEPTH} levels; allowed: at most {MAX_DEPTH}")
