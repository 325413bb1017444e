"""Predictions of the test part: names of the metrics, and the files that hold targets and predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.examples import ExampleSet, Target
from aifs_tune.data.signal import BRIER, Signal, rate_of
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
    return CLASS_METRICS if signal is None else (*CLASS_METRICS, *(f"val_{name}" for name in (BRIER, *signal.metrics)))


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

LEVELS = tuple(tenths / 10 for tenths in range(1, 10))
"""Levels of the quantiles that a network with the loss ``quantiles`` predicts: the nine deciles."""

MEDIAN = LEVELS.index(0.5)
"""Number of the median among the quantiles."""

NAME = "test"
"""Name of the files of the test part's predictions: ``test.npz`` and ``test.json``."""


def value_metrics(targets: Iterable[str]) -> tuple[str, ...]:
    """Metrics that an epoch reports where ``targets`` are predicted.

    The first two are of the training batches, ``mae`` in units of the targets' spread.
    """
    of_targets = (f"{name}_{target}" for target in targets for name in OF_A_TARGET)
    return ("loss", "mae", *(f"val_{name}" for name in (*VALUES, *of_targets)))


def both_metrics(of_classes: Sequence[str], targets: Iterable[str]) -> tuple[str, ...]:
    """Metrics that an epoch reports where classes and ``targets`` are predicted: ``of_classes``, then those of numbers.

    ``loss`` is that of both, ``val_loss`` that of the classes alone, which does not depend on the weight of the other.
    """
    return (*of_classes, *(name for name in value_metrics(targets) if name not in ("loss", "mae", "val_loss")))


def quantile_metrics(target: str) -> tuple[str, ...]:
    """Metrics that an epoch reports besides :func:`value_metrics` where quantiles of one ``target`` are predicted.

    The pinball loss in units of the target's spread, the share of examples from the first to the last quantile, and in
    the target's own unit the continuous ranked probability score and the mean distance of these two quantiles.
    """
    return ("val_pinball", "val_coverage", f"val_crps_{target}", f"val_width_{target}")


def quantile_targets(target: Target) -> tuple[Target, ...]:
    """The ``target`` once for each quantile, named such as ``level_q10``."""
    return tuple(replace(target, name=f"{target.name}_q{round(100 * level)}") for level in LEVELS)


def has_quantiles(y_pred: NDArray[Any], n_targets: int) -> bool:
    """Whether predictions (..., outputs) are quantiles of one target and not the number itself."""
    return n_targets == 1 and y_pred.shape[-1] == len(LEVELS)


def point_predictions(y_pred: NDArray[np.float32], n_targets: int) -> NDArray[np.float32]:
    """One number for each target, shape (..., targets): the median of quantiles, else ``y_pred`` itself."""
    return y_pred[..., MEDIAN : MEDIAN + 1] if has_quantiles(y_pred, n_targets) else y_pred


def in_target_units(y_pred: NDArray[np.float32], targets: Sequence[Target], *, n_classes: int) -> NDArray[np.float32]:
    """Probabilities from log-probabilities, and scaled numbers in the units of ``targets``.

    ``y_pred`` has the shape (n, outputs): the classes, if there are any, then the targets, or the quantiles of one.
    """
    centres, scales = (np.array([getattr(target, name) for target in targets]) for name in ("centre", "scale"))
    numbers = y_pred[:, n_classes:] * scales + centres
    return np.concatenate([np.exp(y_pred[:, :n_classes]), numbers], axis=1, dtype=np.float32)


@dataclass(frozen=True)
class Predictions:
    """Targets and predictions of some examples.

    Parameters
    ----------
    rows
        Numbers of the examples in the prepared data, shape (n,).
    y_true
        Indices into ``classes``, shape (n,), or numbers in the units of the targets, shape (n, targets), or both, the
        index first, shape (n, 1 + targets).
    y_pred
        Probabilities, shape (n, classes), or numbers in the units of the targets, shape (n, targets), or both, the
        probabilities first, shape (n, classes + targets).
    classes, targets
        Names of the classes, and name and unit of each target; either may be empty.
    """

    rows: NDArray[np.int32]
    y_true: NDArray[Any]
    y_pred: NDArray[np.float32]
    classes: tuple[str, ...]
    targets: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, examples: ExampleSet, rows: NDArray[np.int32], y_pred: NDArray[np.float32]) -> Predictions:
        """Targets of the examples ``rows``, in their units, with ``y_pred``, which is in these units already."""
        described = tuple({"name": target.name, "unit": target.unit} for target in examples.targets)
        if not examples.targets:
            return cls(rows, examples.y_true[rows], y_pred, examples.classes, described)
        centres, scales = (np.array([getattr(one, name) for one in examples.targets]) for name in ("centre", "scale"))
        y_true = (examples.numbers[rows] * scales + centres).astype(np.float32)
        if examples.classes:
            y_true = np.concatenate([examples.labels[rows][:, None], y_true], axis=1, dtype=np.float32)
        return cls(rows, y_true, y_pred, examples.classes, described)

    @property
    def of_classes(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Indices into ``classes``, shape (n,), and probabilities, shape (n, classes)."""
        labels = self.y_true[:, 0] if self.targets else self.y_true
        return labels.astype(np.int32), self.y_pred[:, : len(self.classes)]

    @property
    def of_targets(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """True and predicted numbers in the units of the targets, shape (n, targets) each."""
        y_true = self.y_true[:, 1:] if self.classes else self.y_true
        return y_true, self.y_pred[:, len(self.classes) :]


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
