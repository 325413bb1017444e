"""Cross-validation: trials that train and validate on different splits of the same data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from aifs_tune._util.models import StrictModel
from aifs_tune._util.scalars import Scalar
from aifs_tune.config.data import DataSpec, Fold

SPLIT = "split"
"""Name of the parameter that holds the number of a trial's split."""
SIZES = "sizes"
"""Key of a study's record of how many examples train and how many evaluate in each split."""
FOLD = "fold_"
"""Prefix of the names of metrics that are computed on the fold."""


class CrossValidation(StrictModel):
    """Repeated K-fold cross-validation: each trial uses one split, numbered by its parameter ``split``.

    The test part is the same in all splits, and no trial uses it. With ``among: train``, the validation part chooses
    the best epoch of a trial, and the fold evaluates that epoch once, on examples that influenced neither the
    configuration nor the epoch. With ``among: all``, the fold itself chooses the best epoch.
    """

    folds: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Number of folds; 1: no folds, the split of data.split with different training seeds.",
    )
    repeats: int = Field(default=1, ge=1, le=100, description="Number of times that new folds are drawn.")
    among: Literal["train", "all"] = Field(
        default="train",
        description="Parts that are divided into folds: the training part, or the training and validation parts.",
    )
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Random seed of the first repeat; each further repeat adds 1."
    )

    @property
    def n_splits(self) -> int:
        """Number of splits: folds times repeats."""
        return self.folds * self.repeats

    @property
    def measures_folds(self) -> bool:
        """Whether the last epoch of a trial reports its best epoch's metrics on the fold, such as ``fold_macro_f1``."""
        return self.folds > 1 and self.among == "train"

    def select_split(self, data: DataSpec, split: int) -> DataSpec:
        """Return ``data`` with split number ``split``, counted from 0 through the folds of each repeat in turn."""
        if self.folds == 1:
            return data
        repeat, index = divmod(split, self.folds)
        fold = Fold(index=index, of=self.folds, seed=self.seed + repeat, among=self.among)
        return data.model_copy(update={"split": data.split.model_copy(update={"fold": fold})})


def split_of(cv: CrossValidation | None, params: Mapping[str, Scalar]) -> tuple[int | None, dict[str, Scalar]]:
    """Return a trial's split number, None without cross-validation, and its other parameters."""
    if cv is None:
        return None, dict(params)
    return int(params[SPLIT]), {name: value for name, value in params.items() if name != SPLIT}
