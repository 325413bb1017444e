"""Users' own Keras models: compiled or not, with callbacks, interrupted and continued, and applied to new files."""

from __future__ import annotations

import json
import warnings
from typing import ClassVar

import keras
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import aifs_tune
from aifs_tune.cli.main import app
from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.testing import TrainerContract
from aifs_tune.trainers import KerasTrainer, ReportEpochs
from aifs_tune.trainers.function import make_user_trainer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(160, 5)).astype("float32")
Y = (X[:, 0] * X[:, 1] > 0).astype("float32")
DATA = (X[:128], Y[:128], X[128:], Y[128:])


def compiled(units, rate=1e-2):
    layers = [keras.Input((5,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(1, "sigmoid")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"])
    return model


def plain(units):
    inputs = keras.Input((5,))
    return keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(keras.layers.Dense(units, "relu")(inputs)))


class Subclassed(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.hidden, self.last = keras.layers.Dense(units, "relu"), keras.layers.Dense(1, "sigmoid")

    def call(self, inputs):
        return self.last(self.hidden(inputs))


def running(trainer, params, *, epochs=3, seed=1, metric="val_loss"):
    made = make_user_trainer(trainer, objectives=[metric], mode="min", epochs=epochs)
    made.reset(params, seed=seed)
    return made


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIFS_TUNE_STORAGE", f"sqlite:///{tmp_path}/lab.db")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def plain_fit(model, seed, epochs, batch_size):
    """Metrics of Keras' own loop on the batches that a trial of ``seed`` has."""
    found = []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch + 1]).permutation(128)
        options = {"validation_data": DATA[2:], "batch_size": batch_size, "shuffle": False, "verbose": 0}
        found.append({name: one[0] for name, one in model.fit(X[order], Y[order], **options).history.items()})
    return found


def noisy(rate, sigma, decay, norm):
    layers = [
        keras.Input((5,)),
        keras.layers.GaussianNoise(sigma),
        keras.layers.Dense(8, "relu"),
        keras.layers.Dropout(rate),
        keras.layers.Dense(1, "sigmoid"),
    ]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.AdamW(0.05, decay, global_clipnorm=norm), "binary_crossentropy", metrics=["auc"])
    return model


@pytest.mark.parametrize("batch_size", [16, 30])
def test_the_metrics_are_those_of_plain_keras_on_the_same_batches(batch_size):
    keras.utils.set_random_seed(1)
    expected = plain_fit(compiled(8, 0.05), 1, 3, batch_size)
    trainer = running(KerasTrainer(compiled, DATA), {"units": 8, "rate": 0.05, "batch_size": batch_size})
    found = [trainer.epoch() for _ in range(3)]
    assert trainer.is_finished
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_settings_that_are_variables_give_what_plain_keras_gives():
    trainer = KerasTrainer(noisy, DATA)
    made = make_user_trainer(trainer, objectives=["val_loss"], mode="min", epochs=2)
    for params in [(0.0, 0.1, 0.1, 5.0), (0.4, 0.0, 0.01, 0.05), (0.2, 0.3, 0.5, 0.2)]:
        keras.utils.set_random_seed(7)
        expected = plain_fit(noisy(*params), 7, 2, 16)
        made.reset(dict(zip(("rate", "sigma", "decay", "norm"), params, strict=True)) | {"batch_size": 16}, seed=7)
        for other in expected:
            assert made.epoch() == pytest.approx(other, rel=1e-4)
    assert trainer.n_compiled == 1


