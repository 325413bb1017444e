"""Trainers by the name that a sweep file gives."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifs_tune.errors import RequestError
from aifs_tune.space import Scalar
from aifs_tune.spec import SweepSpec
from aifs_tune.trainers.cnn_params import ALLOWED, METRICS, SHAPING
from aifs_tune.trainers.function import FunctionTrainer, import_function
from aifs_tune.trainers.protocol import Trainer

if TYPE_CHECKING:
    from aifs_tune.trainers.population import Population

NAMES = ("cnn",)

_CNN_MODULE = "aifs_tune.trainers.cnn"


def heavy_modules(spec: SweepSpec) -> tuple[str, ...]:
    """What takes long to import and every worker will need; nothing for a lab's own function, or where trials may
    train in a population."""
    is_cnn = spec.trainer is not None and spec.trainer.name in NAMES
    return (_CNN_MODULE,) if is_cnn and why_alone(spec) is not None else ()


def why_alone(spec: SweepSpec) -> str | None:
    """Why no two trials of ``spec`` can or need train in one program; None if they can."""
    wanted = spec.resources.population
    if wanted == 1 or (wanted == "auto" and not spec.resources.gpu):
        return "a CPU is kept busy by one trial"
    if spec.trainer is None or spec.trainer.name not in NAMES:
        return "only trials of the cnn can share a program"
    tuned = [name for name in SHAPING if name in spec.space and len(set(spec.space[name].extremes)) > 1]
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
    elif spec.trainer.name not in NAMES:
        raise RequestError(f"trainer: {spec.trainer.name!r} is unknown; allowed: {', '.join(NAMES)}, module:function")
    else:
        _check_cnn(spec)
    if spec.resources.population not in ("auto", 1) and (reason := why_alone(spec)) is not None:
        raise RequestError(f"resources.population: {spec.resources.population} is not possible: {reason}; allowed: 1")


def _check_cnn(spec: SweepSpec) -> None:
    for i, objective in enumerate(spec.objectives):
        if objective.metric not in METRICS:
            key = f"trade_off.{i - 1}" if i else "objective"
            raise RequestError(
                f"{key}.metric: the cnn does not report {objective.metric!r}; allowed: {', '.join(METRICS)}"
            )
    for name, parameter in spec.space.items():
        if name not in ALLOWED:
            raise RequestError(f"space.{name}: no parameter of the cnn; allowed: {', '.join(ALLOWED)}")
        for value in parameter.extremes:
            ALLOWED[name].take(f"space.{name}", value)


def make_trainer(
    spec: SweepSpec, images: Path | None, *, params: Mapping[str, Scalar], seed: int, threads: int | None = None
) -> Trainer:
    """The trainer that ``spec`` names; ``images`` is where the prepared images are."""
    check_trainer(spec)
    assert spec.trainer is not None
    if ":" in spec.trainer.name:
        function = import_function(spec.trainer.name)
        return FunctionTrainer(function, metric=spec.objective.metric, epochs=spec.search.epochs)
    if images is None:
        raise RequestError("trainer cnn needs images; give --data FOLDER or data.folder")
    from aifs_tune.data import open_images
    from aifs_tune.trainers.cnn import CnnTrainer

    return CnnTrainer(open_images(images), params, seed=seed, threads=threads, **_task(spec))


def make_population(spec: SweepSpec, images: Path, *, most: int) -> Population:
    """The population that ``spec`` asks for, of at most ``most`` members; see :func:`why_alone`."""
    from aifs_tune.data import open_images
    from aifs_tune.trainers.course import Task
    from aifs_tune.trainers.population import Population, choose_size

    params = {name: parameter.extremes[0] for name, parameter in spec.space.items() if name in SHAPING}
    task, wanted = Task(open_images(images), **_task(spec)), spec.resources.population
    size = min(most, wanted) if isinstance(wanted, int) else choose_size(task, params, most=most)
    return Population(task, params, size=size)


def _task(spec: SweepSpec) -> dict[str, Any]:
    assert spec.trainer is not None
    return {
        "metric": spec.objective.metric,
        "mode": spec.objective.mode,
        "patience": spec.trainer.patience,
        "class_weights": spec.trainer.class_weights,
        "precision": spec.trainer.precision,
    }
