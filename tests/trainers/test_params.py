"""Schedules of the learning rate."""

from __future__ import annotations

import numpy as np
import pytest

from aifs_tune.trainers.models.cnn import CnnParams
from aifs_tune.trainers.models.transfer import TransferParams
from aifs_tune.trainers.network.runtime import keras


def test_a_cosine_is_that_of_keras() -> None:
    params, reference = CnnParams(schedule="cosine"), keras.optimizers.schedules.CosineDecay(1.0, 12)
    for epoch in range(12):
        assert params.rate_factor(epoch, 12, 0) == pytest.approx(float(reference(epoch)), abs=1e-6)


def test_a_warm_up_rises_evenly_and_then_the_schedule_begins() -> None:
    params = CnnParams(schedule="cosine", warmup_epochs=3)
    factors = [params.rate_factor(epoch, 13, 0) for epoch in range(13)]
    np.testing.assert_allclose(factors[:4], [0.25, 0.5, 0.75, 1.0])
    plain = CnnParams(schedule="cosine")
    np.testing.assert_allclose(factors[3:], [plain.rate_factor(epoch, 10, 0) for epoch in range(10)])
    assert CnnParams(warmup_epochs=50).rate_factor(9, 10, 0) == pytest.approx(10 / 51)


def test_on_a_plateau_the_rate_is_halved_after_each_three_epochs() -> None:
    params = CnnParams(schedule="plateau")
    assert [params.rate_factor(9, 10, stale) for stale in (0, 2, 3, 5, 6, 9)] == [1, 1, 0.5, 0.5, 0.25, 0.125]


def test_the_rate_of_an_epoch_is_a_hyperparameter() -> None:
    params = CnnParams(learning_rate=0.1, schedule="cosine")
    assert params.hyperparameters_of_epoch(5, 10, 0)["learning_rate"] == pytest.approx(0.05)
    assert CnnParams(learning_rate=0.1).hyperparameters_of_epoch(5, 10, 0)["learning_rate"] == 0.1


def test_a_backbone_learns_after_its_frozen_epochs() -> None:
    params = TransferParams(frozen_epochs=2, backbone_rate=0.3)
    assert [params.hyperparameters_of_epoch(epoch, 9, 0)["backbone_rate"] for epoch in range(4)] == [0, 0, 0.3, 0.3]
