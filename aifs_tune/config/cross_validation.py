"""Several divisions of the same data, so that configurations are compared on more than one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from aifs_tune._util.models import StrictModel
from aifs_tune._util.scalars import Scalar
from aifs_tune.config.data import DataSpec, Fold

SPLIT = "split"
"""The parameter that says which division a trial is of."""
SIZES = "sizes"
"""Fact of a study of several divisions: how many examples train in each, and how many measure it."""
FOLD = "fold_"
"""How the names of the metrics of a fold begin."""


class CrossValidation(StrictModel):
    """Repeated K-fold: each trial trains and validates on one division, which its parameter ``split`` numbers. The test
    part is the same in all of them, and no trial sees it.

    Folds ``among`` the training part measure a trial, once, on examples that had no say in its configuration or its
    best epoch: the validation part, as drawn, chooses that. Among all, a trial is measured by the fold that chooses
    its best epoch.
    """

    folds: int = Field(
        default=5, ge=1, le=100, description="1: no folds; the division that data.split asks for, other seeds only."
    )
    repeats: int = Field(default=1, ge=1, le=100, description="Times that the folds are dealt anew.")
    among: Literal["train", "all"] = Field(
        default="train",
        description="What is dealt into folds: the training part alone, or the validation part too.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Of the first deal; the next one has the next number.")

    @property
    def n_splits(self) -> int:
        """How many divisions there are: folds times repeats."""
        return self.folds * self.repeats

    @property
    def measures_folds(self) -> bool:
        """Whether a trial's last epoch tells what its best one is worth on the fold, as ``fold_macro_f1`` and so on."""
        return self.folds > 1 and self.among == "train"

    def select_split(self, data: DataSpec, split: int) -> DataSpec:
        """``data`` in division ``split``, from 0: the folds of the first repeat, then those of the second, ..."""
        if self.folds == 1:
            return data
        repeat, index = divmod(split, self.folds)
        fold = Fold(index=index, of=self.folds, seed=self.seed + repeat, among=self.among)
        return data.model_copy(update={"split": data.split.model_copy(update={"fold": fold})})


def split_of(cv: CrossValidation | None, params: Mapping[str, Scalar]) -> tuple[int | None, dict[str, Scalar]]:
    """The split that a trial with these parameters is of, None where there is one division only, and the parameters of
    its training."""
    if cv is None:
        return None, dict(params)
    return int(params[SPLIT]), {name: value for name, value in params.items() if name != SPLIT}
