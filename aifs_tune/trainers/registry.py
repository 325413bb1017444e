"""Registry of the trainers that a sweep file can name. Loads neither TensorFlow nor scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from aifs_tune.config.data import BodiesSpec, DataSpec
from aifs_tune.space.parameters import Parameter
from aifs_tune.trainers.boosting import BoostingTrainer
from aifs_tune.trainers.detections import detection_metrics
from aifs_tune.trainers.models.cnn import CnnTrainer
from aifs_tune.trainers.models.cnn1d import Cnn1dTrainer
from aifs_tune.trainers.models.cnn_values import CnnValuesTrainer
from aifs_tune.trainers.models.detector import DetectorTrainer
from aifs_tune.trainers.models.mlp import MlpTrainer
from aifs_tune.trainers.models.residual import ResidualCnnTrainer
from aifs_tune.trainers.models.rnn import RnnTrainer
from aifs_tune.trainers.models.transfer import TransferTrainer
from aifs_tune.trainers.network.params import CLASS_LOSS, VALUE_LOSS, VALUES_WEIGHT, has_loss_of_quantiles
from aifs_tune.trainers.predictions import both_metrics, class_metrics, quantile_metrics, value_metrics

DataKind: TypeAlias = Literal["images", "table", "series", "frames", "bodies"]
"""Kind of data that a trainer learns from."""


@dataclass(frozen=True)
class TrainerEntry:
    """One trainer of the registry.

    Parameters
    ----------
    kind
        Kind of data that it learns from.
    trainer_type
        Its class, whose ``params_type`` names the hyperparameters.
    is_adaptable
        Whether hyperparameters that do not change the network can change in a running trial.
    needs_weights
        Whether it is made with a file of pretrained ``weights``.
    preload
        Modules that a worker can import before it has work.
    """

    kind: DataKind
    trainer_type: Any
    is_adaptable: bool = True
    needs_weights: bool = False
    preload: tuple[str, ...] = ("aifs_tune.trainers.network.preload",)

    @property
    def allowed(self) -> Mapping[str, Parameter]:
        """Allowed values of each hyperparameter."""
        allowed: Mapping[str, Parameter] = self.trainer_type.params_type.allowed
        return allowed

    @property
    def static_params(self) -> tuple[str, ...]:
        """Hyperparameters that change the compiled program; they are fixed while a trial runs."""
        names: tuple[str, ...] = self.trainer_type.params_type.static_params
        return names

    @property
    def learns_both(self) -> bool:
        """Whether it learns classes and numbers together."""
        return bool(getattr(self.trainer_type, "learns_both", False))

    @property
    def is_fusible(self) -> bool:
        """Whether several of its trials can be one program: whether it is a network that trains on JAX."""
        return "jax" in getattr(self.trainer_type, "backends", ())

    def parameters(self, data: DataSpec) -> dict[str, Parameter]:
        """Hyperparameters that can be tuned on ``data``: without those of a loss that it does not have.

        Quantiles are those of one number.
        """
        has_classes, n_targets = data.has_classes(self.kind), len(data.targets(self.kind))
        is_used = ((CLASS_LOSS, has_classes), (VALUE_LOSS, n_targets > 0), (VALUES_WEIGHT, has_classes and n_targets))
        unused = {name for of_loss, is_there in is_used if not is_there for name in of_loss}
        allowed = {name: parameter for name, parameter in self.allowed.items() if name not in unused}
        is_without = has_classes or n_targets > 1
        return allowed | VALUE_LOSS if is_without and has_loss_of_quantiles(allowed) else allowed

    def metrics(self, data: DataSpec, asked: Sequence[str] = ()) -> tuple[str, ...]:
        """Metrics that an epoch reports on ``data``, with those of a signal at the false-positive rates ``asked``.

        The last ones may be of quantiles, which are reported with that loss alone.
        """
        if self.kind == "bodies":
            bodies = data.bodies or BodiesSpec()
            return detection_metrics(list(bodies.numbers), has_brightness=bodies.brightness is not None)
        targets = data.targets(self.kind)
        if data.has_classes(self.kind):
            of_classes = class_metrics(data.signal, asked)
            return both_metrics(of_classes, targets) if targets else of_classes
        can = len(targets) == 1 and has_loss_of_quantiles(self.allowed)
        return value_metrics(targets) + (quantile_metrics(targets[0]) if can else ())


TRAINERS: dict[str, TrainerEntry] = {
    "cnn": TrainerEntry("images", CnnTrainer),
    "residual_cnn": TrainerEntry("images", ResidualCnnTrainer),
    "transfer": TrainerEntry("images", TransferTrainer, needs_weights=True),
    "mlp": TrainerEntry("table", MlpTrainer),
    "boosting": TrainerEntry("table", BoostingTrainer, is_adaptable=False, preload=("sklearn.ensemble",)),
    "rnn": TrainerEntry("series", RnnTrainer),
    "cnn1d": TrainerEntry("series", Cnn1dTrainer),
    "cnn_values": TrainerEntry("frames", CnnValuesTrainer),
    "detector": TrainerEntry("bodies", DetectorTrainer),
}
"""Trainers by the name that a sweep file gives."""
