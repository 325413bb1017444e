"""Trainers by the name that a sweep file gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifs_tune._util.scalars import Scalar
from aifs_tune.config.cross_validation import SPLIT
from aifs_tune.config.data import DataSpec
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import RequestError
from aifs_tune.trainers.function import FunctionTrainer, import_function
from aifs_tune.trainers.models import cnn as cnn_params
from aifs_tune.trainers.models.transfer import TransferParams, check_weights
from aifs_tune.trainers.network.params import CLASS_LOSS
from aifs_tune.trainers.protocol import Trainer
from aifs_tune.trainers.registry import TRAINERS, TrainerEntry

if TYPE_CHECKING:
    from aifs_tune.trainers.fused.fused import FusedTrainer


MIN_FUSED_TRIALS = 4
"""Trials of pbt: with fewer, a quarter of them is less than one."""


def find_trainer_entry(spec: SweepSpec) -> TrainerEntry | None:
    """The trainer of ``spec``; None for an instrument or a lab's own function."""
    return None if spec.trainer is None else TRAINERS.get(spec.trainer.name)


def heavy_modules(spec: SweepSpec) -> tuple[str, ...]:
    """What takes long to import and every worker will need; nothing for a lab's own function, or where trials may
    train in a population."""
    trainer_entry = find_trainer_entry(spec)
    return (trainer_entry.module,) if trainer_entry is not None and why_not_fused(spec) is not None else ()


def why_not_fused(spec: SweepSpec) -> str | None:
    """Why no two trials of ``spec`` can or need train in one program; None if they can."""
    wanted = spec.resources.fused_trials
    if wanted == 1 or (wanted == "auto" and not spec.resources.gpu):
        return "a CPU is kept busy by one trial"
    if spec.resources.gpu == "auto":
        return "the first trial measures what share of a GPU the others get"
    if spec.resources.gpu > 1:
        return "each trial is given several GPUs"
    if spec.cross_validation is not None:
        return "trials are of different divisions of the data"
    if spec.search.scheduler == "pbt" or spec.replay:
        return "the parameters of trials change while they train"
    if spec.trainer is None or spec.trainer.name != "cnn":
        return "only trials of the cnn can share a program"
    tuned = [
        name for name in cnn_params.STATIC_PARAMS if name in spec.space and len(set(spec.space[name].extremes)) > 1
    ]
    if tuned:
        return f"trials have different shapes, as {', '.join(tuned)} is tuned"
    if find_spec("jax") is None:
        return "JAX is not installed (pip install 'aifs-tune[population]')"
    return None


def check_trainer(spec: SweepSpec) -> None:
    """Refuse early what no worker could run.

    Raises
    ------
    RequestError
        If the sweep names no trainer, an unknown one, or a function that cannot be imported.
    """
    if spec.trainer is None:
        raise RequestError(
            f"{spec.name} names no trainer: it is for an instrument; use aifs-tune ask and tell, or add "
            "trainer: cnn or trainer: module:function"
        )
    if ":" in spec.trainer.name:
        import_function(spec.trainer.name)
        if spec.trainer.folds > 1:
            raise RequestError(f"trainer.folds: {spec.trainer.folds} of a function, whose data are its own; allowed: 1")
    elif spec.trainer.name not in TRAINERS:
        known = ", ".join(TRAINERS)
        raise RequestError(f"trainer: {spec.trainer.name!r} is unknown; allowed: {known}, module:function")
    else:
        _check_trainer_entry(spec, spec.trainer.name, TRAINERS[spec.trainer.name])
    _check_changes(spec, spec.trainer.name)
    if spec.resources.fused_trials not in ("auto", 1) and (reason := why_not_fused(spec)) is not None:
        raise RequestError(
            f"resources.fused_trials: {spec.resources.fused_trials} is not possible: {reason}; allowed: 1"
        )


def _check_trainer_entry(spec: SweepSpec, name: str, trainer_entry: TrainerEntry) -> None:
    assert spec.trainer is not None
    if spec.trainer.weights is not None and not trainer_entry.begins_with_weights:
        others = ", ".join(name for name, one in TRAINERS.items() if one.begins_with_weights)
        raise RequestError(
            f"trainer.weights: the {name} begins with none, {spec.trainer.weights} came; allowed with: {others}"
        )
    if spec.trainer.folds > 1 and trainer_entry.kind != "table":
        able = ", ".join(known for known, each in TRAINERS.items() if each.kind == "table")
        raise RequestError(f"trainer.folds: {spec.trainer.folds} of the {name}; allowed: 1, or trainers {able}")
    metrics = trainer_entry.metrics(spec.data or DataSpec())
    for i, objective in enumerate(spec.objectives):
        if objective.metric not in metrics:
            key = f"trade_off.{i - 1}" if i else "objective"
            raise RequestError(
                f"{key}.metric: the {name} does not report {objective.metric!r}; allowed: {', '.join(metrics)}"
            )
    allowed = trainer_entry.parameters(spec.data or DataSpec())
    for key, parameter in spec.space.items():
        if key == SPLIT and spec.cross_validation is not None:
            continue
        if key in trainer_entry.allowed and key not in allowed:
            what = "numbers, of classes alone" if key in CLASS_LOSS else "classes, of numbers alone"
            raise RequestError(f"space.{key}: has no effect on {what}; allowed: {', '.join(allowed)}")
        if key not in allowed:
            raise RequestError(f"space.{key}: no parameter of the {name}; allowed: {', '.join(allowed)}")
        for value in parameter.extremes:
            allowed[key].take(f"space.{key}", value)
    if trainer_entry.begins_with_weights:
        named = spec.space["backbone"].default_value if "backbone" in spec.space else None
        params = TransferParams.from_mapping({} if named is None else {"backbone": named})
        check_weights(spec.trainer.weights, params.backbone)


