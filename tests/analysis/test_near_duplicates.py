"""Images that show the same thing, in one part and in another: what is found, and what is not taken for it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from aifs_tune.data.images.near_duplicates import NearDuplicate, near_duplicates
from aifs_tune.data.images.perceptual_hash import frequency_hash, gradient_hash, near_pairs, reduced
from aifs_tune.errors import RequestError

Pictures = NDArray[np.uint8]


def cells(n: int, *, seed: int = 0, size: int = 64) -> Pictures:
    """Pictures (n, size, size, 3) of one kind: a cell of its own shade, size and place on grained, bright ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    pictures = []
    for _ in range(n):
        centre, radius, shade = rng.uniform(0.35, 0.65, 2), rng.uniform(0.15, 0.35), rng.uniform(60, 150, 3)
        distance = np.hypot(y - centre[0], (x - centre[1]) * rng.uniform(0.7, 1.4))
        grain = np.kron(rng.normal(0, 12, (size // 8, size // 8)), np.ones((8, 8)))
        ground = 200 + 40 * (rng.uniform(-1, 1) * x + rng.uniform(-1, 1) * y) + grain
        inside = 1 / (1 + np.exp((distance - radius) * 40))
        pictures.append(ground[..., None] - inside[..., None] * shade + rng.normal(0, 3, (size, size, 3)))
    return np.clip(np.array(pictures), 0, 255).astype(np.uint8)


def stored_again(picture: Pictures, quality: int = 50) -> Pictures:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def smaller_and_back(picture: Pictures) -> Pictures:
    image, size = Image.fromarray(picture), picture.shape[0]
    return np.asarray(image.resize((size * 3 // 4,) * 2).resize((size, size)))


COPIES: dict[str, Callable[[Pictures], Any]] = {
    "the same": lambda picture: picture,
    "stored again": stored_again,
    "brighter": lambda picture: np.clip(picture * 1.1 + 5, 0, 255).astype(np.uint8),
    "darker": lambda picture: (picture * 0.7).astype(np.uint8),
    "moved by a pixel": lambda picture: np.roll(picture, 1, axis=1),
    "smaller and back": smaller_and_back,
    "noisier": lambda picture: np.clip(picture + np.random.default_rng(1).normal(0, 4, picture.shape), 0, 255).astype(
        np.uint8
    ),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found_and_others_of_the_kind_are_not(kind: str) -> None:
    originals = cells(150)
    copies = np.stack([COPIES[kind](picture) for picture in originals[:30]])
    found = near_duplicates(np.concatenate([originals, copies]))
    pairs = {(pair.first, pair.second) for pair in found.pairs}
    assert pairs <= {(i, 150 + i) for i in range(30)}
    assert len(pairs) >= (24 if kind == "moved by a pixel" else 29)


def test_only_pairs_across_subsets_are_reported() -> None:
    pictures = cells(20)
    images = np.concatenate([pictures, pictures[:3], pictures[:1]])
    subsets = ["train"] * 20 + ["test", "train", "test", "val"]
    found = near_duplicates(images, subsets=subsets)
    assert {(pair.first, pair.second) for pair in found.pairs} == {(0, 20), (2, 22), (0, 23), (20, 23)}
    assert found.to_frame()["similarity"].tolist() == pytest.approx([1.0] * 4)
    everywhere = {(pair.first, pair.second) for pair in near_duplicates(images).pairs}
    assert everywhere == {(0, 20), (2, 22), (0, 23), (20, 23), (1, 21)}


def test_images_that_show_nothing_are_left_out_and_counted() -> None:
    flat = np.full((40, 32, 32, 1), 7, np.uint8)
    found = near_duplicates(np.concatenate([flat, cells(4, size=32)[..., :1]]))
    assert (found.pairs, found.n_flat) == ((), 40)
    assert near_duplicates(np.empty((0, 8, 8, 3), np.uint8)).pairs == ()


def test_sixteen_bits_are_taken_alike() -> None:
    pictures = cells(10)
    deep = pictures.astype(np.uint16) * 257
    assert near_duplicates(np.concatenate([deep, deep[:1]])).pairs == (NearDuplicate(0, 10, pytest.approx(1.0)),)


@pytest.mark.parametrize("hashed", [gradient_hash, frequency_hash])
@pytest.mark.parametrize("distance", [0, 5, 8, 16])
def test_the_bands_miss_no_pair(hashed: Any, distance: int) -> None:
    hashes = hashed(cells(300, size=32))
    expected = {
        (i, j) for i in range(300) for j in range(i + 1, 300) if int(hashes[i] ^ hashes[j]).bit_count() <= distance
    }
    assert {tuple(pair) for near in near_pairs(hashes, distance) for pair in near.tolist()} == expected
    assert len(expected) > 0 or distance < 8


def test_more_pairs_than_are_compared_at_once_are_all_found() -> None:
    hashes = np.zeros(1500, np.uint64)
    hashes[::600] = np.uint64(2**64 - 1)
    found = np.concatenate(list(near_pairs(hashes, 0)))
    assert len(np.unique(found @ [1500, 1])) == len(found) == 1497 * 1496 // 2 + 3 * 2 // 2
    assert (found[:, 0] < found[:, 1]).all()
    assert list(near_pairs(hashes[:1], 8)) == list(near_pairs(hashes[:0], 8)) == []


def test_reduced_images_are_means_of_areas() -> None:
    picture = np.arange(24, dtype=np.uint8).reshape(1, 4, 6, 1)
    assert reduced(picture, 2, 2)[0].tolist() == pytest.approx(np.array([[4.0, 7.0], [16.0, 19.0]]))
    thirds = reduced(picture[:, :, :2], 1, 3)[0, 0]
    assert thirds == pytest.approx([9.0, 9.5, 10.0])
    assert reduced(picture, 8, 9).mean() == pytest.approx(picture.mean())


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.zeros((2, 8, 8), np.uint8), {}, r"images: shape \(2, 8, 8\) of uint8; allowed: \(images, height"),
        (np.zeros((2, 8, 8, 1)), {}, "of float64; allowed"),
        (
            np.zeros((2, 8, 8, 1), np.uint8),
            {"subsets": ["train"]},
            "subsets: 1 entries; allowed: one for each of the 2",
        ),
        (np.zeros((2, 8, 8, 1), np.uint8), {"distance": 17}, "distance: 17 is not allowed; allowed: 0 to 16 bits"),
        (np.zeros((2, 8, 8, 1), np.uint8), {"similarity": 0}, "similarity: 0 is not allowed"),
    ],
)
def test_wrong_requests_are_named(images: Any, options: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        near_duplicates(images, **options)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("pattern", "most", "one"),
    [
        ("aries-star-galaxy/*/*.jpg", 6, ("J161245p511816_001_010_196_1484_3.jpg", "j1612p5118_r_01_223_1717_3.jpg")),
        ("bccd-cells/*/*/*.jpg", 45, ("BloodImage_00239_01.jpg", "BloodImage_00240_00.jpg")),
    ],
    ids=["stars and galaxies", "blood cells"],
)
def test_real_objects_of_one_class_are_not_taken_for_copies(
    shared: Path, pattern: str, most: int, one: tuple[str, str]
) -> None:
    """Of 8 and 12 million pairs so many look the same, among them one object seen in two exposures."""
    files = sorted((shared / "data").glob(pattern))
    images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    found = near_duplicates(images)
    assert 1 <= len(found.pairs) <= most
    assert one in {tuple(sorted((files[p.first].name, files[p.second].name))) for p in found.pairs}
