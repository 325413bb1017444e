"""Sweeps of a user's own Keras model: the training is that of Keras, and each architecture is compiled once."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from compiled_once import CompiledOnce
from small_images import blobs
from small_series import slopes
from small_tables import clouds, planes

from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import AifsTuneError, RequestError, TrainerError, UntrustedCodeError
from aifs_tune.trainers import keras_warm
from aifs_tune.trainers.export import write_keras, write_onnx
from aifs_tune.trainers.factory import check_trainer, compiled_anew
from aifs_tune.trainers.keras_rewrites import fuse_pooling
from aifs_tune.trainers.load import load_network
from aifs_tune.trainers.network.runtime import keras, tf
from aifs_tune.trainers.own_model.compiled import takes_shares
from aifs_tune.trainers.own_model.network import build_model
from aifs_tune.trainers.own_model.recipe import ModelRecipe
from aifs_tune.trainers.own_model.trainer import ImageModelTrainer, SeriesModelTrainer, TableModelTrainer
from aifs_tune.trainers.protocol import Trainer

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def sequential(input_shape: Any, n_outputs: int, units: int = 8, rate: float = 0.1) -> Any:
    """Dense network with everything that changes weights besides gradients."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Dense(units, "relu", kernel_regularizer="l2", kernel_constraint=keras.constraints.MaxNorm(1.0)),
            layers.BatchNormalization(),
            layers.Dropout(rate),
            layers.Dense(n_outputs, "softmax"),
        ]
    )


def functional(input_shape: Any, n_outputs: int, filters: int = 4, noise: float = 0.05) -> Any:
    """Convolutions in two ways, joined."""
    given = keras.Input(input_shape)
    wide = keras.layers.Conv2D(filters, 3, activation="relu", padding="same")(given)
    values = keras.layers.Add()([wide, keras.layers.Conv2D(filters, 1)(given)])
    values = keras.layers.GaussianNoise(noise)(keras.layers.GlobalAveragePooling2D()(values))
    return keras.Model(given, keras.layers.Softmax()(keras.layers.Dense(n_outputs)(values)))


