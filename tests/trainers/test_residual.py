from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from small_images import STILL, blobs

from aifs_tune.errors import RequestError
from aifs_tune.testing import TrainerContract
from aifs_tune.trainers.checkpoint import read_state
from aifs_tune.trainers.load import load_classifier
from aifs_tune.trainers.models.residual import (
    ALLOWED,
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
    Convolution,
    ResidualCnnTrainer,
    ResidualNetwork,
    ResidualParams,
    ResidualShape,
)
from aifs_tune.trainers.network.images import to_unit_scale
from aifs_tune.trainers.network.runtime import keras, tf
from aifs_tune.trainers.protocol import Trainer

SMALL = {"filters": 4, "stages": 2, "blocks": 1, "batch_size": 16, "learning_rate": 3e-3}
SHAPE = ResidualShape((13, 10, 3), 3, batch_size=6, filters=3, stages=3, blocks=2)
Arrays = Mapping[str, Any]


@cache
def shared() -> ResidualCnnTrainer:
    """One trainer for all of the contract: a reset has to make it as new."""
    return ResidualCnnTrainer(blobs(), SMALL, threads=1)


class TestResidualCnnTrainer(TrainerContract):
    first: ClassVar = SMALL | {"zoom": 0.1, "dropout": 0.2}
    second: ClassVar = SMALL | {"learning_rate": 1e-2, "filters": 3}

    def make(self) -> Trainer:
        return shared()


class Reference:
    """The same network of Keras layers."""

    def __init__(self, shape: ResidualShape) -> None:
        self.layers: dict[str, Any] = {}
        image = keras.Input(shape.image)
        values = keras.layers.ReLU()(self._normal(image, shape.stem))
        for block in shape.all_blocks:
            inner = keras.layers.ReLU()(self._normal(values, block.first))
            inner = self._normal(inner, block.second)
            shortcut = values if block.shortcut is None else self._normal(values, block.shortcut)
            values = keras.layers.ReLU()(keras.layers.Add()([inner, shortcut]))
        self.layers["classes"] = keras.layers.Dense(shape.n_classes)
        features = keras.layers.GlobalAveragePooling2D()(values)
        self.model = keras.Model(image, self.layers["classes"](features))

    def _normal(self, values: Any, one: Convolution) -> Any:
        convolution = keras.layers.Conv2D(one.after, one.edge, one.stride, "same", use_bias=False)
        norm = keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON)
        self.layers[one.name] = (convolution, norm)
        return norm(convolution(values))

    def variables(self) -> dict[str, Any]:
        """By our names."""
        found = {"classes.kernel": self.layers["classes"].kernel, "classes.bias": self.layers["classes"].bias}
        for name, layers in self.layers.items():
            if name != "classes":
                convolution, norm = layers
                found[f"{name}.kernel"] = convolution.kernel
                found |= {f"{name}.scale": norm.gamma, f"{name}.offset": norm.beta}
                found |= {f"{name}.mean": norm.moving_mean, f"{name}.variance": norm.moving_variance}
        return found


def test_values_gradients_and_running_statistics_are_those_of_keras() -> None:
    network, reference = ResidualNetwork(SHAPE), Reference(SHAPE)
    network.initialise(3)
    generator = np.random.default_rng(4)
    network.assign({name: value + generator.uniform(0, 0.2, value.shape) for name, value in network.values().items()})
    variables = reference.variables()
    assert set(variables) == set(network.sizes)
    for name, value in network.values().items():
        variables[name].assign(value)
    images = to_unit_scale(tf.constant(generator.integers(0, 256, (6, *SHAPE.image), dtype=np.uint8)))
    truth = np.arange(6) % 3

    def slopes(logits: Any, weights: Arrays) -> tuple[Any, dict[str, Any]]:
        with tf.GradientTape() as tape:
            found = logits()
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=truth, logits=found))
        return np.array(found), dict(zip(weights, tape.gradient(loss, list(weights.values())), strict=True))

    found, mine = slopes(lambda: network.outputs(images, lambda values: values, is_training=True), network.weights)
    weights = {name: variables[name].value for name in network.weights}
    expected, theirs = slopes(lambda: reference.model(images, training=True), weights)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    for name, gradient in theirs.items():
        scale = np.abs(np.array(gradient)).max()
        assert scale > 1e-5 or name.endswith("kernel"), name
        np.testing.assert_allclose(np.array(mine[name]), np.array(gradient), atol=1e-4 * scale + 1e-6, err_msg=name)
    for name, state in network.states.items():
        np.testing.assert_allclose(np.array(state), np.array(variables[name].value), rtol=1e-4, atol=1e-6)
    found = np.array(network.outputs(images, lambda values: values, is_training=False))
    np.testing.assert_allclose(found, np.array(reference.model(images, training=False)), rtol=1e-4)


