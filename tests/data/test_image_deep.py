"""Class folders of images with more than 8 bits, and the two values that become 0 and 255."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_frame_files import dicom

from aifs_tune.config.data import DataSpec
from aifs_tune.data import open_images, prepare_images
from aifs_tune.data.images.decode import DecodeSettings, decode, decode_file
from aifs_tune.data.images.prepare import PreparedImages
from aifs_tune.data.new_files import Preparation
from aifs_tune.errors import StorageError

Save = Callable[[Path, np.ndarray], Any]


def write(folder: Path, suffix: str, save: Save, make: Callable[[int, int], np.ndarray], n: int = 10) -> Path:
    for c, label in enumerate(("cell", "debris")):
        (folder / label).mkdir(parents=True)
        for i in range(n):
            save(folder / label / f"{i:02d}{suffix}", make(c, i))
    return folder


def prepared(folder: Path, **options: Any) -> PreparedImages:
    return prepare_images(DataSpec(folder=folder, image_size=8, near_duplicates="ignore", **options))


def noise(shape: tuple[int, ...], dtype: str, level: float, spread: float) -> Callable[[int, int], np.ndarray]:
    def make(c: int, i: int) -> np.ndarray:
        values = np.random.default_rng(100 * c + i).normal(level * (1 + c), spread, shape)
        return values.astype(dtype)

    return make


def as_tiff(path: Path, pixels: np.ndarray) -> None:
    tifffile.imwrite(path, pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack")


def as_png(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)


KINDS: dict[str, tuple[str, Save, Callable[[int, int], np.ndarray]]] = {
    "12-bit colour": (".tif", as_tiff, noise((8, 8, 3), "u2", 1500, 200)),
    "floating-point": (".tif", as_tiff, noise((8, 8), "f4", 0.25, 0.02)),
    "floating-point colour": (".tif", as_tiff, noise((8, 8, 3), "f4", -4, 1)),
    "signed": (".tif", as_tiff, noise((8, 8), "i2", -300, 40)),
    "array": (".npy", np.save, noise((8, 8), "f8", 1e6, 1e4)),
    "16-bit array of colours": (".npy", np.save, noise((8, 8, 3), "u2", 20_000, 3000)),
    "dicom": (".dcm", lambda path, pixels: dicom(path, pixels, RescaleIntercept=-1024), noise((8, 8), "u2", 900, 90)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_is_used_and_new_files_are_scaled_as_in_training(kind: str, tmp_path: Path) -> None:
    suffix, save, make = KINDS[kind]
    folder = write(tmp_path / "deep", suffix, save, make)
    result = prepared(folder)
    assert not result.preflight.skipped_files
    low, high = result.preflight.range16 or (0, 0)
    offset = -1024 if kind == "dicom" else 0
    stored = {}
    for c, label in enumerate(("cell", "debris")):
        for i in range(10):
            pixels = make(c, i).astype(float).reshape(8, 8, -1) + offset
            stored[f"{label}/{i:02d}{suffix}"] = np.rint((pixels - low).clip(0, high - low) * 255 / (high - low))
    for path, image in zip(result.files.path, result.images.images, strict=True):
        assert np.abs(image.astype(float) - stored[path]).max() <= 1
    data = DataSpec(folder=folder, image_size=8)
    preparation = Preparation("images", data, {}, result.images.shape, result.images.range16)
    (found,) = preparation.batches([folder / path for path in result.files.path])
    np.testing.assert_array_equal(found.inputs[0], result.images.images)


@pytest.mark.parametrize("kind", ["12-bit colour", "floating-point"])
def test_the_two_values_are_those_of_the_training_part(kind: str, tmp_path: Path) -> None:
    suffix, save, make = KINDS[kind]
    folder = write(tmp_path / "deep", suffix, save, make)
    result = prepared(folder)
    train = {result.files.path[row] for row in result.images.train.tolist()}
    values = [make(("cell", "debris").index(path.split("/")[0]), int(path[-6:-4])) for path in train]
    tolerance = float(np.ptp(values)) / 40
    expected = np.percentile(values, (0.1, 99.9))
    assert result.images.range16 == pytest.approx(tuple(expected), abs=tolerance)
    before = result.images.range16
    for row in result.images.test.tolist():  # a test image that is much brighter changes nothing
        path = folder / result.files.path[row]
        save(path, make(0, 1) * 9 + path.stat().st_size)
    parts = tmp_path / "parts"
    for name, rows in (("train", result.images.train), ("val", result.images.val), ("test", result.images.test)):
        for row in rows.tolist():
            (parts / name / result.files.path[row]).parent.mkdir(parents=True, exist_ok=True)
            (folder / result.files.path[row]).rename(parts / name / result.files.path[row])
    assert prepared(parts).images.range16 == before
    given = prepared(parts, range16=[-1.5, 7000]).images
    assert given.range16 == (-1.5, 7000)


def test_folds_decode_once_and_each_is_scaled_by_its_own_training_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffix, save, make = KINDS["12-bit colour"]
    folder = write(tmp_path / "deep", suffix, save, make)
    prepared(folder)
    monkeypatch.setattr("aifs_tune.data.images.decoder.decode_all", lambda *_, **__: pytest.fail("decoded again"))
    folds = [prepared(folder, split={"fold": {"index": i, "of": 4}}) for i in range(4)]
    ranges = [fold.images.range16 for fold in folds]
    assert len(set(ranges)) > 1
    assert len({fold.location.parent for fold in folds}) == len(set(ranges))
    assert open_images(folds[2].location).range16 == folds[2].images.range16


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((3, 8, 8), "u2"), None),
        (np.zeros((5, 8, 8), "u2"), "has the axes Q 5, Y 8, X 8; allowed: one image (others in a manifest"),
        (np.zeros((5, 2, 8, 8), "f4"), "has the axes Q 5, Q 2, Y 8, X 8; allowed: one image"),
        (np.full((8, 8), np.inf, "f4"), "has no finite pixel"),
    ],
)
def test_stacks_and_images_without_a_number_are_refused(
    tmp_path: Path, pixels: np.ndarray, message: str | None
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    found = decoded(tmp_path / "a.tif")
    if message is None:
        assert found.problem == ""
    elif pixels.dtype == np.uint16:
        assert "frames; allowed: 1" in found.problem
    else:
        assert message in found.problem


def decoded(path: Path) -> Any:
    from aifs_tune.data.digests import digest_file

    with path.open("rb") as file:
        digest = digest_file(file)
    return decode_file(str(path), digest, DecodeSettings(8, "auto", "stretch")).facts


def test_arrays_say_where_their_bands_are_and_no_pickle_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "first.npy", np.zeros((3, 9, 8), np.uint8))
    assert decoded(tmp_path / "first.npy").note.startswith("shape 3 x 9 x 8 read as 3 bands of 9 x 8 px, bands first")
    np.save(tmp_path / "five.npy", np.zeros((9, 9, 5), np.float32))
    assert decoded(tmp_path / "five.npy").problem.startswith("has 5 channels; allowed: 1 or 3")
    np.save(tmp_path / "objects.npy", np.array([[{}]], object), allow_pickle=True)
    assert decoded(tmp_path / "objects.npy").problem.startswith("has pixels of type object")
    (tmp_path / "short.npy").write_bytes((tmp_path / "five.npy").read_bytes()[:-9])
    assert "damaged" in decoded(tmp_path / "short.npy").problem


def test_files_of_other_kinds_are_named_with_the_line_that_converts_them(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "mixed", ".png", lambda path, pixels: Image.fromarray(pixels).save(path), noise((8, 8), "u1", 60, 9)
    )
    (folder / "cell" / "scan.czi").write_bytes(b"ZISRAWFILE" * 20)
    (folder / "cell" / "notes.txt").write_text("no image")
    reasons = {one.name: one.reason for one in prepared(folder).preflight.skipped_files}
    assert reasons["cell/scan.czi"].endswith("convert it with Bio-Formats: bfconvert scan.czi scan.ome.tiff")
    assert reasons["cell/notes.txt"] == "is no image of a known format"


def test_images_that_do_not_fit_the_disk_are_refused_while_the_first_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path / "cache"))
    folder = write(tmp_path / "deep", ".npy", np.save, noise((8, 8), "u2", 20_000, 900))
    told: list[str] = []
    monkeypatch.setattr("aifs_tune.data.forecast.SPOKEN_BYTES", 5000)
    prepare_images(DataSpec(folder=folder, image_size=8), tell=told.append)
    assert told[0].startswith("20 images of 8 x 8 x 1 need 5.12 kB of disk space while they are prepared and 3.84 kB")
    monkeypatch.setattr("aifs_tune.data.forecast.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(StorageError, match=r"10 bytes are free; allowed: a smaller data.image_size"):
        prepare_images(DataSpec(folder=folder, image_size=16))
    assert not list((tmp_path / "cache").glob(".*"))


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_pixels_that_gdal_marks_as_missing_become_the_median(dtype: Any, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(300, 320, (16, 16)).astype(dtype)
    values[:4] = -9999
    tifffile.imwrite(tmp_path / "t.tif", values, extratags=[(42113, "s", 0, "-9999", True)])
    with open(tmp_path / "t.tif", "rb") as file:
        found = decode(file, DecodeSettings(16, "auto", "stretch"))
    assert found.facts.n_missing == 4 * 16
    assert found.facts.note == "pixels of -9999 are missing, as GDAL_NODATA says"
    assert found.pixels is not None
    assert found.pixels.min() >= 300
