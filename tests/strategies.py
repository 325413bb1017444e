"""Hypothesis strategies for parameters and spaces, and a source that answers at random."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from aifs_tune._util.scalars import Scalar, coded, is_same
from aifs_tune.space.search_space import Space

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}(\.[a-zéθ学_]{1,5})?", fullmatch=True)
texts = st.text(st.characters(categories=["L", "N", "P", "S"], include_characters=" "), max_size=12).filter(
    str.isprintable
)
scalars = st.one_of(
    st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e300, 1e300, allow_nan=False).map(lambda x: x + 0.0), texts
)


lists = st.lists(scalars | st.none(), max_size=3) | st.lists(st.lists(st.integers(0, 9), max_size=2), max_size=2)
values = scalars | lists | st.none()
"""Values of a choice, null and lists included."""


@st.composite
def floats(draw: st.DrawFn) -> dict[str, Any]:
    """A float parameter: plain, logarithmic or on a grid."""
    kind = draw(st.sampled_from(["plain", "log", "step"]))
    entry: dict[str, Any] = {"type": "float", "unit": draw(texts)}
    if kind == "step":
        step = Decimal(draw(st.sampled_from(["0.1", "0.25", "0.3", "2", "0.05"])))
        low, n_steps = Decimal(draw(st.integers(-100, 100))) / 10, draw(st.integers(1, 40))
        entry |= {"low": float(low), "high": float(low + n_steps * step), "step": float(step)}
        entry["default"] = float(low + draw(st.integers(0, n_steps)) * step)
        return entry
    low_exponent = draw(st.integers(-8, 5))
    entry["low"] = 10.0**low_exponent if kind == "log" else draw(st.floats(-1e6, 1e6))
    entry["high"] = entry["low"] + draw(st.floats(1e-3, 1e6))
    entry["default"] = draw(st.none() | st.floats(entry["low"], entry["high"]))
    return entry | {"log": kind == "log"}


@st.composite
def ints(draw: st.DrawFn) -> dict[str, Any]:
    """An int parameter: plain, logarithmic or in steps."""
    is_log = draw(st.booleans())
    low, step = draw(st.integers(1 if is_log else -1000, 1000)), 1 if is_log else draw(st.integers(1, 16))
    n_steps = draw(st.integers(1, 100))
    default = draw(st.none() | st.integers(0, n_steps).map(lambda k: low + k * step))
    return {"type": "int", "low": low, "high": low + n_steps * step, "step": step, "log": is_log, "default": default}


@st.composite
def choices(draw: st.DrawFn) -> dict[str, Any]:
    """A choice of values that are pairwise unequal."""
    some = draw(st.lists(values, min_size=1, max_size=5))
    different: list[Any] = []
    for value in some:
        if not any(is_same(value, other) or coded(value) == coded(other) for other in different):
            different.append(value)
    given = {} if draw(st.booleans()) else {"default": draw(st.sampled_from(different))}
    return {"type": "choice", "choices": different, **given}


entries = st.one_of(floats(), ints(), choices(), scalars)
"""One parameter as a sweep file has it."""


@st.composite
def space_entries(draw: st.DrawFn) -> dict[str, Any]:
    """What stands under ``space`` in a sweep file; some parameters depend on a choice before them."""
    space: dict[str, Any] = {}
    for name in draw(st.lists(names, min_size=1, max_size=6, unique=True)):
        entry = draw(entries)
        parents = [n for n, e in space.items() if isinstance(e, dict) and e["type"] == "choice"]
        if isinstance(entry, dict) and parents and draw(st.booleans()):
            parent = draw(st.sampled_from(parents))
            entry = entry | {"when": {parent: [draw(st.sampled_from(space[parent]["choices"]))]}}
        space[name] = entry
    return space


spaces = space_entries().map(Space.model_validate)


class RandomSource:
    """Answers what an Optuna trial would, uniformly, from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is not None:
            return low + step * self._random.randint(0, round((high - low) / step))
        drawn = (
            math.exp(self._random.uniform(math.log(low), math.log(high))) if log else self._random.uniform(low, high)
        )
        return min(max(drawn, low), high)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return low + step * self._random.randint(0, (high - low) // step)

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        return self._random.choice(choices)


def without(params: Mapping[str, Scalar], name: str) -> dict[str, Scalar]:
    """``params`` less one."""
    return {key: value for key, value in params.items() if key != name}
