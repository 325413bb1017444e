"""Small real files of every format, and what is said of those that cannot be used."""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from astropy.io import fits
from pictures import deep_png
from PIL import Image

from aifs_tune.data.frames.formats import format_of, read_image
from aifs_tune.data.frames.stretch import Stretch, filled, fit_stretch, image_statistics, ranges_of
from aifs_tune.data.image_files.arrays import Reading, UnreadableError
from aifs_tune.errors import DataError

ONE = np.arange(12 * 9, dtype=np.float32).reshape(12, 9) / 7
CUBE = np.stack([ONE, 2 * ONE, -ONE])
WHOLE = (ONE * 7).astype(np.uint16)


def write_hdus(path: Path) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=[1.0])], name="CATALOGUE")
    sky = fits.ImageHDU(WHOLE, name="SKY")  # unsigned: stored with BZERO
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(ONE, name="SCI"), sky, table]).writeto(path)


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["night1/images"] = CUBE
        file["night1/times"] = np.zeros(3)


def write_pages(path: Path) -> None:
    pages = [Image.fromarray(band) for band in CUBE]
    pages[0].save(path, save_all=True, append_images=pages[1:])


WRITERS: dict[str, Callable[[Path], Any]] = {
    "hdus.fits": write_hdus,
    "cube.fits.gz": lambda path: fits.PrimaryHDU(CUBE).writeto(path),
    "packed.fits.fz": lambda path: fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(WHOLE)]).writeto(path),
    "map.fits": lambda path: fits.PrimaryHDU(ONE[np.newaxis, np.newaxis]).writeto(path),
    "many.h5": write_hdf5,
    "cube.npy": lambda path: np.save(path, CUBE),
    "last.npy": lambda path: np.save(path, np.moveaxis(CUBE, 0, -1)),
    "two.npz": lambda path: np.savez(path, sci=ONE, mask=ONE > 3),
    "pages.tiff": write_pages,
    "grey16.png": lambda path: Image.fromarray(WHOLE).save(path),
    "colour.jpg": lambda path: Image.fromarray(np.full((12, 9, 3), (250, 120, 10), np.uint8)).save(path),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    for name, write in WRITERS.items():
        write(folder / name)
    return folder


@pytest.mark.parametrize(
    ("name", "index", "reading", "bands"),
    [
        ("hdus.fits", None, {}, [ONE]),
        ("hdus.fits", None, {"hdu": ("all",)}, [ONE, WHOLE]),
        ("hdus.fits", None, {"hdu": ("sky", 1)}, [WHOLE, ONE]),
        ("cube.fits.gz", None, {}, CUBE),
        ("cube.fits.gz", 2, {}, [-ONE]),
        ("packed.fits.fz", None, {}, [WHOLE]),
        ("map.fits", None, {}, [ONE]),
        ("many.h5", None, {}, CUBE),
        ("many.h5", 1, {"dataset": "/night1/images"}, [2 * ONE]),
        ("cube.npy", None, {}, CUBE),
        ("cube.npy", 1, {}, [2 * ONE]),
        ("last.npy", None, {"bands": "last"}, CUBE),
        ("two.npz", None, {"dataset": "sci"}, [ONE]),
        ("pages.tiff", None, {}, CUBE),
        ("pages.tiff", 2, {}, [-ONE]),
        ("grey16.png", None, {}, [WHOLE]),
    ],
)
def test_an_image_is_what_was_written(
    files: Path, name: str, index: int | None, reading: dict[str, Any], bands: Any
) -> None:
    found = read_image(files / name, index, Reading(**reading))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.moveaxis(np.array(bands, np.float32), 0, -1), rtol=1e-6)


def test_a_photograph_has_its_colours(files: Path) -> None:
    found = read_image(files / "colour.jpg", None, Reading())
    assert found.shape == (12, 9, 3)
    np.testing.assert_allclose(found.mean(axis=(0, 1)), (250, 120, 10), atol=4)


