from __future__ import annotations

import numpy as np
import pytest
from small_series import SMALL_CNN1D, slopes

from aifs_tune.trainers.models.cnn1d import Cnn1dNetwork, Cnn1dParams, Cnn1dShape
from aifs_tune.trainers.network.runtime import tf

SERIES = slopes()


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_the_network_is_that_of_the_textbook(pooling: str) -> None:
    shape = Cnn1dShape.of(Cnn1dParams.from_mapping(SMALL_CNN1D | {"pooling": pooling}), SERIES)
    network = Cnn1dNetwork(shape, "float32")
    network.initialise(3)
    w = {name: value.astype(np.float64) for name, value in network.values().items()}
    assert list(w) == [
        f"{name}.{part}" for name in ("conv0", "conv1", "dense", "outputs") for part in ("kernel", "bias")
    ]
    values, lengths = SERIES.inputs
    outputs = np.array(network.outputs((tf.constant(values), tf.constant(lengths)), lambda v: v, is_training=False))
    for i in range(6):
        seen = values[i, : lengths[i]].astype(np.float64)
        for block in (0, 1):
            padded = np.pad(seen, ((1, 1), (0, 0)))
            kernel = w[f"conv{block}.kernel"]
            wide = np.stack([np.tensordot(padded[t : t + 3], kernel, ((0, 1), (0, 1))) for t in range(len(seen))])
            wide = np.maximum(wide + w[f"conv{block}.bias"], 0)
            seen = np.stack([wide[t : t + 2].max(axis=0) for t in range(0, len(wide), 2)])
        pooled = seen.mean(axis=0) if pooling == "mean" else seen.max(axis=0)
        dense = np.maximum(pooled @ w["dense.kernel"] + w["dense.bias"], 0)
        np.testing.assert_allclose(outputs[i], dense @ w["outputs.kernel"] + w["outputs.bias"], atol=1e-5)


def test_bfloat16_measures_about_the_same() -> None:
    shape = Cnn1dShape.of(Cnn1dParams.from_mapping(SMALL_CNN1D), SERIES)
    networks = [Cnn1dNetwork(shape, "float32"), Cnn1dNetwork(shape, "mixed_bfloat16")]
    inputs = tuple(tf.constant(array) for array in SERIES.inputs)
    found = []
    for network in networks:
        network.initialise(3)
        found.append(np.array(network.outputs(inputs, lambda v: v, is_training=False)))
    assert found[1].dtype == np.float32
    np.testing.assert_allclose(found[0], found[1], atol=0.03)
    assert not np.array_equal(found[0], found[1])
