from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from on_backend import seed as seed_of
from on_backend import tensor

from aifs_tune.trainers.augment.images import augment, transforms_of, warp
from aifs_tune.trainers.network.runtime import tf

OFF = dict.fromkeys(
    (
        "rotation_deg",
        "width_shift",
        "height_shift",
        "zoom",
        "horizontal_flip",
        "vertical_flip",
        "rotation_90",
        "blur",
        "brightness",
        "noise",
        "read_noise",
        "shot_noise",
        "random_erasing",
    ),
    0.0,
)


def picture(n: int = 1, height: int = 9, width: int = 9) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((n, height, width, 2), dtype=np.float32)


def changed(images: NDArray[np.float32], *, seed: int = 0, **hyperparameters: float) -> NDArray[np.float32]:
    given = {name: tensor(float(value)) for name, value in (OFF | hyperparameters).items()}
    return np.array(augment(tensor(images), given, seed_of(seed)))


def moved(
    images: NDArray[np.float32],
    *,
    angle: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    mirror: tuple[float, float] = (1.0, 1.0),
) -> NDArray[np.float32]:
    def all_images(value: float) -> object:
        return tf.fill([len(images)], tf.constant(value, tf.float32))

    right, down, mirror_x, mirror_y = map(all_images, (*shift, *mirror))
    height, width = images.shape[1:3]
    rows = transforms_of(
        all_images(angle), (right, down), all_images(scale), (mirror_x, mirror_y), height=height, width=width
    )
    return np.array(warp(tf.constant(images), rows))


@pytest.mark.parametrize("edge", [8, 9])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_about_the_centre_and_clockwise(edge: int, quarters: int) -> None:
    images = picture(2, edge, edge)
    expected = np.rot90(images, k=-quarters, axes=(1, 2))
    np.testing.assert_allclose(moved(images, angle=quarters * math.pi / 2), expected, atol=2e-5)


def test_a_half_turn_of_an_oblong_image_is_about_its_centre() -> None:
    images = picture(1, 6, 11)
    np.testing.assert_allclose(moved(images, angle=math.pi), images[:, ::-1, ::-1], atol=2e-5)


def test_mirrors() -> None:
    images = picture(1, 6, 7)
    np.testing.assert_allclose(moved(images, mirror=(-1, 1)), images[:, :, ::-1], atol=1e-6)
    np.testing.assert_allclose(moved(images, mirror=(1, -1)), images[:, ::-1], atol=1e-6)


def test_a_shift_moves_content_right_and_down_and_repeats_the_edge() -> None:
    images = picture(1, 6, 7)
    shifted = moved(images, shift=(2, 1))
    np.testing.assert_allclose(shifted[:, 1:, 2:], images[:, :-1, :-2], atol=1e-6)
    np.testing.assert_allclose(shifted[:, 1:, 0], images[:, :-1, 0], atol=1e-6)


def test_a_shift_is_that_of_the_turned_content() -> None:
    images = picture(1, 9, 9)
    expected = np.rot90(images, k=-1, axes=(1, 2))
    np.testing.assert_allclose(moved(images, angle=math.pi / 2, shift=(3, 0))[:, :, 3:], expected[:, :, :-3], atol=2e-5)


def test_scale_above_one_magnifies_about_the_centre() -> None:
    images = picture(1, 9, 9)
    magnified = moved(images, scale=2.0)
    np.testing.assert_allclose(magnified[:, ::2, ::2], images[:, 2:7, 2:7], atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 17, 12, 3), (3, 8, 8, 1)])
def test_any_transform_is_that_of_tensorflow(shape: tuple[int, int, int, int]) -> None:
    """Its own operation, which ours is faster than, stays the reference: far outside, mirrored and magnified too."""
    generator = np.random.default_rng(1)
    images = generator.random(shape, dtype=np.float32)
    angle, right, down = generator.uniform(-20, 20, (3, shape[0])).astype(np.float32)
    scale, mirror = generator.uniform(0.3, 3, (2, shape[0])).astype(np.float32)
    sizes = {"height": shape[1], "width": shape[2]}
    rows = transforms_of(
        tf.constant(angle), (tf.constant(right), tf.constant(down)), tf.constant(scale), (-mirror, mirror), **sizes
    )
    expected = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=rows,
        output_shape=shape[1:3],
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )
    np.testing.assert_allclose(np.array(warp(tf.constant(images), rows)), np.array(expected), atol=1e-4)


def test_strengths_of_zero_change_nothing() -> None:
    images = picture(4)
    np.testing.assert_array_equal(changed(images), images)


@pytest.mark.parametrize("name", sorted(OFF))
def test_each_strength_changes_images_and_each_image_by_its_own_draw(name: str) -> None:
    images = np.repeat(picture(1), 16, axis=0)
    strong = {"horizontal_flip": 1.0, "vertical_flip": 1.0, "rotation_90": 1.0, "rotation_deg": 40.0, "blur": 2.0}
    result = changed(images, **{name: strong.get(name, 0.3)})
    assert len({image.tobytes() for image in result}) > 1
    assert not np.array_equal(result, images)


@pytest.mark.parametrize(("name", "axis"), [("horizontal_flip", 2), ("vertical_flip", 1)])
def test_a_flip_takes_about_half_of_the_images_and_leaves_the_others(name: str, axis: int) -> None:
    images = picture(400, 5, 5)
    result = changed(images, **{name: 1.0})
    is_flipped = np.isclose(result, np.flip(images, axis), atol=1e-5).all(axis=(1, 2, 3))
    is_same = np.isclose(result, images, atol=1e-5).all(axis=(1, 2, 3))
    assert (is_flipped ^ is_same).all()
    assert 150 < is_flipped.sum() < 250


def test_brightness_factors_fill_their_range() -> None:
    result = changed(np.full((500, 2, 2, 1), 0.5, np.float32), brightness=0.4)
    factors = result[:, 0, 0, 0] / 0.5
    assert 0.6 <= factors.min() < 0.63
    assert 1.37 < factors.max() <= 1.4


def test_noise_has_its_standard_deviation_and_stays_within_full_scale() -> None:
    grey = changed(np.full((64, 16, 16, 1), 0.5, np.float32), noise=0.1)
    assert grey.std() == pytest.approx(0.1, rel=0.03)
    black = changed(np.zeros((8, 16, 16, 1), np.float32), noise=0.1)
    assert black.min() == 0.0
    assert black.max() <= 1.0


def test_a_shift_stays_within_its_share() -> None:
    images = np.zeros((300, 3, 41, 1), np.float32)
    images[:, :, 20] = 1
    columns = (changed(images, width_shift=0.2)[:, 1, :, 0] * np.arange(41)).sum(axis=1)
    assert np.abs(columns - 20).max() <= 0.2 * 41 + 1e-3
    assert np.abs(columns - 20).max() > 0.18 * 41


def test_draws_follow_the_seed() -> None:
    images = picture(8)
    hyperparameters = {"rotation_deg": 30.0, "noise": 0.1}
    np.testing.assert_array_equal(
        changed(images, seed=3, **hyperparameters), changed(images, seed=3, **hyperparameters)
    )
    assert not np.array_equal(changed(images, seed=3, **hyperparameters), changed(images, seed=4, **hyperparameters))
