"""What can be tuned in a trial of gradient boosting. Loads no scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aifs_tune.parameters import FloatParameter, IntParameter, Parameter
from aifs_tune.trainers.columns import KEPT
from aifs_tune.trainers.params import Configuration

ALLOWED: dict[str, Parameter] = {
    "learning_rate": FloatParameter(low=1e-6, high=1),
    "trees": IntParameter(low=1, high=10_000, description="Added in each epoch, for each class."),
    "leaves": IntParameter(low=2, high=65536, description="Of a tree, at most."),
    "leaf_samples": IntParameter(low=1, high=1_000_000, description="Rows in a leaf, at least."),
    "l2": FloatParameter(low=0, high=1e6, description="Regularisation of the leaves' values."),
    "columns": FloatParameter(low=1e-4, high=1, description="Share of the columns that a split is searched in."),
    "kept_columns": KEPT,
}
"""What each parameter can be."""

STATIC_PARAMS: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BoostingParams(Configuration):
    """One configuration. The defaults are scikit-learn's, ten trees an epoch."""

    trainer: ClassVar[str] = "boosting"
    allowed: ClassVar = ALLOWED

    learning_rate: float = 0.1
    trees: int = 10
    leaves: int = 31
    leaf_samples: int = 20
    l2: float = 0.0
    columns: float = 1.0
    kept_columns: float = 1.0
