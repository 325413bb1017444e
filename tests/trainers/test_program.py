from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from test_cnn_network import SHAPE, plain_keras, some_images

from aifs_tune.trainers.augment.images import augment
from aifs_tune.trainers.models.cnn import CnnNetwork, CnnParams, CnnShape
from aifs_tune.trainers.network.losses import ClassificationLoss
from aifs_tune.trainers.network.program import Epoch, Examples, TrainFunction, dropped
from aifs_tune.trainers.network.runtime import keras, tf

STILL = CnnParams(
    learning_rate=0.01, dropout=0, rotation_deg=0, width_shift=0, height_shift=0, horizontal_flip=False, optimizer="sgd"
)


def program_of(shape: CnnShape) -> TrainFunction:
    loss_function = ClassificationLoss(augment)
    return TrainFunction(CnnNetwork(shape), loss_function, optimizer=shape.optimizer, batch_size=shape.batch_size)


def examples_of(n: int, class_weights: tuple[float, ...] = (1, 1, 1)) -> Examples:
    labels = (np.arange(n) % 3).astype(np.int32)
    weights = np.array(class_weights, np.float32)[labels]
    return Examples(tf.constant(some_images(n)), tf.constant(labels), tf.constant(weights))


@pytest.mark.parametrize("n", [10, *(pytest.param(n, marks=pytest.mark.soak) for n in (3, 8))])
def test_an_epoch_is_that_of_keras_also_where_the_last_batch_is_not_full(n: int) -> None:
    shape = CnnShape(**(vars(SHAPE) | {"optimizer": "sgd"}))
    train_function, model = program_of(shape), plain_keras(shape)
    train_function.start(3)
    model.set_weights(list(train_function.network.values().values()))
    images, labels = some_images(n), (np.arange(n) % 3).astype(np.int32)
    order = np.random.default_rng(0).permutation(n).astype(np.int32)
    class_weights = np.array([0.5, 1.0, 2.0], np.float32)

    given = Epoch(order, 0, 0, STILL.hyperparameters())
    loss, accuracy = train_function.train(examples_of(n, tuple(class_weights)), given)

    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        images[order] / np.float32(255),
        labels[order],
        sample_weight=class_weights[labels[order]],
        batch_size=shape.batch_size,
        shuffle=False,
        verbose=0,
    ).history
    for found, expected in zip(train_function.network.values().values(), model.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6)
    assert accuracy == pytest.approx(history["accuracy"][0])
    assert loss == pytest.approx(history["loss"][0], rel=1e-4)


def test_dropout_drops_its_share_and_keeps_the_sum() -> None:
    values = dropped(tf.ones((200, 500)), tf.constant(0.3), tf.constant([1, 2]))
    found = np.array(values)
    assert (found == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert found.mean() == pytest.approx(1, abs=0.01)
    assert set(np.unique(found).round(5)) == {0, np.float32(1 / 0.7).round(5)}


class Slices:
    """Chunks of one size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def slices(self, n: int) -> list[tuple[int, int]]:
        return [(first, min(n, first + self.size)) for first in range(0, n, self.size)]


@pytest.mark.parametrize("size", [2, *(pytest.param(n, marks=pytest.mark.soak) for n in (1, 100))])
def test_it_does_not_matter_how_many_batches_go_into_one_call(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = examples_of(18)
    order = np.arange(18, dtype=np.int32)
    measured = []
    for chunks in (Slices(5), Slices(size)):
        train_function = program_of(SHAPE)
        monkeypatch.setattr(train_function, "_chunks", chunks)
        train_function.start(3)
        given = Epoch(order, 0, 0, CnnParams().hyperparameters())
        found = train_function.train(examples, given)
        assert train_function.n_traces == 1
        measured.append((found, [value.tolist() for value in train_function.network.values().values()]))
    assert measured[0] == measured[1]


def test_an_interrupted_epoch_leaves_the_program_ready_for_the_next_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = examples_of(18)
    given = Epoch(np.arange(18, dtype=np.int32), 0, 0, CnnParams().hyperparameters())
    train_function = program_of(SHAPE)
    train_function.start(3)
    whole = train_function.train(examples, given)

    class Interrupted(Slices):
        def slices(self, n: int) -> list[tuple[int, int]]:
            def until_interrupted() -> Iterator[tuple[int, int]]:
                yield 0, 2
                raise KeyboardInterrupt

            return until_interrupted()  # type: ignore[return-value]

    train_function.start(3)
    with monkeypatch.context() as patched:
        patched.setattr(train_function, "_chunks", Interrupted(2))
        with pytest.raises(KeyboardInterrupt):
            train_function.train(examples, given)
    train_function.start(3)
    assert train_function.train(examples, given) == whole
