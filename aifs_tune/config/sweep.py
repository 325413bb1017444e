"""Models of a whole sweep file: objective, trainer, data, search, resources and space.

:mod:`aifs_tune.config.loading` reads YAML and overrides and reports errors with line numbers.
:mod:`aifs_tune.space.search_space` has the parameters, :mod:`aifs_tune.space.constraints` the constraints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from aifs_tune._util.models import FilePath, Name, Prose, StrictModel, Text
from aifs_tune._util.scalars import Scalar, coded_params, did_you_mean, problem, show
from aifs_tune.config.cross_validation import SPLIT, CrossValidation
from aifs_tune.config.data import DataSpec
from aifs_tune.config.search import ONE_OBJECTIVE, SAMPLERS, TRADE_OFF_SEARCH, SearchSpec
from aifs_tune.config.trackers import TrackerField
from aifs_tune.errors import RequestError
from aifs_tune.space.constraints import Constraint, check_constraints
from aifs_tune.space.exclusions import Excluded, check_excluded, is_excluded
from aifs_tune.space.mixtures import Mixture, check_mixtures
from aifs_tune.space.outcome_limits import Limit
from aifs_tune.space.parameters import FixedParameter, ScalarField
from aifs_tune.space.search_space import ParameterName, Space


class Objective(StrictModel):
    """A metric to maximize or minimize."""

    metric: Text = Field(default="val_macro_f1", description="A metric that the trainer reports each epoch.")
    mode: Literal["max", "min"] = Field(default="max", description="Whether larger (max) or smaller (min) is better.")


TrainerName = Annotated[
    str,
    Field(
        pattern=r"^([a-z][a-z0-9_]*|[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*)$",
        description="a trainer's name or module:function",
    ),
]


CodeName = Annotated[
    str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$", description="module:function")
]

KERAS = "keras"
"""Name of the trainer of a user's own Keras model."""

LIBRARIES = ("sklearn", "xgboost", "lightgbm")
"""Packages whose estimators a sweep file may name without anybody's trust."""


class TrainerSpec(StrictModel):
    """The trainer that runs each trial, and settings that are the same for all trials."""

    name: TrainerName = "cnn"
    patience: int | None = Field(default=None, ge=1, description="Epochs without improvement after which a trial ends.")
    folds: int = Field(
        default=1,
        ge=1,
        le=50,
        description="Number of cross-validation folds within a trial, for tables: val_... is the mean over models "
        "trained on each fold; 1: the validation part only.",
    )
    class_weights: Literal["balanced", "none"] = Field(
        default="balanced", description="Weights of the classes in the loss; balanced: rare classes count more."
    )
    precision: Literal["auto", "float32", "mixed_bfloat16"] = Field(
        default="auto", description="Precision of convolutions; auto: mixed bfloat16 if the hardware supports it."
    )
    model: CodeName | None = Field(
        default=None,
        description="Function that returns the keras.Model which the trainer keras trains, as module:function.",
    )
    weights: FilePath | None = Field(
        default=None, description="Backbone weights of the trainer transfer: a file written by save_weights of Keras."
    )
    nan_epochs: Literal["fail", "skip"] = Field(
        default="fail", description="A trial whose objective is NaN or infinite in an epoch: fail, or skip the epoch."
    )
    checkpoint_s: float = Field(default=20.0, ge=0, description="Seconds between two checkpoints of a running trial.")

    @model_validator(mode="after")
    def _keras_has_a_model(self) -> TrainerSpec:
        if self.name == KERAS and self.model is None:
            raise problem("model", "missing: keras trains a model of yours", "module:function that returns it")
        if self.name != KERAS and self.model is not None:
            text = f"has no effect: {self.name} has a model of its own"
            raise problem("model", text, f"leave it out, or name: {KERAS}")
        return self

    @property
    def code(self) -> str | None:
        """The user's code that it names, as ``module:name``: the trainer itself or its model."""
        return self.name if ":" in self.name else self.model


