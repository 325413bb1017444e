"""What blur, a detector, quarter turns, erasing and pasting do to images, on the backend that Keras uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from on_backend import seed, tensor
from scipy.ndimage import gaussian_filter
from test_augment import OFF, changed, picture

from aifs_tune.trainers.augment import images as image_changes
from aifs_tune.trainers.augment.images import augment, cutmix
from aifs_tune.trainers.network.params import ERASED_AREA

Array = NDArray[Any]


def found_by(name: str, *arrays: Any, **more: Any) -> Array:
    """What a function of the module finds; of several results, the first."""
    found = getattr(image_changes, name)(*(tensor(array) for array in arrays), **more)
    return np.array(found[0] if isinstance(found, tuple) else found)


@pytest.mark.parametrize("shape", [(7, 9), (8, 8), (16, 5)])
def test_blur_is_gaussian_between_mirrors_and_keeps_the_light(shape: tuple[int, int]) -> None:
    images = picture(4, *shape)
    sigmas = np.array([0.0, 0.6, 1.3, 2.0], np.float32)
    found = found_by("blurred", images, sigmas)
    np.testing.assert_array_equal(found[0], images[0])
    np.testing.assert_allclose(found.sum((1, 2)), images.sum((1, 2)), rtol=1e-5)
    for image, sigma, seen in zip(images[1:], sigmas[1:], found[1:], strict=True):
        expected = gaussian_filter(image, (sigma, sigma, 0), mode="reflect", truncate=8)
        np.testing.assert_allclose(seen, expected, atol=2e-5)


@pytest.mark.parametrize("quarters", range(4))
def test_quarter_turns_change_no_pixel(quarters: int) -> None:
    square, oblong = picture(3, 8, 8), picture(3, 5, 8)
    told = np.full(3, quarters, np.int32)
    np.testing.assert_array_equal(found_by("rotated_90", square, told), np.rot90(square, quarters, (1, 2)))
    halves = np.rot90(oblong, 2 * (quarters in (1, 2)), (1, 2))
    np.testing.assert_array_equal(found_by("rotated_90", oblong, told), halves)


@pytest.mark.parametrize("shape", [(6, 6), (5, 6)])
def test_every_turn_is_as_likely(shape: tuple[int, int]) -> None:
    images = np.repeat(picture(1, *shape), 1200, axis=0)
    kinds, counts = np.unique(changed(images, rotation_90=1.0).reshape(1200, -1), axis=0, return_counts=True)
    assert len(kinds) == (4 if shape == (6, 6) else 2)
    assert (np.abs(counts / 1200 - 1 / len(kinds)) < 0.05).all()


@pytest.mark.parametrize("value", [0.2, 0.6])
def test_a_detectors_noise_has_its_variance(value: float) -> None:
    grey = changed(np.full((64, 16, 16, 1), value, np.float32), read_noise=0.03, shot_noise=0.004, noise=0.02)
    assert grey.var() == pytest.approx(0.03**2 + 0.02**2 + value * 0.004, rel=0.05)
    assert grey.mean() == pytest.approx(value, abs=2e-3)


def test_light_is_dimmed_before_it_is_measured() -> None:
    images, grain = picture(3), np.random.default_rng(1).normal(size=(3, 9, 9, 2)).astype(np.float32)
    factors = np.array([0.5, 1.0, 1.5], np.float32)
    found = found_by("exposed", images, factors, np.float32(0.01), np.float32(0.02), grain)
    light = images * factors[:, None, None, None]
    np.testing.assert_allclose(found, np.clip(light + grain * np.sqrt(0.01 + 0.02 * light), 0, 1), atol=1e-6)


def test_erasing_takes_a_rectangle_of_its_share_and_leaves_the_mean() -> None:
    images = picture(400, 32, 24)
    found = changed(images, random_erasing=0.5)
    is_lost = (found != images).any(axis=3)
    is_hit = is_lost.any(axis=(1, 2))
    assert is_hit.mean() == pytest.approx(0.5, abs=0.08)
    areas = is_lost[is_hit].mean(axis=(1, 2))
    assert 0.5 * ERASED_AREA[0] < areas.min() < areas.max() < 1.15 * ERASED_AREA[1]
    assert areas.mean() == pytest.approx(np.mean(ERASED_AREA), rel=0.15)
    for image, mask, seen in zip(images[is_hit][:20], is_lost[is_hit], found[is_hit], strict=False):
        rows, columns = mask.any(axis=1), mask.any(axis=0)
        np.testing.assert_array_equal(mask, rows[:, None] & columns)
        assert np.diff(np.flatnonzero(rows)).max(initial=1) == np.diff(np.flatnonzero(columns)).max(initial=1) == 1
        np.testing.assert_allclose(seen[mask], np.broadcast_to(image.mean((0, 1)), seen[mask].shape), atol=1e-5)


def test_pasting_takes_from_the_image_before_and_says_how_much() -> None:
    top, left, height, width = (np.array(edges, np.float32) for edges in ([0, -3.2], [2, 6.5], [4.9, 6], [3, 99]))
    mask = found_by("inside", top, left, height, width, of=(8, 10))
    assert [int(one.sum()) for one in mask] == [15, 12]
    images = picture(2, 8, 10)
    found = found_by("pasted", images, mask)
    np.testing.assert_array_equal(found, np.where(mask[..., None], images[::-1], images))


def test_cutmix_keeps_at_least_a_half_and_counts_what_it_pasted() -> None:
    images = picture(500, 16, 16)
    found, share = (np.array(one) for one in cutmix(tensor(images), tensor(1.0), seed(3, 4)))
    is_other = (found != images).any(axis=3)
    np.testing.assert_allclose(1 - is_other.mean(axis=(1, 2)), share, atol=1e-6)
    np.testing.assert_array_equal(found[is_other], np.roll(images, 1, axis=0)[is_other])
    assert 0.45 < share.min() < 0.6
    assert share.max() > 0.99
    # Beta(1, 1) is even: its smaller side is 1/4 in the mean, less what is beyond the edges
    assert 0.1 < 1 - share.mean() < 0.25
    rare = np.array(cutmix(tensor(images), tensor(0.05), seed(3, 4))[1])
    assert rare.mean() > share.mean()


ALL = {"rotation_90": 1.0, "blur": 1.0, "read_noise": 0.1, "shot_noise": 0.1, "random_erasing": 1.0}


@pytest.mark.parametrize("name", ALL)
def test_a_change_of_strength_0_changes_nothing(name: str) -> None:
    """Also where another trial in the same program has it, so that its strength is a tensor."""
    images = tensor(picture(4))
    still, moved = (np.array(augment(images, OFF | {name: tensor(strength)}, seed(0))) for strength in (0.0, ALL[name]))
    np.testing.assert_array_equal(still, images)
    assert not np.array_equal(moved, images)
