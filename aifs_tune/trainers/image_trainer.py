"""Trainers that tell classes of images apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.images import ImageSet
from aifs_tune.scalars import Scalar
from aifs_tune.trainers.augment import augment
from aifs_tune.trainers.image_network import ImageNetwork
from aifs_tune.trainers.image_params import ImageParams
from aifs_tune.trainers.image_task import ImageShapes, ImageTask
from aifs_tune.trainers.lessons import ClassificationLoss, LossFunction
from aifs_tune.trainers.net_trainer import NetTrainer
from aifs_tune.trainers.program import Examples
from aifs_tune.trainers.runtime import resident


class ImageTrainer(NetTrainer):
    """Trains a network on ``images``; usable alone, or as the trainer of a sweep.

    Parameters
    ----------
    images
        Decoded, of at least two classes.
    params
        Any of ``params_type``; absent ones have their default.
    metric
        One of ``CLASS_METRICS``.

    All others are those of :class:`~aifs_tune.trainers.net_trainer.NetTrainer`.
    """

    params_type: ClassVar[type[ImageParams]]
    shape_type: ClassVar[ImageShapes]

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
        devices: float = 1,
    ) -> None:
        self._images = images
        types = self.params_type, self.shape_type
        task = ImageTask(images, metric, mode, patience, class_weights, precision, epochs, *types)
        super().__init__(task, params, seed=seed, precision=precision, threads=threads, devices=devices)

    def predict(self, images: NDArray[np.uint8], views: int = 1, *, seed: int = 0) -> NDArray[np.float32]:
        """Probabilities of the best epoch, shape (n, classes), of uint8 images (n, height, width, channels).

        With more than one of ``views``, the mean over so many random views of each image, changed as the trial
        changes training images; see :meth:`~aifs_tune.trainers.image_network.ImageNetwork.probabilities_of_views`.
        """
        hyperparameters = self._train_state.params.hyperparameters()
        with self._best_weights() as network:
            assert isinstance(network, ImageNetwork)
            return network.probabilities_of_views(images, views, hyperparameters=hyperparameters, seed=seed)

    def _resident(self) -> Examples:
        labels = self._images.labels
        weights = self._task.weights_of_classes()[labels]
        return Examples(resident(self._images.images), resident(labels), resident(weights))

    def _make_loss_function(self, shape: Any) -> LossFunction:
        del shape
        return ClassificationLoss(augment)

    def _part(self, part: str) -> NDArray[np.int32]:
        picked: NDArray[np.int32] = getattr(self._images, part)
        return picked
