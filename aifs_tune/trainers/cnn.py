"""The CNN trainer: one warm object that trains one configuration after another on one image set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.images import ImageSet
from aifs_tune.scalars import Scalar
from aifs_tune.trainers.augment import augment
from aifs_tune.trainers.cnn_network import CnnNetwork
from aifs_tune.trainers.image_task import ImageTask
from aifs_tune.trainers.lessons import Classes, Lesson
from aifs_tune.trainers.net_trainer import NetTrainer
from aifs_tune.trainers.network import Network
from aifs_tune.trainers.program import Examples
from aifs_tune.trainers.runtime import resident


class CnnTrainer(NetTrainer):
    """Trains a CNN on ``images``; usable alone, or as the trainer of a sweep.

    Parameters
    ----------
    images
        Every class counts by its share of the training part if ``class_weights`` is ``"balanced"``.
    params
        Any of :class:`~aifs_tune.trainers.cnn_params.CnnParams`; absent ones have their default.
    metric, mode
        One of ``CLASS_METRICS``; decides which epoch is best. A value that is not finite is never best.
    patience
        Epochs without a better value after which the trial is finished; None for no limit.
    precision
        Of the convolutions; ``"auto"`` is mixed bfloat16 where the hardware has it.
    epochs
        How long a trial trains at most: where a cosine schedule ends.
    threads
        CPU threads of TensorFlow; without effect if it already runs in this process.
    devices
        GPUs that share out each batch of one trial; where there are none, logical CPUs.

    Raises
    ------
    RequestError
        If an argument or parameter is not allowed; DataError if nothing can be learnt or measured on ``images``.
    """

    def __init__(
        self,
        images: ImageSet,
        params: Mapping[str, Scalar] | None = None,
        *,
        seed: int = 0,
        metric: str = "val_macro_f1",
        mode: Literal["max", "min"] = "max",
        patience: int | None = None,
        class_weights: Literal["balanced", "none"] = "balanced",
        precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto",
        epochs: int = 20,
        threads: int | None = None,
        devices: int = 1,
    ) -> None:
        self._images = images
        task = ImageTask(images, metric, mode, patience, class_weights, precision, epochs)
        super().__init__(task, params, seed=seed, precision=precision, threads=threads, devices=devices)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of the best epoch, shape (n, classes), of uint8 images (n, height, width, channels)."""
        with self._best_weights() as network:
            assert isinstance(network, CnnNetwork)
            return network.probabilities(images)

    def _resident(self) -> Examples:
        labels = self._images.labels
        weights = self._task.weights_of_classes()[labels]
        return Examples(resident(self._images.images), resident(labels), resident(weights))

    def _make_lesson(self, shape: Any) -> Lesson:
        del shape
        return Classes(augment)

    def _make_network(self, shape: Any) -> Network:
        return CnnNetwork(shape, self.precision)

    def _part(self, part: str) -> NDArray[np.int32]:
        picked: NDArray[np.int32] = getattr(self._images, part)
        return picked
