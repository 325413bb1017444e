"""The network: blocks of convolution, pooling and ReLU, then a dense layer, dropout and the classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import RequestError
from aifs_tune.trainers.cnn_params import CnnShape
from aifs_tune.trainers.runtime import keras, resident, tf


class Network:
    """Keras layers that are built once for a shape and take new weights for each trial.

    ReLU stands after the pooling: the values and gradients are those of ReLU before it, as both are
    monotone, at a quarter of its cost.
    """

    def __init__(self, shape: CnnShape) -> None:
        self.shape = shape
        layers = keras.layers
        self._hidden: list[Any] = []
        for _, _, filters in shape.block_sizes:
            self._hidden += [
                layers.Conv2D(filters, shape.kernel_size, kernel_initializer="zeros"),
                layers.MaxPooling2D(2),
                layers.ReLU(),
            ]
        self._hidden += [
            layers.Flatten(),
            layers.Dense(shape.dense_units, activation="relu", kernel_initializer="zeros"),
        ]
        self._classes = layers.Dense(shape.n_classes, kernel_initializer="zeros")
        variables = _build([*self._hidden, self._classes], (None, *shape.image))
        self.weights: dict[str, Any] = dict(zip(shape.weight_shapes, variables, strict=True))
        self._classify = tf.function(self._classify_batch, autograph=False)
        self.n_traces = 0

    def logits(self, images: Any, drop: Callable[[Any], Any]) -> Any:
        """Logits of shape (n, classes) for float images of 0 to 1; ``drop`` is applied to the dense units."""
        values = images
        for layer in self._hidden:
            values = layer(values)
        return self._classes(drop(values))

    def log_probabilities(self, images: Any, picked: NDArray[np.int32]) -> NDArray[np.float32]:
        """Of the picked ones of ``images``, a uint8 tensor; shape (n, classes), nothing dropped.

        Computed in batches of ``batch_size``, the last filled up by wrapping around, so that one trace does.
        """
        n, batch = len(picked), self.shape.batch_size
        if n == 0:
            return np.zeros((0, self.shape.n_classes), np.float32)
        filled = np.resize(picked, -(-n // batch) * batch).reshape(-1, batch)
        return np.concatenate([np.array(self._classify(tf.gather(images, chunk))) for chunk in filled])[:n]

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Shape (n, classes), of uint8 images (n, height, width, channels).

        Raises
        ------
        RequestError
            If the images have another shape or type than those that the network is for.
        """
        if images.ndim != 4 or images.shape[1:] != self.shape.image or images.dtype != np.uint8:
            wanted = ", ".join(map(str, self.shape.image))
            raise RequestError(f"images: {images.dtype} of shape {images.shape}; allowed: uint8 of shape (n, {wanted})")
        return np.exp(self.log_probabilities(resident(images), np.arange(len(images), dtype=np.int32)))

    def initialise(self, seed: int) -> None:
        """Kernels from Glorot and Bengio (2010), eq. 16, the same for the same seed on any device; biases 0."""
        generator = np.random.default_rng(seed)
        for name, variable in self.weights.items():
            shape = self.shape.weight_shapes[name]
            variable.assign(_glorot(generator, shape) if is_kernel(name) else np.zeros(shape, np.float32))

    def assign(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Take ``values``, one for each weight."""
        for name, variable in self.weights.items():
            variable.assign(values[name])

    def values(self) -> dict[str, NDArray[np.float32]]:
        """A copy of all weights."""
        return {name: np.array(variable) for name, variable in self.weights.items()}

    def _classify_batch(self, images: Any) -> Any:
        self.n_traces += 1
        return tf.nn.log_softmax(self.logits(to_unit_scale(images), drop=lambda values: values))


def is_kernel(name: str) -> bool:
    """Whether the weight of this name multiplies, and so decays; biases do not."""
    return name.endswith(".kernel")


def to_unit_scale(images: Any) -> Any:
    """Images of 0 to 255, of any type, as float32 of 0 to 1."""
    return tf.cast(images, tf.float32) * (1 / 255)


def _build(layers: list[Any], shape: tuple[int | None, ...]) -> list[Any]:
    variables: list[Any] = []
    for layer in layers:
        layer.build(shape)
        variables += [variable.value for variable in layer.trainable_variables]
        shape = layer.compute_output_shape(shape)
    return variables


def _glorot(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    field = math.prod(shape[:-2])
    limit = math.sqrt(6 / (field * (shape[-2] + shape[-1])))
    return (generator.random(shape, dtype=np.float32) * 2 - 1) * np.float32(limit)
