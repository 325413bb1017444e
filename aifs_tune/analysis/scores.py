"""Scores of several configurations on the same splits of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aifs_tune._util.scalars import did_you_mean
from aifs_tune.errors import RequestError

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """Split of the data into a training set and a test set.

    Parameters
    ----------
    repeat : int
        Repeat of the cross-validation.
    fold : int
        Fold of this repeat.
    n_train : int
        Number of training examples, at least 1.
    n_test : int
        Number of test examples, at least 1.

    Raises
    ------
    RequestError
        If one of the sets is empty.

    Examples
    --------
    >>> from aifs_tune.analysis import Split
    >>> [str(Split(0, fold, n_train=80, n_test=20)) for fold in range(2)]
    ['repeat 0, fold 0', 'repeat 0, fold 1']
    """

    repeat: int
    fold: int
    n_train: int
    n_test: int

    def __post_init__(self) -> None:
        if self.n_train < 1 or self.n_test < 1:
            sizes = f"{self.n_train} training and {self.n_test} test examples"
            raise RequestError(f"{self}: {sizes}; allowed: at least one of each")

    def __str__(self) -> str:
        return f"repeat {self.repeat}, fold {self.fold}"


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of several configurations on the same splits.

    Parameters
    ----------
    metric : str
        Name of the objective.
    mode : {"max", "min"}
        Whether large or small values are better.
    splits : sequence of Split
        The n splits, each once.
    values : mapping of str to array_like
        The objective of each configuration on each split (n,), by the name of the configuration. A value that is not
        finite marks a training run that failed. The arrays are copied and read-only.
    unit : str, default ""
        Unit of the objective, empty if it has none.

    Raises
    ------
    RequestError
        If the mode is unknown, a split is repeated, or an array does not have one value for each split.

    Examples
    --------
    >>> from aifs_tune.analysis import Scores, Split
    >>> splits = [Split(0, fold, n_train=80, n_test=20) for fold in range(3)]
    >>> scores = Scores("accuracy", "max", splits, {"baseline": [0.5, 0.75, 0.5], "trial 4": [0.75, 0.75, 1.0]})
    >>> scores.gains("trial 4", "baseline")
    array([0.25, 0.  , 0.5 ])
    """

    metric: str
    mode: Literal["max", "min"]
    splits: Sequence[Split]
    values: Mapping[str, ArrayLike]
    unit: str = ""

    def __post_init__(self) -> None:
        if self.mode not in ("max", "min"):
            raise RequestError(f"mode: {self.mode!r} is not allowed; allowed: max, min")
        keys = [(split.repeat, split.fold) for split in self.splits]
        twice = next((split for split in self.splits if keys.count((split.repeat, split.fold)) > 1), None)
        if twice is not None:
            raise RequestError(f"{twice}: given twice; allowed: each split once")
        for name, values in self.values.items():
            shape = np.shape(values)
            if shape != (len(self.splits),):
                wanted = f"one for each of the {len(self.splits)} splits"
                raise RequestError(f"{name}: values of shape {shape}; allowed: {wanted}")
        object.__setattr__(self, "splits", tuple(self.splits))
        object.__setattr__(self, "values", {name: _fixed(values) for name, values in self.values.items()})

    def of(self, name: str) -> Array:
        """Return the scores of one configuration.

        Parameters
        ----------
        name : str
            Name of the configuration.

        Returns
        -------
        numpy.ndarray
            The scores (n,), NaN where the training run failed.

        Raises
        ------
        RequestError
            If there is no such configuration.
        """
        if name not in self.values:
            near = did_you_mean(name, list(self.values))
            raise RequestError(f"{name}: no such configuration{near}; allowed: {', '.join(self.values) or 'none'}")
        return np.asarray(self.values[name])

    def gains(self, name: str, baseline: str) -> Array:
        """Return by how much one configuration is better than another on each split.

        Parameters
        ----------
        name : str
            Name of the configuration.
        baseline : str
            Name of the configuration to compare with.

        Returns
        -------
        numpy.ndarray
            The gains (n,). Above 0 is better, whichever the mode. NaN where one of the two runs failed.

        Raises
        ------
        RequestError
            If there is no such configuration.
        """
        difference = self.of(name) - self.of(baseline)
        return difference if self.mode == "max" else -difference


def _fixed(values: ArrayLike) -> Array:
    array = np.array(values, dtype=np.float64)
    array[~np.isfinite(array)] = np.nan
    array.flags.writeable = False
    return array
