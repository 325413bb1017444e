"""The detector: its peaks and their bodies, masks, augmentation, shapes, and catalogues of new frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from small_fields import SMALL_DETECTOR, spots

from aifs_tune.data.bodies.prepare import SIZE, STATE, X, Y
from aifs_tune.errors import RequestError
from aifs_tune.trainers.load import load_network
from aifs_tune.trainers.models.detector import (
    DetectorLoss,
    DetectorNetwork,
    DetectorParams,
    DetectorShape,
    DetectorTrainer,
    detections_of,
    true_bodies,
)
from aifs_tune.trainers.network.runtime import tf

SPOTS = spots()
PARAMS = DetectorParams.from_mapping(SMALL_DETECTOR)
SHAPE = DetectorShape.of(PARAMS, SPOTS)


def prepared(params: dict[str, Any], seed: int = 3) -> tuple[Any, Any]:
    """Inputs and targets of all tiles after augmentation."""
    loss = DetectorLoss(SHAPE, SPOTS.targets, SPOTS.facts)
    values = DetectorParams.from_mapping(SMALL_DETECTOR | params).hyperparameters()
    tensors = {name: tf.constant(value, tf.float32) for name, value in values.items()}
    inputs = tuple(tf.constant(each, tf.float32) for each in SPOTS.inputs[:2])
    n = len(SPOTS.y_true)
    return loss.prepare(inputs, tf.constant(SPOTS.y_true), tf.ones(n), tensors, tf.constant([seed, 1], tf.int64))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"rotation_deg": 180.0},
        {"horizontal_flip": True, "vertical_flip": True},
        {"width_shift": 0.2, "height_shift": 0.2},
        {"zoom": 0.3},
    ],
    ids=str,
)
def test_bodies_follow_their_pixels(params: dict[str, Any]) -> None:
    (images, masks), (heat, _, cells, wanted, counts, _) = prepared(params)
    images, heat, cells, wanted, counts = (np.array(each) for each in (images, heat, cells, wanted, counts))
    assert counts.sum() > len(images) / 2
    for i, body in zip(*np.nonzero(counts), strict=True):
        row, column = divmod(int(cells[i, body]), 32)
        assert heat[i, row, column].max() == 1
        assert np.abs(wanted[i, body, :2]).max() <= 0.5
        assert images[i, row, column, 0] > 0.3  # there is light where the body is said to be
    inner = ndimage.binary_erosion(np.array(masks) == 1, np.ones((1, 11, 11)))  # a body outside may shine in
    is_dark = (heat.max(axis=3) < 1e-9) & inner
    assert images[..., 0][is_dark].max() < 0.5
    if "zoom" in params:
        sizes, before = np.exp(wanted[..., 2]) * SHAPE.usual_size_px, SPOTS.y_true[..., SIZE]
        ratios = (sizes / np.maximum(before, 1e-9))[counts > 0]
        assert ratios.min() < 0.9 < 1.1 < ratios.max()


def test_what_comes_from_outside_of_a_tile_is_masked() -> None:
    (_, masks), (_, usable, *_) = prepared({"width_shift": 0.3})
    assert np.array(masks).min() == 0
    np.testing.assert_array_equal(np.array(usable), np.array(masks))


def map_with(places: list[tuple[int, int, int, float]]) -> np.ndarray[Any, Any]:
    """Output of a network that is sure of bodies at these rows, columns, classes with these logits."""
    output = np.full((1, *SHAPE.grid, SHAPE.n_channels), -8.0, np.float32)
    output[..., SHAPE.n_classes :] = 0
    for row, column, label, logit in places:
        output[0, row, column, label] = logit
        output[0, row, column, SHAPE.n_classes :] = 0.25, -0.25, np.log(2), 1.5
    return output


def test_peaks_become_detections() -> None:
    network = DetectorNetwork(SHAPE)
    places = [(10, 20, 1, 3.0), (10, 21, 0, 2.0), (30, 4, 0, 1.0)]  # the second one is beside a higher one
    found = np.array(network.activation(tf.constant(map_with(places)))).reshape(-1, 6)[:2]
    sigmoid = 1 / (1 + np.exp(-np.array([3.0, 1.0])))
    expected = [(sigmoid[0], 1, 20.25, 9.75, 8, 1.5), (sigmoid[1], 0, 4.25, 29.75, 8, 1.5)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.fixture(scope="module")
def trainer() -> DetectorTrainer:
    """After one epoch."""
    made = DetectorTrainer(SPOTS, SMALL_DETECTOR, threads=1)
    made.epoch()
    return made


def test_masked_pixels_have_no_detections(trainer: DetectorTrainer) -> None:
    tiles, masks = SPOTS.inputs[0][:2], np.ones((2, 32, 32), np.uint8)
    masks[:, :, :16] = 0
    found = trainer.predict(tiles, masks)
    assert (found[..., 2][found[..., 0] > 0] > 15).all()
    assert (trainer.predict(tiles)[..., 2] < 15).any()


def test_a_detector_finds_what_it_learnt() -> None:
    params = SMALL_DETECTOR | {
        "min_score": 0.3,
        "batch_size": 4,
        "filters": 8,
        "output_stride": 2,
        "schedule": "cosine",
    }
    trainer = DetectorTrainer(SPOTS, params, threads=1, epochs=40, keep="last")
    for _ in range(40):
        trainer.epoch()
    measured = trainer.evaluate("train")
    assert measured["train_f1"] > 0.9
    assert measured["train_position_px"] < 1


def test_true_bodies_are_counted_once_and_perfect_detections_match() -> None:
    true = true_bodies(SPOTS, SPOTS.train)
    rows = SPOTS.y_true[SPOTS.train]
    assert len(true) == int(rows[..., STATE].sum())
    np.testing.assert_allclose(true.xy, rows[rows[..., STATE] > 0][:, X : Y + 1])
    perfect = np.concatenate([rows[..., :1], rows[..., 2:]], axis=2)
    again = detections_of(perfect, np.asarray(SPOTS.inputs[2])[SPOTS.train], SPOTS.facts)
    np.testing.assert_allclose(again.xy, true.xy)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"halvings": 6}, "halvings: 6 is not possible for tiles of 32 px"),
        ({"output_stride": 4}, "output_stride: 4 is not possible with 1 halvings; allowed: 1 to 2"),
        ({"mixup": 0.1}, "'mixup': 0.1 is not a parameter of the detector"),
        ({"spread": 2.0}, "spread: 2"),
    ],
)
def test_wrong_parameters_are_told(params: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        DetectorTrainer(SPOTS, SMALL_DETECTOR | params)


def test_a_loaded_detector_answers_the_same(trainer: DetectorTrainer, tmp_path: Path) -> None:
    trainer.save_best(tmp_path)
    loaded = load_network(tmp_path)
    np.testing.assert_array_equal(loaded.predict(*SPOTS.inputs[:2]), trainer.predict(*SPOTS.inputs[:2]))
    folder = tmp_path / "test"
    folder.mkdir()
    from aifs_tune.trainers.predictions import read_predictions

    trainer.save_predictions(folder)
    counts = read_predictions(folder)
    assert [target["name"] for target in counts.targets] == ["n_narrow", "n_wide"]
    assert counts.y_true.sum() == SPOTS.y_true[SPOTS.test][..., STATE].sum()
