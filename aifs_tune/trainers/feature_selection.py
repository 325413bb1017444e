"""Which columns of a table tell something by themselves: those that a trial keeps."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.examples import ExampleSet
from aifs_tune.space.parameters import FloatParameter

KEPT = FloatParameter(
    low=1e-4,
    high=1,
    description="Share of the columns that are used: those that differ most between classes (or go with a number).",
)


def ranked_columns(examples: ExampleSet) -> NDArray[np.intp]:
    """Columns of the one input, shape (columns,), the most telling first.

    By the training part alone: for classes the F statistic of an analysis of variance, for numbers the size of the
    correlation (of several, the largest). Those that never change there come last.
    """
    from sklearn.feature_selection import f_classif, r_regression

    inputs, y_true = examples.inputs[0][examples.train], examples.y_true[examples.train]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of columns that never change
        with np.errstate(all="ignore"):
            if examples.classes:
                strength = f_classif(inputs, y_true)[0]
            else:
                strength = np.max([np.abs(r_regression(inputs, column)) for column in y_true.T], axis=0)
    return np.argsort(-np.nan_to_num(strength, nan=-1.0), kind="stable")


def n_kept(share: float, n_columns: int) -> int:
    """How many columns ``share`` keeps of so many, at least one."""
    return max(1, round(share * n_columns))