def soft(optimizer, smoothing, share, **options):
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(8, "relu")(inputs)
    outputs = [keras.layers.Dense(1, "sigmoid", name=name)(hidden) for name in ("a", "b")]
    model = keras.Model(inputs, outputs)
    losses = [keras.losses.BinaryCrossentropy(label_smoothing=smoothing), "mse"]
    model.compile(getattr(keras.optimizers, optimizer)(0.05, **options), losses, loss_weights=[share, 1.0 - share])
    return model


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("SGD", [{"momentum": 0.0}, {"momentum": 0.9}]),
        pytest.param("SGD", [{"momentum": 0.7, "nesterov": True}], marks=pytest.mark.soak),
        ("RMSprop", [{"momentum": 0.0, "rho": 0.5}, {"momentum": 0.8, "rho": 0.9}]),
        ("Adam", [{"beta_1": 0.5, "beta_2": 0.99}, {"epsilon": 1e-3}]),
        pytest.param("Nadam", [{"beta_1": 0.5}, {"beta_2": 0.9}], marks=pytest.mark.soak),
    ],
)
def test_numbers_of_optimizer_and_loss_give_what_plain_keras_gives(optimizer, options):
    data = (X[:128], (Y[:128], X[:128, 0]), X[128:], (Y[128:], X[128:, 0]))
    trainer = KerasTrainer(soft, data)
    made = make_user_trainer(trainer, objectives=["val_loss"], mode="min", epochs=2)
    for smoothing, share, more in zip((0.0, 0.2), (0.5, 0.9), [*options, *options][:2], strict=True):
        keras.utils.set_random_seed(7)
        plain = soft(optimizer, smoothing, share, **more)
        made.reset({"optimizer": optimizer, "smoothing": smoothing, "share": share, "batch_size": 16} | more, seed=7)
        for epoch in range(2):
            order = np.random.default_rng([7, epoch + 1]).permutation(128)
            fit = {"validation_data": data[2:], "batch_size": 16, "shuffle": False, "verbose": 0}
            expected = plain.fit(X[order], [each[order] for each in data[1]], **fit).history
            assert made.epoch() == pytest.approx({name: one[0] for name, one in expected.items()}, rel=1e-4)
    assert trainer.n_compiled == 1


@pytest.mark.parametrize(
    "data",
    [
        ((X[:128], Y[:128]), (X[128:], Y[128:])),
        lambda: DATA,
        "datasets",
    ],
)
def test_data_come_in_the_ways_keras_takes_them(data):
    if data == "datasets":
        import tensorflow as tf

        def data():
            parts = (DATA[:2], DATA[2:])
            return tuple(tf.data.Dataset.from_tensor_slices(part).batch(32) for part in parts)

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Keras warns of a default of fit that a dataset cannot have
        assert running(KerasTrainer(compiled, data), {"units": 4}).epoch()["val_loss"] > 0


@pytest.mark.parametrize("build", [plain, Subclassed])
def test_a_model_that_is_not_compiled_gets_loss_and_optimizer_of_the_trainer(build):
    trainer = KerasTrainer(build, DATA, loss="binary_crossentropy", metrics=["accuracy"])
    params = {"units": 4, "optimizer": "adamw", "learning_rate": 0.05, "weight_decay": 0.01, "clip_norm": 1.0}
    made = running(trainer, params)
    first, *_, last = (made.epoch() for _ in range(3))
    assert last["loss"] < first["loss"]
    assert "val_accuracy" in last


def test_the_learning_rate_of_a_compiled_model_can_be_searched_without_being_an_argument():
    rates = []

    def watched(params):
        rates.append(params["learning_rate"])
        return [keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: None)]

    trainer = KerasTrainer(compiled, DATA, callbacks=watched)
    slow = running(trainer, {"units": 8, "learning_rate": 1e-9}, epochs=2)
    fast = running(trainer, {"units": 8, "learning_rate": 0.1}, epochs=2)
    assert abs(slow.epoch()["loss"] - slow.epoch()["loss"]) < 1e-4
    assert fast.epoch()["loss"] - fast.epoch()["loss"] > 1e-3
    assert rates == [1e-9, 0.1]


@pytest.mark.parametrize(
    ("trainer", "params", "words"),
    [
        (KerasTrainer(lambda units: "model", DATA), {"units": 4}, "returned 'model'; allowed: a keras.Model"),
        (KerasTrainer(plain, DATA), {"units": 4}, "plain returned a model that is not compiled; allowed: .*loss="),
        (KerasTrainer(compiled, DATA), {"units": 4, "clip_norm": 1.0}, "clip_norm: compiled compiles its model"),
        (KerasTrainer(compiled, (X, Y, X)), {"units": 4}, "data: tuple of 3 is not allowed; allowed:"),
        (KerasTrainer(compiled, (X, Y[:90], X, Y)), {"units": 4}, "data: train has arrays of 90 and 160 examples"),
        (KerasTrainer(compiled, (X, Y, X[:0], Y[:0])), {"units": 4}, "data: val has arrays of 0 examples"),
    ],
)
def test_what_cannot_be_trained_is_named(trainer, params, words):
    with pytest.raises(TrainerError, match=words):
        running(trainer, params).epoch()


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"units": 4, "unts": 3}, "space.unts: compiled takes no such argument, did you mean units"),
        ({"rate": 0.1}, "requires the argument units, which is no parameter of the space"),
    ],
)
def test_a_space_that_does_not_fit_is_refused_before_a_trial(space, words):
    with pytest.raises(RequestError, match=words):
        aifs_tune.tune(KerasTrainer(compiled, DATA), space, trials=1, metric="val_loss")