def subclassed(n_outputs: int, units: int = 6) -> Any:
    """Model that Keras cannot write down."""

    class Reader(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.last = keras.layers.LSTM(units), keras.layers.Dense(n_outputs)

        def call(self, inputs: Any) -> Any:
            return self.last(self.cell(inputs))

    return Reader()


def recipe(code: Callable[..., Any], kind: Any = "table") -> ModelRecipe:
    return ModelRecipe(f"test_own_model:{code.__name__}", code, kind)


@pytest.mark.soak
class TestSequentialOnTables(CompiledOnce):
    first: ClassVar = {"units": 6, "rate": 0.1, "learning_rate": 1e-2, "batch_size": 16}
    second: ClassVar = {
        "units": 6,
        "rate": 0.4,
        "learning_rate": 1e-3,
        "batch_size": 16,
        "optimizer": "adamw",
        "mixup": 0.2,
    }

    def make_new(self) -> Trainer:
        return TableModelTrainer(clouds(), model=recipe(sequential), threads=1)


class TestFunctionalOnImages(CompiledOnce):
    first: ClassVar = {"filters": 4, "noise": 0.1, "learning_rate": 1e-2, "batch_size": 16, "horizontal_flip": True}
    second: ClassVar = {"filters": 3, "noise": 0.0, "learning_rate": 1e-2, "batch_size": 16, "cutmix": 1.0}

    def make_new(self) -> Trainer:
        return ImageModelTrainer(blobs(), model=recipe(functional, "images"), threads=1)


@pytest.mark.soak
class TestSubclassedOnSeries(CompiledOnce):
    first: ClassVar = {"units": 4, "learning_rate": 1e-2, "batch_size": 16, "noise": 0.1}
    second: ClassVar = {"units": 4, "learning_rate": 1e-3, "batch_size": 16, "crop": 0.3}

    def make_new(self) -> Trainer:
        return SeriesModelTrainer(slopes(of_values=True), model=recipe(subclassed, "series"), threads=1)


def test_an_epoch_gives_the_weights_of_keras_on_the_same_batches() -> None:
    """Batch normalization, regularization and constraints included; no dropout, which draws other numbers."""
    examples = clouds(n=120)
    given = {"units": 5, "rate": 0.0, "learning_rate": 1e-2, "batch_size": 16}
    trainer = TableModelTrainer(
        examples, given, seed=4, model=recipe(sequential), class_weights="none", precision="float32", threads=1
    )
    model = build_model(recipe(sequential), {"units": 5, "rate": 0.0}, (6,), 3, seed=4, precision="float32").model
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    picked = trainer._train_state.order()
    for first in range(0, len(picked), 16):
        rows = picked[first : first + 16]
        model.train_on_batch(examples.inputs[0][rows], examples.y_true[rows])
    trainer.epoch()
    found = list(trainer._train_function.network.values().values())
    wanted = [np.array(each) for each in (*model.trainable_variables, *model.non_trainable_variables)]
    assert len(found) == len(wanted) == 9  # with the state of the random generator
    for one, other in zip(found[:8], wanted[:8], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_rates_and_strengths_share_a_program_and_sizes_do_not() -> None:
    trainer = TableModelTrainer(clouds(), {"units": 6, "rate": 0.5}, model=recipe(sequential), threads=1)
    first = trainer.epoch()
    trainer.reset({"units": 6, "rate": 0.0, "learning_rate": 1e-2, "noise": 0.1}, seed=0)
    assert trainer.epoch() != first
    assert trainer.n_train_functions == 1
    trainer.reset({"units": 7}, seed=0)
    assert trainer.n_train_functions == 2
    trainer.reset({"units": 6, "rate": 0.5}, seed=0)
    assert trainer.epoch() == first


def test_a_strength_changes_in_a_running_trial_and_a_size_does_not() -> None:
    trainer = TableModelTrainer(clouds(), {"units": 6, "rate": 0.5}, model=recipe(sequential), threads=1)
    trainer.change({"units": 6, "rate": 0.1})
    with pytest.raises(RequestError, match=r"units: \{'units': 7.*makes another model; allowed while a trial runs"):
        trainer.change({"units": 7, "rate": 0.1})


def in_a_row(input_shape: Any, filters: int = 3) -> Any:
    layers = keras.layers
    convolutions = [layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D()]
    more = [layers.Conv2D(filters, 3, activation="relu", padding="same"), layers.MaxPooling2D(), layers.Flatten()]
    return keras.Sequential([keras.Input(input_shape), *convolutions, *more, layers.Dense(3)])


def in_two_ways(input_shape: Any, filters: int = 3) -> Any:
    """Only the second convolution is followed by its pooling alone."""
    given = keras.Input(input_shape)
    wide = keras.layers.Conv2D(filters, 3, activation="relu")(given)
    values = keras.layers.Conv2D(filters, 3, activation="relu")(keras.layers.MaxPooling2D()(wide))
    flat = keras.layers.Flatten()(keras.layers.MaxPooling2D()(values))
    beside = keras.layers.GlobalAveragePooling2D()(wide)
    return keras.Model(given, keras.layers.Dense(3)(keras.layers.Concatenate()([flat, beside])))


@pytest.mark.parametrize("code", [in_a_row, in_two_ways])
def test_fused_pooling_leaves_values_and_gradients_as_they_are(code: Any) -> None:
    model = code((15, 14, 2))
    x = tf.random.stateless_normal((5, 15, 14, 2), (1, 2))

    def found() -> list[Any]:
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            loss = tf.reduce_sum(outputs**2)
        return [outputs, *tape.gradient(loss, model.trainable_weights)]

    before = found()
    assert fuse_pooling(model) == 1
    for one, other in zip(found(), before, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def one_sigmoid(input_shape: Any) -> Any:
    return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(1, "sigmoid")])


def mean_of_two(input_shape: Any, n_outputs: int) -> Any:
    given = keras.Input(input_shape)
    heads = [keras.layers.Dense(n_outputs, "softmax")(given) for _ in range(2)]
    return keras.Model(given, keras.layers.Average()(heads))


def logits(input_shape: Any, n_outputs: int) -> Any:
    return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(n_outputs)])


