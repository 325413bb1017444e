"""Mixtures: groups of parameters with a fixed sum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from aifs_tune._util.models import StrictModel
from aifs_tune._util.scalars import Scalar, brief, did_you_mean, problem, show
from aifs_tune.errors import RequestError
from aifs_tune.space.parameters import FixedParameter, Float, FloatParameter
from aifs_tune.space.search_space import ParameterName, Space

TOLERANCE = 1e-6
"""Largest difference from the total, as a fraction of it, of a given configuration, whose values may have few digits.
Proposed configurations differ by rounding only, by less than 1e-12 of the total."""


class Mixture(StrictModel):
    """Components whose sum is ``total`` in every configuration."""

    components: Annotated[
        tuple[ParameterName, ...],
        Field(strict=False, min_length=2, max_length=20, description="Names of float parameters."),
    ]
    total: Float = Field(default=1.0, gt=0, description="Sum of the components.")

    def check_fits(self, key: str, space: Space) -> None:
        """Raise PydanticCustomError about ``key`` if the components cannot have the total as their sum."""
        allowed = "float parameters without log, step and when"
        for i, name in enumerate(self.components):
            where, parameter = f"{key}.components.{i}", space.root.get(name)
            if parameter is None:
                nearest = did_you_mean(name, list(space.root))
                raise problem(where, f"no parameter {brief(name)}{nearest}", ", ".join(space.root))
            if name in self.components[:i]:
                raise problem(where, f"{name} is listed twice", "different parameters")
            if isinstance(parameter, FixedParameter):
                if isinstance(parameter.value, bool | str) or parameter.when:
                    raise problem(where, f"{name} is not a number that is always active", allowed)
            elif not isinstance(parameter, FloatParameter) or parameter.log or parameter.step or parameter.when:
                raise problem(where, f"{name} is not a plain float parameter", allowed)
        ranges = self.ranges(space)
        least, most = math.fsum(low for low, _ in ranges), math.fsum(high for _, high in ranges)
        if not least < self.total < most:
            reach = f"{show(least)} to {show(most)}"
            text = f"the components sum to {reach}, so they cannot vary at a sum of {show(self.total)}"
            raise problem(f"{key}.total", text, f"a number between {show(least)} and {show(most)}")

    def ranges(self, space: Space) -> list[tuple[float, float]]:
        """Return the smallest and the largest value of each component."""
        ends = [space[name].extremes for name in self.components]
        return [(float(each[0]), float(each[-1])) for each in ends]

    def holds(self, params: Mapping[str, object]) -> bool:
        """Whether the components of a configuration sum to the total."""
        return abs(self._sum(params) - self.total) <= TOLERANCE * self.total

    def check(self, params: Mapping[str, object]) -> None:
        """Raise :class:`RequestError` unless :meth:`holds`."""
        if not self.holds(params):
            names = " + ".join(self.components)
            raise RequestError(f"{names} = {self._sum(params):.9g}: not allowed; allowed: {show(self.total)}")

    def projected(self, params: Mapping[str, Scalar], space: Space) -> dict[str, Scalar]:
        """Return the nearest configuration whose components sum to the total."""
        amounts = project_to_total([float(params[name]) for name in self.components], self.ranges(space), self.total)
        return {**params, **dict(zip(self.components, amounts, strict=True))}

    def _sum(self, params: Mapping[str, object]) -> float:
        return math.fsum(float(params[name]) for name in self.components)  # type: ignore[arg-type]


def project_to_total(amounts: Sequence[float], ranges: Sequence[tuple[float, float]], total: float) -> list[float]:
    """Return the point nearest to ``amounts`` within ``ranges`` whose sum is ``total``.

    All amounts are moved by the same shift and clipped to their ranges.
    """

    def moved(shift: float) -> list[float]:
        return [min(max(x + shift, low), high) for x, (low, high) in zip(amounts, ranges, strict=True)]

    below = min(low - x for x, (low, _) in zip(amounts, ranges, strict=True))
    above = max(high - x for x, (_, high) in zip(amounts, ranges, strict=True))
    for _ in range(100):  # bisection to the last digit
        middle = 0.5 * (below + above)
        if math.fsum(moved(middle)) < total:
            below = middle
        else:
            above = middle
    found = moved(above)
    rest = total - math.fsum(found)  # the rounding error goes to the component with the most room
    room = [(high - x if rest > 0 else x - low) for x, (low, high) in zip(found, ranges, strict=True)]
    found[room.index(max(room))] += rest
    return found


def check_mixtures(space: Space, mixtures: Sequence[Mixture]) -> None:
    """Refuse mixtures that do not fit ``space``, share a component or do not match the defaults."""
    seen: dict[str, int] = {}
    defaults = space.default_params()
    for i, mixture in enumerate(mixtures):
        mixture.check_fits(f"mixtures.{i}", space)
        for j, name in enumerate(mixture.components):
            if name in seen:
                raise problem(f"mixtures.{i}.components.{j}", f"{name} is also in mixtures.{seen[name]}", "one mixture")
            seen[name] = i
        if defaults is not None and not mixture.holds(defaults):
            text = f"the defaults of {', '.join(mixture.components)} do not sum to {show(mixture.total)}"
            raise problem(f"mixtures.{i}", text, "defaults with that sum")
