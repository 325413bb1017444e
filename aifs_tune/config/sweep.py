"""The sweep file as checked values: what to tune, on what, towards which objective, with which resources.

Reading YAML, overrides and errors with line numbers are in :mod:`aifs_tune.config.loading`; parameters and
the space in :mod:`aifs_tune.space.search_space`, constraints between them in :mod:`aifs_tune.space.constraints`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from aifs_tune._util.models import FilePath, Name, StrictModel, Text
from aifs_tune._util.scalars import Scalar, problem, show
from aifs_tune.config.cross_validation import SPLIT, CrossValidation
from aifs_tune.config.data import DataSpec
from aifs_tune.config.search import ONE_OBJECTIVE, SAMPLERS, TRADE_OFF_SEARCH, SearchSpec
from aifs_tune.errors import RequestError
from aifs_tune.space.constraints import Constraint, check_constraints
from aifs_tune.space.exclusions import Excluded, check_excluded, is_excluded
from aifs_tune.space.mixtures import Mixture, check_mixtures
from aifs_tune.space.outcome_limits import Limit
from aifs_tune.space.parameters import FixedParameter, ScalarField
from aifs_tune.space.search_space import ParameterName, Space


class Objective(StrictModel):
    """The metric that decides which configuration is best."""

    metric: Text = Field(default="val_macro_f1", description="A metric that the trainer reports each epoch.")
    mode: Literal["max", "min"] = "max"


TrainerName = Annotated[
    str,
    Field(
        pattern=r"^([a-z][a-z0-9_]*|[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*)$",
        description="a trainer's name or module:function",
    ),
]


class TrainerSpec(StrictModel):
    """Which trainer runs a trial, and what is the same for all trials."""

    name: TrainerName = "cnn"
    patience: int | None = Field(
        default=None, ge=1, description="Epochs without a better value before a trial ends itself."
    )
    folds: int = Field(
        default=1,
        ge=1,
        le=50,
        description="Of tables: val_... is the mean over so many folds, on each of which a model of its own is trained "
        "beside; 1: the validation part alone.",
    )
    class_weights: Literal["balanced", "none"] = "balanced"
    precision: Literal["auto", "float32", "mixed_bfloat16"] = Field(
        default="auto", description="Of the convolutions; auto: mixed bfloat16 where the hardware has it."
    )
    weights: FilePath | None = Field(
        default=None, description="Of transfer: a file that save_weights of Keras wrote for the backbone."
    )
    checkpoint_s: float = Field(default=20.0, ge=0, description="Seconds between two checkpoints of a running trial.")


def _from_name(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else given


TrainerField = Annotated[TrainerSpec, BeforeValidator(_from_name, json_schema_input_type=TrainerName | TrainerSpec)]


class Resources(StrictModel):
    """What one trial occupies."""

    cpu: float = Field(default=1.0, gt=0, le=1024)
    gpu: Annotated[float, Field(ge=0, le=64)] | Literal["auto"] = Field(
        default=0.0,
        description="Fractions share one GPU; auto: as many trials as its memory has room for, going by the first.",
    )
    fused_trials: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        default="auto",
        description="Trials of equal shape that train in one program and share these; auto: as many as a GPU gains by.",
    )
    growth_mb: float = Field(
        default=2048.0,
        gt=0,
        description="A worker whose own memory grew by more MB (of 2**20 bytes) since its first trial is replaced.",
    )

    @model_validator(mode="after")
    def _gpus_are_whole_or_shared(self) -> Resources:
        if self.gpu != "auto" and self.gpu > 1 and not self.gpu.is_integer():
            raise problem("gpu", f"{self.gpu:g} is neither a part of one GPU nor whole ones", "0 to 1, 2, 3, ..., auto")
        return self


class ReplayEntry(StrictModel):
    """One entry of a schedule."""

    epoch: int = Field(ge=1, le=100_000, description="The first epoch that trains with these.")
    params: Annotated[dict[ParameterName, ScalarField], Field(min_length=1)]


class SweepSpec(StrictModel):
    """One sweep file."""

    version: int = Field(default=1, ge=1, le=1)
    name: Name
    description: str = ""
    trainer: TrainerField | None = Field(
        default=None, description="A trainer's name or module:function; absent for an instrument."
    )
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

    mixtures: Annotated[tuple[Mixture, ...], Field(strict=False, max_length=20)] = Field(
        default=(), description="Parameters that are parts of a whole: their sum is the same in every configuration."
    )
    exclude: Annotated[tuple[Excluded, ...], Field(strict=False, max_length=10_000)] = Field(
        default=(), description="Configurations that are never proposed, or values whose combination is not."
    )
    limits: Annotated[tuple[Limit, ...], Field(strict=False, max_length=20)] = Field(
        default=(), description="What a result must keep to for its configuration to be best, such as pressure <= 3."
    )

    replay: Annotated[tuple[ReplayEntry, ...], Field(strict=False, max_length=1000)] = Field(
        default=(), description="With what every trial trains from which epoch on, such as what pbt found."
    )

    evaluate_test: bool = Field(
        default=False,
        description="Let the best epoch of each trial that ends answer the test part, for a report: no value of a "
        "trial depends on it.",
    )
    cross_validation: CrossValidation | None = Field(
        default=None, description="Trials of several divisions of the data; space then has the parameter split."
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
        check_mixtures(self.space, self.mixtures)
        check_constraints(self.space, self.constraints, self.mixtures)
        check_excluded(self.space, self.exclude)
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
            does = "compares" if search.scheduler == "pbt" else "stops"
            text = f"{search.scheduler} {does} trials by one objective, which would cut off the front of several"
            raise problem("search.scheduler", text, "none")
        if self.trade_off and search.stop != "never":
            raise problem("search.stop", f"{search.stop} is the gain in one objective, and there are several", "never")
        return self

    @model_validator(mode="after")
    def _choices_fit_together(self) -> SweepSpec:
        if self.search.stop != "never" and self.search.scheduler == "pbt":
            raise problem("search.stop", "pbt asks for all trials before the first has ended", "never")
        if self.search.replicates > 1 and self.trainer is not None and ":" not in self.trainer.name:
            text = f"{self.trainer.name} keeps the weights of the best single trial, which replicates do not tell"
            raise problem("search.replicates", text, "1, or a trainer that is a function")
        if self.search.finalists:
            self._finalists_can_be_trained()
        if self.limits and self.search.sampler == "cmaes":
            raise problem("search.sampler", "cmaes knows nothing of limits", "aifs, tpe, gp, nsga2, nsga3, random, qmc")
        if self.resources.gpu == "auto" and self.search.scheduler == "pbt":
            text = "auto measures one trial before the others start, and pbt starts all of them together"
            raise problem("resources.gpu", text, "a number from 0 to 64")
        return self

    def _finalists_can_be_trained(self) -> None:
        reasons = {
            "there is no trainer that could": self.trainer is None,
            "several objectives have no single best": bool(self.trade_off),
            "pbt changes configurations while they train": self.search.scheduler == "pbt",
            "replicates measure every configuration again": self.search.replicates > 1,
        }
        for reason, holds in reasons.items():
            if holds:
                raise problem("search.finalists", f"{self.search.finalists} to be trained again, and {reason}", "0")

    @model_validator(mode="after")
    def _splits_are_numbered(self) -> SweepSpec:
        if self.cross_validation is None:
            return self
        if self.trainer is not None and self.trainer.folds > 1:
            text = f"{self.trainer.folds} in each trial, and cross_validation has trials of one division each"
            raise problem("trainer.folds", text, "1, or no cross_validation")
        if self.search.scheduler == "pbt":
            raise problem("search.scheduler", "pbt hands weights from one division of the data to another", "another")
        last, parameter = self.cross_validation.n_splits - 1, self.space.root.get(SPLIT)
        allowed = f"split: {{type: int, low: 0, high: {last}}}, or one of these"
        if parameter is None:
            raise problem(f"space.{SPLIT}", "is not there, and cross_validation is", allowed)
        for value in parameter.extremes:
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= last:
                raise problem(f"space.{SPLIT}", f"{show(value)} of type {parameter.type} is no split", allowed)
        return self

    @model_validator(mode="after")
    def _replay_is_a_schedule(self) -> SweepSpec:
        before = 0
        for i, entry in enumerate(self.replay):
            if entry.epoch <= before or (i == 0 and entry.epoch != 1):
                allowed = f"a whole number above {before}" if i else "1 for the first entry"
                raise problem(f"replay.{i}.epoch", f"{entry.epoch} is out of order", allowed)
            before = entry.epoch
            for name in entry.params:
                self._check_replayed(f"replay.{i}.params.{name}", name)
        if self.replay and self.search.scheduler == "pbt":
            raise problem("replay", "a schedule is given, and pbt would make others", "another search.scheduler")
        return self

    def _check_replayed(self, key: str, name: str) -> None:
        first, parameter = self.replay[0].params, self.space.root.get(name)
        if parameter is not None and not isinstance(parameter, FixedParameter):
            raise problem(key, "is searched in space as well", f"leave out one of the two, or fix space.{name}")
        if parameter is not None and name in first and parameter.convert(first[name]) is None:
            text = f"begins with {show(first[name])}, space.{name} is {show(parameter.value)}"
            raise problem(key, text, "the same value in both, or none in space")

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """``objective``, which learning curves and ranking follow, and what is traded off against it."""
        return (self.objective, *self.trade_off)

    @property
    def cv(self) -> CrossValidation | None:
        """How the data are divided besides as ``data.split`` says: one division for each trial, or for each fold of
        ``trainer.folds`` in every trial."""
        if self.trainer is None or self.trainer.folds == 1:
            return self.cross_validation
        return CrossValidation(folds=self.trainer.folds, among="all")

    def check_params(self, params: Mapping[str, object]) -> dict[str, Scalar]:
        """``params`` as a full configuration in the space's order and types, one that breaks no constraint.

        Raises
        ------
        RequestError
            As :meth:`Space.check`, or naming the first mixture or constraint that is broken, with the values.
        """
        checked = self.space.check(params)
        for mixture in self.mixtures:
            mixture.check(checked)
        for constraint in self.constraints:
            if not constraint.holds(checked):
                raise RequestError(f"{constraint.values_in(checked)}: not allowed; allowed: {constraint}")
        return checked

    def allows(self, params: Mapping[str, object]) -> bool:
        """Whether a configuration of the space, with the totals of its mixtures, may be proposed."""
        return all(each.holds(params) for each in self.constraints) and not is_excluded(self.exclude, params)

    def projected(self, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """``params`` with the nearest amounts that have the totals of all mixtures."""
        projected = dict(params)
        for mixture in self.mixtures:
            projected = mixture.projected(projected, self.space)
        return projected
