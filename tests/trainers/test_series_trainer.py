"""What both trainers of series do, and their random changes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from small_series import SMALL_CNN1D, SMALL_RNN, slopes

from aifs_tune._util.scalars import Scalar
from aifs_tune.errors import DataError, RequestError
from aifs_tune.trainers.models.cnn1d import Cnn1dTrainer
from aifs_tune.trainers.models.rnn import RnnTrainer
from aifs_tune.trainers.network.runtime import tf
from aifs_tune.trainers.network.series import cropped
from aifs_tune.trainers.predictions import CLASS_METRICS, value_metrics

SERIES = slopes()
KINDS = {
    "lstm": (RnnTrainer, SMALL_RNN),
    "gru": (RnnTrainer, SMALL_RNN | {"cell": "gru", "bidirectional": True}),
    "cnn1d": (Cnn1dTrainer, SMALL_CNN1D),
    "cnn1d_max": (Cnn1dTrainer, SMALL_CNN1D | {"pooling": "max"}),
}


@pytest.fixture(scope="module", params=KINDS, ids=KINDS)
def warm(request: pytest.FixtureRequest) -> tuple[Any, dict[str, Scalar]]:
    """One trainer of each kind for many tests, with its parameters; each test resets it."""
    cls, params = KINDS[request.param]
    return cls(SERIES, params, precision="float32", threads=1), params


def first_epoch(trainer: Any, params: dict[str, Scalar]) -> dict[str, float]:
    trainer.reset(params, seed=1)
    measured: dict[str, float] = trainer.epoch()
    return measured


def test_learns_what_is_easy(warm: tuple[Any, dict[str, Scalar]]) -> None:
    trainer, params = warm
    trainer.reset(params, seed=1)
    metrics = [trainer.epoch() for _ in range(20)]
    assert tuple(metrics[0]) == CLASS_METRICS
    assert metrics[-1]["val_loss"] < 0.5 * math.log(2), "half of what a guess costs"
    assert trainer.best_value > 0.85
    values, lengths = (array[SERIES.test] for array in SERIES.inputs)
    is_right = trainer.predict(values, lengths).argmax(axis=1) == SERIES.y_true[SERIES.test]
    assert trainer.evaluate("test")["test_accuracy"] == pytest.approx(is_right.mean())


def test_what_stands_behind_the_end_changes_nothing(warm: tuple[Any, dict[str, Scalar]]) -> None:
    trainer, params = warm
    first_epoch(trainer, params)
    values, lengths = SERIES.inputs
    expected = trainer.predict(values, lengths)
    behind = np.arange(values.shape[1])[None, :] >= lengths[:, None]
    assert behind.any()
    dirty = np.where(behind[:, :, None], np.float32(1e3), values)
    np.testing.assert_array_equal(trainer.predict(dirty, lengths), expected)
    assert not np.array_equal(trainer.predict(values * 2, lengths), expected)


@pytest.mark.parametrize("kind", ["lstm", "cnn1d"])
def test_what_stands_behind_the_end_is_not_trained_on(kind: str) -> None:
    cls, params = KINDS[kind]
    values, lengths = SERIES.inputs
    behind = np.arange(values.shape[1])[None, :] >= lengths[:, None]
    dirty = np.where(behind[:, :, None], np.float32(1e3), values)
    clean, other = (
        cls(dataclasses.replace(SERIES, inputs=(given, lengths)), params, precision="float32", seed=1).epoch()
        for given in (values, dirty)
    )
    assert clean == other


def test_more_padding_changes_nothing(warm: tuple[Any, dict[str, Scalar]]) -> None:
    trainer, params = warm
    first_epoch(trainer, params)
    values, lengths = SERIES.inputs
    longer = np.concatenate([values, np.zeros((len(values), 5, 2), np.float32)], axis=1)
    other = type(trainer)(dataclasses.replace(SERIES, inputs=(longer, lengths)), params, precision="float32")
    with trainer._best_weights() as network:
        weights = network.values()
    other._train_function.network.assign(weights)
    everything = np.arange(len(lengths), dtype=np.int32)
    found = [t._train_function.network.predict(t._examples.inputs, everything) for t in (trainer, other)]
    np.testing.assert_allclose(np.exp(found[1]), trainer.predict(values, lengths), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("noise", 0.5),
        ("crop", 0.5),
        ("dropout", 0.6),
        ("learning_rate", 0.1),
        ("weight_decay", 0.5),
        ("clip_norm", 0.01),
        ("warmup_epochs", 4),
        ("label_smoothing", 0.5),
        ("focal_gamma", 3.0),
    ],
)
def test_new_values_take_effect_and_compile_nothing(
    warm: tuple[Any, dict[str, Scalar]], name: str, value: Scalar
) -> None:
    trainer, params = warm
    base = first_epoch(trainer, params)
    traced = trainer.n_traces
    assert first_epoch(trainer, params | {name: value}) != base
    assert first_epoch(trainer, params) == base
    assert trainer.n_traces == traced == 2 * trainer.n_train_functions


@pytest.mark.parametrize(("kind", "loss"), [("lstm", "mse"), ("cnn1d", "mae"), ("cnn1d", "huber")])
def test_numbers_are_learnt_with_each_loss(kind: str, loss: str) -> None:
    cls, params = KINDS[kind]
    trainer: Any = cls(slopes(of_values=True), params | {"loss": loss}, seed=1, threads=1)
    metrics = [trainer.epoch() for _ in range(15)]
    assert tuple(metrics[0]) == value_metrics(["slope"])
    assert trainer.best_value < 0.4
    predicted = trainer.predict(*SERIES.inputs)[:, 0]
    assert np.corrcoef(predicted, slopes(of_values=True).y_true[:, 0])[0, 1] > 0.7


def test_a_crop_keeps_a_piece_of_the_series() -> None:
    values = tf.constant(np.tile(np.arange(1.0, 11.0, dtype=np.float32)[None, :, None], (200, 1, 1)))
    lengths = tf.constant(np.full(200, 10, np.int32))
    for keeps_end in (False, True):
        kept, left = (np.array(t) for t in cropped(values, lengths, 0.5, tf.constant([1, 2]), keeps_end=keeps_end))
        assert set(left) == {5, 6, 7, 8, 9, 10} - {5}
        for row, n in zip(kept[:, :, 0], left, strict=True):
            np.testing.assert_array_equal(row[:n], np.arange(row[0], row[0] + n))
            assert not row[n:].any()
        ends = kept[np.arange(200), left - 1, 0]
        assert (ends == 10).all() if keeps_end else len(set(ends)) > 2


def test_a_crop_leaves_two_steps() -> None:
    values, lengths = tf.ones((50, 4, 1)), tf.constant(np.full(50, 2, np.int32))
    left = cropped(values, lengths, 0.9, tf.constant([1, 2]), keeps_end=False)[1]
    assert set(np.array(left)) == {2}


def test_noise_is_added_to_values_alone() -> None:
    channels = [{"role": "value"}, {"role": "measured"}]
    trainer = RnnTrainer(dataclasses.replace(SERIES, facts={"channels": channels}), SMALL_RNN)
    values, lengths = (tf.constant(array) for array in SERIES.inputs)
    hyperparameters = {"noise": tf.constant(1.0), "crop": tf.constant(0.0)}
    changed = np.array(trainer.augment((values, lengths), hyperparameters, tf.constant([3, 4]))[0])
    is_there = np.arange(12)[None, :] < SERIES.inputs[1][:, None]
    moved = changed != SERIES.inputs[0]
    assert moved[is_there, 0].all()
    assert not moved[:, :, 1].any()
    assert not moved[~is_there].any()


@pytest.mark.parametrize(
    ("cls", "params", "message"),
    [
        (RnnTrainer, {"mixup": 0.2}, "'mixup': 0.2 is not a parameter of the rnn"),
        (RnnTrainer, {"cell": "elman"}, "cell: 'elman' is not allowed; allowed: one of lstm, gru"),
        (RnnTrainer, {"layers": 0}, "layers: 0 is not allowed"),
        (RnnTrainer, {"layers": 8, "units": 8192}, "layers, units: 8 and 8192 make a network of"),
        (Cnn1dTrainer, {"conv_blocks": 4}, "conv_blocks: 4 is too many for series of 12 steps"),
        (Cnn1dTrainer, {"pooling": "sum"}, "pooling: 'sum' is not allowed; allowed: one of mean, max"),
        (Cnn1dTrainer, {"filters": 4096, "kernel_size": 255, "conv_blocks": 3}, "make a network of"),
    ],
)
def test_wrong_requests_are_named(cls: Any, params: dict[str, Scalar], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        cls(SERIES, params)


def test_examples_that_are_no_series_are_refused() -> None:
    flat = dataclasses.replace(SERIES, inputs=(SERIES.inputs[0][:, 0],))
    with pytest.raises(
        DataError, match=r"inputs: shapes \(96, 2\) are not allowed; allowed: values \(n, steps, channels\)"
    ):
        RnnTrainer(flat)


def test_divergence_does_not_infect_the_next_trial(warm: tuple[Any, dict[str, Scalar]]) -> None:
    trainer, params = warm
    first_epoch(trainer, params | {"learning_rate": 1000.0, "weight_decay": 100.0})
    trainer.epoch()
    assert all(math.isfinite(value) for value in first_epoch(trainer, params).values())