def _from_name(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else given


TrainerField = Annotated[TrainerSpec, BeforeValidator(_from_name, json_schema_input_type=TrainerName | TrainerSpec)]


class Resources(StrictModel):
    """Hardware that each trial uses."""

    cpu: float = Field(default=1.0, gt=0, le=1024, description="Number of CPU cores of a trial.")
    gpu: Annotated[float, Field(ge=0, le=64)] | Literal["auto"] = Field(
        default=0.0,
        description="Number of GPUs of a trial; a fraction shares one GPU; auto: as many trials share a GPU as its "
        "memory can hold, estimated from the first trial.",
    )
    fused_trials: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        default="auto",
        description="Number of trials of equal shape that train as one program and share these resources; auto: chosen "
        "for the best throughput on a GPU.",
    )
    fresh_process: bool = Field(
        default=False, description="A new process for each trial, for code that changes the process it runs in."
    )
    growth_mb: float = Field(
        default=2048.0,
        gt=0,
        description="Memory growth in MB (2**20 bytes) since its first trial after which a worker is replaced.",
    )

    @model_validator(mode="after")
    def _gpus_are_whole_or_shared(self) -> Resources:
        if self.gpu != "auto" and self.gpu > 1 and not self.gpu.is_integer():
            raise problem(
                "gpu", f"{self.gpu:g} is neither a fraction of one GPU nor a whole number", "0 to 1, 2, 3, ..., auto"
            )
        return self


class ReplayEntry(StrictModel):
    """One step of a schedule of hyperparameters."""

    epoch: int = Field(ge=1, le=100_000, description="First epoch that uses these values.")
    params: Annotated[dict[ParameterName, ScalarField], Field(min_length=1, description="Values by parameter name.")]


class Refit(StrictModel):
    """A configuration that trains on the training and validation sets together, up to an epoch that is known before."""

    params: dict[ParameterName, ScalarField] = Field(description="The configuration: a value for each parameter.")
    epoch: int = Field(ge=1, le=100_000, description="Last epoch, whose weights are kept.")


def _is_estimator(trainer: str, *, has_table: bool) -> bool:
    """Whether a trainer of this name is an estimator: one of a known library, or made by a function for a table."""
    return ":" in trainer and (has_table or trainer.partition(":")[0].partition(".")[0] in LIBRARIES)


