"""Trained networks in the formats of others: they answer what our own network answers."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_fields import SMALL_DETECTOR, spots
from small_images import SMALL_NET, blobs
from small_series import SMALL_CNN1D, SMALL_RNN, slopes
from small_tables import clouds, clouds_and_planes, planes

from aifs_tune.data.examples import ExampleSet, Target
from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.trainers.export import inputs_of, write_keras, write_onnx
from aifs_tune.trainers.load import load_classifier, load_network
from aifs_tune.trainers.models.cnn import CnnTrainer
from aifs_tune.trainers.models.cnn1d import Cnn1dTrainer
from aifs_tune.trainers.models.cnn_values import CnnValuesTrainer
from aifs_tune.trainers.models.detector import DetectorTrainer
from aifs_tune.trainers.models.mlp import MlpTrainer
from aifs_tune.trainers.models.residual import ResidualCnnTrainer
from aifs_tune.trainers.models.rnn import RnnTrainer
from aifs_tune.trainers.network.runtime import keras

IMAGES = blobs(n=36)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
MLP = {"kept_columns": 0.5, "units": 8, "layers": 1, "batch_size": 16}
RESIDUAL = {"filters": 4, "stages": 2, "blocks": 1, "batch_size": 16}
GRU = {**SMALL_RNN, "cell": "gru", "bidirectional": True, "layers": 2}


def positions() -> ExampleSet:
    """Images of numbers with a spot, whose place is to be predicted."""
    random = np.random.default_rng(2)
    images = random.normal(size=(36, 14, 15, 1)).astype(np.float32)
    y_true = random.normal(size=(36, 2)).astype(np.float32)
    targets = (Target("x", "px", 7.0, 2.0), Target("y", "px", 6.0, 3.0))
    parts = np.split(np.arange(36, dtype=np.int32), [24, 30])
    return ExampleSet((images,), y_true, (), targets, *parts, "positions", {"roles": ["scalar", "scalar"]})


TRAINED: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "cnn": (CnnTrainer, IMAGES, SMALL_NET),
    "residual_cnn": (ResidualCnnTrainer, IMAGES, RESIDUAL),
    "mlp of classes": (MlpTrainer, clouds(), MLP),
    "mlp of values": (MlpTrainer, planes(), MLP),
    "mlp of classes and values": (MlpTrainer, clouds_and_planes(), MLP),
    "mlp of quantiles": (MlpTrainer, planes(n_targets=1), MLP | {"loss": "quantiles"}),
    "cnn_values": (CnnValuesTrainer, positions(), SMALL_NET),
    "detector": (DetectorTrainer, spots(), SMALL_DETECTOR),
    "rnn": (RnnTrainer, slopes(), SMALL_RNN),
    "rnn, gru in both directions": (RnnTrainer, slopes(of_values=True), GRU),
    "rnn of quantiles": (RnnTrainer, slopes(of_values=True), SMALL_RNN | {"loss": "quantiles"}),
    "cnn1d": (Cnn1dTrainer, slopes(), SMALL_CNN1D),
}


def inputs(examples: Any) -> tuple[NDArray[Any], ...]:
    if hasattr(examples, "images"):
        return (examples.images,)
    return examples.inputs[:1] if len(examples.inputs) == 3 else examples.inputs  # tiles whose pixels all count


SLOW = ("rnn", "rnn, gru in both directions", "rnn of quantiles", "residual_cnn")
"""By hand: most of the time goes into compiling it."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.soak] if name in SLOW else []) for name in TRAINED],
)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder of weights, the inputs, and what its trainer predicts for them."""
    make, examples, params = TRAINED[request.param]
    trainer = make(examples, params, precision="float32")
    trainer.epoch()
    folder = tmp_path_factory.mktemp("weights")
    trainer.save_best(folder)
    return folder, inputs(examples), trainer.predict(*inputs(examples))


def test_a_network_is_read_back_and_answers_the_same(trained: Any) -> None:
    folder, given, expected = trained
    loaded = load_network(folder)
    np.testing.assert_array_equal(loaded.predict(*given), expected)
    if loaded.trainer == "detector":
        assert expected.shape == (18, loaded.shape.most_detections, 5 + len(loaded.targets))
    else:
        assert len(loaded.classes) + len(loaded.targets) == expected.shape[1]


def test_onnx_answers_the_same(trained: Any, tmp_path: Path) -> None:
    import onnxruntime

    folder, given, expected = trained
    loaded = load_network(folder)
    write_onnx(loaded, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == [name for name, _, _ in inputs_of(loaded)]
    named = {one.name: array[:7] for one, array in zip(session.get_inputs(), given, strict=True)}
    found = session.run(None, named)
    assert len(found) == (1 if loaded.trainer == "detector" else bool(loaded.classes) + bool(loaded.targets))
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected[:7], rtol=1e-4, atol=1e-5)


def test_keras_reads_its_file_without_us_and_answers_the_same(trained: Any, tmp_path: Path) -> None:
    folder, given, expected = trained
    loaded = load_network(folder)
    if loaded.trainer == "detector":
        with pytest.raises(RequestError, match="a Keras file of the detector would need more than standard layers"):
            write_keras(loaded, tmp_path / "model.keras", NOON)
        return
    write_keras(loaded, tmp_path / "model.keras", NOON)
    model = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    found = model.predict([array[:7] for array in given], verbose=0)
    joined = np.concatenate(found, axis=1) if isinstance(found, list) else found
    np.testing.assert_allclose(joined, expected[:7], rtol=1e-4, atol=1e-5)


def test_the_same_network_gives_the_same_keras_file(tmp_path: Path) -> None:
    trainer = MlpTrainer(clouds(), MLP)
    trainer.epoch()
    trainer.save_best(tmp_path)
    digests = set()
    for _ in range(2):
        write_keras(load_network(tmp_path), tmp_path / "model.keras", NOON)
        digests.add(hashlib.sha256((tmp_path / "model.keras").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_what_classifies_no_images_is_no_classifier(tmp_path: Path) -> None:
    trainer = MlpTrainer(clouds(), MLP)
    trainer.epoch()
    trainer.save_best(tmp_path)
    with pytest.raises(TrainerError, match="mlp is not allowed; allowed: cnn, residual_cnn, transfer"):
        load_classifier(tmp_path)
