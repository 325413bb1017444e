"""What all networks have that tell classes of images apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import RequestError
from aifs_tune.trainers.augment import augment
from aifs_tune.trainers.image_params import view_hyperparameters
from aifs_tune.trainers.network import Network, dtype_of, gathered
from aifs_tune.trainers.params import Precision
from aifs_tune.trainers.runtime import resident, tf

MOST_VIEWS = 1000

_AT_ONCE = 64
"""Images in one pass of :meth:`ImageNetwork.probabilities_of_views`."""


class ImageNetwork(Network):
    """From uint8 images (n, height, width, channels) to logits (n, classes).

    ``shape`` says ``image`` (height, width, channels) and ``n_classes``.
    """

    def __init__(
        self,
        shape: Any,
        precision: Precision,
        sizes: Mapping[str, tuple[int, ...]],
        states: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__(sizes, states)
        self.shape, self.precision = shape, precision
        self._dtype = dtype_of(precision)
        self._view: Any = None

    @property
    def n_outputs(self) -> int:
        n_classes: int = self.shape.n_classes
        return n_classes

    def seen(self, raw: Any) -> Any:
        return to_unit_scale(raw)

    def activation(self, outputs: Any) -> Any:
        return tf.nn.log_softmax(outputs)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Shape (n, classes), of uint8 images (n, height, width, channels).

        Raises
        ------
        RequestError
            If the images have another shape or type than those that the network is for.
        """
        check_images(images, self.shape.image)
        return np.exp(self.predict(resident(images), np.arange(len(images), dtype=np.int32)))

    def probabilities_of_views(
        self, images: NDArray[np.uint8], views: int, *, hyperparameters: Mapping[str, float], seed: int
    ) -> NDArray[np.float32]:
        """The mean of :meth:`probabilities` over ``views`` random views of each image (Krizhevsky et al. 2012).

        A view is changed as :func:`~aifs_tune.trainers.augment.augment` changes training images by ``hyperparameters``, without
        erasing. The same ``seed`` gives the same views of the same images in the same order. One view is the image
        as it is.

        Raises
        ------
        RequestError
            If the images are wrong, or ``views`` or ``seed`` is not allowed.
        """
        if not 1 <= views <= MOST_VIEWS:
            raise RequestError(f"views: {views} is not allowed; allowed: a whole number from 1 to {MOST_VIEWS}")
        if seed < 0:
            raise RequestError(f"seed: {seed} is not allowed; allowed: a whole number from 0")
        if views == 1 or len(images) == 0:
            return self.probabilities(images)
        check_images(images, self.shape.image)
        if self._view is None:
            self._view = tf.function(self._view_batch, autograph=False)
        stored, n = resident(images), len(images)
        strengths = {
            name: tf.constant(value, tf.float32) for name, value in view_hyperparameters(hyperparameters).items()
        }
        filled = np.resize(np.arange(n, dtype=np.int32), -(-n // _AT_ONCE) * _AT_ONCE).reshape(-1, _AT_ONCE)
        found = [
            np.array(self._view(stored, tf.constant(picked), strengths, tf.constant([seed, i], tf.int64), views))
            for i, picked in enumerate(filled)
        ]
        return np.concatenate(found)[:n]

    def _view_batch(self, stored: Any, picked: Any, hyperparameters: Any, seed: Any, views: Any) -> Any:
        self.n_traces += 1
        images = self.seen(gathered(stored, picked))
        seeds = tf.random.split(seed, views)

        def one(i: Any, total: Any) -> Any:
            changed = augment(images, hyperparameters, seeds[i])
            outputs = self.outputs(changed, lambda values: values, is_training=False)
            return i + 1, total + tf.nn.softmax(outputs)

        zeros = tf.zeros((_AT_ONCE, self.n_outputs))
        return tf.while_loop(lambda i, _: i < views, one, (0, zeros))[1] / tf.cast(views, tf.float32)

    def _weight(self, name: str) -> Any:
        return tf.cast(self.weights[name], self._dtype)


def check_images(images: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    """Raises RequestError if ``images`` are not uint8 of shape (n, *shape)."""
    if images.ndim != 4 or images.shape[1:] != shape or images.dtype != np.uint8:
        wanted = ", ".join(map(str, shape))
        raise RequestError(f"images: {images.dtype} of shape {images.shape}; allowed: uint8 of shape (n, {wanted})")


def to_unit_scale(images: Any) -> Any:
    """Images of 0 to 255, of any type, as float32 of 0 to 1."""
    return tf.cast(images, tf.float32) * (1 / 255)
