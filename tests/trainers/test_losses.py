"""What a guess costs, and how examples and gradients are changed on the way, on the backend that Keras uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from on_backend import gradient, seed, tensor
from sklearn.metrics import mean_pinball_loss

from aifs_tune.trainers.network import program, stateless
from aifs_tune.trainers.network.losses import ClassesAndValuesLoss, ClassificationLoss, QuantileLoss, RegressionLoss
from aifs_tune.trainers.network.ops import is_jax
from aifs_tune.trainers.network.runtime import keras
from aifs_tune.trainers.predictions import LEVELS, MEDIAN

Array = NDArray[Any]
PLAIN = {"label_smoothing": 0.0, "focal_gamma": 0.0, "mixup": 0.0, "cutmix": 0.0}
LABELS = np.array([0, 2, 1, 1, 0], np.int32)
LOGITS = np.random.default_rng(0).normal(0, 2, (5, 3)).astype(np.float32)


def hyperparameters(**given: float) -> dict[str, Any]:
    return {name: tensor(value) if value else value for name, value in (PLAIN | given).items()}


def prepared(inputs: Array, labels: Array, weights: Array, **given: float) -> tuple[Any, Any]:
    told = (tensor(array) for array in (inputs, labels, weights))
    return ClassificationLoss().prepare(*told, hyperparameters(**given), seed(0, 1))


def costs(logits: Array, labels: Array, **given: float) -> Array:
    _, y_true = prepared(np.zeros((len(labels), 1), np.float32), labels, np.ones(len(labels), np.float32))
    return np.array(ClassificationLoss().compute_loss(tensor(logits), y_true, hyperparameters(**given)))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_smoothed_labels_cost_what_keras_says(share: float) -> None:
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=share, reduction=None)
    expected = loss(np.eye(3, dtype=np.float32)[LABELS], LOGITS)
    np.testing.assert_allclose(costs(LOGITS, LABELS, label_smoothing=share), np.array(expected), rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_costs_are_those_of_keras(gamma: float) -> None:
    loss = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=gamma, from_logits=True, reduction=None)
    expected = loss(np.eye(3, dtype=np.float32)[LABELS], LOGITS)
    np.testing.assert_allclose(costs(LOGITS, LABELS, focal_gamma=gamma), np.array(expected), rtol=1e-4)


def test_a_guess_that_is_sure_has_a_finite_gradient() -> None:
    sure = np.array([[80.0, 0.0, 0.0]], np.float32)
    _, y_true = prepared(np.zeros((1, 1), np.float32), LABELS[:1], np.ones(1, np.float32))
    for gamma in (0.0, 0.5):
        told = hyperparameters(focal_gamma=gamma)
        found = gradient(lambda logits, told=told: ClassificationLoss().compute_loss(logits, y_true, told), sure)
        assert np.isfinite(found).all()


@pytest.mark.parametrize(("rank", "alpha"), [(2, 0.2), (4, 1.0)])
def test_mixup_mixes_inputs_and_labels_by_shares_of_their_own(rank: int, alpha: float) -> None:
    n = 4000
    inputs = np.random.default_rng(1).random((n, *[2] * (rank - 1)), dtype=np.float32)
    labels, weights = (np.arange(n) % 3).astype(np.int32), np.linspace(1, 2, n, dtype=np.float32)
    mixed, (own, other, share, own_weights, other_weights) = prepared(inputs, labels, weights, mixup=alpha)
    share = np.array(share)
    across = share.reshape(n, *[1] * (rank - 1))
    np.testing.assert_allclose(mixed, inputs * across + np.roll(inputs, 1, axis=0) * (1 - across), atol=1e-6)
    np.testing.assert_array_equal(other, np.roll(labels, 1))
    np.testing.assert_array_equal(other_weights, np.roll(weights, 1))
    assert share.min() >= 0.5
    # the larger part of Beta(a, a): its square distance from a half is the variance 1 / (4 (2 a + 1))
    assert ((share - 0.5) ** 2).mean() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)
    logits = np.random.default_rng(2).normal(size=(n, 3)).astype(np.float32)
    loss = ClassificationLoss().compute_loss(
        tensor(logits), (own, other, share, own_weights, other_weights), hyperparameters()
    )
    parts = [costs(logits, np.array(truth)) * np.array(w) for truth, w in ((own, own_weights), (other, other_weights))]
    np.testing.assert_allclose(loss, share * parts[0] + (1 - share) * parts[1], rtol=1e-4)


@pytest.mark.soak
def test_with_both_mixings_each_takes_a_half() -> None:
    images = np.random.default_rng(1).random((600, 8, 8, 1), dtype=np.float32)
    labels, weights = np.zeros(600, np.int32), np.ones(600, np.float32)
    found, (*_, share, _, _) = prepared(images, labels, weights, mixup=1.0, cutmix=1.0)
    is_mixed = (~np.isclose(found, images)).all(axis=(1, 2, 3)) & ~np.isclose(
        np.array(found)[:, 0, 0], np.roll(images, 1, axis=0)[:, 0, 0]
    ).all(axis=1)
    assert 0.4 < is_mixed.mean() < 0.6
    assert float(np.min(share)) > 0.4


def test_nothing_is_mixed_at_zero() -> None:
    images = np.random.default_rng(1).random((6, 4, 4, 1), dtype=np.float32)
    found, (_, _, share, _, _) = prepared(images, np.zeros(6, np.int32), np.ones(6, np.float32))
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(share, np.ones(6))


@pytest.mark.parametrize("most", [0.0, 0.5, 1e6])
def test_gradients_are_clipped_by_their_norm_together(most: float) -> None:
    generator = np.random.default_rng(0)
    gradients = {name: generator.normal(size=size).astype(np.float32) for name, size in (("a", (3, 2)), ("b", (4,)))}
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
    factor = most / norm if 0 < most < norm else 1.0
    found = stateless._clipped(gradients, most)
    for name, given in gradients.items():
        np.testing.assert_allclose(found[name], given * factor, rtol=1e-5)
    if most and not is_jax():
        for one, given in zip(program._clipped(list(gradients.values()), most), gradients.values(), strict=True):
            np.testing.assert_allclose(one, given * factor, rtol=1e-5)


@pytest.mark.parametrize(("loss", "expected"), [("mse", [2.5, 4.0, 0.0]), ("mae", [1.5, 2.0, 0.0])])
def test_a_missing_number_costs_nothing_and_has_no_gradient(loss: Any, expected: list[float]) -> None:
    nan = float("nan")
    y_true = tensor(np.array([[1.0, 2.0], [nan, 2.0], [nan, nan]], np.float32)), tensor(np.ones(3, np.float32))
    outputs = np.array([[0.0, 0.0], [5.0, 0.0], [5.0, 5.0]], np.float32)
    function = RegressionLoss(loss, has_gaps=True)
    np.testing.assert_allclose(function.compute_loss(outputs, y_true, {}), expected)
    found = gradient(lambda values: function.compute_loss(values, y_true, {}), outputs)
    assert np.isfinite(found).all()
    assert (found[[1, 2, 2], [0, 0, 1]] == 0).all()
    np.testing.assert_allclose(function.scores(outputs, y_true), [1.5, 2.0, 0.0])


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_classes_and_numbers_cost_the_weighted_sum_of_both(mixup: float) -> None:
    random = np.random.default_rng(3)
    numbers = random.normal(size=(5, 2)).astype(np.float32)
    numbers[1, 0] = np.nan
    y_true = np.concatenate([LABELS[:, None], numbers], axis=1, dtype=np.float32)
    values, weights = random.normal(size=(5, 2)).astype(np.float32), np.linspace(1, 2, 5, dtype=np.float32)
    told = hyperparameters(mixup=mixup) | {"values_weight": tensor(0.3)}
    function = ClassesAndValuesLoss(RegressionLoss("mse", has_gaps=True), 3)
    inputs = np.zeros((5, 1), np.float32)
    _, prepared_targets = function.prepare(tensor(inputs), tensor(y_true), tensor(weights), told, seed(0, 1))
    outputs = np.concatenate([LOGITS, values], axis=1)
    (own, other, share, own_weights, other_weights), *_ = prepared_targets
    np.testing.assert_array_equal(own, LABELS)
    share = np.array(share)
    squares = [np.nanmean((values - truth) ** 2, axis=1) for truth in (numbers, np.roll(numbers, 1, axis=0))]
    parts = [
        (costs(LOGITS, np.array(labels)) + 0.3 * error) * np.array(each)
        for labels, error, each in zip((own, other), squares, (own_weights, other_weights), strict=True)
    ]
    found = function.compute_loss(tensor(outputs), prepared_targets, told)
    np.testing.assert_allclose(found, share * parts[0] + (1 - share) * parts[1], rtol=1e-4)
    is_right = (LOGITS.argmax(axis=1) == LABELS).astype(np.float32)
    np.testing.assert_array_equal(function.scores(tensor(outputs), prepared_targets), is_right)
    slope = gradient(lambda given: function.compute_loss(given, prepared_targets, told), outputs)
    assert np.isfinite(slope).all()


def test_quantiles_cost_what_the_pinball_loss_of_scikit_learn_says() -> None:
    random = np.random.default_rng(3)
    quantiles = np.sort(random.normal(size=(6, len(LEVELS))), axis=1).astype(np.float32)
    numbers = random.normal(size=(6, 1)).astype(np.float32)
    weights = np.linspace(1, 2, 6, dtype=np.float32)
    y_true = tensor(numbers), tensor(weights)
    found = np.array(QuantileLoss().compute_loss(tensor(quantiles), y_true, {}))
    for row in range(6):
        each = [mean_pinball_loss(numbers[row], quantiles[row, [i]], alpha=level) for i, level in enumerate(LEVELS)]
        assert found[row] == pytest.approx(weights[row] * np.mean(each), rel=1e-5)
    errors = np.abs(quantiles[:, MEDIAN] - numbers[:, 0])
    np.testing.assert_allclose(QuantileLoss().scores(tensor(quantiles), y_true), errors, rtol=1e-5)


def test_a_quantile_is_drawn_up_by_its_level_and_down_by_the_rest() -> None:
    quantiles = np.tile(np.linspace(-1, 1, len(LEVELS), dtype=np.float32), (3, 1))
    numbers = np.array([[5.0], [-5.0], [np.nan]], np.float32)
    y_true = tensor(numbers), tensor(np.ones(3, np.float32))
    function = QuantileLoss(has_gaps=True)
    found = gradient(lambda values: function.compute_loss(values, y_true, {}), quantiles) * len(LEVELS)
    np.testing.assert_allclose(found[0], [-level for level in LEVELS], rtol=1e-5)
    np.testing.assert_allclose(found[1], [1 - level for level in LEVELS], rtol=1e-5)
    assert (found[2] == 0).all(), "a missing number has no gradient"
    assert np.array(function.compute_loss(tensor(quantiles), y_true, {}))[2] == 0
