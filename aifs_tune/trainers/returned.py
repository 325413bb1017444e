"""What a user's code returns for an epoch: metrics, and notes beside them.

Numbers of any library become floats. Text, lists and None beside the objective are notes of the trial. Dictionaries in
dictionaries become metrics with names such as ``val/accuracy``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Real
from typing import Any, TypeGuard

import numpy as np

from aifs_tune._util.scalars import brief, did_you_mean
from aifs_tune.errors import TrainerError

MAX_NOTE = 2_000
"""Characters of a note as JSON; a longer one is cut."""
MAX_NOTES = 100
"""Number of notes of a trial."""


@dataclass(frozen=True)
class Returned:
    """Metrics of an epoch, and the notes that came with them."""

    metrics: dict[str, float]
    notes: dict[str, Any] = field(default_factory=dict)


def read_returned(answer: Any, objectives: Sequence[str], who: str) -> Returned:
    """Read what a function returned or yielded, or what a trainer's epoch returned.

    Parameters
    ----------
    answer
        A number; a tuple with a number for each objective; or metrics by name.
    objectives
        Names of the objectives.
    who
        What returned it, for messages.

    Returns
    -------
    Returned
        Metrics as floats, which may be NaN or infinite, and notes that JSON can hold.

    Raises
    ------
    TrainerError
        If an objective is no number, or the answer is neither a number nor metrics by name.
    """
    if isinstance(answer, Mapping):
        return _split(dict(_flat(answer)), objectives, who)
    if isinstance(answer, tuple) and len(answer) == len(objectives):
        return _split(dict(zip(objectives, answer, strict=True)), objectives, who)
    value = as_float(answer, f"{who} returned")
    if value is None or len(objectives) > 1:
        several = (
            "; for several objectives give trade_off" if isinstance(answer, tuple) and len(objectives) == 1 else ""
        )
        raise TrainerError(f"{who} returned {_described(answer)}; allowed: {_allowed(objectives)}{several}")
    return Returned({objectives[0]: value})


def as_float(value: Any, what: str) -> float | None:
    """Convert a number of any library, or an array with one element, to a float; None for anything else.

    A masked element of NumPy is no number, though ``item`` makes 0.0 of it.

    Raises
    ------
    TrainerError
        If the number is too large for a float; begins with ``what``.
    """
    if isinstance(value, str | bytes | complex) or np.ma.is_masked(value):
        return None
    try:
        if isinstance(value, Real | Decimal):
            return float(value)
        if hasattr(value, "shape") and (callable(getattr(value, "item", None)) or hasattr(value, "numpy")):
            held = value.item() if hasattr(value, "item") else value.numpy().item()  # one element, or ValueError
            return None if isinstance(held, str | bytes | complex) or held is None else float(held)
    except OverflowError:
        raise TrainerError(f"{what} {brief(value)}, which is too large; allowed: numbers up to 1.8e308") from None
    except (TypeError, ValueError, RuntimeError):
        return None
    return None


def as_note(value: Any) -> Any:
    """Return a value that JSON can hold: the value itself if it can, else its ``repr``; long ones are cut."""
    try:
        if len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode()) <= MAX_NOTE:
            return value
    except (TypeError, ValueError, RecursionError):
        pass
    text = (value if isinstance(value, str) else _repr(value)).encode(errors="backslashreplace").decode()
    return text if len(text) <= MAX_NOTE else f"{text[: MAX_NOTE - 3]}..."


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - a user's object may raise anything
        return f"{type(value).__name__} whose repr raises {type(error).__name__}"


def _flat(given: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}".encode(errors="backslashreplace").decode(), value


def _split(given: Mapping[str, Any], objectives: Sequence[str], who: str) -> Returned:
    found = Returned({})
    for name, value in given.items():
        number = as_float(value, f"{who} returned for {name}")
        if number is not None:
            found.metrics[name] = number
        elif name in objectives:
            raise TrainerError(f"{who} returned {_described(value)} for {name}; allowed: a number")
        elif len(found.notes) < MAX_NOTES:
            found.notes[name[:MAX_NOTE]] = as_note(value)
    return found


def _described(answer: Any) -> str:
    if answer is None:
        return "None (a function without return does)"
    if isinstance(answer, list):
        return f"a list of {len(answer)} ({brief(answer)})"
    return f"{brief(answer)} ({type(answer).__name__})"


def _allowed(objectives: Sequence[str]) -> str:
    if len(objectives) > 1:
        names = ", ".join(objectives)
        return f"a tuple with a number for each of {names}, or a dictionary of metrics with these names"
    return f"a number, or a dictionary of metrics with {objectives[0]!r}; a curve is yielded, one value for each epoch"


def missing_objective(metrics: Mapping[str, float | None], objective: str) -> str:
    """Say that an objective was never reported, and what was."""
    names = [name for name, value in metrics.items() if value is not None]
    return (
        f"the objective {objective!r} was not reported{did_you_mean(objective, names)}; "
        f"reported: {', '.join(names[:20]) or 'nothing'}"
    )


def is_finite(value: float | None) -> TypeGuard[float]:
    """Whether a metric is there and finite."""
    return value is not None and math.isfinite(value)
