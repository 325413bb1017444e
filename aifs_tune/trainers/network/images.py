"""Networks, tasks and trainers that classify images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar
from aifs_tune.data.images.decode import ImageSet
from aifs_tune.data.signal import Signal, rate_of
from aifs_tune.errors import DataError, RequestError
from aifs_tune.trainers.augment.images import augment
from aifs_tune.trainers.network.losses import ClassificationLoss, LossFunction
from aifs_tune.trainers.network.metrics import measure
from aifs_tune.trainers.network.network import PREDICT_BATCH_SIZE, Network, gathered, in_batches
from aifs_tune.trainers.network.ops import is_jax, seed_of, split
from aifs_tune.trainers.network.params import ImageParams, Precision, view_hyperparameters
from aifs_tune.trainers.network.program import Examples
from aifs_tune.trainers.network.runtime import jax, keras, resident, tf
from aifs_tune.trainers.network.trainer import NetTrainer
from aifs_tune.trainers.network.trial_state import Keep, check_one_of
from aifs_tune.trainers.predictions import Predictions, reported_metrics

MAX_VIEWS = 1000
"""Largest number of random views of an image."""


class ImageNetwork(Network):
    """Network from uint8 images (n, height, width, channels) to logits (n, classes).

    ``shape`` has ``image`` (height, width, channels) and ``n_classes``.
    """

    def __init__(
        self,
        shape: Any,
        precision: Precision,
        weights: Mapping[str, Any],
        states: Mapping[str, Any],
    ) -> None:
        super().__init__(weights, states)
        self.shape, self.precision = shape, precision
        self._view: Any = None

    @property
    def n_outputs(self) -> int:
        """Number of classes."""
        n_classes: int = self.shape.n_classes
        return n_classes

    def preprocess(self, raw: Any) -> Any:
        """Images as float32 of 0 to 1."""
        return to_unit_scale(raw)

    def activation(self, outputs: Any) -> Any:
        """Log-probabilities from logits."""
        return keras.ops.log_softmax(outputs)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, shape (n, classes), of uint8 images (n, height, width, channels).

        Raises
        ------
        RequestError
            If the images do not have the shape and type that the network expects.
        """
        check_images(images, self.shape.image)
        return np.exp(self.predict(resident(images), np.arange(len(images), dtype=np.int32)))

    def probabilities_of_views(
        self, images: NDArray[np.uint8], views: int, *, hyperparameters: Mapping[str, float], seed: int
    ) -> NDArray[np.float32]:
        """Average of :meth:`probabilities` over ``views`` random views of each image (Krizhevsky et al. 2012).

        A view is an image that is augmented like a training image with ``hyperparameters``, but without random
        erasing; see :func:`~aifs_tune.trainers.augment.images.augment`. The same ``seed`` gives the same views of
        the same images in the same order. One view is the image without augmentation.

        Raises
        ------
        RequestError
            If the images have another shape or type, or ``views`` or ``seed`` is not allowed.
        """
        if not 1 <= views <= MAX_VIEWS:
            raise RequestError(f"views: {views} is not allowed; allowed: a whole number from 1 to {MAX_VIEWS}")
        if seed < 0:
            raise RequestError(f"seed: {seed} is not allowed; allowed: a whole number from 0")
        if views == 1 or len(images) == 0:
            return self.probabilities(images)
        check_images(images, self.shape.image)
        if self._view is None:
            self._view = jax.jit(self._view_of_arrays) if is_jax() else tf.function(self._view_batch, autograph=False)
        held = (self.arrays(),) if is_jax() else ()
        stored, n, tensor = resident(images), len(images), keras.ops.convert_to_tensor
        strengths = {name: tensor(value, "float32") for name, value in view_hyperparameters(hyperparameters).items()}
        found = [
            np.array(self._view(*held, stored, tensor(picked), strengths, seed_of(seed, i), tensor(views, "int32")))
            for i, picked in enumerate(in_batches(np.arange(n, dtype=np.int32)))
        ]
        return np.concatenate(found)[:n]

    def _view_of_arrays(self, arrays: Mapping[str, Any], *given: Any) -> Any:
        """:meth:`_view_batch` as a function of ``arrays`` on JAX."""
        with self.holding(arrays):
            return self._view_batch(*given)

    def _view_batch(self, stored: Any, picked: Any, hyperparameters: Any, seed: Any, views: Any) -> Any:
        self.n_traces += 1
        images = self.preprocess(gathered(stored, picked))
        seeds = split(seed, MAX_VIEWS)

        def one(i: Any, total: Any) -> Any:
            changed = augment(images, hyperparameters, seeds[i])
            outputs = self.outputs(changed, lambda values: values, is_training=False)
            return total + keras.ops.softmax(outputs)

        zeros = keras.ops.zeros((PREDICT_BATCH_SIZE, self.n_outputs))
        return keras.ops.fori_loop(0, views, one, zeros) / keras.ops.cast(views, "float32")


