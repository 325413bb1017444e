"""The trainers that a sweep file can name, what they learn from and what can be tuned. Loads none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, TypeAlias

from aifs_tune.config.data import DataSpec
from aifs_tune.space.parameters import Parameter
from aifs_tune.trainers import boosting
from aifs_tune.trainers.models import cnn, cnn1d, cnn_values, mlp, residual, rnn, transfer
from aifs_tune.trainers.network.params import CLASS_LOSS, VALUE_LOSS
from aifs_tune.trainers.predictions import CLASS_METRICS, value_metrics

DataKind: TypeAlias = Literal["images", "table", "series", "frames"]
"""What a trainer learns from."""


@dataclass(frozen=True)
class TrainerEntry:
    """A trainer by name: ``cls`` of ``module``; ``shaping`` are the parameters that make another program.

    ``adaptable`` is whether a running trial can go on with other values of the rest; ``begins_with_weights`` is of
    those that are made with a file of ``weights``.
    """

    kind: DataKind
    module: str
    cls: str
    allowed: Mapping[str, Parameter]
    static_params: tuple[str, ...]
    adaptable: bool = True
    begins_with_weights: bool = False

    def load(self) -> Any:
        """The class."""
        return getattr(import_module(self.module), self.cls)

    def parameters(self, data: DataSpec) -> dict[str, Parameter]:
        """What can be tuned with these data: of ``allowed`` what has an effect on classes, or on numbers."""
        idle = CLASS_LOSS if data.targets(self.kind) else VALUE_LOSS
        return {name: parameter for name, parameter in self.allowed.items() if name not in idle}

    def metrics(self, data: DataSpec) -> tuple[str, ...]:
        """What an epoch reports with these data."""
        targets = data.targets(self.kind)
        return value_metrics(targets) if targets else CLASS_METRICS


TRAINERS: dict[str, TrainerEntry] = {
    "cnn": TrainerEntry("images", "aifs_tune.trainers.models.cnn", "CnnTrainer", cnn.ALLOWED, cnn.STATIC_PARAMS),
    "residual_cnn": TrainerEntry(
        "images",
        "aifs_tune.trainers.models.residual",
        "ResidualCnnTrainer",
        residual.ALLOWED,
        residual.STATIC_PARAMS,
    ),
    "transfer": TrainerEntry(
        "images",
        "aifs_tune.trainers.models.transfer",
        "TransferTrainer",
        transfer.ALLOWED,
        transfer.STATIC_PARAMS,
        begins_with_weights=True,
    ),
    "mlp": TrainerEntry("table", "aifs_tune.trainers.models.mlp", "MlpTrainer", mlp.ALLOWED, mlp.STATIC_PARAMS),
    "boosting": TrainerEntry(
        "table",
        "aifs_tune.trainers.boosting",
        "BoostingTrainer",
        boosting.ALLOWED,
        boosting.STATIC_PARAMS,
        adaptable=False,
    ),
    "rnn": TrainerEntry("series", "aifs_tune.trainers.models.rnn", "RnnTrainer", rnn.ALLOWED, rnn.STATIC_PARAMS),
    "cnn1d": TrainerEntry(
        "series", "aifs_tune.trainers.models.cnn1d", "Cnn1dTrainer", cnn1d.ALLOWED, cnn1d.STATIC_PARAMS
    ),
    "cnn_values": TrainerEntry(
        "frames",
        "aifs_tune.trainers.models.cnn_values",
        "CnnValuesTrainer",
        cnn_values.ALLOWED,
        cnn_values.STATIC_PARAMS,
    ),
}
