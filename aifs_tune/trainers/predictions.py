"""The names of what trainers measure. Loads nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import TrainerError
from aifs_tune.trainers.checkpoint import read_state, write_state

CLASSIFIED = ("loss", "accuracy", "balanced_accuracy", "macro_f1", "auc")
"""What is measured on a part of the data where classes are predicted, in this order."""

CLASS_METRICS = ("loss", "accuracy", *(f"val_{name}" for name in CLASSIFIED))
"""What an epoch of a classifier reports. The first two are of the training passes, the loss weighted."""

VALUES = ("loss", "r2")
"""What is measured where numbers are predicted: the mean squared error in units of the targets' spread, and the share
of the variance that is explained, both averaged over targets."""

OF_A_TARGET = ("mae", "rmse", "q90", "r2")
"""Measured for each target in its own unit, as ``val_mae_NAME``: mean absolute error, root of the mean squared error,
the absolute error that nine in ten stay below, and the share of the variance that is explained."""


def value_metrics(targets: Iterable[str]) -> tuple[str, ...]:
    """What an epoch of a trainer of these numbers reports.

    The first two are of the training passes, ``mae`` in units of the targets' spread.
    """
    of_targets = (f"{name}_{target}" for target in targets for name in OF_A_TARGET)
    return ("loss", "mae", *(f"val_{name}" for name in (*VALUES, *of_targets)))


NAME = "test"


@dataclass(frozen=True)
class Predictions:
    """Truths and answers for ``rows`` (n,) of the prepared data.

    Of classes: ``truths`` (n,) are indices into ``classes`` and ``answers`` (n, classes) probabilities. Of numbers:
    both are (n, targets), in the units of the targets.
    """

    rows: NDArray[np.int32]
    y_true: NDArray[Any]
    y_pred: NDArray[np.float32]
    classes: tuple[str, ...]
    targets: tuple[Mapping[str, Any], ...]


def write_predictions(folder: Path, found: Predictions) -> Path:
    """Write them into the existing ``folder``; the path of the arrays."""
    arrays = {"rows": found.rows, "y_true": found.y_true, "y_pred": found.y_pred}
    facts = {"classes": list(found.classes), "targets": [dict(target) for target in found.targets]}
    return write_state(folder, NAME, arrays, facts)


def read_predictions(folder: Path) -> Predictions:
    """What :func:`write_predictions` wrote.

    Raises
    ------
    TrainerError
        If there is nothing, or it is damaged.
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
        raise TrainerError(f"{folder}: {NAME}.npz and {NAME}.json are no answers ({error})") from error
