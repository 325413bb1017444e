"""How a user's code travels to the workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import cloudpickle

from aifs_tune.errors import RequestError
from aifs_tune.trainers.function import name_of


def size_of_code(code: Callable[..., Any]) -> int:
    """Bytes of a callable with all that it has captured, as workers get it.

    Raises
    ------
    RequestError
        If it cannot be sent; names what it has captured that cannot.
    """
    try:
        return len(cloudpickle.dumps(code))
    except Exception as error:
        raise RequestError(
            f"trainer: {name_of(code)} cannot be sent to workers ({type(error).__name__}: {error}){_culprits(code)}; "
            "allowed: make such an object inside the function, or run in this process (workers=None)"
        ) from error


def _culprits(code: Callable[..., Any]) -> str:
    """The captured variables that cannot be sent."""
    function = getattr(code, "__func__", code)
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False) if _has_code(function) else ()
    captured = {name: cell.cell_contents for name, cell in cells}
    if _has_code(function):
        names = function.__code__.co_names
        captured |= {name: function.__globals__[name] for name in names if name in function.__globals__}
    bad = [name for name, value in captured.items() if not _travels(value)]
    return f": it uses {', '.join(bad)}" if bad else ""


def _has_code(function: Any) -> bool:
    return hasattr(function, "__code__") and hasattr(function, "__globals__")


def _travels(value: Any) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:  # noqa: BLE001 - a user's object may raise anything
        return False
    return True