@pytest.mark.parametrize(
    ("name", "index", "reading", "message"),
    [
        ("hdus.fits", None, {"hdu": ("ERR",)}, r"has no HDU 'ERR'; allowed: 0 PRIMARY \(empty\), 1 SCI \(12 x 9\)"),
        ("hdus.fits", None, {"hdu": (7,)}, "has no HDU 7; allowed: 0 PRIMARY"),
        ("hdus.fits", None, {"hdu": ("CATALOGUE",)}, "HDU 'CATALOGUE' is not an image; found"),
        ("hdus.fits", None, {"hdu": (0,)}, "HDU 0 is not an image"),
        ("hdus.fits", 1, {}, "shape 12 x 9; allowed with an index: 3 or 4 axes"),
        ("cube.fits.gz", 3, {}, "has no image 3; allowed: 0 to 2"),
        ("many.h5", None, {"dataset": "flux"}, "has no dataset 'flux'; allowed: night1/images, night1/times"),
        ("many.h5", None, {"dataset": "night1/times"}, "has the shape 3; allowed: 2 axes"),
        ("two.npz", None, {}, r"has 2 datasets with two or more axes \(sci, mask\); allowed: one, or set"),
        ("two.npz", None, {"dataset": "err"}, "has no dataset 'err'; allowed: sci, mask"),
        ("pages.tiff", 9, {}, "has no image 9; allowed: 0 to 2"),
        ("absent.fits", None, {}, "does not exist"),
    ],
)
def test_what_is_not_there_is_named_beside_what_is(
    files: Path, name: str, index: int | None, reading: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnreadableError, match=message):
        read_image(files / name, index, Reading(**reading))


@pytest.mark.parametrize("name", ["cube.fits.gz", "hdus.fits", "many.h5", "cube.npy", "two.npz", "pages.tiff"])
@pytest.mark.parametrize("damage", ["text", "half", "empty"])
def test_a_damaged_file_is_named_as_such(files: Path, tmp_path: Path, name: str, damage: str) -> None:
    whole = (files / name).read_bytes()
    keep = len(whole) // 2 if name != "hdus.fits" else 2880 * 2 + 200
    broken = {"text": b"no image at all " * 300, "half": whole[:keep], "empty": b""}[damage]
    (tmp_path / name).write_bytes(broken)
    with pytest.raises(UnreadableError, match="cannot be read as"):
        read_image(tmp_path / name, None, Reading())


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2, 5, 5)), "shape 2 x 2 x 5 x 5; allowed: 2 axes, or 3 with the bands first"),
        (np.zeros((0, 5)), "shape 0 x 5"),
        (np.zeros((5, 5), complex), "pixels of type complex128; allowed: integers or real numbers"),
        (np.array([["a"]]), "pixels of type <U1"),
        (np.array([[{}]], object), "cannot be read as NumPy"),
    ],
)
def test_arrays_that_are_no_image_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UnreadableError, match=message):
        read_image(tmp_path / "a.npy", None, Reading())


def test_an_image_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.uint8, shape=(9000, 9000))
    with pytest.raises(UnreadableError, match="has 9000 x 9000 pixels; allowed: at most 64,000,000"):
        read_image(tmp_path / "a.npy", None, Reading())


def test_suffixes_are_of_any_case_and_few() -> None:
    assert format_of("A.FITS.GZ") == format_of("b.fit") == "FITS"
    assert (format_of("c.HDF5"), format_of("d.csv"), format_of("e.npy.gz"), format_of("f")) == (
        "HDF5",
        None,
        None,
        None,
    )


