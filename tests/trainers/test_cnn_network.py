from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aifs_tune.errors import RequestError
from aifs_tune.trainers.models.cnn import CnnNetwork, CnnShape
from aifs_tune.trainers.network.images import to_unit_scale
from aifs_tune.trainers.network.runtime import keras, tf

SHAPE = CnnShape((18, 17, 3), 3, batch_size=4, filters=4, conv_blocks=2, kernel_size=3, dense_units=8)


def plain_keras(shape: CnnShape) -> Any:
    """The textbook network: ReLU within the convolution, before the pooling."""
    layers = keras.layers
    model = keras.Sequential([keras.Input(shape.image)])
    for block in range(shape.conv_blocks):
        model.add(layers.Conv2D(shape.filters * 2**block, shape.kernel_size, activation="relu"))
        model.add(layers.MaxPooling2D((2, 2)))
    model.add(layers.Flatten())
    model.add(layers.Dense(shape.dense_units, activation="relu"))
    model.add(layers.Dense(shape.n_classes, activation="softmax"))
    return model


def some_images(n: int, shape: CnnShape = SHAPE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, *shape.image), dtype=np.uint8)


SHAPES = [
    SHAPE,
    CnnShape((16, 16, 1), 2, batch_size=4, filters=2, conv_blocks=1, kernel_size=5, dense_units=4),
    CnnShape((17, 18, 3), 3, batch_size=4, filters=2, conv_blocks=1, kernel_size=2, dense_units=4),
    CnnShape((31, 33, 2), 2, batch_size=4, filters=2, conv_blocks=3, kernel_size=3, dense_units=4),
]
"""Even and odd edges at each pooling."""


@pytest.mark.parametrize(("image", "blocks", "kernel", "used"), [(64, 2, 3, 62), (62, 2, 3, 62), (65, 1, 3, 64)])
def test_pixels_that_no_pooling_uses_are_not_seen(image: int, blocks: int, kernel: int, used: int) -> None:
    shape = CnnShape((image, image, 3), 2, filters=2, conv_blocks=blocks, kernel_size=kernel, dense_units=4)
    assert shape.used_edges == (used, used)


def test_mixed_precision_is_that_of_keras() -> None:
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = plain_keras(SHAPE)
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    full, mixed = CnnNetwork(SHAPE), CnnNetwork(SHAPE, "mixed_bfloat16")
    for network in (full, mixed):
        network.initialise(5)
    model.set_weights(list(mixed.values().values()))
    images = some_images(64)
    exact, found = full.probabilities(images), mixed.probabilities(images)
    expected = np.array(tf.cast(model(images / np.float32(255)), tf.float32))
    assert 1e-5 < np.abs(found - exact).max() < 0.02
    np.testing.assert_allclose(found, expected, atol=0.01)
    floats = to_unit_scale(tf.constant(images))
    slopes = []
    for network in (full, mixed):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(network.outputs(floats, lambda values: values, is_training=True)[:, 0])
        slopes.append(tape.gradient(loss, list(network.weights.values())))
    for one, other in zip(*slopes, strict=True):
        assert one.dtype == other.dtype == tf.float32
        assert float(tf.norm(one - other)) <= 0.08 * float(tf.norm(one))


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_the_plain_keras_network(shape: CnnShape) -> None:
    network, model = CnnNetwork(shape), plain_keras(shape)
    network.initialise(5)
    network.assign({name: value + 0.01 for name, value in network.values().items()})
    model.set_weights(list(network.values().values()))
    images, truth = some_images(6, shape), np.arange(6) % shape.n_classes
    np.testing.assert_allclose(network.probabilities(images), np.array(model(images / np.float32(255))), atol=1e-6)

    def gradients(logits: Callable[[], Any], variables: list[Any]) -> list[Any]:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=truth, logits=logits())
            loss = tf.reduce_mean(losses)
        return [np.array(gradient) for gradient in tape.gradient(loss, variables)]

    floats = to_unit_scale(tf.constant(images))
    found = gradients(
        lambda: network.outputs(floats, lambda values: values, is_training=True), list(network.weights.values())
    )
    expected = gradients(lambda: tf.math.log(model(floats)), [v.value for v in model.trainable_variables])
    for one, other in zip(found, expected, strict=True):
        assert np.abs(other).max() > 1e-4
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_weights_follow_the_seed_within_glorot_limits() -> None:
    network = CnnNetwork(SHAPE)
    network.initialise(7)
    one = network.values()
    network.initialise(8)
    network.initialise(7)
    for name, value in network.values().items():
        np.testing.assert_array_equal(value, one[name])
    limit = np.sqrt(6 / (9 * 4 + 9 * 8))
    kernel = one["conv1.kernel"]
    assert 0.9 * limit < np.abs(kernel).max() <= limit
    assert abs(kernel.mean()) < 0.2 * limit
    assert not one["conv1.bias"].any()


def test_probabilities_of_any_number_of_images_come_from_one_trace() -> None:
    network = CnnNetwork(SHAPE)
    network.initialise(0)
    images = some_images(9)
    together = network.probabilities(images)
    assert together.shape == (9, 3)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)
    for n in (0, 1, 4, 5):
        np.testing.assert_allclose(network.probabilities(images[:n]), together[:n], atol=1e-6)
    assert network.n_traces == 1


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 18, 18, 3), np.uint8), np.zeros((18, 17, 3), np.uint8), np.zeros((2, 18, 17, 3), np.float32)],
)
def test_other_images_are_refused(images: np.ndarray) -> None:
    with pytest.raises(RequestError, match=r"allowed: uint8 of shape \(n, 18, 17, 3\)"):
        CnnNetwork(SHAPE).probabilities(images)
