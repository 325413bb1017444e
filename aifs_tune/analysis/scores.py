"""The scores of several configurations on the same splits of the data."""

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
    """One training and its test: fold ``fold`` of repeat ``repeat``, with the number of examples in either part."""

    repeat: int
    fold: int
    n_train: int
    n_test: int

    def __post_init__(self) -> None:
        if self.n_train < 1 or self.n_test < 1:
            sizes = f"{self.n_train} examples to train and {self.n_test} to test"
            raise RequestError(f"{self}: {sizes}; allowed: at least one of each")

    def __str__(self) -> str:
        return f"repeat {self.repeat}, fold {self.fold}"


@dataclass(frozen=True, eq=False)
class Scores:
    """``values[name]`` (n,) has the objective that configuration ``name`` reached on each of ``splits``.

    A value that is not finite is a training that failed there. ``unit`` is that of the objective, empty where it has
    none. The arrays are copied and cannot be written to.
    """

    metric: str
    mode: Literal["max", "min"]
    splits: Sequence[Split]
    values: Mapping[str, ArrayLike]
    unit: str = ""

    def __post_init__(self) -> None:
        if self.mode not in ("max", "min"):
            raise RequestError(f"mode: {self.mode!r} is not allowed; allowed: max, min")
        places = [(split.repeat, split.fold) for split in self.splits]
        twice = next((split for split in self.splits if places.count((split.repeat, split.fold)) > 1), None)
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
        """The values (n,) of one configuration, NaN where its training failed.

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
        """By how much ``name`` is better than ``baseline`` on each split (n,): above 0 is better in either mode, NaN
        where one of the two failed."""
        difference = self.of(name) - self.of(baseline)
        return difference if self.mode == "max" else -difference


def _fixed(values: ArrayLike) -> Array:
    array = np.array(values, dtype=np.float64)
    array[~np.isfinite(array)] = np.nan
    array.flags.writeable = False
    return array
