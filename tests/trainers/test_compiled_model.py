"""Users' functions that return compiled models, on the data of a sweep file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from compiled_once import CompiledOnce
from small_images import blobs
from small_series import slopes
from small_tables import clouds
from test_model_export import positions
from test_own_model import recipe, spec

from aifs_tune.errors import RequestError
from aifs_tune.trainers.factory import check_trainer
from aifs_tune.trainers.load import load_network
from aifs_tune.trainers.network.runtime import keras, tf
from aifs_tune.trainers.own_model.trainer import (
    FrameModelTrainer,
    ImageModelTrainer,
    SeriesModelTrainer,
    TableModelTrainer,
)
from aifs_tune.trainers.protocol import Trainer


def dense(
    input_shape: Any, n_outputs: int, rate: float = 0.1, learning_rate: float = 0.05, momentum: float = 0.5
) -> Any:
    """Classifier with an optimizer and a loss of its own, which is built by its first batch."""
    layers = [keras.layers.Flatten(), keras.layers.Dropout(rate), keras.layers.Dense(n_outputs, "softmax")]
    model = keras.Sequential(layers)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    model.compile(keras.optimizers.SGD(learning_rate, momentum), loss, metrics=["accuracy"])
    return model


def eager(n_outputs: int, units: int = 4) -> Any:
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(units, "tanh"), keras.layers.Dense(n_outputs)])
    model.compile("adam", "mae", run_eagerly=True)
    return model


class TestCompiledOnTables(CompiledOnce):
    first: ClassVar = {"rate": 0.1, "learning_rate": 0.1, "batch_size": 16}
    second: ClassVar = {"rate": 0.4, "learning_rate": 0.01, "batch_size": 16, "momentum": 0.9}

    def make_new(self) -> Trainer:
        return TableModelTrainer(clouds(), model=recipe(dense), threads=1)


@pytest.mark.soak
class TestCompiledOnImages(CompiledOnce):
    first: ClassVar = {"learning_rate": 0.1, "batch_size": 16, "horizontal_flip": True, "rotation_deg": 10.0}
    second: ClassVar = {"learning_rate": 0.01, "batch_size": 16, "noise": 0.1}

    def make_new(self) -> Trainer:
        return ImageModelTrainer(blobs(), model=recipe(dense, "images"), threads=1)


@pytest.mark.soak
class TestEagerOnSeries(CompiledOnce):
    first: ClassVar = {"units": 4, "batch_size": 32, "noise": 0.1}
    second: ClassVar = {"units": 4, "batch_size": 32, "crop": 0.3}

    def make_new(self) -> Trainer:
        return SeriesModelTrainer(slopes(of_values=True), model=recipe(eager, "series"), threads=1)


def test_an_epoch_is_that_of_keras_with_the_models_own_loss_and_metrics() -> None:
    examples = clouds(n=60)
    params = {"rate": 0.0, "learning_rate": 0.05, "momentum": 0.9, "batch_size": 16}
    trainer = TableModelTrainer(
        examples, params, seed=3, class_weights="none", model=recipe(dense), threads=1, precision="float32"
    )
    network: Any = trainer._train_function.network
    model = dense((6,), 3, 0.0, 0.05, 0.9)
    model(examples.inputs[0][:2])
    for variable, value in zip(model.trainable_variables, network.start.values, strict=False):
        variable.assign(value)
    order, val = trainer._train_state.order(), examples.val
    x, y = examples.inputs[0], np.eye(3, dtype=np.float32)[examples.y_true]
    options = {"batch_size": 16, "shuffle": False, "verbose": 0}
    expected = model.fit(x[order], y[order], validation_data=(x[val], y[val]), **options).history
    found = trainer.epoch()
    assert {name: found[name] for name in expected} == pytest.approx({n: v[0] for n, v in expected.items()}, rel=1e-4)
    assert 0 <= found["val_macro_f1"] <= 1


def test_settings_of_optimizer_and_loss_share_a_program() -> None:
    trainer = TableModelTrainer(clouds(), {"learning_rate": 0.1}, model=recipe(dense), threads=1)
    first = trainer.epoch()
    trainer.reset({"learning_rate": 0.01, "momentum": 0.0}, seed=0)
    assert trainer.epoch() != first
    trainer.reset({"learning_rate": 0.1}, seed=0)
    assert trainer.epoch() == first
    assert trainer.n_train_functions == 1


def test_images_of_numbers_follow_and_the_files_of_a_trial_answer_as_it_did(tmp_path: Path) -> None:
    params = {"batch_size": 16, "rotation_deg": 20.0}
    model = recipe(eager, "frames")
    trainer = FrameModelTrainer(positions(), params, model=model, threads=1, precision="float32")
    assert np.isfinite(trainer.epoch()["val_mae_x"])
    trainer.save_best(tmp_path)
    x = positions().inputs[0][:5]
    np.testing.assert_allclose(load_network(tmp_path).predict(x), trainer.predict(x), atol=1e-4)


@pytest.mark.parametrize("name", ["weight_decay", "optimizer", "label_smoothing", "schedule"])
def test_parameters_that_a_compiled_model_does_not_use_are_refused_before_a_trial(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aifs_tune.trainers.own_model.entry.import_function", lambda _: dense)
    values = {"optimizer": "adam", "schedule": "cosine"}
    words = f"space.{name}: test_own_model:dense compiles its model with an optimizer and a loss of its own"
    named = spec({"name": "keras", "model": "test_own_model:dense"}, {name: values.get(name, 0.1)})
    with pytest.raises(RequestError, match=words):
        check_trainer(named, dense)
    with pytest.raises(RequestError, match=words):
        TableModelTrainer(clouds(), {name: values.get(name, 0.1)}, model=recipe(dense), threads=1)
    check_trainer(spec({"name": "keras", "model": "test_own_model:dense"}, {"learning_rate": 0.1}), dense)


def test_run_eagerly_is_kept() -> None:
    seen = []

    def watched(n_outputs: int) -> Any:
        class Watched(keras.layers.Layer):  # type: ignore[misc]
            def call(self, inputs: Any) -> Any:
                seen.append(tf.executing_eagerly())
                return inputs

        model = keras.Sequential([Watched(), keras.layers.Dense(n_outputs, "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        return model

    trainer = TableModelTrainer(clouds(n=30), model=recipe(watched), threads=1)
    seen.clear()
    trainer.epoch()
    assert True in seen
