"""Images and classes as arrays of one npz file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aifs_tune.config.data import DataSpec
from aifs_tune.data.images.prepare import PreparedImages, prepare_images
from aifs_tune.data.new_files import Preparation
from aifs_tune.data.sources import locate, prepare
from aifs_tune.errors import DataError, StorageError

RANDOM = np.random.default_rng(3)


def pictures(n: int, *shape: int, dtype: str = "u1") -> np.ndarray:
    values = RANDOM.integers(0, 250, (n, *(shape or (12, 10))))
    return values > 125 if dtype == "bool" else values.astype(dtype)


def digits(n: int) -> np.ndarray:
    return np.arange(n) % 3


def prepared(file: Path, **options: Any) -> PreparedImages:
    return prepare_images(DataSpec(folder=file, image_size=10, **options))


@pytest.mark.parametrize(
    ("names", "subsets"),
    [
        (("x_train", "y_train", "x_test", "y_test"), {"train", "val", "test"}),
        (("train_images", "train_labels", "val_images", "val_labels"), {"train", "val"}),
        (("trainX", "trainY", "testX", "testY"), {"train", "val", "test"}),
    ],
)
@pytest.mark.parametrize("shape", [(10, 10), (10, 10, 3), (3, 10, 10), (10, 10, 1)])
def test_arrays_of_parts_are_the_images_and_classes(
    tmp_path: Path, names: Any, subsets: set[str], shape: tuple[int, ...]
) -> None:
    arrays = (pictures(30, *shape), digits(30), pictures(9, *shape), digits(9)[:, np.newaxis])
    np.savez_compressed(tmp_path / "set.npz", **dict(zip(names, arrays, strict=True)))
    result = prepared(tmp_path / "set.npz")
    images = result.images
    assert images.classes == ("0", "1", "2")
    sizes = {"train": len(images.train), "val": len(images.val), "test": len(images.test)}
    assert {name for name, n in sizes.items() if n} == subsets
    assert sum(sizes.values()) == 39
    other = np.moveaxis(arrays[2], 1, -1) if shape[0] == 3 else arrays[2]
    for row in (images.test if "test" in subsets else images.val).tolist():
        path = result.files.path[row]
        number = int(path[-10:-4])
        np.testing.assert_array_equal(images.images[row], other[number].reshape(10, 10, -1))
        assert images.classes[images.labels[row]] == str(number % 3)
    assert f"{names[0]}: 30 x {' x '.join(map(str, shape))} uint8" in "\n".join(result.preflight.lines())
    preparation = Preparation("images", DataSpec(folder=tmp_path, image_size=10), {}, images.shape, images.range16)
    (found,) = preparation.batches([tmp_path / "set.npz"])
    assert found.names[0] == f"{tmp_path / 'set.npz'} {names[0]} 0"
    np.testing.assert_array_equal(found.inputs[0][30:], other.reshape(9, 10, 10, -1))


@pytest.mark.parametrize("dtype", ["u2", "f4", "i4", "bool"])
def test_x_and_y_are_divided_and_classes_may_be_text(tmp_path: Path, dtype: str) -> None:
    names = np.array(["train", "spiral", "merger"])
    np.savez(tmp_path / "galaxies.npz", X=pictures(30, dtype=dtype), y=names[digits(30)], redshift=np.zeros(30))
    first = prepared(tmp_path / "galaxies.npz")
    assert first.images.classes == ("merger", "spiral", "train")
    assert (len(first.images.train), len(first.images.val), len(first.images.test)) == (18, 6, 6)
    assert (first.images.range16 is None) == (dtype == "bool")
    again = prepared(tmp_path / "galaxies.npz")
    assert (again.location, again.files) == (first.location, first.files)


def test_a_test_part_without_classes_and_rows_without_one_are_left_out_and_named(tmp_path: Path) -> None:
    classes = np.where(np.arange(30) == 4, np.nan, digits(30))
    np.savez(tmp_path / "a.npz", x_train=pictures(30), y_train=classes, x_test=pictures(8))
    result = prepared(tmp_path / "a.npz")
    text = "\n".join(result.preflight.lines())
    assert "left out: 8 images of x_test, which has no classes; aifs-tune predict can use it" in text
    assert "left out: 1 images of x_train without a class" in text
    assert result.preflight.n_images == 29
    told: list[str] = []
    data = locate(DataSpec(folder=tmp_path / "a.npz", image_size=10), "images", "it")
    made = prepare(data, "images", strict=True, tell=told.append, progress=lambda *_: None)
    assert made.division["by"] == "random"
    assert made.fingerprint == result.images.fingerprint


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.zeros((9, 784)), "y": digits(9)}, r"X is 9 x 784 of float64; allowed: .*rows of numbers are a table"),
        ({"X": np.zeros((9, 3, 8, 3)), "y": digits(9)}, r"X is 9 x 3 x 8 x 3 of float64; allowed"),
        ({"X": np.zeros((9, 8, 8, 5)), "y": digits(9)}, r"with 1 or 3 channels"),
        ({"X": np.zeros((9, 8, 8)), "y": digits(8)}, "X has 9 images and y 8 classes; allowed: one class for each"),
        ({"X": np.zeros((9, 8, 8)), "y": np.zeros((9, 3))}, "y is 9 x 3 of float64; allowed: one number or text"),
        ({"X": np.zeros((9, 8, 8)), "y": np.array([{}] * 9, object)}, "cannot be read as npz"),
        ({"X": np.zeros((9, 8, 8))}, r"no classes of training images \(X\)"),
        ({"x_test": np.zeros((9, 8, 8)), "y_test": digits(9)}, r"no classes of training images \(x_test\)"),
        ({"X": np.zeros((9, 8, 8)), "images": np.zeros((9, 8, 8)), "y": digits(9)}, "X and images could both be it"),
        ({"flux": np.zeros((9, 8)), "kind": digits(9)}, r"has flux \(9 x 8\), kind \(9\); allowed: arrays X"),
        ({"X": np.zeros((9, 8, 8)), "y": np.array(["a/b"] * 9)}, "the class 'a/b' cannot be the name of a folder"),
    ],
)
def test_arrays_that_are_no_images_with_classes_are_refused(tmp_path: Path, arrays: Any, message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        prepared(tmp_path / "a.npz")


@pytest.mark.parametrize("damage", ["empty", "text", "half"])
def test_a_damaged_file_is_named_before_anything_runs(tmp_path: Path, damage: str) -> None:
    np.savez_compressed(tmp_path / "a.npz", X=pictures(40, 30, 30), y=digits(40))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes({"empty": b"", "text": b"no arrays", "half": whole[:4000]}[damage])
    with pytest.raises(DataError, match=r"data file .*a\.npz: cannot be read as npz"):
        locate(DataSpec(folder=tmp_path / "a.npz"), "images", "it")


def test_arrays_that_do_not_fit_the_disk_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path / "cache"))
    np.savez(tmp_path / "a.npz", X=pictures(30), y=digits(30))
    monkeypatch.setattr("aifs_tune.data.forecast.shutil.disk_usage", lambda _: type("Usage", (), {"free": 50_000}))
    with pytest.raises(StorageError, match=r"30 images of 12 x 10 need 123 kB of disk space .* and 50 kB are free"):
        prepared(tmp_path / "a.npz")
    assert not list((tmp_path / "cache").rglob("*.npy"))
