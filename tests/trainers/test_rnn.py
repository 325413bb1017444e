from __future__ import annotations

import numpy as np
import pytest
from small_series import SMALL_RNN, slopes

from aifs_tune.trainers.models.rnn import RnnNetwork, RnnParams, RnnShape
from aifs_tune.trainers.network.network import is_kernel
from aifs_tune.trainers.network.runtime import tf

SERIES = slopes()


def network(**params: object) -> RnnNetwork:
    return RnnNetwork(RnnShape.of(RnnParams.from_mapping(SMALL_RNN | params), SERIES))  # type: ignore[arg-type]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_the_lstm_is_that_of_the_textbook() -> None:
    made = network()
    made.initialise(3)
    w = {name: value.astype(np.float64) for name, value in made.values().items()}
    values, lengths = SERIES.inputs
    outputs = np.array(made.outputs((tf.constant(values), tf.constant(lengths)), lambda v: v, is_training=False))
    for i in (0, 1, 2):
        h, c = np.zeros(8), np.zeros(8)
        for x in values[i, : lengths[i]]:
            gates = x @ w["lstm0.kernel"] + h @ w["lstm0.recurrent"] + w["lstm0.bias"]
            enter, forget, fresh, leave = np.split(gates, 4)
            c = sigmoid(forget) * c + sigmoid(enter) * np.tanh(fresh)
            h = sigmoid(leave) * np.tanh(c)
        np.testing.assert_allclose(outputs[i], h @ w["dense.kernel"] + w["dense.bias"], atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_weights_have_stable_names_and_begin_alike(cell: str) -> None:
    made = network(cell=cell, layers=2, bidirectional=True)
    ways = [f"{cell}{layer}.{way}" for layer in (0, 1) for way in ("forward", "backward")]
    names = [f"{way}.{part}" for way in ways for part in ("kernel", "recurrent", "bias")]
    assert list(made.weights) == [*names, "dense.kernel", "dense.bias"]
    assert all(is_kernel(name) is not name.endswith(".bias") for name in made.weights)
    made.initialise(7)
    one, other = made.values(), network(cell=cell, layers=2, bidirectional=True)
    other.initialise(7)
    for name, value in other.values().items():
        np.testing.assert_array_equal(value, one[name])
    forget = one[f"{cell}0.forward.bias"].reshape(-1)[8:16]
    assert (forget == (1 if cell == "lstm" else 0)).all()
    recurrent = one[f"{cell}1.backward.recurrent"][:, :8]
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(8), atol=1e-5)


def test_a_bidirectional_one_reads_the_beginning_last() -> None:
    made = network(bidirectional=True)
    made.initialise(1)
    values, lengths = (np.array(array) for array in SERIES.inputs)
    backward = made.model.get_layer("lstm0").backward_layer
    mask = tf.sequence_mask(lengths, values.shape[1])
    turned = np.stack([np.concatenate([row[:n][::-1], row[n:]]) for row, n in zip(values, lengths, strict=True)])
    made_of = backward.cell
    kernel, recurrent, bias = (v.value for v in (made_of.kernel, made_of.recurrent_kernel, made_of.bias))
    plain = network()
    plain.weights["lstm0.kernel"].assign(kernel)
    plain.weights["lstm0.recurrent"].assign(recurrent)
    plain.weights["lstm0.bias"].assign(bias)
    np.testing.assert_allclose(
        np.array(backward(values, mask=mask)), np.array(plain.model.get_layer("lstm0")(turned, mask=mask)), atol=1e-5
    )