def test_missing_pixels_become_the_median_of_their_band() -> None:
    pixels = np.moveaxis(CUBE, 0, -1).copy()
    pixels[0, 0, 1] = np.nan
    pixels[3, 3, 2] = np.inf
    found = filled(pixels, "keep")
    low, high, n_missing = ranges_of(pixels)
    assert n_missing.tolist() == [0, 1, 1]
    known = np.where(np.isfinite(pixels), pixels, np.nan)
    assert (low.tolist(), high.tolist()) == (np.nanmin(known, (0, 1)).tolist(), np.nanmax(known, (0, 1)).tolist())
    assert found[0, 0, 1] == pytest.approx(np.nanmedian(pixels[..., 1]))
    assert np.array_equal(found[..., 0], pixels[..., 0])
    level = filled(pixels, "subtract")
    np.testing.assert_allclose(np.median(level, axis=(0, 1)), 0, atol=1e-6)
    pixels[..., 1] = np.nan
    with pytest.raises(UnreadableError, match="a band without a finite pixel"):
        filled(pixels, "keep")


@pytest.mark.parametrize("kind", ["asinh", "zscale", "linear"])
def test_a_stretch_puts_the_sky_at_0_and_keeps_order(kind: Any) -> None:
    random = np.random.default_rng(0)
    images = random.normal(200, 10, (20, 32, 32, 1)).astype(np.float32)
    images[:, 16, 16] = 5000
    images[:, 8, 8] = 900
    stretch = fit_stretch(kind, np.array([image_statistics(image, kind) for image in images]), "here")
    assert Stretch.from_json(stretch.to_json()) == stretch
    values = stretch.apply(images[0]).astype(np.float64)
    assert np.median(values) == pytest.approx(0, abs=0.1)
    assert values[16, 16] >= values[8, 8] > 0.5
    light = np.sinh(values * stretch.bends) if kind == "asinh" else values
    if kind == "zscale":
        assert values.max() == pytest.approx(1, abs=1e-3)
    else:
        assert light[16, 16, 0] / light[8, 8, 0] == pytest.approx(4800 / 700, rel=0.02)
    with pytest.raises(DataError, match="here: no pixel of the training set is brighter"):
        fit_stretch(kind, np.array([image_statistics(np.ones((8, 8, 1), np.float32), kind)]), "here")


def _npz(file: Path, header: bytes) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", header + bytes(4000))


def _header_of(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return header.getvalue()


def _gzip(file: Path, content: bytes) -> None:
    file.write_bytes(gzip.compress(content))


ENDLESS_FITS = f"{'SIMPLE  =                    T':<80}".encode() + b" " * (40 * 2880 - 80)
ENDLESS = b"\x93NUMPY\x02\x00" + (2**31 - 1).to_bytes(4, "little") + b" " * 1000


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        (
            "a.npz",
            lambda file: _npz(file, _header_of((-5, 10))),
            r"its shape is \(-5, 10\); allowed: no negative lengths",
        ),
        ("a.npz", lambda file: _npz(file, ENDLESS), r"its header has 2,147,483,647 bytes; allowed: at most 10,000"),
        ("a.npz", lambda file: _npz(file, _header_of((20_000, 20_000))), r"has 20000 x 20000 pixels; allowed: at most"),
        ("a.png", lambda file: file.write_bytes(deep_png(np.zeros((8, 8, 3), np.uint16), 2, says=8000)), "x 8000 x 3 "),
        ("a.fits", lambda file: file.write_bytes(bz2.compress(bytes(2880))), "is packed, and not as gzip"),
        ("a.fits.gz", lambda file: _gzip(file, ENDLESS_FITS), "a header of more than 28,800 bytes"),
        ("a.fits.gz", lambda file: _gzip(file, bytes(200_000)), "unpacks to more than 150,000 bytes"),
    ],
    ids=["negative", "header", "array", "PNG", "bzip2", "FITS header", "FITS"],
)
def test_what_would_unpack_to_more_than_an_image_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[Path], object], said: str
) -> None:
    monkeypatch.setattr("aifs_tune.data.frames.fits_files._MOST_BLOCKS", 10)
    monkeypatch.setattr("aifs_tune.data.frames.fits_files._MOST_BYTES", 150_000)
    monkeypatch.setattr("aifs_tune.data.frames.fits_files._PIECE", 10_000)
    write(tmp_path / name)
    with pytest.raises(UnreadableError, match=said):
        read_image(tmp_path / name, None, Reading())
