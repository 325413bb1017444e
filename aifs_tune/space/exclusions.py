"""Exclusions: configurations, or groups of them, that are never proposed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from aifs_tune._util.scalars import Scalar, brief, did_you_mean, is_same, number, problem
from aifs_tune.space.parameters import ScalarField
from aifs_tune.space.search_space import ParameterName, Space

Excluded = Annotated[dict[ParameterName, ScalarField], Field(min_length=1)]
"""Values of some or all parameters; a configuration that has all of them is excluded."""


def check_excluded(space: Space, exclude: Sequence[Mapping[str, Scalar]]) -> None:
    """Refuse entries with an unknown parameter or value, and entries that match the defaults."""
    defaults = space.default_params()
    for i, entry in enumerate(exclude):
        for name, value in entry.items():
            if name not in space:
                nearest = did_you_mean(name, list(space.root))
                raise problem(f"exclude.{i}.{name}", f"no parameter {brief(name)}{nearest}", ", ".join(space.root))
            if space[name].convert(value) is None:
                allowed = f"{space[name].kind} {space[name].range_text}"
                raise problem(f"exclude.{i}.{name}", f"{brief(value)} is not a value of {name}", allowed)
        if defaults is not None and is_excluded(exclude[i : i + 1], defaults):
            raise problem(f"exclude.{i}", "excludes the default configuration", "other defaults, or none")


def is_excluded(exclude: Sequence[Mapping[str, Scalar]], params: Mapping[str, object]) -> bool:
    """Whether an entry excludes the configuration."""
    return any(
        all(name in params and _equal(params[name], value) for name, value in entry.items()) for entry in exclude
    )


def _equal(one: object, other: Scalar) -> bool:
    if isinstance(one, float) and number(other) is not None:
        return math.isclose(one, float(other), rel_tol=1e-9, abs_tol=1e-12)  # values on a grid are rounded
    return is_same(one, other)
