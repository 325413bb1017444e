"""Predictions of the test part: names of the metrics, and the files that hold targets and predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.examples import Target
from aifs_tune.data.signal import Signal, rate_of
from aifs_tune.errors import TrainerError
from aifs_tune.trainers.checkpoint import read_state, write_state

CLASSIFIED = ("loss", "accuracy", "balanced_accuracy", "macro_f1", "auc")
"""Metrics of a part of the data where classes are predicted, in this order."""

CLASS_METRICS = ("loss", "accuracy", *(f"val_{name}" for name in CLASSIFIED))
"""Metrics that an epoch of a classifier reports. The first two are of the training batches; that loss is weighted."""


def class_metrics(signal: str | None, asked: Iterable[str] = ()) -> tuple[str, ...]:
    """Metrics that an epoch of a classifier reports, with those of the class ``signal`` if there is one.

    ``asked`` are metrics of objectives, whose false-positive rates are reported besides the usual ones.
    """
    return reported_metrics(None if signal is None else signal_of(signal, asked))


def reported_metrics(signal: Signal | None) -> tuple[str, ...]:
    """Metrics that an epoch of a classifier reports where ``signal`` is measured; None: there is no signal."""
    return CLASS_METRICS if signal is None else (*CLASS_METRICS, *(f"val_{name}" for name in signal.metrics))


def signal_of(name: str, asked: Iterable[str] = ()) -> Signal:
    """The signal ``name``, measured at the usual false-positive rates and at those of the metrics ``asked``."""
    of_asked = [metric.removeprefix("val_") for metric in asked if 0 < (rate_of(metric) or 0) < 1]
    return Signal(name, tuple(dict.fromkeys((*Signal(name).metrics, *of_asked))))


VALUES = ("loss", "r2")
"""Metrics where numbers are predicted: mean squared error in units of the targets' spread, and explained share of the
variance, both averaged over targets."""

OF_A_TARGET = ("mae", "rmse", "q90", "r2")
"""Metrics of each target in its own unit, as ``val_mae_NAME``: mean absolute error, root of the mean squared error,
90 % quantile of the absolute error, and explained share of the variance."""

NAME = "test"
"""Name of the files of the test part's predictions: ``test.npz`` and ``test.json``."""


def value_metrics(targets: Iterable[str]) -> tuple[str, ...]:
    """Metrics that an epoch reports where ``targets`` are predicted.

    The first two are of the training batches, ``mae`` in units of the targets' spread.
    """
    of_targets = (f"{name}_{target}" for target in targets for name in OF_A_TARGET)
    return ("loss", "mae", *(f"val_{name}" for name in (*VALUES, *of_targets)))


def in_target_units(y_pred: NDArray[np.float32], targets: Sequence[Target]) -> NDArray[np.float32]:
    """Probabilities from a network's log-probabilities, or its scaled numbers in the units of ``targets``."""
    if not targets:
        return np.asarray(np.exp(y_pred), np.float32)
    centres, scales = (np.array([getattr(target, name) for target in targets]) for name in ("centre", "scale"))
    return np.asarray(y_pred * scales + centres, np.float32)


@dataclass(frozen=True)
class Predictions:
    """Targets and predictions of some examples.

    Parameters
    ----------
    rows
        Numbers of the examples in the prepared data, shape (n,).
    y_true
        Indices into ``classes``, shape (n,), or numbers in the units of the targets, shape (n, targets).
    y_pred
        Probabilities, shape (n, classes), or numbers in the units of the targets, shape (n, targets).
    classes, targets
        Names of the classes, or name and unit of each target; the other of the two is empty.
    """

    rows: NDArray[np.int32]
    y_true: NDArray[Any]
    y_pred: NDArray[np.float32]
    classes: tuple[str, ...]
    targets: tuple[Mapping[str, Any], ...]


def write_predictions(folder: Path, predictions: Predictions) -> Path:
    """Write ``predictions`` into the existing ``folder``; return the path of the arrays."""
    arrays = {"rows": predictions.rows, "y_true": predictions.y_true, "y_pred": predictions.y_pred}
    facts = {"classes": list(predictions.classes), "targets": [dict(target) for target in predictions.targets]}
    return write_state(folder, NAME, arrays, facts)


def read_predictions(folder: Path) -> Predictions:
    """Read the files of :func:`write_predictions`.

    Raises
    ------
    TrainerError
        If a file is missing or damaged, or another version wrote it.
    """
    arrays, facts = read_state(folder, NAME)
    try:
        return Predictions(
            arrays["rows"].astype(np.int32),
            arrays["y_true"],
            arrays["y_pred"],
            tuple(facts["classes"]),
            tuple(facts["targets"]),
        )
    except (KeyError, TypeError) as error:
        raise TrainerError(f"{folder}: {NAME}.npz and {NAME}.json are not predictions ({error})") from error
