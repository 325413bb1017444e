"""Selection of the columns of a table that predict the target best on their own."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.examples import ExampleSet
from aifs_tune.space.parameters import FloatParameter

KEPT_COLUMNS = FloatParameter(
    low=1e-4,
    high=1,
    description="Share of the columns in use: those that differ most between classes or correlate with a target.",
)
"""Allowed values of the hyperparameter ``kept_columns``."""


def ranked_columns(examples: ExampleSet) -> NDArray[np.intp]:
    """Columns of the one input, shape (columns,), the most predictive first.

    Ranked on the training part alone: for classes by the F statistic of an analysis of variance, for numbers by the
    absolute correlation, the largest of several targets; for both by the better of a column's two ranks. Constant
    columns come last.
    """
    from sklearn.feature_selection import f_classif, r_regression

    inputs, strengths = examples.inputs[0][examples.train], list[NDArray[np.float64]]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant columns
        with np.errstate(all="ignore"):
            if examples.classes:
                strengths.append(f_classif(inputs, examples.labels[examples.train])[0])
            if examples.targets:
                columns = examples.numbers[examples.train].T
                known = [~np.isnan(column) for column in columns]
                each = [r_regression(inputs[has], column[has]) for has, column in zip(known, columns, strict=True)]
                strengths.append(np.max(np.abs(each), axis=0))
    orders = [np.argsort(-np.nan_to_num(strength, nan=-1.0), kind="stable") for strength in strengths]
    return np.argsort(np.min([np.argsort(order) for order in orders], axis=0), kind="stable")


def n_kept(share: float, n_columns: int) -> int:
    """Number of columns that ``share`` keeps of ``n_columns``, at least one."""
    return max(1, round(share * n_columns))