@pytest.mark.parametrize("code", [one_sigmoid, mean_of_two, logits, sequential])
def test_probabilities_are_those_of_the_model_however_it_ends(code: Any) -> None:
    examples = clouds(n=40, n_classes=2)
    trainer = TableModelTrainer(examples, model=recipe(code), threads=1, precision="float32")
    trainer.epoch()
    x = examples.inputs[0][:5]
    outputs = np.array(trainer._train_function.network.model(x, training=False))
    found = trainer.predict(x)
    if code is one_sigmoid:
        outputs = np.concatenate([1 - outputs, outputs], axis=1)
    if code is logits:
        outputs = np.array(tf.nn.softmax(outputs))
    np.testing.assert_allclose(found, outputs, atol=1e-5)


def too_many(input_shape: Any, n_outputs: int) -> Any:
    return logits(input_shape, n_outputs + 1)


def sigmoids(input_shape: Any, n_outputs: int) -> Any:
    return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(n_outputs, "sigmoid")])


def no_model() -> Any:
    return 3


def own_rate(input_shape: Any, n_outputs: int, learning_rate: float = 0.1) -> Any:
    del learning_rate
    return logits(input_shape, n_outputs)


class OwnStep(keras.Model):  # type: ignore[misc]
    """Model whose training Keras alone knows."""

    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


