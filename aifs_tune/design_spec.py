"""The initial design in a sweep file: which configurations are measured before any proposal."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from aifs_tune.scalars import problem
from aifs_tune.section import StrictModel
from aifs_tune.space import ParameterName

MOST_POINTS = 1000

Levels = Annotated[int, Field(ge=2, le=20)]


class DesignSpec(StrictModel):
    """A plan of configurations, measured in a random order before the sampler proposes."""

    design: Literal["sobol", "latin_hypercube", "factorial", "fractional_factorial", "centre"] = Field(
        description="centre: the centre points alone."
    )
    points: Annotated[int, Field(ge=1, le=MOST_POINTS)] | None = Field(
        default=None, description="Of sobol and latin_hypercube: how many."
    )
    levels: Levels | dict[ParameterName, Levels] = Field(
        default=2,
        description="Of factorial: values of each number, evenly over its range. A choice has all of its own.",
    )
    resolution: Literal[3, 4, 5] | None = Field(
        default=None, description="Of fractional_factorial: the smallest design of this resolution; 4 if absent."
    )
    generators: dict[ParameterName, Annotated[str, Field(max_length=300)]] | None = Field(
        default=None,
        description="Of fractional_factorial instead: parameters and the product of others that each is set by, "
        "such as pressure: temperature * hold_time, or - temperature * hold_time.",
    )
    centre_points: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, description="Measurements of the middle of the space, spread over the plan; 0 if absent."
    )

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> DesignSpec:
        drawn = self.design in ("sobol", "latin_hypercube")
        if drawn and self.points is None:
            raise problem("points", f"missing for {self.design}", f"a whole number from 1 to {MOST_POINTS}")
        if self.design == "centre" and not self.centre_points:
            raise problem("centre_points", "missing for centre", "a whole number from 1 to 100")
        is_fraction = self.design == "fractional_factorial"
        unused = {
            "points": self.points is not None and not drawn,
            "levels": self.levels != 2 and self.design != "factorial",
            "resolution": self.resolution is not None and (not is_fraction or self.generators is not None),
            "generators": self.generators is not None and not is_fraction,
        }
        for key, is_given in unused.items():
            if is_given:
                beside = " with generators" if is_fraction else ""
                raise problem(key, f"has no meaning for {self.design}{beside}", "leave it out")
        return self

    @property
    def n_centre(self) -> int:
        """How many times the middle of the space is measured."""
        return self.centre_points or 0
