from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_images import SMALL_NET, STILL, blobs

from aifs_tune.errors import RequestError
from aifs_tune.trainers.load import load_classifier
from aifs_tune.trainers.models.cnn import CnnTrainer

IMAGES = blobs()


@pytest.fixture(scope="module")
def trainer() -> CnnTrainer:
    trainer = CnnTrainer(IMAGES, SMALL_NET, threads=1)
    trainer.epoch()
    return trainer


def test_views_are_drawn_by_the_seed_alone(trainer: CnnTrainer) -> None:
    single, views = trainer.predict(IMAGES.images), trainer.predict(IMAGES.images, 4, seed=1)
    np.testing.assert_array_equal(trainer.predict(IMAGES.images, 1, seed=5), single)
    np.testing.assert_array_equal(trainer.predict(IMAGES.images, 4, seed=1), views)
    assert views.shape == single.shape
    assert np.abs(views - single).max() > 1e-3
    assert np.abs(trainer.predict(IMAGES.images, 4, seed=2) - views).max() > 1e-3
    np.testing.assert_allclose(views.sum(axis=1), 1, atol=1e-5)


def test_more_views_are_nearer_to_their_mean(trainer: CnnTrainer) -> None:
    mean = trainer.predict(IMAGES.images, 200, seed=9)
    few, many = (np.abs(trainer.predict(IMAGES.images, n, seed=1) - mean).mean() for n in (2, 50))
    assert many < 0.5 * few


def test_views_are_those_of_the_trials_own_strengths(tmp_path: Path) -> None:
    trainer = CnnTrainer(IMAGES, SMALL_NET | STILL | {"random_erasing": 1.0, "cutmix": 1.0}, threads=1)
    trainer.epoch()
    single = trainer.predict(IMAGES.images)
    np.testing.assert_allclose(trainer.predict(IMAGES.images, 3), single, atol=1e-6)
    trainer.reset(SMALL_NET, seed=1)
    trainer.epoch()
    trainer.save_best(tmp_path)
    expected = trainer.predict(IMAGES.images, 3, seed=4)
    np.testing.assert_array_equal(load_classifier(tmp_path).predict(IMAGES.images, 3, seed=4), expected)
    assert trainer.predict(IMAGES.images[:0], 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("views", "seed", "message"),
    [(0, 0, "views: 0 is not allowed; allowed: a whole number from 1 to 1000"), (2, -1, "seed: -1 is not allowed")],
)
def test_wrong_requests_are_named(trainer: CnnTrainer, views: int, seed: int, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        trainer.predict(IMAGES.images, views, seed=seed)
    with pytest.raises(RequestError, match="allowed: uint8 of shape"):
        trainer.predict(IMAGES.images[:, :8], 2)
