"""Table of the channels and bands of images: what each was taken for, its unit, range, and what is left out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
from astropy.io import fits
from pictures import picture
from PIL import Image
from typer.testing import CliRunner

from aifs_tune.cli.main import app
from aifs_tune.config.data import DataSpec
from aifs_tune.data import prepare_frames, prepare_images

N = 12
RANDOM = np.random.default_rng(0)


def rows_of(columns: Any) -> dict[str, tuple[Any, ...]]:
    names = ("taken_for", "unit", "min", "max", "missing", "of", "left_out")
    return {row["column"]: tuple(row.get(name) for name in names) for row in columns}


def frames(folder: Path, names: list[str], **section: Any) -> Any:
    pd.DataFrame({"path": names, "label": ["a", "b"] * (len(names) // 2)}).to_csv(folder / "m.csv", index=False)
    return prepare_frames(DataSpec(frames={"manifest": folder / "m.csv", **section}))


def survey(folder: Path) -> list[str]:
    """FITS files with an image in mJy, of which each lacks a pixel, its error and a table."""
    for i in range(N):
        values = RANDOM.normal(5, 1, (8, 8)).astype(np.float32)
        values[i % 8, 0] = np.nan
        values[7, 7] = 20 + i
        image = fits.ImageHDU(values, name="SCI")
        image.header["BUNIT"] = "mJy"
        table = fits.BinTableHDU.from_columns([fits.Column("x", "J", array=[1])], name="CAT")
        fits.HDUList([fits.PrimaryHDU(), image, fits.ImageHDU(values, name="ERR"), table]).writeto(folder / f"{i}.fits")
    return [f"{i}.fits" for i in range(N)]


def test_of_fits_it_has_the_unit_and_the_hdus_that_are_passed_over(tmp_path: Path) -> None:
    prepared = frames(tmp_path, survey(tmp_path))
    found = rows_of(prepared.columns)
    kind, unit, low, high, missing, of, left_out = found["SCI"]
    assert (kind, unit, high, missing, of, left_out) == ("image, float32", "mJy", 31.0, N, 64 * N, None)
    assert 0 < low < 5
    assert found["ERR"][0] == "mask, weight or error"
    assert "by its name a mask" in found["ERR"][-1]
    assert found["CAT"][0] == "table"
    assert list(frames(tmp_path, [f"{i}.fits" for i in range(N)]).columns) == list(prepared.columns)


def test_the_hdus_behind_the_image_of_a_packed_file_are_listed_too(tmp_path: Path) -> None:
    names = survey(tmp_path)
    expected = list(frames(tmp_path, names).columns)
    for name in names:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    assert list(frames(tmp_path, [f"{name}.gz" for name in names]).columns) == expected


def test_the_other_arrays_of_hdf5_are_listed_where_one_is_named(tmp_path: Path) -> None:
    for i in range(N):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            for name in ("image", "flat", "log/exposure"):
                file[name] = RANDOM.normal(size=(8, 8))
    found = rows_of(frames(tmp_path, [f"{i}.h5" for i in range(N)], dataset="image").columns)
    assert {name: row[-1] for name, row in found.items()} == {
        "image": None,
        **dict.fromkeys(("flat", "log/exposure"), "image is read (data.frames.dataset)"),
    }
    with h5py.File(tmp_path / "0.h5", "a") as file:
        for i in range(40):
            file[f"more/{i}"] = np.zeros(1)
    found = rows_of(frames(tmp_path, [f"{i}.h5" for i in range(N)], dataset="image").columns)
    assert "and more" in found
    assert len(found) <= 16


def test_processes_and_this_one_find_the_same_bands(tmp_path: Path) -> None:
    names = survey(tmp_path)
    alone = frames(tmp_path, names)
    data = DataSpec(frames={"manifest": tmp_path / "m.csv", "background": "subtract"})
    assert list(prepare_frames(data, processes=2).columns) == list(alone.columns)


def test_planes_of_a_stack_are_named_and_those_not_read_too(tmp_path: Path) -> None:
    for i in range(N):
        values = RANDOM.integers(0, 4000, (3, 2, 8, 8), np.uint16)
        metadata = {"axes": "ZCYX", "Channel": {"Name": ["DAPI", "GFP"]}}
        tifffile.imwrite(tmp_path / f"{i}.ome.tif", values, metadata=metadata)
    found = rows_of(frames(tmp_path, [f"{i}.ome.tif" for i in range(N)], planes={"Z": 1}).columns)
    assert found["DAPI"][0] == found["GFP"][0] == "plane, uint16"
    assert found["Z other than 1"][-1] == "plane 1 of 3 is read"


def test_bands_that_are_others_in_some_files_are_said(tmp_path: Path) -> None:
    for i in range(N):
        kind = np.float32 if i == 3 else np.int16
        fits.HDUList([fits.PrimaryHDU(RANDOM.integers(0, 50, (8, 8)).astype(kind))]).writeto(tmp_path / f"{i}.fits")
    found = rows_of(frames(tmp_path, [f"{i}.fits" for i in range(N)]).columns)
    assert found["PRIMARY"][0] == "image, int16; image, float32 in 1 images"


def test_cadences_without_a_value_are_left_out_and_counted(tmp_path: Path) -> None:
    for i in range(N):
        flux = RANDOM.normal(100, 3, (5, 6, 6)).astype(np.float32)
        flux[[1, 3]] = np.nan
        column = fits.Column("FLUX", "36E", "e-/s", dim="(6,6)", array=flux)
        fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([column], name="PIXELS")]).writeto(
            tmp_path / f"{i}.fits"
        )
    prepared = frames(tmp_path, [f"{i}.fits" for i in range(N)], hdu=["PIXELS"], dataset="FLUX")
    assert prepared.examples.inputs[0].shape == (N, 6, 6, 3)
    assert f"{N} images: 2 of 5 images in FLUX have no finite pixel: left out" in prepared.lines
    assert [row["unit"] for row in prepared.columns] == ["e-/s"] * 3


def test_of_a_folder_it_has_the_channels_and_transparency(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(N):
            image = picture(i + 50 * (label == "a"), colour=i > 0)
            (image.convert("RGBA") if i > 8 else image).save(tmp_path / label / f"{i}.png")
    found = rows_of(prepare_images(DataSpec(folder=tmp_path, image_size=16)).preflight.columns)
    assert list(found) == ["R", "G", "B", "alpha"]
    kind, _, low, high, missing, of, _ = found["G"]
    assert kind == "colour, 8 bits; 2 grey images, the same in each"
    assert 0 <= low < 60
    assert 190 < high <= 255
    assert (missing, of) == (0, 2 * N * 20 * 16)
    assert found["alpha"][0] == "transparency of 6 images"
    assert "black background" in found["alpha"][-1]


def test_missing_pixels_of_arrays_in_a_folder_are_counted(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(N):
            values = RANDOM.normal(0, 1, (16, 16)).astype(np.float32)
            values[0, :4] = np.nan
            np.save(tmp_path / label / f"{i}.npy", values)
    found = rows_of(prepare_images(DataSpec(folder=tmp_path, image_size=16)).preflight.columns)
    assert found["grey"][0] == "grey, floating-point numbers"
    assert found["grey"][4:6] == (2 * N * 4, 2 * N * 256)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    space = "space: {learning_rate: {type: float, low: 0.001, high: 0.1, log: true}}"
    (tmp_path / "sweep.yaml").write_text(f"name: s\ntrainer: cnn\n{space}\n")
    return tmp_path / "sweep.yaml"


def test_check_data_ends_with_it(tmp_path: Path, sweep: Path) -> None:
    for label in "ab":
        (tmp_path / "d" / label).mkdir(parents=True)
        for i in range(N):
            Image.fromarray(RANDOM.integers(0, 255, (9, 9), np.uint8)).save(tmp_path / "d" / label / f"{i}.png")
    asked = ["check-data", str(sweep), "--data", str(tmp_path / "d")]
    shown = CliRunner().invoke(app, asked, env={"COLUMNS": "120"})
    assert "grey, 8 bits" in shown.output
    assert "taken for" in shown.output
    answer = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert [row["column"] for row in answer["columns"]] == ["grey"]