class OwnLoss(keras.Model):  # type: ignore[misc]
    """Model with a loss that Keras alone knows."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return 10 * super().compute_loss(*args, **kwargs)


def of_kind(kind: Any, input_shape: Any, n_outputs: int) -> Any:
    given = keras.Input(input_shape)
    return kind(given, keras.layers.Dense(n_outputs, "softmax")(given))


def own_step(input_shape: Any, n_outputs: int) -> Any:
    return of_kind(OwnStep, input_shape, n_outputs)


def own_loss(input_shape: Any, n_outputs: int) -> Any:
    return of_kind(OwnLoss, input_shape, n_outputs)


def in_float64(input_shape: Any, n_outputs: int) -> Any:
    layers = [keras.Input(input_shape), keras.layers.Dense(4, dtype="float64"), keras.layers.Dense(n_outputs)]
    return keras.Sequential(layers)


def two_inputs(input_shape: Any, n_outputs: int) -> Any:
    given = [keras.Input(input_shape, name=name) for name in ("left", "right")]
    return keras.Model(given, keras.layers.Dense(n_outputs)(keras.layers.Add()(given)))


def two_outputs(input_shape: Any, n_outputs: int) -> Any:
    given = keras.Input(input_shape)
    return keras.Model(given, [keras.layers.Dense(n_outputs)(given), keras.layers.Dense(1)(given)])


@pytest.mark.parametrize(
    ("code", "params", "words"),
    [
        (own_step, {}, "its own train_step, which is called only if it is compiled; allowed: compile it, or leave"),
        (own_loss, {}, "its own compute_loss, which is called only if it is compiled"),
        (in_float64, {}, "weights of float64 .*dense/kernel.*; allowed: float32"),
        (two_inputs, {}, r"the model has 2 inputs \(left, right\); allowed: one, or from Python KerasTrainer"),
        (two_outputs, {}, "the model returns a list; allowed: one tensor, or from Python KerasTrainer"),
        (too_many, {}, r"outputs of shape \(n, 4\); allowed: \(n, 3\), for 3 classes: use the argument n_outputs"),
        (sigmoids, {}, "ends with sigmoid, 3 outputs, for classes; allowed: a softmax, one sigmoid for two"),
        (no_model, {}, "no_model returned int; allowed: a keras.Model"),
        (own_rate, {}, "learning_rate: .*own_rate takes what belongs to the training.*model that is not compiled"),
        (sequential, {"unit": 3}, "unit.: 3 is no argument of .*sequential and no parameter.*did you mean units"),
        (sequential, {"batch_size": 0}, "batch_size: 0 is not allowed"),
    ],
)
def test_what_cannot_be_trained_is_named(code: Any, params: Any, words: str) -> None:
    with pytest.raises(AifsTuneError, match=words):
        TableModelTrainer(clouds(), params, model=recipe(code), threads=1)


def test_a_model_is_returned_once() -> None:
    """Its weights would be those of the trial before."""
    made = logits((6,), 3)
    trainer = TableModelTrainer(clouds(), model=recipe(lambda: made), threads=1)
    with pytest.raises(TrainerError, match="returned a model that it has returned before; allowed: a new one"):
        trainer.reset({}, seed=1)


def test_one_output_of_a_model_that_cannot_be_looked_into_is_refused() -> None:
    def hidden() -> Any:
        return subclassed(1)

    with pytest.raises(TrainerError, match="one output, and its last activation cannot be seen"):
        SeriesModelTrainer(slopes(), model=recipe(hidden, "series"), threads=1)


def test_a_model_that_cannot_be_built_fails_its_trial_alone() -> None:
    trainer = TableModelTrainer(clouds(), {"units": 6}, model=recipe(sequential), threads=1)
    assert not trainer.needs_restart({"units": -1})
    with pytest.raises(ValueError, match="units"):
        trainer.reset({"units": -1}, seed=0)
    trainer.reset({"units": 6}, seed=0)
    assert trainer.epoch()


@pytest.mark.parametrize("of_values", [False, True])
def test_the_files_of_a_trial_answer_as_the_trial_did_without_the_users_code(of_values: bool, tmp_path: Path) -> None:
    examples = planes() if of_values else clouds()
    code = logits if of_values else sequential
    trainer = TableModelTrainer(examples, model=recipe(code), threads=1, precision="float32")
    trainer.epoch()
    trainer.save_best(tmp_path)
    loaded, x = load_network(tmp_path), examples.inputs[0][:7]
    np.testing.assert_allclose(loaded.predict(x), trainer.predict(x), atol=1e-5)
    write_keras(loaded, tmp_path / "model.keras", NOON)
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(x), trainer.predict(x), atol=1e-5)
    write_onnx(loaded, tmp_path / "model.onnx")
    session = pytest.importorskip("onnxruntime").InferenceSession(str(tmp_path / "model.onnx"))
    np.testing.assert_allclose(session.run(None, {"columns": x})[0], trainer.predict(x), atol=1e-5)


def mean_of_steps(input_shape: Any, n_outputs: int) -> Any:
    layers = [keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(n_outputs)]
    return keras.Sequential([keras.Input(input_shape), *layers])


def test_a_keras_file_of_series_takes_their_lengths(tmp_path: Path) -> None:
    trainer = SeriesModelTrainer(slopes(), model=recipe(mean_of_steps, "series"), threads=1, precision="float32")
    trainer.epoch()
    trainer.save_best(tmp_path)
    write_keras(load_network(tmp_path), tmp_path / "model.keras", NOON)
    values, lengths = (array[:7].copy() for array in slopes().inputs)
    expected = trainer.predict(values, lengths)
    values[np.arange(values.shape[1]) >= lengths[:, None]] = 9.0
    model = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(model([values, lengths]), expected, atol=1e-5)


def test_images_of_a_trial_in_bfloat16_are_loaded_in_float32(tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": recipe(functional, "images"), "threads": 1, "precision": "mixed_bfloat16"}
    trainer = ImageModelTrainer(blobs(), **options)
    trainer.epoch()
    trainer.save_best(tmp_path)
    loaded = load_network(tmp_path, precision="float32")
    dtypes = {layer.compute_dtype for layer in loaded.network.model.layers}  # type: ignore[attr-defined]
    assert dtypes == {"float32"}
    np.testing.assert_allclose(loaded.predict(blobs().images[:3]), trainer.predict(blobs().images[:3]), atol=0.05)


def test_a_model_with_code_of_the_user_is_loaded_only_where_that_is_trusted(tmp_path: Path) -> None:
    trainer = SeriesModelTrainer(slopes(), model=recipe(subclassed, "series"), threads=1)
    trainer.epoch()
    trainer.save_best(tmp_path)
    with pytest.raises(UntrustedCodeError, match="--trust-code test_own_model:subclassed"):
        load_network(tmp_path)


def operations(input_shape: Any, n_outputs: int) -> Any:
    """Model of tensors that are added, multiplied and cut without layers of their own."""
    given = keras.Input(input_shape)
    values = keras.ops.relu(keras.layers.Dense(8)(given) * 2.0 + 0.1)
    values = values - keras.ops.mean(values, axis=-1, keepdims=True)
    return keras.Model(given, keras.layers.Dense(n_outputs, "softmax")(values[:, :4]))


def test_operations_between_layers_are_read_back(tmp_path: Path) -> None:
    data = clouds()
    trainer = TableModelTrainer(data, model=recipe(operations), threads=1, precision="float32")
    trainer.epoch()
    trainer.save_best(tmp_path)
    rows = data.inputs[0]
    np.testing.assert_allclose(load_network(tmp_path).predict(rows), trainer.predict(rows), rtol=1e-4, atol=1e-6)


class OwnDivergence(keras.losses.KLDivergence):  # type: ignore[misc]
    """Loss of shares, by another name."""


@pytest.mark.parametrize(
    ("loss", "takes"),
    [
        ("kl_divergence", True),
        ("categorical_crossentropy", True),
        (keras.losses.KLDivergence(name="mine"), True),
        ([keras.losses.CategoricalFocalCrossentropy()], True),
        (OwnDivergence(), True),
        (keras.losses.categorical_hinge, True),
        ("sparse_categorical_crossentropy", False),
        (keras.losses.SparseCategoricalCrossentropy(name="kl_divergence"), False),
        (lambda y_true, y_pred: keras.ops.mean(y_pred), False),
    ],
)
def test_keras_categorical_losses_are_known_whatever_they_are_called(loss: Any, takes: bool) -> None:
    assert takes_shares(loss) is takes


def test_a_file_that_names_other_code_than_layers_is_refused(tmp_path: Path) -> None:
    trainer = TableModelTrainer(clouds(), model=recipe(logits), threads=1)
    trainer.epoch()
    trainer.save_best(tmp_path)
    file = tmp_path / "keras_model.json"
    described = json.loads(file.read_text())
    described["model"]["config"]["layers"].append({"module": "keras.utils", "class_name": "get_file", "config": {}})
    file.write_text(json.dumps(described))
    with pytest.raises(TrainerError, match="names code that is not of Keras' layers"):
        load_network(tmp_path)


def spec(trainer: Any, space: Any, **others: Any) -> SweepSpec:
    data = {"table": {"bundled": "breast_cancer"}}
    return SweepSpec.model_validate({"name": "own", "trainer": trainer, "data": data, "space": space, **others})


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ("keras", "keras trains a model of yours"),
        ({"name": "mlp", "model": "test_own_model:logits"}, "has no effect: mlp has a model of its own"),
    ],
)
def test_the_key_model_belongs_to_keras(trainer: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        spec(trainer, {"learning_rate": 0.1})


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"n_outputs": 2}, "space.n_outputs: the data decide it"),
        ({"widht": 2}, "space.widht: test_own_model:sequential takes no such argument, and the training has no such"),
        ({"loss": "mae"}, "space.loss: has an effect only with numbers"),
        ({"learning_rate": -1.0}, "space.learning_rate: -1.0 is not allowed"),
    ],
)
def test_a_space_that_does_not_fit_is_refused_before_a_trial(space: Any, words: str) -> None:
    named = spec({"name": "keras", "model": "test_own_model:sequential"}, space)
    with pytest.raises(RequestError, match=words):
        check_trainer(named, sequential)


def test_what_is_compiled_anew_is_found_by_building_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aifs_tune.trainers.own_model.entry.import_function", lambda name: sequential)
    space = {
        "units": {"type": "int", "low": 4, "high": 8},
        "rate": {"type": "float", "low": 0.0, "high": 0.5},
        "learning_rate": {"type": "float", "low": 0.001, "high": 0.1},
        "batch_size": {"type": "choice", "choices": [16, 32]},
    }
    named = spec({"name": "keras", "model": "test_own_model:sequential"}, space)
    assert sorted(compiled_anew(named)) == ["batch_size", "units"]


def test_weights_of_past_trials_are_freed_though_python_collects_by_the_number_of_objects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keras_warm, "MAX_UNCOLLECTED", 0)
    known: list[weakref.ref[Any]] = []

    def remembered(input_shape: tuple[int, ...], n_outputs: int, units: int = 8) -> Any:
        known.append(weakref.ref(made := sequential(input_shape, n_outputs, units)))
        return made

    gc.disable()
    try:
        trainer = TableModelTrainer(clouds(), model=recipe(remembered), threads=1)
        for seed in range(6):
            trainer.reset({"units": 8}, seed=seed)
        n_alive = sum(model() is not None for model in known)
    finally:
        gc.enable()
    assert len(known) >= 6
    assert n_alive <= 3  # that of the program, the newest and the one before
