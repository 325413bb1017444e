"""The ``search`` section of a sweep file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from aifs_tune._util.models import StrictModel, Text
from aifs_tune._util.scalars import problem
from aifs_tune.space.search_space import ParameterName

MAX_POINTS = 1000

Levels = Annotated[int, Field(ge=2, le=20)]


class DesignSpec(StrictModel):
    """A plan of configurations, measured in a random order before the sampler proposes."""

    design: Literal["sobol", "latin_hypercube", "factorial", "fractional_factorial", "centre"] = Field(
        description="centre: the centre points alone."
    )
    points: Annotated[int, Field(ge=1, le=MAX_POINTS)] | None = Field(
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
            raise problem("points", f"missing for {self.design}", f"a whole number from 1 to {MAX_POINTS}")
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


SAMPLERS = ("aifs", "tpe", "gp", "cmaes", "qmc", "nsga2", "nsga3", "grid", "brute_force", "random")

ONE_OBJECTIVE = ("aifs", "cmaes")
"""Samplers that can search one objective only."""
TRADE_OFF_SEARCH = {"sampler": "tpe", "scheduler": "none"}
"""Defaults where there are several."""

SamplerName = Annotated[
    str,
    Field(
        pattern=rf"^({'|'.join(SAMPLERS)}|[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*)$",
        description=f"{', '.join(SAMPLERS)} or module:Class",
    ),
]


def _listed(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


WarmStarts = Annotated[
    tuple[Text, ...],
    Field(strict=False, max_length=10),
    BeforeValidator(_listed, json_schema_input_type=Text | list[Text]),
]


class SearchSpec(StrictModel):
    """How the space is searched."""

    sampler: SamplerName = "aifs"
    scheduler: Literal["aifs", "asha", "hyperband", "median", "pbt", "none"] = "aifs"
    trials: int = Field(default=32, ge=1, le=1_000_000)
    epochs: int = Field(default=20, ge=1, le=100_000)
    seed: int = Field(default=0, ge=0, lt=2**32)
    grace_epochs: int | None = Field(
        default=None,
        ge=1,
        description="Epochs before a trial may be stopped early; absent: 1 for aifs, 4 for the others.",
    )
    reduction_factor: float = Field(default=3.0, gt=1, description="One in this many trials passes each rung of ASHA.")
    perturb_epochs: int = Field(
        default=2, ge=1, le=100_000, description="Epochs between two exchanges of the population of pbt."
    )
    timeout_s: float | None = Field(
        default=None, gt=0, description="The sweep starts no trial after this many seconds."
    )
    epoch_timeout_s: float = Field(default=1800.0, gt=0, description="A trial silent for longer is failed.")
    workers: int | None = Field(
        default=None, ge=1, le=10_000, description="Trials at the same time; absent: as many as fit."
    )
    worker_retries: int = Field(
        default=1, ge=0, le=100, description="Times a trial is tried again after its worker died."
    )
    initial: DesignSpec | None = Field(default=None, description="What is measured before the sampler proposes.")
    replicates: int = Field(default=1, ge=1, le=100, description="Times each configuration is measured.")
    finalists: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Configurations, at most, that are trained again at the end where noise leaves open which is best.",
    )
    finalist_seeds: int = Field(
        default=3, ge=2, le=100, description="Trainings that each of them has then, with a seed each."
    )
    stop: Literal["never", "gain_below_noise"] = Field(
        default="never",
        description="gain_below_noise: a sweep ends once a further trial is expected to gain less than the noise.",
    )

    warm_start: WarmStarts = Field(
        default=(), description="Earlier studies of the storage to begin with; auto: those that are like this one."
    )

    @model_validator(mode="after")
    def _grace_ends(self) -> SearchSpec:
        if self.grace_epochs is not None and self.grace_epochs > self.epochs:
            text = f"{self.grace_epochs} is above epochs, {self.epochs}"
            raise problem("grace_epochs", text, f"a whole number from 1 to {self.epochs}")
        return self

    @model_validator(mode="after")
    def _population_exchanges(self) -> SearchSpec:
        if self.scheduler == "pbt" and self.perturb_epochs >= self.epochs:
            text = f"{self.perturb_epochs} is not below epochs, {self.epochs}: there would be no exchange"
            raise problem("perturb_epochs", text, f"a whole number below {self.epochs}")
        return self
