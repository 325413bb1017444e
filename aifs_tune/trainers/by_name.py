"""Trainers by the name that a sweep file gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aifs_tune.errors import RequestError
from aifs_tune.space import Scalar
from aifs_tune.spec import SweepSpec
from aifs_tune.trainers.cnn_params import ALLOWED, METRICS
from aifs_tune.trainers.function import FunctionTrainer, import_function
from aifs_tune.trainers.protocol import Trainer

NAMES = ("cnn",)


_CNN_MODULE = "aifs_tune.trainers.cnn"


def heavy_modules(spec: SweepSpec) -> tuple[str, ...]:
    """What takes long to import and every worker will need; nothing for a lab's own function."""
    return (_CNN_MODULE,) if spec.trainer is not None and spec.trainer.name in NAMES else ()


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


def _check_cnn(spec: SweepSpec) -> None:
    if spec.objective.metric not in METRICS:
        raise RequestError(
            f"objective.metric: the cnn does not report {spec.objective.metric!r}; allowed: {', '.join(METRICS)}"
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

    return CnnTrainer(
        open_images(images),
        params,
        seed=seed,
        metric=spec.objective.metric,
        mode=spec.objective.mode,
        patience=spec.trainer.patience,
        class_weights=spec.trainer.class_weights,
        precision=spec.trainer.precision,
        threads=threads,
    )
