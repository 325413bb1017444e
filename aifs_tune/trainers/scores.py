"""The names of what trainers measure. Loads nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

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
