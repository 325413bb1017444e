"""Augmentation of a user's arrays of images by KerasTrainer."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

import aifs_tune
from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.trainers import KerasTrainer
from aifs_tune.trainers.function import make_user_trainer

RNG = np.random.default_rng(0)
X = RNG.integers(0, 255, (60, 8, 8, 1)).astype("uint8")
Y = (X.mean((1, 2, 3)) > X.mean()).astype("float32")[:, None]
DATA = (X[:44], Y[:44], X[44:], Y[44:])


def build(rate=0.1):
    layers = [keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.SGD(rate), "binary_crossentropy")
    return model


def running(trainer, params, *, epochs=3):
    made = make_user_trainer(trainer, objectives=["val_loss"], mode="min", epochs=epochs)
    made.reset({"batch_size": 16, **params}, seed=1)
    return made


def curve(trainer, params, *, epochs=3):
    made = running(trainer, params, epochs=epochs)
    return [made.epoch()["loss"] for _ in range(epochs)]


def test_strengths_are_variables_and_none_changes_nothing():
    trainer = KerasTrainer(build, DATA, augment=True)
    plain = curve(KerasTrainer(build, DATA), {})
    assert curve(trainer, {}) == pytest.approx(plain, rel=1e-5)
    changed = [
        curve(trainer, params)
        for params in ({"rotation_deg": 90.0}, {"noise": 0.2}, {"width_shift": 0.5}, {"mixup": 1.0}, {"cutmix": 1.0})
    ]
    assert len({tuple(each) for each in [plain, *changed]}) == 6
    assert trainer.n_compiled == 1


def test_a_flip_teaches_what_is_the_same_in_both_halves():
    x = np.zeros((64, 4, 4, 1), "float32")
    x[:, :, :2] = RNG.uniform(0.1, 1, (64, 1, 1, 1))
    y = (x[:, 0, 0] > 0.5).astype("float32")

    def linear():
        model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    kernels = []

    class Spy(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            kernels.append(self.model.get_weights()[0].reshape(4, 4))

        def on_train_end(self, logs=None):
            kernels.append(self.model.get_weights()[0].reshape(4, 4))

    trainer = KerasTrainer(linear, (x, y, x, y), augment=True, callbacks=lambda _: [Spy()])
    for is_flipped in (False, True):
        kernels.clear()
        curve(trainer, {"horizontal_flip": is_flipped})
        moved = np.abs(kernels[1] - kernels[0]).max(axis=0) > 1e-6
        assert moved.tolist() == [True, True, is_flipped, is_flipped]


def test_an_interrupted_trial_has_the_metrics_of_one_that_was_not(tmp_path):
    params = {"rotation_deg": 30.0, "mixup": 0.4, "noise": 0.1}
    trainer = KerasTrainer(build, DATA, augment=True)
    expected = curve(trainer, params, epochs=4)
    first = running(trainer, params, epochs=4)
    for _ in range(2):
        first.epoch()
    first.save(tmp_path)
    epoch = json.loads((tmp_path / "trial.json").read_text())["epoch"]
    later = running(trainer, params, epochs=4)
    later.load(tmp_path)
    later.epoch()
    assert [later.epoch()["loss"] for _ in range(4 - epoch - 1)] == expected[epoch + 1 :]


FLAT = tuple(each.reshape(len(each), -1) for each in DATA)
WHOLE = (DATA[0], DATA[1].astype("int32"), DATA[2], DATA[3].astype("int32"))


@pytest.mark.parametrize(
    ("data", "space", "words"),
    [
        (FLAT, {"noise": 0.1}, r"augment: x is an array of shape \(44, 64\), no images; allowed: one array of shape"),
        ((X * 3.0, Y, X, Y), {"noise": 0.1}, "values of type float64 from 0 to .*; allowed: uint8, or floating-point"),
        (WHOLE, {"mixup": 0.2}, "mixup: 0.2 mixes the labels of two images, but the data have whole numbers"),
        (DATA, {"rotation_deg": 200.0}, "rotation_deg: 200.0 is not allowed"),
        (DATA, {"rotatoin_deg": 20.0}, "takes no such argument, did you mean rotation_deg"),
    ],
)
def test_what_cannot_be_augmented_is_refused_before_a_trial(data, space, words, tmp_path, monkeypatch):
    monkeypatch.setenv("AIFS_TUNE_STORAGE", f"sqlite:///{tmp_path}/lab.db")
    with pytest.raises(RequestError, match=words):
        aifs_tune.tune(KerasTrainer(build, data, augment=True), space, trials=1, metric="val_loss")


def test_without_the_argument_there_is_no_augmentation(tmp_path, monkeypatch):
    monkeypatch.setenv("AIFS_TUNE_STORAGE", f"sqlite:///{tmp_path}/lab.db")
    with pytest.raises(RequestError, match=r"space\.noise: build takes no such argument"):
        aifs_tune.tune(KerasTrainer(build, DATA), {"noise": 0.1}, trials=1, metric="val_loss")


def test_a_loop_that_is_not_compiled_is_refused():
    trainer = KerasTrainer(build, DATA, augment=True, fit={"class_weight": {0: 1.0, 1: 2.0}})
    with pytest.raises(TrainerError, match="images are augmented in the compiled step, which this training does not"):
        running(trainer, {"noise": 0.1}).epoch()
