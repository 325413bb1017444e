"""The trainers that a sweep file can name, what they learn from and what can be tuned. Loads none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, TypeAlias

from aifs_tune.data_spec import DataSpec
from aifs_tune.parameters import Parameter
from aifs_tune.trainers import boosting_params, cnn_params, mlp_params, residual_params, transfer_params
from aifs_tune.trainers.scores import CLASS_METRICS, value_metrics

Kind: TypeAlias = Literal["images", "table"]
"""What a trainer learns from."""


@dataclass(frozen=True)
class Family:
    """A trainer by name: ``cls`` of ``module``; ``shaping`` are the parameters that make another program.

    ``begins_with_weights`` is of those that are made with a file of ``weights``.
    """

    kind: Kind
    module: str
    cls: str
    allowed: Mapping[str, Parameter]
    shaping: tuple[str, ...]
    begins_with_weights: bool = False

    def load(self) -> Any:
        """The class."""
        return getattr(import_module(self.module), self.cls)

    def metrics(self, data: DataSpec) -> tuple[str, ...]:
        """What an epoch reports with these data."""
        targets = data.targets(self.kind)
        return value_metrics(targets) if targets else CLASS_METRICS


FAMILIES: dict[str, Family] = {
    "cnn": Family("images", "aifs_tune.trainers.cnn", "CnnTrainer", cnn_params.ALLOWED, cnn_params.SHAPING),
    "residual_cnn": Family(
        "images",
        "aifs_tune.trainers.residual",
        "ResidualCnnTrainer",
        residual_params.ALLOWED,
        residual_params.SHAPING,
    ),
    "transfer": Family(
        "images",
        "aifs_tune.trainers.transfer",
        "TransferTrainer",
        transfer_params.ALLOWED,
        transfer_params.SHAPING,
        begins_with_weights=True,
    ),
    "mlp": Family("table", "aifs_tune.trainers.mlp", "MlpTrainer", mlp_params.ALLOWED, mlp_params.SHAPING),
    "boosting": Family(
        "table",
        "aifs_tune.trainers.boosting",
        "BoostingTrainer",
        boosting_params.ALLOWED,
        boosting_params.SHAPING,
    ),
}
