"""The CNN trainer."""

from __future__ import annotations

from typing import Any, ClassVar

from aifs_tune.trainers.cnn_network import CnnNetwork
from aifs_tune.trainers.cnn_params import CnnParams, CnnShape
from aifs_tune.trainers.image_network import ImageNetwork
from aifs_tune.trainers.image_trainer import ImageTrainer


class CnnTrainer(ImageTrainer):
    """Trains small CNNs; see :class:`~aifs_tune.trainers.cnn_params.CnnParams`."""

    params_type: ClassVar = CnnParams
    shape_type: ClassVar = CnnShape

    def _make_network(self, shape: Any) -> ImageNetwork:
        return CnnNetwork(shape, self.precision)
