"""Models of the ``search`` section of a sweep file."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from aifs_tune._util.models import StrictModel, Text
from aifs_tune._util.scalars import problem
from aifs_tune.space.costs import Cost
from aifs_tune.space.search_space import ParameterName

MAX_POINTS = 1000
MAX_EPOCHS = 100_000
"""Largest number of epochs of a trial. It stands for trials that end by themselves, after an unknown number."""

Levels = Annotated[int, Field(ge=2, le=20)]


class DesignSpec(StrictModel):
    """An initial design: configurations that are evaluated in random order before the sampler proposes any."""

    design: Literal["sobol", "latin_hypercube", "factorial", "fractional_factorial", "centre"] = Field(
        description="Kind of design; centre: centre points only."
    )
    points: Annotated[int, Field(ge=1, le=MAX_POINTS)] | None = Field(
        default=None, description="Number of configurations of sobol and latin_hypercube."
    )
    levels: Levels | dict[ParameterName, Levels] = Field(
        default=2,
        description="Number of evenly spaced values of each numeric parameter of a factorial design. A choice "
        "parameter uses all its choices.",
    )
    resolution: Literal[3, 4, 5] | None = Field(
        default=None,
        description="Resolution of a fractional_factorial design, whose smallest form is used; 4 if absent.",
    )
    generators: dict[ParameterName, Annotated[str, Field(max_length=300)]] | None = Field(
        default=None,
        description="Generators of a fractional_factorial design, instead of a resolution: parameters, each with the "
        "product of others that sets it, such as pressure: temperature * hold_time, or - temperature * hold_time.",
    )
    centre_points: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, description="Evaluations of the centre of the space, spread over the design; 0 if absent."
    )

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> DesignSpec:
        drawn = self.design in ("sobol", "latin_hypercube")
        if drawn and self.points is None:
            raise problem("points", f"missing, but {self.design} needs it", f"a whole number from 1 to {MAX_POINTS}")
        if self.design == "centre" and not self.centre_points:
            raise problem("centre_points", "missing, but centre needs it", "a whole number from 1 to 100")
        is_fraction = self.design == "fractional_factorial"
        unused = {
            "points": self.points is not None and not drawn,
            "levels": self.levels != 2 and self.design != "factorial",
            "resolution": self.resolution is not None and (not is_fraction or self.generators is not None),
            "generators": self.generators is not None and not is_fraction,
        }
        for key, is_given in unused.items():
            if is_given:
                given_too = " with generators" if is_fraction else ""
                raise problem(key, f"cannot be used with {self.design}{given_too}", f"leave out {key}")
        return self

    @property
    def n_centre(self) -> int:
        """Number of evaluations of the centre of the space."""
        return self.centre_points or 0


SAMPLERS = ("aifs", "tpe", "gp", "cmaes", "qmc", "nsga2", "nsga3", "grid", "brute_force", "random")

ONE_OBJECTIVE = ("cmaes",)
"""Samplers that support one objective only."""
TRADE_OFF_SEARCH = {"scheduler": "none"}
"""Defaults of a sweep with several objectives."""

OPTUNAHUB = "optunahub:"
"""Beginning of the names of samplers of OptunaHub."""

SamplerName = Annotated[
    str,
    Field(
        pattern=rf"^({'|'.join(SAMPLERS)}|{OPTUNAHUB}[a-z0-9_]+(/[a-z0-9_]+)+(:[A-Za-z_][A-Za-z0-9_]*)?|"
        r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*)$",
        description=f"{', '.join(SAMPLERS)}, module:Class or optunahub:samplers/NAME",
    ),
]


def _from_name(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else given


OptionName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class SamplerSpec(StrictModel):
    """The sampler that proposes configurations, and its options."""

    name: SamplerName = "aifs"
    options: dict[OptionName, Any] = Field(
        default={},
        description="Arguments of the sampler's class, such as n_startup_trials: 20 of tpe; those that are not given "
        "have the values that this package or the class chooses.",
    )

    @model_validator(mode="after")
    def _has_options(self) -> SamplerSpec:
        if self.name == "aifs" and self.options:
            text = f"{', '.join(self.options)}: the sampler aifs has no options"
            raise problem("options", text, "another sampler; settings of aifs are keys of search, such as initial")
        if self.name.startswith(OPTUNAHUB) and "/" not in self.name:
            raise problem("name", f"{self.name} is no package of OptunaHub", f"{OPTUNAHUB}samplers/NAME")
        try:
            json.dumps(self.options, allow_nan=False)
        except (TypeError, ValueError) as error:
            allowed = "numbers, texts, true, false, null, lists and mappings"
            raise problem("options", f"cannot be stored ({error})", allowed) from None
        return self

    @model_serializer(mode="wrap")
    def _name_alone(self, serialize: SerializerFunctionWrapHandler) -> Any:
        return serialize(self) if self.options else self.name


SamplerField = Annotated[SamplerSpec, BeforeValidator(_from_name, json_schema_input_type=SamplerName | SamplerSpec)]


def _listed(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


WarmStarts = Annotated[
    tuple[Text, ...],
    Field(strict=False, max_length=10),
    BeforeValidator(_listed, json_schema_input_type=Text | list[Text]),
]


class SearchSpec(StrictModel):
    """How the space is searched: sampler, scheduler, and the number and length of trials."""

    sampler: SamplerField = SamplerSpec()
    scheduler: Literal["aifs", "asha", "hyperband", "median", "pbt", "none"] = Field(
        default="aifs", description="Decides which running trials stop early; none: no early stopping."
    )
    trials: int = Field(default=32, ge=1, le=1_000_000, description="Number of trials.")
    epochs: int = Field(default=20, ge=1, le=MAX_EPOCHS, description="Maximum number of epochs of a trial.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Random seed of the study.")
    grace_epochs: int | None = Field(
        default=None,
        ge=1,
        description="Epochs before a trial may be stopped early; absent: 1 for aifs, 4 for other schedulers.",
    )
    reduction_factor: float = Field(
        default=3.0, gt=1, description="Reduction factor of ASHA: one in this many trials passes each rung."
    )
    perturb_epochs: int = Field(
        default=2, ge=1, le=100_000, description="Epochs between two perturbations of population-based training (pbt)."
    )
    timeout_s: float | None = Field(
        default=None, gt=0, description="The sweep starts no trial after this many seconds."
    )
    epoch_timeout_s: float = Field(
        default=1800.0, gt=0, description="A trial that reports no epoch for this many seconds fails."
    )
    workers: int | None = Field(
        default=None, ge=1, le=10_000, description="Number of trials that run at the same time; absent: as many as fit."
    )
    worker_retries: int = Field(default=1, ge=0, le=100, description="Number of retries of a trial whose worker died.")
    initial: DesignSpec | None = Field(
        default=None, description="Initial design, evaluated before the sampler proposes configurations."
    )
    replicates: int = Field(default=1, ge=1, le=100, description="Number of evaluations of each configuration.")
    finalists: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Maximum number of configurations to train again at the end if noise leaves open which is best.",
    )
    finalist_seeds: int = Field(
        default=3, ge=2, le=100, description="Number of trainings of each finalist, with different seeds."
    )
    stop: Literal["never", "gain_below_noise"] = Field(
        default="never",
        description="When a sweep ends early; gain_below_noise: once the expected gain of a trial is below the noise.",
    )
    stop_after_failures: int | None = Field(
        default=5,
        ge=2,
        description="Number of trials that fail alike, while none succeeds, after which a sweep stops; null: never.",
    )
    shared: Annotated[tuple[ParameterName, ...], Field(strict=False, max_length=20)] = Field(
        default=(),
        description="Parameters that all trials of a batch share, such as the temperature of one furnace for eight "
        "samples: while trials run, a proposal takes their values.",
    )
    cost: Cost | None = Field(
        default=None,
        description="Cost or duration of a configuration as an expression over parameters, such as 1 + hold / 60; the "
        "search then looks for the largest expected improvement per cost.",
    )
    budget: float | None = Field(
        default=None, gt=0, description="Expected total cost of the study; the nearer the end, the less cost matters."
    )
    warm_start: WarmStarts = Field(
        default=(), description="Earlier studies in the storage to start from; auto: the similar ones."
    )

    @property
    def last_epoch(self) -> int | None:
        """Last epoch of a trial that is not stopped early; None if it is not known."""
        return None if self.epochs == MAX_EPOCHS else self.epochs

    def without_search(self, **changes: Any) -> dict[str, Any]:
        """Settings of ``search`` that train given configurations once each: what says how to propose, stop or repeat
        trials has its default. ``changes`` are other settings."""
        kept = ("epochs", "seed", "epoch_timeout_s", "workers", "worker_retries", "stop_after_failures")
        return {name: getattr(self, name) for name in kept} | {"sampler": "random", "scheduler": "none"} | changes

    @model_validator(mode="after")
    def _grace_ends(self) -> SearchSpec:
        if self.grace_epochs is not None and self.grace_epochs > self.epochs:
            text = f"{self.grace_epochs} is greater than epochs ({self.epochs})"
            raise problem("grace_epochs", text, f"a whole number from 1 to {self.epochs}")
        return self

    @model_validator(mode="after")
    def _budget_has_a_unit(self) -> SearchSpec:
        if self.budget is not None and self.cost is None:
            raise problem("budget", f"{self.budget:g} is a total of costs, but there is no cost", "a budget with cost")
        return self

    @model_validator(mode="after")
    def _population_exchanges(self) -> SearchSpec:
        if self.scheduler == "pbt" and self.perturb_epochs >= self.epochs:
            text = f"{self.perturb_epochs} is not less than epochs ({self.epochs}), so pbt would never perturb a trial"
            raise problem("perturb_epochs", text, f"a whole number below {self.epochs}")
        return self
