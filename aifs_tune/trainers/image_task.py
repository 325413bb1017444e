"""Classes of images as the task of a trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.images import ImageSet
from aifs_tune.errors import DataError, RequestError
from aifs_tune.scalars import Scalar
from aifs_tune.trainers.answered import Predictions
from aifs_tune.trainers.cnn_params import CnnParams, CnnShape
from aifs_tune.trainers.course import check_one_of
from aifs_tune.trainers.image_params import ImageParams
from aifs_tune.trainers.metrics import measure
from aifs_tune.trainers.scores import CLASS_METRICS


class ImageShapes(Protocol):
    """A type of shapes: :meth:`of` gives the one of these params for images of this shape."""

    def of(self, params: Any, image: tuple[int, int, int], n_classes: int) -> Any: ...


@dataclass(frozen=True)
class ImageTask:
    """What all trials of a trainer share; the arguments of the same name in
    :class:`~aifs_tune.trainers.image_trainer.ImageTrainer`, and its types of params and shapes.

    Raises
    ------
    RequestError
        If a value is not allowed; DataError if nothing can be learnt or measured on ``images``.
    """

    images: ImageSet
    metric: str = "val_macro_f1"
    mode: Literal["max", "min"] = "max"
    patience: int | None = None
    class_weights: Literal["balanced", "none"] = "balanced"
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    epochs: int = 20
    params_type: type[ImageParams] = CnnParams
    shape_type: ImageShapes = CnnShape

    def __post_init__(self) -> None:
        check_one_of("metric", self.metric, CLASS_METRICS)
        check_one_of("class_weights", self.class_weights, ("balanced", "none"))
        check_mode(self.mode, self.patience)
        check_training(self.precision, self.epochs)
        check_classes(self.images.labels, self.images.train, self.images.val, "images")

    @property
    def train(self) -> NDArray[np.int32]:
        """The images to train on."""
        return self.images.train

    @property
    def facts(self) -> dict[str, Any]:
        """The classes in their order, and the fingerprint of the images."""
        return {"classes": list(self.images.classes), "fingerprint": self.images.fingerprint}

    def params_of(self, params: Mapping[str, Scalar]) -> ImageParams:
        """Checked, with the defaults for what is absent."""
        return self.params_type.from_mapping(params)

    def shape_of(self, params: Any) -> Any:
        """The shape of a network with ``params`` for these images."""
        return self.shape_type.of(params, self.images.shape, len(self.images.classes))

    def weights_of_classes(self) -> NDArray[np.float32]:
        """:func:`class_weights` of the training part; all 1 for ``"none"``."""
        if self.class_weights == "none":
            return np.ones(len(self.images.classes), np.float32)
        return class_weights(self.images.labels[self.images.train], len(self.images.classes))

    def measure(self, part: str, y_pred: NDArray[np.float32]) -> dict[str, float]:
        """What the logarithms, shape (n, classes), of the images of ``part`` are worth: ``val_loss`` and so on."""
        labels = self.images.labels[getattr(self.images, part)]
        return {f"{part}_{name}": value for name, value in measure(labels, y_pred).items()}

    def predictions_of(self, part: str, y_pred: NDArray[np.float32]) -> Predictions:
        """The logarithms of :meth:`measure` beside the truths, as probabilities."""
        rows = getattr(self.images, part)
        return Predictions(rows, self.images.labels[rows], np.exp(y_pred), tuple(self.images.classes), ())


def class_weights(labels: NDArray[np.int32], n_classes: int) -> NDArray[np.float32]:
    """Balanced as in King and Zeng (2001): each class of ``labels`` has the same total weight, the mean is 1."""
    counts = np.bincount(labels, minlength=n_classes)
    return (len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)


def check_mode(mode: str, patience: int | None) -> None:
    """Raises RequestError if one of them is not allowed."""
    check_one_of("mode", mode, ("max", "min"))
    if patience is not None and patience < 1:
        raise RequestError(f"patience: {patience} is not allowed; allowed: a whole number from 1, or none")


def check_training(precision: str, epochs: int) -> None:
    """Raises RequestError if one of them is not allowed."""
    check_one_of("precision", precision, ("auto", "float32", "mixed_bfloat16"))
    if epochs < 1:
        raise RequestError(f"epochs: {epochs} is not allowed; allowed: a whole number from 1")


def check_classes(labels: NDArray[np.int32], train: NDArray[np.int32], val: NDArray[np.int32], what: str) -> None:
    """Raises DataError if nothing can be learnt or measured; ``what`` the examples are called."""
    if len(train) == 0:
        raise DataError(f"train: no {what}; allowed: at least one to train on")
    n_classes = len(np.unique(labels[val]))
    if n_classes < 2:
        raise DataError(f"val: {what} of {n_classes} class(es); allowed: at least two, or no metric says anything")
