"""Construction of the trainer that a sweep file names, and the checks before a sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aifs_tune._util.scalars import Scalar, did_you_mean
from aifs_tune.config.cross_validation import SPLIT
from aifs_tune.config.data import DataSpec
from aifs_tune.config.sweep import KERAS, SweepSpec
from aifs_tune.errors import RequestError
from aifs_tune.space.parameters import Parameter
from aifs_tune.trainers.function import can_change, check_callable, import_function, make_user_trainer
from aifs_tune.trainers.models.transfer import TransferParams, check_weights
from aifs_tune.trainers.network.params import CLASS_LOSS, QUANTILES, VALUES_WEIGHT
from aifs_tune.trainers.objectives import check_metrics
from aifs_tune.trainers.optuna_objective import ObjectiveTrainer, is_objective
from aifs_tune.trainers.own_model.entry import ModelEntry, kind_of_data
from aifs_tune.trainers.predictions import quantile_metrics, signal_of
from aifs_tune.trainers.protocol import Trainer
from aifs_tune.trainers.registry import TRAINERS, TrainerEntry
from aifs_tune.trainers.sklearn import EstimatorEntry, EstimatorRecipe, check_estimator, is_estimator

if TYPE_CHECKING:
    from aifs_tune.trainers.fused.fused import FusedTrainer


MIN_PBT_TRIALS = 4
"""Smallest number of trials of ``pbt``: a quarter of fewer is less than one trial."""


def find_trainer_entry(spec: SweepSpec) -> TrainerEntry | EstimatorEntry | ModelEntry | None:
    """Registry entry of the trainer of ``spec``; None for an instrument or a function."""
    if spec.trainer is not None and spec.is_of_estimator:
        return EstimatorEntry(spec.trainer.name)
    if spec.trainer is not None and spec.trainer.model is not None:
        return ModelEntry(spec.trainer.model, kind_of_data(spec.data))
    return None if spec.trainer is None else TRAINERS.get(spec.trainer.name)


def heavy_modules(spec: SweepSpec) -> tuple[str, ...]:
    """Modules that take long to import and that every worker needs.

    Empty for a function, and if trials may be fused: then one process trains several of them.
    """
    trainer_entry = find_trainer_entry(spec)
    return trainer_entry.preload if trainer_entry is not None and why_not_fused(spec) is not None else ()


def why_not_fused(spec: SweepSpec) -> str | None:
    """Reason why trials of ``spec`` are not trained together in one program; None if they can be."""
    wanted = spec.resources.fused_trials
    if wanted == 1 or (wanted == "auto" and not spec.resources.gpu):
        return "one trial keeps a CPU busy"
    if spec.resources.gpu == "auto":
        return "the first trial measures the share of a GPU for the others"
    if spec.resources.gpu > 1:
        return "each trial uses several GPUs"
    if spec.cross_validation is not None:
        return "trials use different splits of the data"
    if spec.search.scheduler == "pbt" or spec.replay:
        return "the parameters of trials change while they train"
    trainer_entry = find_trainer_entry(spec)
    if not isinstance(trainer_entry, TrainerEntry | ModelEntry) or not trainer_entry.is_fusible:
        return "only trials of networks that train on JAX can be fused"
    assert spec.trainer is not None
    if spec.trainer.folds > 1:
        return "each trial trains on several folds"
    static, space = trainer_entry.static_params, spec.space
    tuned = [name for name in static if name in space and len(set(space[name].extremes)) > 1]
    if wanted == "auto" and tuned:
        return f"trials have different shapes because {', '.join(tuned)} is tuned"
    if find_spec("jax") is None:
        return "JAX is not installed (pip install 'aifs-tune[fused]')"
    return None


def compiled_anew(spec: SweepSpec) -> list[str]:
    """Searched parameters of which each value needs a compiled program of its own."""
    entry, name = find_trainer_entry(spec), "" if spec.trainer is None else spec.trainer.name
    searched = {key for key, parameter in spec.space.items() if len(set(parameter.extremes)) > 1}
    if entry is None and ":" in name and (find := getattr(import_function(name), "compiled_anew", None)) is not None:
        return [key for key in find(spec.space) if key in searched]
    if isinstance(entry, ModelEntry):
        return [key for key in entry.compiled_anew(spec) if key in searched]
    return [key for key in (entry.static_params if entry is not None else ()) if key in searched]


def check_trainer(spec: SweepSpec, function: Callable[..., Any] | None = None) -> None:
    """Check before the sweep that its trainer exists and allows its parameters, metrics and options.

    ``function`` is the user's code where it was given in Python.

    Raises
    ------
    RequestError
        If the sweep names no trainer or an unknown one, its function cannot be imported, or the trainer does not allow
        a parameter, a metric or an option of the sweep.
    """
    if spec.trainer is None:
        raise RequestError(
            f"{spec.name} names no trainer: it is for an instrument; use aifs-tune ask and tell, or add "
            "trainer: cnn or trainer: module:function"
        )
    _check_both(spec, spec.trainer.name)
    if ":" in spec.trainer.name:
        function = check_callable(function, spec.trainer.name) if function else import_function(spec.trainer.name)
        _check_code(spec, function)
    elif isinstance(entry := find_trainer_entry(spec), ModelEntry):
        _check_options(spec, KERAS, entry)
        entry.recipe(function).check_space(
            [name for name in spec.space.root if name != SPLIT or spec.cross_validation is None],
            entry.parameters(spec.data or DataSpec()),
        )
        _check_values(spec, entry.recipe(function).of_training)
        entry.check_compiled(spec, function)
    elif spec.trainer.name not in TRAINERS:
        known = ", ".join([*TRAINERS, KERAS])
        raise RequestError(
            f"trainer: {spec.trainer.name!r} is unknown{did_you_mean(spec.trainer.name, list(TRAINERS))}; "
            f"allowed: {known}, module:function"
        )
    else:
        _check_options(spec, spec.trainer.name, TRAINERS[spec.trainer.name])
        _check_space(spec, spec.trainer.name, TRAINERS[spec.trainer.name])
    _check_changes(spec, spec.trainer.name, function)
    if spec.resources.fused_trials not in ("auto", 1) and (reason := why_not_fused(spec)) is not None:
        raise RequestError(
            f"resources.fused_trials: {spec.resources.fused_trials} is not possible: {reason}; allowed: 1"
        )


def _check_both(spec: SweepSpec, name: str) -> None:
    """Check that the trainer learns numbers beside classes, if the data have both."""
    entry, data = find_trainer_entry(spec), spec.data or DataSpec()
    if entry is None or not (data.has_classes(entry.kind) and data.targets(entry.kind)):
        return
    if not (isinstance(entry, TrainerEntry) and entry.learns_both):
        able = ", ".join(known for known, each in TRAINERS.items() if each.kind == entry.kind and each.learns_both)
        numbers = ", ".join(data.targets(entry.kind))
        raise RequestError(
            f"data.{entry.kind}: numbers ({numbers}) beside classes are not allowed for {name}; allowed for: {able}"
        )


def _check_code(spec: SweepSpec, code: Callable[..., Any]) -> None:
    """Check an estimator and its table, or that a function needs neither table nor folds."""
    assert spec.trainer is not None
    if spec.is_of_estimator:
        check_estimator(spec, code)
    elif is_estimator(code):
        raise RequestError(
            f"data: missing: {spec.trainer.name} learns from a table; allowed: a table, such as "
            "data: {table: {file: FILE, target: COLUMN}}"
        )
    elif spec.trainer.folds > 1:
        raise RequestError(
            f"trainer.folds: {spec.trainer.folds} is not allowed: a function reads its own data; allowed: 1"
        )


def _check_values(spec: SweepSpec, allowed: Mapping[str, Parameter]) -> None:
    """Check that parameters of the training have allowed values."""
    for key, parameter in spec.space.items():
        for value in parameter.extremes if key in allowed else ():
            allowed[key].take(f"space.{key}", value)


def _check_options(spec: SweepSpec, name: str, trainer_entry: TrainerEntry | ModelEntry) -> None:
    """Check ``weights``, ``folds`` and the metrics of the objectives."""
    assert spec.trainer is not None
    if spec.trainer.weights is not None and not trainer_entry.needs_weights:
        others = ", ".join(name for name, one in TRAINERS.items() if one.needs_weights)
        raise RequestError(
            f"trainer.weights: {spec.trainer.weights} is not allowed: the {name} does not start from weights; "
            f"allowed for: {others}"
        )
    if spec.trainer.folds > 1 and trainer_entry.kind != "table":
        able = ", ".join(known for known, each in TRAINERS.items() if each.kind == "table")
        raise RequestError(
            f"trainer.folds: {spec.trainer.folds} is not allowed for the {name}; allowed: 1, or trainers {able}"
        )
    data = spec.data or DataSpec()
    targets = data.targets(trainer_entry.kind)
    reasons = _without_quantiles(spec, targets)
    metrics = trainer_entry.metrics(data, [objective.metric for objective in spec.objectives])
    reported = [metric for metric in metrics if metric not in reasons]
    unreported = {metric: reason for metric, reason in reasons.items() if metric in metrics}
    check_metrics(spec, f"the {name}", reported, unreported, has_classes=data.has_classes(trainer_entry.kind))


def _without_quantiles(spec: SweepSpec, targets: Sequence[str]) -> dict[str, str]:
    """Why metrics of quantiles are not reported by all trials of ``spec``; empty if they are."""
    losses = spec.space["loss"].extremes if "loss" in spec.space else ()
    if set(losses) == {QUANTILES}:
        return {}
    return {
        metric: f"{metric} is one of quantiles; allowed: with space.loss: {QUANTILES} and no other loss"
        for target in targets
        for metric in quantile_metrics(target)
    }


def _check_space(spec: SweepSpec, name: str, trainer_entry: TrainerEntry) -> None:
    """Check that the trainer has each parameter of the space and allows its values."""
    assert spec.trainer is not None
    allowed = trainer_entry.parameters(spec.data or DataSpec())
    for key in spec.space.root:
        if key == SPLIT and spec.cross_validation is not None:
            continue
        if key in trainer_entry.allowed and key not in allowed:
            reason = (
                "only with classes and numbers together"
                if key in VALUES_WEIGHT
                else f"only with {'classes' if key in CLASS_LOSS else 'numbers'}, not with "
                f"{'numbers' if key in CLASS_LOSS else 'classes'}"
            )
            raise RequestError(f"space.{key}: has an effect {reason}; allowed: {', '.join(allowed)}")
        if key not in allowed:
            raise RequestError(
                f"space.{key}: the {name} has no such parameter{did_you_mean(key, list(allowed))}; "
                f"allowed: {', '.join(allowed)}"
            )
    _check_values(spec, allowed)
    if trainer_entry.needs_weights:
        named = spec.space["backbone"].default_value if "backbone" in spec.space else None
        params = TransferParams.from_mapping({} if named is None else {"backbone": named})
        check_weights(spec.trainer.weights, params.backbone)


def _check_changes(spec: SweepSpec, name: str, function: Callable[..., Any] | None) -> None:
    """Check that a population or a schedule has parameters that can change in a running trial."""
    trainer_entry = find_trainer_entry(spec)
    is_pbt = spec.search.scheduler == "pbt"
    is_users = function is not None and can_change(function)
    is_adaptable = is_users if trainer_entry is None else trainer_entry.is_adaptable
    if (is_pbt or spec.replay) and not is_adaptable:
        key = "search.scheduler: pbt" if is_pbt else "replay"
        able = ", ".join(known for known, each in TRAINERS.items() if each.is_adaptable)
        raise RequestError(
            f"{key}: parameters cannot change in a running trial of {name}; allowed: trainers {able}, or a class with "
            "change, save and load"
        )
    if is_pbt and spec.search.trials < MIN_PBT_TRIALS:
        raise RequestError(
            f"search.trials: {spec.search.trials} are too few for pbt; allowed: {MIN_PBT_TRIALS} or more"
        )
    if trainer_entry is None:
        return
    changeable = [each for each in trainer_entry.allowed if each not in trainer_entry.static_params]
    if is_pbt and all(
        each in trainer_entry.static_params or spec.space[each].type == "fixed" for each in spec.space.root
    ):
        raise RequestError(
            f"space: no searched parameter can change in a running trial; allowed: any of {', '.join(changeable)}"
        )
    for i, entry in enumerate(spec.replay):
        for each, value in entry.params.items():
            key = f"replay.{i}.params.{each}"
            if each not in changeable:
                raise RequestError(
                    f"{key}: cannot change in a running trial of the {name}; allowed: {', '.join(changeable)}"
                )
            trainer_entry.allowed[each].take(key, value)


def make_trainer(
    spec: SweepSpec,
    data: Path | None,
    *,
    params: Mapping[str, Scalar],
    seed: int,
    folds: Sequence[Path] = (),
    threads: int | None = None,
    gpu: float = 0.0,
    function: Callable[..., Any] | None = None,
) -> Trainer:
    """Make the trainer that ``spec`` names.

    Parameters
    ----------
    spec
        The sweep.
    data
        Folder of the prepared data; None for a function.
    params, seed
        Hyperparameters and seed of the first trial.
    folds
        Folders of the data in other splits, which measure each epoch as well.
    threads
        CPU threads; None for all.
    gpu
        GPUs of this process, or the share of one.
    function
        The user's code where it was given in Python; None if ``spec`` names what can be imported.

    Raises
    ------
    RequestError
        As of :func:`check_trainer`, or if a trainer that needs data gets none.
    """
    check_trainer(spec, function)
    assert spec.trainer is not None
    trainer_entry = find_trainer_entry(spec)
    if trainer_entry is None:
        function = function or import_function(spec.trainer.name)
        of_user: dict[str, Any] = {
            "objectives": [objective.metric for objective in spec.objectives],
            "mode": spec.objective.mode,
            "epochs": spec.search.epochs,
        }
        if is_objective(function):
            return ObjectiveTrainer(function, space=spec.space, **of_user)
        return make_user_trainer(function, **of_user)
    if data is None:
        raise RequestError(f"trainer {spec.trainer.name} needs data; give --data")
    from aifs_tune.data import open_examples, open_images

    opened: list[Any] = [
        _with_signal(open_images(each) if trainer_entry.kind == "images" else open_examples(each), spec)
        for each in (data, *folds)
    ]
    if spec.refit:
        opened = [replace(each, train=np.concatenate([each.train, each.val])) for each in opened]
    options = _task_options(spec) | {"seed": seed, "threads": threads, "devices": gpu or 1}
    if trainer_entry.needs_weights:
        options["weights"] = spec.trainer.weights
    if isinstance(trainer_entry, EstimatorEntry):
        code = check_callable(function, spec.trainer.name) if function else import_function(spec.trainer.name)
        kept = ("metric", "mode", "class_weights", "keep", "seed", "threads")
        options = {name: options[name] for name in kept} | {"estimator": EstimatorRecipe(spec.trainer.name, code)}
    if isinstance(trainer_entry, ModelEntry):
        options["model"] = trainer_entry.recipe(function)
    own, *others = (trainer_entry.trainer_type(one, params, **options) for one in opened)
    if others:
        from aifs_tune.trainers.folded import folded

        own = folded(own, others)
        own.reset(params, seed=seed)
    made: Trainer = own
    return made


def make_fused_trainer(
    spec: SweepSpec, data: Path, *, max_size: int, function: Callable[..., Any] | None = None
) -> FusedTrainer:
    """Make the fused trainer that ``spec`` asks for, of at most ``max_size`` trials; see :func:`why_not_fused`.

    Other arguments are those of :func:`make_trainer`.
    """
    from aifs_tune.trainers.fused.fused import FusedTrainer, choose_fused_size

    trainer_entry = find_trainer_entry(spec)
    assert isinstance(trainer_entry, TrainerEntry | ModelEntry)
    static = trainer_entry.static_params
    params = {name: parameter.extremes[0] for name, parameter in spec.space.items() if name in static}
    trainer: Any = make_trainer(spec, data, params=params, seed=0, function=function)
    wanted = spec.resources.fused_trials
    size = min(max_size, wanted) if isinstance(wanted, int) else choose_fused_size(trainer, max_size=max_size)
    return FusedTrainer(trainer, size=size)


def _with_signal(opened: Any, spec: SweepSpec) -> Any:
    """``opened`` examples or images with the signal of ``spec`` and the false-positive rates of its objectives."""
    if spec.data is None or spec.data.signal is None:
        return opened
    return replace(opened, signal=signal_of(spec.data.signal, [objective.metric for objective in spec.objectives]))


def _task_options(spec: SweepSpec) -> dict[str, Any]:
    """Arguments of a task that the sweep sets."""
    assert spec.trainer is not None
    return {
        "metric": spec.objective.metric,
        "mode": spec.objective.mode,
        "patience": spec.trainer.patience,
        "class_weights": spec.trainer.class_weights,
        "precision": spec.trainer.precision,
        "epochs": spec.search.epochs,
        "keep": "last" if spec.refit else "best",
    }
