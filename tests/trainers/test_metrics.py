from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score

from aifs_tune.trainers.network.metrics import measure
from aifs_tune.trainers.predictions import CLASSIFIED


def logs(rows: list[list[float]]) -> np.ndarray:
    return np.log(np.array(rows, np.float32))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(3, 6), st.integers(12, 60))
def test_with_all_classes_present_they_are_those_of_scikit_learn(seed: int, n_classes: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(n) % n_classes).astype(np.int32)
    rows = generator.dirichlet(np.ones(n_classes), n)
    measured = measure(labels, np.log(rows).astype(np.float32))
    guesses = rows.argmax(axis=1)
    assert measured["loss"] == pytest.approx(log_loss(labels, rows), rel=1e-4)
    assert measured["accuracy"] == pytest.approx((labels == guesses).mean())
    assert measured["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, guesses))
    assert measured["macro_f1"] == pytest.approx(f1_score(labels, guesses, average="macro"))
    assert measured["auc"] == pytest.approx(roc_auc_score(labels, rows, multi_class="ovr"), abs=1e-6)
    assert tuple(measured) == CLASSIFIED


def test_two_classes_have_the_plain_area() -> None:
    labels = np.array([0, 0, 1, 1], np.int32)
    measured = measure(labels, logs([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]]))
    assert measured["auc"] == pytest.approx(0.75)


def test_an_absent_class_counts_in_no_mean_but_images_taken_for_it_do() -> None:
    labels = np.array([0, 0, 1, 1], np.int32)
    measured = measure(labels, logs([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]]))
    assert measured["balanced_accuracy"] == pytest.approx(0.75)
    assert measured["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert 0 < measured["auc"] <= 1


def test_a_loss_of_nothing_is_plain_zero() -> None:
    measured = measure(np.array([0, 1], np.int32), np.array([[0, -90], [-90, 0]], np.float32))
    assert math.copysign(1, measured["loss"]) == 1.0


def test_one_class_has_no_area() -> None:
    measured = measure(np.array([1, 1], np.int32), logs([[0.2, 0.8], [0.6, 0.4]]))
    assert set(measured) == set(CLASSIFIED) - {"auc"}
    assert measured["accuracy"] == 0.5


def test_a_diverged_network_measures_nan() -> None:
    measured = measure(np.array([0, 1], np.int32), np.array([[np.nan, np.nan], [-0.7, -0.7]], np.float32))
    assert tuple(measured) == CLASSIFIED
    assert all(math.isnan(value) for value in measured.values())