def check_images(images: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    """Raise RequestError if ``images`` are not uint8 of shape (n, *shape)."""
    if images.ndim != 4 or images.shape[1:] != shape or images.dtype != np.uint8:
        wanted = ", ".join(map(str, shape))
        raise RequestError(
            f"images: {images.dtype} of shape {images.shape} is not allowed; allowed: uint8 of shape (n, {wanted})"
        )


def to_unit_scale(images: Any) -> Any:
    """Images of 0 to 255, of any type, as float32 of 0 to 1."""
    return keras.ops.cast(images, "float32") * (1 / 255)


class ImageShapes(Protocol):
    """Type of shapes of a network."""

    def of(self, params: Any, image: tuple[int, int, int], n_classes: int) -> Any:
        """Shape of a network with ``params`` for images of this shape."""
        ...


@dataclass(frozen=True)
class ImageTask:
    """Task that all trials of a trainer of images share.

    Its fields are parameters of :class:`ImageTrainer`, and the types of its hyperparameters and shapes.

    Raises
    ------
    RequestError
        If a value is not allowed.
    DataError
        If there is no image to train on, or fewer than two classes to measure.
    """

    images: ImageSet
    metric: str = "val_macro_f1"
    mode: Literal["max", "min"] = "max"
    patience: int | None = None
    class_weights: Literal["balanced", "none"] = "balanced"
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    epochs: int = 20
    keep: Keep = "best"
    params_type: type[ImageParams] = field(kw_only=True)
    shape_type: ImageShapes = field(kw_only=True)

    def __post_init__(self) -> None:
        check_one_of("metric", self.metric, reported_metrics(self.images.signal))
        check_one_of("class_weights", self.class_weights, ("balanced", "none"))
        check_mode(self.mode, self.patience)
        check_training(self.precision, self.epochs)
        check_classes(self.images.labels, self.images.train, self.images.val, "images")
        check_signal(self.images.signal, self.images.classes, self.metric, self.images.labels[self.images.val])

    @property
    def train(self) -> NDArray[np.int32]:
        """Indices of the training images."""
        return self.images.train

    def facts_of(self, shape: Any) -> dict[str, Any]:
        """Classes in their order, the fingerprint of the images, and how 16-bit values were scaled."""
        del shape
        images = self.images
        range16 = None if images.range16 is None else list(images.range16)
        return {"classes": list(images.classes), "fingerprint": images.fingerprint, "range16": range16}

    def params_of(self, params: Mapping[str, Scalar]) -> ImageParams:
        """Checked hyperparameters, with the defaults of missing ones."""
        return self.params_type.from_mapping(params)

    def shape_of(self, params: Any) -> Any:
        """Shape of a network with ``params`` for the images."""
        return self.shape_type.of(params, self.images.shape, len(self.images.classes))

    def weights_of_classes(self) -> NDArray[np.float32]:
        """Weight of each class: that of :func:`class_weights` for the training part, or 1 with ``"none"``."""
        if self.class_weights == "none":
            return np.ones(len(self.images.classes), np.float32)
        return class_weights(self.images.labels[self.images.train], len(self.images.classes))

    def measure(self, part: str, y_pred: NDArray[np.float32]) -> dict[str, float]:
        """Metrics, such as ``val_loss``, of the log-probabilities (n, classes) of the images of ``part``."""
        images = self.images
        labels = images.labels[getattr(images, part)]
        measured = measure(labels, y_pred, signal=images.signal, classes=images.classes)
        return {f"{part}_{name}": value for name, value in measured.items()}

    def predictions_of(self, part: str, y_pred: NDArray[np.float32]) -> Predictions:
        """Targets and predicted probabilities of the images of ``part``."""
        rows = getattr(self.images, part)
        return Predictions(rows, self.images.labels[rows], np.exp(y_pred), tuple(self.images.classes), ())


def class_weights(labels: NDArray[np.int32], n_classes: int) -> NDArray[np.float32]:
    """Balanced class weights (King and Zeng 2001): each class in ``labels`` has the same total weight, mean 1."""
    counts = np.bincount(labels, minlength=n_classes)
    return (len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)


def check_mode(mode: str, patience: int | None) -> None:
    """Raise RequestError if a value is not allowed."""
    check_one_of("mode", mode, ("max", "min"))
    if patience is not None and patience < 1:
        raise RequestError(f"patience: {patience} is not allowed; allowed: a whole number from 1, or none")


def check_training(precision: str, epochs: int) -> None:
    """Raise RequestError if a value is not allowed."""
    check_one_of("precision", precision, ("auto", "float32", "mixed_bfloat16"))
    if epochs < 1:
        raise RequestError(f"epochs: {epochs} is not allowed; allowed: a whole number from 1")


def check_classes(labels: NDArray[np.int32], train: NDArray[np.int32], val: NDArray[np.int32], what: str) -> None:
    """Raise DataError if no example is left to train on, or fewer than two classes to measure.

    ``what`` names the examples in the message.
    """
    if len(train) == 0:
        raise DataError(f"train: no {what}; allowed: at least one")
    n_classes = len(np.unique(labels[val]))
    if n_classes < 2:
        raise DataError(
            f"val: {what} of {n_classes} class(es); allowed: at least two classes, because metrics compare classes"
        )


def check_signal(signal: Signal | None, classes: Sequence[str], metric: str, labels: NDArray[np.int32]) -> None:
    """Check that ``signal`` is one of ``classes``, and that ``labels`` (n,) of the validation part can measure it.

    Raises
    ------
    RequestError
        If there is no such class.
    DataError
        If the validation part has no example of it, or too few others for the false-positive rate of ``metric``.
    """
    if signal is None:
        return
    check_one_of("signal", signal.name, tuple(classes))
    rate = rate_of(metric)
    if rate is None:
        return
    n_signal = int((labels == list(classes).index(signal.name)).sum())
    n_others, wanted = len(labels) - n_signal, math.ceil(round(1 / rate, 6))
    if n_signal == 0 or n_others < wanted:
        raise DataError(
            f"val: {n_signal} examples of the signal {signal.name} and {n_others} of the background are too few for "
            f"{metric}; allowed: at least 1 and {wanted}"
        )


class ImageTrainer(NetTrainer):
    """Base of the trainers of networks that classify images.

    Parameters
    ----------
    images
        Decoded images of at least two classes.
    params
        Hyperparameters of ``params_type``; missing ones have their defaults.
    metric
        One of :data:`~aifs_tune.trainers.predictions.CLASS_METRICS`.

    All other parameters are those of :class:`~aifs_tune.trainers.network.trainer.NetTrainer`.
    """

    params_type: ClassVar[Any]
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
        keep: Keep = "best",
        threads: int | None = None,
        devices: float = 1,
    ) -> None:
        self._images = images
        task = ImageTask(
            images,
            metric,
            mode,
            patience,
            class_weights,
            precision,
            epochs,
            keep,
            params_type=self.params_type,
            shape_type=self.shape_type,
        )
        super().__init__(task, params, seed=seed, precision=precision, threads=threads, devices=devices)

    def predict(self, images: NDArray[np.uint8], views: int = 1, *, seed: int = 0) -> NDArray[np.float32]:
        """Probabilities (n, classes) of uint8 images (n, height, width, channels), by the weights of the best epoch.

        With ``views`` above 1, they are averaged over random views of each image; see
        :meth:`ImageNetwork.probabilities_of_views`.
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
        indices: NDArray[np.int32] = getattr(self._images, part)
        return indices