def test_statistics_follow_training_and_begin_anew_with_each_trial(tmp_path: Path) -> None:
    trainer = ResidualCnnTrainer(blobs(n=240), SMALL | STILL, seed=1, threads=1)
    curve = [trainer.epoch()["val_macro_f1"] for _ in range(8)]
    assert max(curve) > 0.9
    trainer.save(tmp_path)
    trainer.save_best(tmp_path)
    arrays, _ = read_state(tmp_path, "state")
    assert np.abs(arrays["weight/stem.mean"]).max() > 0.01
    assert "slot/m.stem.mean" not in arrays
    images = blobs(n=240).images
    expected = trainer.predict(images)
    classifier = load_classifier(tmp_path)
    np.testing.assert_array_equal(classifier.predict(images), expected)
    np.testing.assert_array_equal(classifier.predict(images, 3, seed=2), trainer.predict(images, 3, seed=2))
    trainer.reset(SMALL | STILL, seed=1)
    assert [trainer.epoch()["val_macro_f1"] for _ in range(8)] == curve


def test_in_mixed_precision_statistics_stay_float32_and_values_near() -> None:
    images = to_unit_scale(tf.constant(blobs(n=12).images))
    shape = ResidualShape((16, 16, 3), 3, batch_size=12, filters=4, stages=2, blocks=1)
    found = []
    for precision in ("float32", "mixed_bfloat16"):
        network = ResidualNetwork(shape, precision)  # type: ignore[arg-type]
        network.initialise(0)
        values = network.outputs(images, lambda values: values, is_training=True)
        assert values.dtype == tf.float32
        found.append((np.array(values), network.values()["stage1.block0.second.mean"]))
    for exact, mixed in zip(*found, strict=True):
        assert 0 < np.abs(exact - mixed).max() < 0.1 * np.abs(exact).max()


def test_every_parameter_has_a_default_that_is_allowed() -> None:
    assert set(vars(ResidualParams())) == set(ALLOWED)
    assert ResidualParams.from_mapping(vars(ResidualParams())) == ResidualParams()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"stages": 6}, "stages: 6 is too many for images of 16x16 px; allowed: fewer stages, or images of .* 32 px"),
        ({"filters": 1024, "stages": 5, "blocks": 32}, "make a network of .* weights; allowed: at most 268,435,456"),
        ({"blocks": 0}, "blocks: 0 is not allowed; allowed: a whole number from 1 to 32"),
        ({"kernel_size": 3}, "'kernel_size': 3 is not a parameter of the residual_cnn; allowed: learning_rate"),
    ],
)
def test_what_makes_no_network_is_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        ResidualCnnTrainer(blobs(), params)


def test_the_smallest_images_are_learnt() -> None:
    shape = ResidualShape.of(ResidualParams(stages=5, filters=1, blocks=1), (16, 16, 1), 2)
    network = ResidualNetwork(shape)
    network.initialise(0)
    assert network.outputs(tf.zeros((2, 16, 16, 1)), lambda values: values, is_training=True).shape == (2, 2)
