from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aifs_tune.trainers.network.optimizers import make_optimizer
from aifs_tune.trainers.network.params import Optimizer
from aifs_tune.trainers.network.runtime import keras, tf

RATE, MOMENTUM = 0.01, 0.7
SHAPES = {"dense.kernel": (4, 3), "dense.bias": (3,)}


def values(seed: int) -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def ours(optimizer: Optimizer, decay: float, n_steps: int) -> dict[str, NDArray[np.float32]]:
    weights = {name: tf.Variable(value) for name, value in values(0).items()}
    trial_optimizer = make_optimizer(optimizer, weights)
    hyperparameters = {"learning_rate": RATE, "momentum": MOMENTUM, "weight_decay": decay}
    tensors = {name: tf.constant(value) for name, value in hyperparameters.items()}
    for step in range(1, n_steps + 1):
        trial_optimizer.apply({name: tf.constant(g) for name, g in values(step).items()}, tf.constant(step), tensors)
    return {name: np.array(weight) for name, weight in weights.items()}


def by_keras(optimizer: Any, n_steps: int, l2: float = 0.0) -> dict[str, NDArray[np.float32]]:
    weights = {name: keras.Variable(value, name=name) for name, value in values(0).items()}
    optimizer.build(list(weights.values()))
    for step in range(1, n_steps + 1):
        gradients = values(step)
        gradients["dense.kernel"] = gradients["dense.kernel"] + l2 * np.array(weights["dense.kernel"])
        optimizer.apply([tf.constant(gradients[name]) for name in weights], list(weights.values()))
    return {name: np.array(weight) for name, weight in weights.items()}


def keras_adamw(decay: float) -> Any:
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=decay)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adam", lambda decay: by_keras(keras.optimizers.Adam(RATE), 6, decay)),
        ("adamw", lambda decay: by_keras(keras_adamw(decay), 6)),
        ("sgd", lambda decay: by_keras(keras.optimizers.SGD(RATE, momentum=MOMENTUM), 6, decay)),
    ],
)
def test_updates_are_those_of_keras(name: Optimizer, reference: Any, decay: float) -> None:
    found, expected = ours(name, decay, 6), reference(decay)
    for weight in SHAPES:
        np.testing.assert_allclose(found[weight], expected[weight], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_weight_decay_changes_kernels_and_not_biases(name: Optimizer) -> None:
    without, decayed = ours(name, 0.0, 3), ours(name, 0.5, 3)
    assert not np.allclose(without["dense.kernel"], decayed["dense.kernel"])
    np.testing.assert_array_equal(without["dense.bias"], decayed["dense.bias"])


def test_decoupled_decay_is_not_l2() -> None:
    assert not np.allclose(ours("adam", 0.5, 3)["dense.kernel"], ours("adamw", 0.5, 3)["dense.kernel"])