def _check_changes(spec: SweepSpec, name: str) -> None:
    """Refuse a population or a schedule where the trainer, or the space, leaves nothing to change."""
    trainer_entry = find_trainer_entry(spec)
    is_population = spec.search.scheduler == "pbt"
    if (is_population or spec.replay) and (trainer_entry is None or not trainer_entry.adaptable):
        key = "search.scheduler: pbt" if is_population else "replay"
        able = ", ".join(known for known, each in TRAINERS.items() if each.adaptable)
        raise RequestError(f"{key}: trials of {name} cannot go on with other parameters; allowed: trainers {able}")
    if trainer_entry is None:
        return
    if is_population and spec.search.trials < MIN_FUSED_TRIALS:
        raise RequestError(
            f"search.trials: {spec.search.trials} are too few for pbt; allowed: {MIN_FUSED_TRIALS} or more"
        )
    changing = [
        each for each in spec.space.root if each not in trainer_entry.static_params and spec.space[each].type != "fixed"
    ]
    if is_population and not changing:
        can = ", ".join(each for each in trainer_entry.allowed if each not in trainer_entry.static_params)
        raise RequestError(f"space: nothing is searched that can change in a running trial; allowed: any of {can}")
    for i, entry in enumerate(spec.replay):
        for each, value in entry.params.items():
            key = f"replay.{i}.params.{each}"
            if each not in trainer_entry.allowed or each in trainer_entry.static_params:
                can = ", ".join(known for known in trainer_entry.allowed if known not in trainer_entry.static_params)
                raise RequestError(f"{key}: cannot change in a running trial of the {name}; allowed: {can}")
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
) -> Trainer:
    """The trainer that ``spec`` names; ``data`` is where the prepared data are, ``folds`` where they are in the other
    divisions on which each epoch is to be measured, ``gpu`` the GPUs, or the part of one, that the process was
    given."""
    check_trainer(spec)
    assert spec.trainer is not None
    trainer_entry = find_trainer_entry(spec)
    if trainer_entry is None:
        function = import_function(spec.trainer.name)
        return FunctionTrainer(function, metric=spec.objective.metric, epochs=spec.search.epochs)
    if data is None:
        raise RequestError(f"trainer {spec.trainer.name} needs data; give --data")
    from aifs_tune.data import open_examples, open_images

    opened = [open_images(each) if trainer_entry.kind == "images" else open_examples(each) for each in (data, *folds)]
    given = {"weights": spec.trainer.weights} if trainer_entry.begins_with_weights else {}
    kind, task = trainer_entry.load(), _task(spec)
    own, *others = (kind(one, params, seed=seed, threads=threads, devices=gpu or 1, **task, **given) for one in opened)
    if others:
        from aifs_tune.trainers.folded import folded

        own = folded(own, others)
        own.reset(params, seed=seed)
    made: Trainer = own
    return made


def make_fused_trainer(spec: SweepSpec, images: Path, *, most: int) -> FusedTrainer:
    """The population that ``spec`` asks for, of at most ``most`` members; see :func:`why_not_fused`."""
    from aifs_tune.data import open_images
    from aifs_tune.trainers.fused.fused import FusedTrainer, choose_fused_size
    from aifs_tune.trainers.models.cnn import cnn_task

    params = {name: parameter.extremes[0] for name, parameter in spec.space.items() if name in cnn_params.STATIC_PARAMS}
    task, wanted = cnn_task(open_images(images), **_task(spec)), spec.resources.fused_trials
    size = min(most, wanted) if isinstance(wanted, int) else choose_fused_size(task, params, most=most)
    return FusedTrainer(task, params, size=size)


def _task(spec: SweepSpec) -> dict[str, Any]:
    assert spec.trainer is not None
    return {
        "metric": spec.objective.metric,
        "mode": spec.objective.mode,
        "patience": spec.trainer.patience,
        "class_weights": spec.trainer.class_weights,
        "precision": spec.trainer.precision,
        "epochs": spec.search.epochs,
    }