def test_an_interrupted_trial_goes_on_with_weights_and_optimizer(tmp_path):
    weights = []

    class Spy(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            weights.append((epoch, int(self.model.optimizer.iterations.numpy()), self.model.get_weights()[0].copy()))

    trainer = KerasTrainer(compiled, DATA, callbacks=lambda _: [Spy()])
    first = running(trainer, {"units": 8}, epochs=4)
    curve = [first.epoch()["val_loss"] for _ in range(3)]
    first.save(tmp_path)
    after_two = weights[2]
    weights.clear()
    later = running(trainer, {"units": 8}, epochs=4)
    later.load(tmp_path)
    assert later.epoch()["val_loss"] < curve[0]
    epoch, iterations, kernel = weights[0]
    assert (epoch, iterations) == (3, 3 * 4)
    assert not np.array_equal(kernel, after_two[2])
    assert later.is_finished


def test_an_interrupted_trial_has_the_metrics_of_one_that_was_not(tmp_path):
    params = {"rate": 0.3, "sigma": 0.1, "decay": 0.01, "norm": 1.0}
    whole = running(KerasTrainer(noisy, DATA), params, epochs=4)
    expected = [whole.epoch() for _ in range(4)]
    first = running(KerasTrainer(noisy, DATA), params, epochs=4)
    for _ in range(2):
        first.epoch()
    first.save(tmp_path)
    epoch = json.loads((tmp_path / "trial.json").read_text())["epoch"]
    later = running(KerasTrainer(noisy, DATA), params, epochs=4)
    later.load(tmp_path)
    later.epoch()
    assert [later.epoch() for _ in range(4 - epoch - 1)] == expected[epoch + 1 :]


class Plateau(keras.Model):
    """A model whose steps are the user's own."""

    def __init__(self, units):
        super().__init__()
        self.last = keras.layers.Dense(1, "sigmoid")
        self.units = units
        self.compile("adam", "binary_crossentropy")

    def call(self, inputs):
        return self.last(inputs) * self.units / 10

    def train_step(self, data):
        return super().train_step(data) | {"mine": 3.0}


def test_code_of_the_user_is_compiled_for_each_configuration_and_has_keras_own_loop():
    trainer = KerasTrainer(Plateau, DATA)
    made = running(trainer, {"units": 4})
    assert made.epoch()["mine"] == 3.0
    small = made.epoch()["val_loss"]
    made.reset({"units": 9}, seed=1)
    made.epoch()
    assert made.epoch()["val_loss"] != pytest.approx(small)
    assert trainer.n_compiled == 2
    made.reset({"units": 4, "learning_rate": 0.5}, seed=2)
    made.epoch()
    assert trainer.n_compiled == 2


def test_the_parameters_that_are_compiled_anew_are_found_and_shown(tmp_path):
    (tmp_path / "anewlab.py").write_text(
        "import keras, numpy as np\n"
        "from aifs_tune.trainers import KerasTrainer\n"
        "def build(units, dropout, depth=1, momentum=0.0, smoothing=0.0, nesterov=False):\n"
        "    hidden = [keras.layers.Dense(units, 'relu') for _ in range(depth)]\n"
        "    layers = [*hidden, keras.layers.Dropout(dropout), keras.layers.Dense(1)]\n"
        "    return keras.Sequential(layers)\n"
        "x = np.zeros((8, 3), 'float32')\n"
        "trainer = KerasTrainer(build, (x, x[:, :1], x, x[:, :1]), loss='mse')\n"
    )
    (tmp_path / "own.yaml").write_text(
        "name: own\ntrainer: anewlab:trainer\nobjective: {metric: val_loss, mode: min}\n"
        "search: {trials: 3, epochs: 2}\nspace:\n"
        "  units: {type: choice, choices: [4, 8]}\n"
        "  dropout: {type: float, low: 0.0, high: 0.5}\n"
        "  depth: {type: int, low: 1, high: 2}\n"
        "  optimizer: {type: choice, choices: [adam, sgd]}\n"
        "  learning_rate: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}\n"
        "  weight_decay: {type: float, low: 0.0, high: 0.1}\n"
        "  clip_norm: {type: float, low: 0, high: 5}\n"
        "  batch_size: {type: choice, choices: [2, 4]}\n"
    )
    shown = CliRunner().invoke(app, ["space", "own.yaml"])
    assert shown.exit_code == 0, shown.output
    assert "compiled anew for each value of: units, depth, optimizer\n" in shown.output


def test_layers_that_were_adapted_to_data_are_compiled_for_each_configuration():
    def adapted(shift):
        normal = keras.layers.Normalization()
        normal.adapt(X + shift)
        model = keras.Sequential([keras.Input((5,)), normal, keras.layers.Dense(1, "sigmoid")])
        model.compile("adam", "binary_crossentropy")
        return model

    shared = running(KerasTrainer(adapted, DATA), {"shift": 0.0})
    near = shared.epoch()
    shared.reset({"shift": 50.0}, seed=1)
    alone = running(KerasTrainer(adapted, DATA), {"shift": 50.0})
    far = alone.epoch()
    assert shared.epoch() == far
    assert far["loss"] != pytest.approx(near["loss"])


def test_a_model_that_a_callback_compiles_anew_is_not_used_again():
    class Recompile(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            self.model.compile(keras.optimizers.SGD(10.0), "mse")

    trainer = KerasTrainer(compiled, DATA, callbacks=lambda _: [Recompile()])
    made = running(trainer, {"units": 4}, epochs=1)
    first = made.epoch()
    made.reset({"units": 4}, seed=1)
    assert made.epoch() == first


def test_layers_that_a_callback_unfreezes_are_frozen_again_in_the_next_trial():
    class Unfreeze(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            self.model.layers[0].trainable = True

    def frozen(units):
        model = compiled(units)
        model.layers[0].trainable = False
        model.compile("adam", "binary_crossentropy")
        return model

    trainer = KerasTrainer(frozen, DATA, callbacks=lambda _: [Unfreeze()])
    made = running(trainer, {"units": 4}, epochs=1)
    first = made.epoch()
    made.reset({"units": 4}, seed=1)
    assert made.epoch() == first
    assert trainer.n_compiled == 1


def test_an_existing_script_needs_one_callback():
    def run(units, trial):
        model = compiled(units)
        model.fit(*DATA[:2], validation_data=DATA[2:], epochs=trial.epochs, verbose=0, callbacks=[ReportEpochs(trial)])

    result = aifs_tune.tune(
        run, {"units": {"type": "int", "low": 2, "high": 16}}, trials=6, epochs=6, metric="val_loss", mode="min"
    )
    counts = result.study.counts()
    assert counts["failed"] == 0
    assert counts["complete"] + counts["pruned"] == 6
    stopped = [t for t in result.study.all_trials() if t.state == "pruned"]
    assert all(t.epochs < 6 for t in stopped)
    assert aifs_tune.load_model(result.study.name).predict(X[:3]).shape == (3, 1)


def test_a_model_whose_weights_alone_are_kept_says_what_it_lacks():
    trainer = KerasTrainer(Subclassed, DATA, loss="binary_crossentropy")
    result = aifs_tune.tune(trainer, {"units": 4}, trials=1, epochs=1, metric="val_loss", mode="min")
    with pytest.raises(RequestError, match=r"keeps no model\.keras; .*model\.weights\.h5; allowed: .* with get_config"):
        aifs_tune.load_model(result.study.name)


def test_the_best_model_is_kept_and_predicts_new_files(tmp_path):
    def read(path):
        return np.array(json.loads(path.read_text())["x"], "float32")

    (tmp_path / "kerlab.py").write_text(
        "import json, keras, numpy as np\n"
        "from aifs_tune.trainers import KerasTrainer\n"
        "rng = np.random.default_rng(0)\n"
        "x = rng.normal(size=(160, 5)).astype('float32')\n"
        "y = (x[:, 0] > 0).astype('int32')\n"
        "def build(units):\n"
        "    layers = [keras.Input((5,)), keras.layers.Dense(units, 'relu'), keras.layers.Dense(2, 'softmax')]\n"
        "    model = keras.Sequential(layers)\n"
        "    model.compile(keras.optimizers.Adam(0.05), 'sparse_categorical_crossentropy', metrics=['accuracy'])\n"
        "    return model\n"
        "def read(path):\n"
        "    return np.array(json.loads(path.read_text())['x'], 'float32')\n"
        "trainer = KerasTrainer(build, (x[:128], y[:128], x[128:], y[128:]), read=read, classes=['down', 'up'])\n"
    )
    import sys

    sys.path.insert(0, str(tmp_path))
    try:
        result = aifs_tune.tune(
            "kerlab:trainer", {"units": {"type": "int", "low": 4, "high": 16}}, trials=2, epochs=8,
            metric="val_accuracy", scheduler="none", name="kerlab",
        )  # fmt: skip
        assert result.best.value > 0.85
        model = aifs_tune.load_model("kerlab")
        for name, first in (("up", 2.0), ("down", -2.0)):
            (tmp_path / f"{name}.json").write_text(json.dumps({"x": [first, 0, 0, 0, 0]}))
        (tmp_path / "bad.json").write_text("{}")
        (tmp_path / "short.json").write_text('{"x": [1.0]}')
        files = [tmp_path / f"{name}.json" for name in ("up", "down", "bad", "short")]
        answers = model.predict_files(files)
        assert answers.table["class"].tolist() == ["up", "down"]
        assert answers.table[["p_down", "p_up"]].sum(axis=1).round(4).tolist() == [1.0, 1.0]
        assert [each.reason.split("(")[0].split(":")[0] for each in answers.skipped] == [
            "cannot be read by the trainer's reader ",
            "has inputs of shape ",
        ]
        assert isinstance(answers.table, pd.DataFrame)
    finally:
        sys.path.remove(str(tmp_path))


def test_without_a_reader_arrays_are_predicted(tmp_path):
    result = aifs_tune.tune(
        KerasTrainer(compiled, DATA), {"units": 4}, trials=1, epochs=2, metric="val_loss", mode="min"
    )
    model = aifs_tune.load_model(result.study.name)
    np.save(tmp_path / "new.npy", X[:3])
    np.savez(tmp_path / "two.npz", a=X, b=X)
    answers = model.predict_files([tmp_path / "new.npy", tmp_path / "two.npz"])
    assert [name.rpartition("/")[2] for name in answers.table["file"]] == ["new.npy[0]", "new.npy[1]", "new.npy[2]"]
    np.testing.assert_allclose(answers.table["output_0"], model.predict(X[:3])[:, 0], rtol=1e-6)
    assert "has the arrays a, b" in answers.skipped[0].reason


class _ContractOfKeras(TrainerContract):
    first: ClassVar = {"units": 4, "dropout": 0.2}
    second: ClassVar = {"units": 9, "dropout": 0.4}
    build: ClassVar = None
    kept: ClassVar = "model.keras"

    def make(self):
        trainer = KerasTrainer(type(self).build, DATA, loss="binary_crossentropy")
        return make_user_trainer(trainer, objectives=["val_loss"], mode="min", epochs=4)

    def test_files_are_plain_arrays_and_json(self, trainer, tmp_path):
        """The checkpoint holds arrays; the model is in the format of Keras."""
        trainer.epoch()
        trainer.save(tmp_path)
        with np.load(tmp_path / "checkpoint" / "state.npz", allow_pickle=False) as arrays:
            assert all(arrays[name].dtype != object for name in arrays.files)
        assert (trainer.save_best(tmp_path / "kept") / self.kept).stat().st_size > 1000


def sequential(units, dropout):
    layers = [keras.layers.Dense(units, "relu"), keras.layers.Dropout(dropout), keras.layers.Dense(1, "sigmoid")]
    return keras.Sequential(layers)


def functional(units, dropout):
    inputs = keras.Input((5,))
    hidden = keras.layers.Dropout(dropout)(keras.layers.Dense(units, "relu")(inputs))
    return keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(keras.layers.BatchNormalization()(hidden)))


class Mine(Subclassed):
    def __init__(self, units, dropout):
        super().__init__(units)
        self.drop = keras.layers.Dropout(dropout)

    def call(self, inputs):
        return self.last(self.drop(self.hidden(inputs)))


@pytest.mark.soak
class TestSequential(_ContractOfKeras):
    build = staticmethod(sequential)


class TestFunctional(_ContractOfKeras):
    build = staticmethod(functional)


@pytest.mark.soak
class TestSubclassed(_ContractOfKeras):
    build = Mine
    kept = "model.weights.h5"  # it has no get_config