class SweepSpec(StrictModel):
    """The content of a sweep file, checked and frozen.

    Read one with :func:`load_sweep_file`. Everything but ``name`` and ``space`` has a default.

    Attributes
    ----------
    version
        Version of the file format; 1.
    name
        Name of the sweep: 1 to 63 lower-case letters, digits, ``-`` and ``_``, the first a letter or digit.
    description
        Free text; default empty.
    trainer
        Name of a trainer or ``module:function``, or a mapping with ``name`` and settings; default None, for an
        instrument.
    data
        Data that the trainer reads; default None. See :class:`DataSpec`.
    objective
        Metric to optimize and its mode; default ``val_macro_f1``, ``max``.
    trade_off
        Up to three further objectives; the result is then a Pareto front. Default none.
    search
        Sampler, scheduler, number of trials and epochs; default 32 trials of 20 epochs.
    resources
        CPU cores and GPUs of each trial; default 1 core.
    space
        Parameters by name.
    constraints
        Expressions that every configuration satisfies; default none.
    mixtures
        Groups of parameters with a fixed sum; default none.
    exclude
        Configurations that are never proposed; default none.
    limits
        Bounds on metrics that the best configuration must satisfy, such as ``pressure <= 3``; default none.
    replay
        Schedule of hyperparameters for all trials; default none.
    refit
        Configurations that train on the training and validation sets together, as ``aifs-tune finalize`` writes them;
        default none. Their metrics ``val_...`` are then those of examples that were trained on.
    evaluate_test
        Whether the best epoch of each finished trial is evaluated on the test part; default False.
    trackers
        Trackers of experiments in which each trial becomes a run: ``tensorboard``, ``mlflow``, ``wandb``, by name or as
        a mapping with options; default none.
    cross_validation
        Cross-validation across trials; default None. The space then has a parameter ``split``.

    Examples
    --------
    >>> from aifs_tune.config import SweepSpec
    >>> spec = SweepSpec.model_validate({
    ...     "name": "furnace",
    ...     "objective": {"metric": "yield", "mode": "max"},
    ...     "space": {"temperature": {"type": "int", "low": 600, "high": 1200}},
    ... })
    >>> spec.search.trials, spec.space["temperature"].high
    (32, 1200)
    """

    model_config = ConfigDict(json_schema_extra={"description": "The content of a sweep file."})

    version: int = Field(default=1, ge=1, le=1, description="Version of the file format.")
    name: Name
    description: Prose = Field(default="", description="Free text.")
    trainer: TrainerField | None = Field(
        default=None, description="A trainer's name or module:function; absent for an instrument."
    )
    data: DataSpec | None = Field(default=None, description="Data that the trainer reads.")
    objective: Objective = Field(default=Objective(), description="Metric that decides which configuration is best.")
    trade_off: Annotated[tuple[Objective, ...], Field(strict=False, max_length=3)] = Field(
        default=(), description="Further objectives; the result is then a Pareto front, and no trial stops early."
    )
    search: SearchSpec = Field(default=SearchSpec(), description="How the space is searched.")
    resources: Resources = Field(default=Resources(), description="Hardware that each trial uses.")
    space: Space
    constraints: Annotated[tuple[Constraint, ...], Field(strict=False, max_length=100)] = Field(
        default=(), description="Expressions that every configuration satisfies, such as filters * dense_units <= 8192."
    )
    mixtures: Annotated[tuple[Mixture, ...], Field(strict=False, max_length=20)] = Field(
        default=(), description="Groups of parameters whose sum is the same in every configuration."
    )
    exclude: Annotated[tuple[Excluded, ...], Field(strict=False, max_length=10_000)] = Field(
        default=(), description="Configurations, or combinations of values, that are never proposed."
    )
    limits: Annotated[tuple[Limit, ...], Field(strict=False, max_length=20)] = Field(
        default=(), description="Bounds on metrics that the best configuration must satisfy, such as pressure <= 3."
    )
    replay: Annotated[tuple[ReplayEntry, ...], Field(strict=False, max_length=1000)] = Field(
        default=(), description="Schedule of hyperparameters for all trials, such as one that pbt found."
    )
    refit: Annotated[tuple[Refit, ...], Field(strict=False, max_length=1000)] = Field(
        default=(),
        description="Configurations that train on the training and validation sets together up to a known epoch, "
        "instead of a search; val_... is then measured on examples that were trained on.",
    )
    evaluate_test: bool = Field(
        default=False,
        description="Whether the best epoch of each finished trial is evaluated on the test part, for reports; the "
        "search does not use the result.",
    )
    trackers: Annotated[tuple[TrackerField, ...], Field(strict=False, max_length=10)] = Field(
        default=(), description="Trackers of experiments, where each trial becomes a run: tensorboard, mlflow, wandb."
    )
    cross_validation: CrossValidation | None = Field(
        default=None, description="Cross-validation across trials; the space must then have the parameter split."
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_a_trade_off(cls, given: Any) -> Any:
        """Fill in ``sampler`` and ``scheduler`` if there are several objectives and they are absent."""
        if not isinstance(given, Mapping) or not given.get("trade_off"):
            return given
        search = given.get("search", {})
        return {**given, "search": TRADE_OFF_SEARCH | dict(search)} if isinstance(search, Mapping) else given

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_an_estimator(cls, given: Any) -> Any:
        """Fill in ``epochs`` if it is absent and the trainer is an estimator, which is fitted in one epoch."""
        if not isinstance(given, Mapping):
            return given
        trainer, data, search = given.get("trainer"), given.get("data"), given.get("search", {})
        name = trainer.get("name") if isinstance(trainer, Mapping) else trainer
        has_table = isinstance(data, Mapping) and data.get("table") is not None
        if not isinstance(name, str) or not _is_estimator(name, has_table=has_table) or not isinstance(search, Mapping):
            return given
        return {**given, "search": {"epochs": 1, **search}}

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
                f"trade_off.{twice - 1}.metric", f"{metrics[twice]} is already an objective", "another metric"
            )
        search = self.search
        if self.trade_off and search.sampler.name in ONE_OBJECTIVE:
            others = ", ".join(name for name in SAMPLERS if name not in ONE_OBJECTIVE)
            raise problem(
                "search.sampler", f"{search.sampler.name} supports one objective only", f"{others}, module:Class"
            )
        if self.trade_off and search.scheduler != "none":
            does = "compares" if search.scheduler == "pbt" else "stops"
            text = f"{search.scheduler} {does} trials by one objective, which would miss a part of the Pareto front"
            raise problem("search.scheduler", text, "none")
        if self.trade_off and search.stop != "never":
            raise problem("search.stop", f"{search.stop} supports one objective only, and there are several", "never")
        return self

    @model_validator(mode="after")
    def _batches_and_costs_fit(self) -> SweepSpec:
        search = self.search
        for key, is_given in (("shared", bool(search.shared)), ("cost", search.cost is not None)):
            if is_given and search.sampler.name != "aifs":
                raise problem(f"search.{key}", f"{search.sampler.name} does not support it", "sampler: aifs")
        if search.cost is not None:
            search.cost.check_fits("search.cost", self.space, self.allows)
        if search.shared and self.trainer is not None:
            text = "the trials of a sweep start one by one, so there is no batch that could share a value"
            raise problem("search.shared", text, "a study without a trainer")
        if search.shared and search.initial is not None:
            text = "the order of an initial design is random, so its configurations share no value"
            raise problem("search.shared", text, "shared without initial")
        mixed = {name for mixture in self.mixtures for name in mixture.components}
        for i, name in enumerate(search.shared):
            if name not in self.space:
                nearest = did_you_mean(name, list(self.space.root))
                raise problem(f"search.shared.{i}", f"no parameter {name}{nearest}", ", ".join(self.space.root))
            if name in mixed:
                raise problem(f"search.shared.{i}", f"{name} is a component of a mixture", "other parameters")
        return self

    @model_validator(mode="after")
    def _choices_fit_together(self) -> SweepSpec:
        if self.search.stop != "never" and self.search.scheduler == "pbt":
            raise problem("search.stop", "pbt starts all trials before the first one ends", "never")
        if self.search.replicates > 1 and self.trainer is not None and not self.is_of_function:
            text = f"{self.trainer.name} keeps the weights of the best single trial, which replicates do not determine"
            raise problem("search.replicates", text, "1, or a trainer that is a function")
        if self.search.finalists:
            self._finalists_can_be_trained()
        if self.limits and self.search.sampler.name == "cmaes":
            raise problem("search.sampler", "cmaes does not support limits", "aifs, tpe, gp, nsga2, nsga3, random, qmc")
        if self.resources.gpu == "auto" and self.search.scheduler == "pbt":
            text = "auto needs one trial to run before the others, but pbt starts all trials together"
            raise problem("resources.gpu", text, "a number from 0 to 64")
        return self

    def _finalists_can_be_trained(self) -> None:
        reasons = {
            "there is no trainer": self.trainer is None,
            "several objectives have no single best configuration": bool(self.trade_off),
            "pbt changes configurations during training": self.search.scheduler == "pbt",
            "replicates already evaluate every configuration again": self.search.replicates > 1,
        }
        for reason, holds in reasons.items():
            if holds:
                raise problem("search.finalists", f"{self.search.finalists} cannot be trained again: {reason}", "0")

    @model_validator(mode="after")
    def _splits_are_numbered(self) -> SweepSpec:
        if self.cross_validation is None:
            return self
        if self.trainer is not None and self.trainer.folds > 1:
            text = f"{self.trainer.folds} cannot be combined with cross_validation, where each trial uses one split"
            raise problem("trainer.folds", text, "1, or no cross_validation")
        if self.search.scheduler == "pbt":
            raise problem(
                "search.scheduler", "pbt would copy weights from one split of the data to another", "another scheduler"
            )
        last, parameter = self.cross_validation.n_splits - 1, self.space.root.get(SPLIT)
        allowed = f"{{type: int, low: 0, high: {last}}}, or one of these numbers"
        if parameter is None:
            raise problem(f"space.{SPLIT}", "missing, but cross_validation needs it", allowed)
        for value in parameter.extremes:
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= last:
                raise problem(f"space.{SPLIT}", f"{show(value)} of type {parameter.type} is not a split", allowed)
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
            raise problem("replay", "cannot be combined with pbt, which changes parameters", "another search.scheduler")
        return self

    def _check_replayed(self, key: str, name: str) -> None:
        first, parameter = self.replay[0].params, self.space.root.get(name)
        if parameter is not None and not isinstance(parameter, FixedParameter):
            raise problem(key, "is also searched in space", f"remove one of the two, or fix space.{name}")
        if parameter is not None and name in first and parameter.convert(first[name]) is None:
            text = f"the first entry has {show(first[name])}, but space.{name} is {show(parameter.value)}"
            raise problem(key, text, f"the same value in both, or no space.{name}")

    @model_validator(mode="after")
    def _refit_is_no_search(self) -> SweepSpec:
        if not self.refit:
            return self
        trainer, search = self.trainer, self.search
        reasons = {
            "there is no trainer": trainer is None,
            "a function reads its own data": self.is_of_function,
            "trainer.folds would measure on folds": trainer is not None and trainer.folds > 1,
            "trainer.patience would end a trial before": trainer is not None and trainer.patience is not None,
            "cross_validation divides the examples that it joins": self.cross_validation is not None,
            f"search.scheduler: {search.scheduler} stops trials before": search.scheduler != "none",
        }
        for reason, holds in reasons.items():
            if holds:
                raise problem("refit", f"is not possible: {reason}", "a built-in trainer that only trains")
        for i, each in enumerate(self.refit):
            if each.epoch > search.epochs:
                text = f"{each.epoch} is above search.epochs"
                raise problem(f"refit.{i}.epoch", text, f"1 to {search.epochs}")
        return self

    def refit_epoch(self, params: Mapping[str, object]) -> int | None:
        """The last epoch of a configuration in ``refit``; None if it is not there.

        Parameters
        ----------
        params
            The configuration.

        Returns
        -------
        int or None
            The epoch, from 1.

        Examples
        --------
        >>> from aifs_tune.config import load_sweep_file
        >>> load_sweep_file("quick_sky").refit_epoch({}) is None
        True
        """
        return next((each.epoch for each in self.refit if coded_params(each.params) == coded_params(params)), None)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """``objective``, which learning curves and the ranking use, followed by the objectives of ``trade_off``."""
        return (self.objective, *self.trade_off)

    @property
    def is_of_function(self) -> bool:
        """Whether the trainer is a user's function or class of trainers, which reads its own data."""
        return self.trainer is not None and ":" in self.trainer.name and not self.is_of_estimator

    @property
    def is_of_estimator(self) -> bool:
        """Whether the trainer is an estimator of scikit-learn's kind, which learns from ``data.table``."""
        has_table = self.data is not None and self.data.table is not None
        return self.trainer is not None and _is_estimator(self.trainer.name, has_table=has_table)

    @property
    def cv(self) -> CrossValidation | None:
        """Cross-validation in use: across trials (``cross_validation``), or within each trial (``trainer.folds``)."""
        if self.trainer is None or self.trainer.folds == 1:
            return self.cross_validation
        return CrossValidation(folds=self.trainer.folds, among="all")

    def check_params(self, params: Mapping[str, object]) -> dict[str, Scalar]:
        """Check a configuration against the space, the mixtures and the constraints.

        Parameters
        ----------
        params
            Values of all active parameters by name.

        Returns
        -------
        dict
            The configuration in the order and with the types of the space (3 becomes 3.0 for a float).

        Raises
        ------
        RequestError
            If a value is missing or not allowed, or a mixture or constraint is not satisfied.

        Examples
        --------
        >>> from aifs_tune.config import load_sweep_file
        >>> spec = load_sweep_file("quick_sky")
        >>> spec.check_params(spec.space.default_params()) == spec.space.default_params()
        True
        """
        checked = self.space.check(params)
        for mixture in self.mixtures:
            mixture.check(checked)
        for constraint in self.constraints:
            if not constraint.holds(checked):
                raise RequestError(f"{constraint.values_in(checked)}: not allowed; allowed: {constraint}")
        return checked

    def allows(self, params: Mapping[str, object]) -> bool:
        """Whether a configuration may be proposed: it satisfies all constraints and is not excluded.

        Parameters
        ----------
        params
            A configuration that the space and its mixtures allow.

        Returns
        -------
        bool
            False if a constraint is not satisfied or an entry of ``exclude`` matches.

        Examples
        --------
        >>> from aifs_tune.config import SweepSpec
        >>> space = {"x": {"type": "int", "low": 1, "high": 9}}
        >>> SweepSpec.model_validate({"name": "a", "space": space, "constraints": ["x > 3"]}).allows({"x": 2})
        False
        """
        return all(each.holds(params) for each in self.constraints) and not is_excluded(self.exclude, params)

    def projected(self, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Move a configuration to the nearest one that has the totals of all mixtures.

        Parameters
        ----------
        params
            Values of all active parameters by name.

        Returns
        -------
        dict
            The configuration, with only the components of mixtures changed.

        Examples
        --------
        >>> from aifs_tune.config import SweepSpec
        >>> part = {"type": "float", "low": 0, "high": 1}
        >>> mixtures = [{"components": ["resin", "hardener"]}]
        >>> space = {"resin": part, "hardener": part}
        >>> spec = SweepSpec.model_validate({"name": "a", "space": space, "mixtures": mixtures})
        >>> projected = spec.projected({"resin": 0.5, "hardener": 0.7})
        >>> round(projected["resin"], 9), round(projected["hardener"], 9)
        (0.4, 0.6)
        """
        projected = dict(params)
        for mixture in self.mixtures:
            projected = mixture.projected(projected, self.space)
        return projected
