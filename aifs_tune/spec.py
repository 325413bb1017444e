"""The sweep file as checked values: what to tune, on what, towards which objective, with which resources.

Reading YAML, overrides and errors with line numbers are in :mod:`aifs_tune.sweep_file`; parameters and
the space in :mod:`aifs_tune.space`, constraints between them in :mod:`aifs_tune.constraints`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from aifs_tune.constraints import Constraint, check_constraints
from aifs_tune.errors import RequestError
from aifs_tune.scalars import Scalar, brief, problem, show
from aifs_tune.space import Space

Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="1 to 63 lower-case letters, digits, '-' and '_', the first a letter or digit",
    ),
]
"""A sweep's or study's short name."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise problem("", f"{brief(text)} has control characters", "printable text")
    return text


Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]


class Section(BaseModel):
    """A part of a sweep file: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False)


class Objective(Section):
    """The metric that decides which configuration is best."""

    metric: Text = Field(default="val_macro_f1", description="A metric that the trainer reports each epoch.")
    mode: Literal["max", "min"] = "max"


class Split(Section):
    """How one folder of images is divided when it has no train/val/test folders of its own."""

    val: float = Field(default=0.2, gt=0, lt=1, description="Share of the images used for validation.")
    test: float = Field(default=0.2, ge=0, lt=1, description="Share kept aside; no trial ever sees it. 0 for none.")
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _leaves_training_images(self) -> Split:
        if self.val + self.test >= 1:
            text = f"{show(self.val)} and test {show(self.test)} leave nothing to train on"
            raise problem("val", text, "val and test with a sum below 1")
        return self


class Simulate(Section):
    """A simulated sky survey, drawn when no folder is given."""

    images: int = Field(default=1000, ge=12, le=1_000_000)
    size: int = Field(default=64, ge=16, le=1024, description="Edge of an image in pixels.")
    seed: int = Field(default=0, ge=0, lt=2**32)
    difficulty: float = Field(default=0.5, ge=0, le=1, description="0 bright and sharp, 1 faint, blurred and crowded.")


def _printable_path(path: Path) -> Path:
    _printable(str(path))
    return path


class DataSpec(Section):
    """Where the labelled images are and how they are decoded."""

    folder: Annotated[Path, Field(strict=False), AfterValidator(_printable_path)] | None = Field(
        default=None, description="One sub-folder per class, or train/val/test with these inside."
    )
    simulate: Simulate | None = Field(default=None, description="Used when no folder is given.")
    image_size: int = Field(default=64, ge=8, le=1024, description="Edge in pixels that every image is resized to.")
    channels: Literal["auto", "grey", "rgb"] = Field(default="auto", description="auto: grey when all images are grey.")
    fit: Literal["stretch", "crop", "pad"] = Field(
        default="stretch", description="How an image that is not square becomes so."
    )
    range16: Literal["auto"] | Annotated[tuple[int, int], Field(strict=False)] = Field(
        default="auto", description="Pixel values of 16-bit images that become 0 and 255; auto: measured on the images."
    )
    split: Split = Split()
    group_by: str | None = Field(
        default=None,
        max_length=200,
        description="Regular expression on the file name; images with the same match stay in one part.",
    )

    @field_validator("group_by")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                text = f"{brief(pattern)} is not a regular expression ({error})"
                raise problem("", text, "a regular expression of Python") from None
        return pattern

    @field_validator("range16")
    @classmethod
    def _rises(cls, bounds: Literal["auto"] | tuple[int, int]) -> Literal["auto"] | tuple[int, int]:
        if bounds != "auto" and not 0 <= bounds[0] < bounds[1] <= 65535:
            raise problem("", f"{list(bounds)} does not rise", "auto, or two rising whole numbers from 0 to 65535")
        return bounds


TrainerName = Annotated[
    str,
    Field(
        pattern=r"^([a-z][a-z0-9_]*|[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*)$",
        description="cnn or module:function",
    ),
]


class TrainerSpec(Section):
    """Which trainer runs a trial, and what is the same for all trials."""

    name: TrainerName = "cnn"
    patience: int | None = Field(
        default=None, ge=1, description="Epochs without a better value before a trial ends itself."
    )
    class_weights: Literal["balanced", "none"] = "balanced"
    precision: Literal["auto", "float32", "mixed_bfloat16"] = Field(
        default="auto", description="Of the convolutions; auto: mixed bfloat16 where the hardware has it."
    )
    checkpoint_s: float = Field(default=20.0, ge=0, description="Seconds between two checkpoints of a running trial.")


def _from_name(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else given


TrainerField = Annotated[TrainerSpec, BeforeValidator(_from_name, json_schema_input_type=TrainerName | TrainerSpec)]


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


class SearchSpec(Section):
    """How the space is searched."""

    sampler: SamplerName = "aifs"
    scheduler: Literal["aifs", "asha", "hyperband", "median", "none"] = "aifs"
    trials: int = Field(default=32, ge=1, le=1_000_000)
    epochs: int = Field(default=20, ge=1, le=100_000)
    seed: int = Field(default=0, ge=0, lt=2**32)
    grace_epochs: int | None = Field(
        default=None,
        ge=1,
        description="Epochs before a trial may be stopped early; absent: 1 for aifs, 4 for the others.",
    )
    reduction_factor: float = Field(default=3.0, gt=1, description="One in this many trials passes each rung of ASHA.")
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

    @model_validator(mode="after")
    def _grace_ends(self) -> SearchSpec:
        if self.grace_epochs is not None and self.grace_epochs > self.epochs:
            text = f"{self.grace_epochs} is above epochs, {self.epochs}"
            raise problem("grace_epochs", text, f"a whole number from 1 to {self.epochs}")
        return self


class Resources(Section):
    """What one trial occupies."""

    cpu: float = Field(default=1.0, gt=0, le=1024)
    gpu: float = Field(default=0.0, ge=0, le=64, description="Fractions share one GPU between trials.")
    population: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        default="auto",
        description="Trials of equal shape that train in one program and share these; auto: as many as a GPU gains by.",
    )


class SweepSpec(Section):
    """One sweep file."""

    version: int = Field(default=1, ge=1, le=1)
    name: Name
    description: str = ""
    trainer: TrainerField | None = Field(default=None, description="cnn or module:function; absent for an instrument.")
    data: DataSpec | None = None
    objective: Objective = Objective()
    trade_off: Annotated[tuple[Objective, ...], Field(strict=False, max_length=3)] = Field(
        default=(), description="Further objectives: the result is then a Pareto front, and no trial is stopped early."
    )
    search: SearchSpec = SearchSpec()
    resources: Resources = Resources()
    space: Space
    constraints: Annotated[tuple[Constraint, ...], Field(strict=False, max_length=100)] = Field(
        default=(), description="Each is true of every configuration tried, such as filters * dense_units <= 8192."
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_a_trade_off(cls, given: Any) -> Any:
        """``sampler`` and ``scheduler``, where they are absent."""
        if not isinstance(given, Mapping) or not given.get("trade_off"):
            return given
        search = given.get("search", {})
        return {**given, "search": TRADE_OFF_SEARCH | dict(search)} if isinstance(search, Mapping) else given

    @model_validator(mode="after")
    def _constraints_fit(self) -> SweepSpec:
        check_constraints(self.space, self.constraints)
        return self

    @model_validator(mode="after")
    def _objectives_can_be_searched(self) -> SweepSpec:
        metrics = [objective.metric for objective in self.objectives]
        twice = next((i for i, metric in enumerate(metrics) if metric in metrics[:i]), None)
        if twice is not None:
            raise problem(
                f"trade_off.{twice - 1}.metric", f"{metrics[twice]} is an objective twice", "different metrics"
            )
        search = self.search
        if self.trade_off and search.sampler in ONE_OBJECTIVE:
            others = ", ".join(name for name in SAMPLERS if name not in ONE_OBJECTIVE)
            raise problem("search.sampler", f"{search.sampler} searches one objective", f"{others}, module:Class")
        if self.trade_off and search.scheduler != "none":
            text = f"{search.scheduler} stops trials by one objective, which would cut off the front of several"
            raise problem("search.scheduler", text, "none")
        return self

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """``objective``, which learning curves and ranking follow, and what is traded off against it."""
        return (self.objective, *self.trade_off)

    def check_params(self, params: Mapping[str, object]) -> dict[str, Scalar]:
        """``params`` as a full configuration in the space's order and types, one that breaks no constraint.

        Raises
        ------
        RequestError
            As :meth:`Space.check`, or naming the first constraint that is broken and the values that break it.
        """
        checked = self.space.check(params)
        for constraint in self.constraints:
            if not constraint.holds(checked):
                raise RequestError(f"{constraint.values_in(checked)}: not allowed; allowed: {constraint}")
        return checked
