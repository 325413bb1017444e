"""New files are prepared as the training files were: read again, these give the very arrays that were learnt from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from aifs_tune.config.data import DataSpec
from aifs_tune.data import open_images, prepare_frames, prepare_images, prepare_series, prepare_table
from aifs_tune.data.new_files import NewExamples, Preparation, files_in
from aifs_tune.errors import DataError


def read(preparation: Preparation, *files: Path) -> NewExamples:
    (batch,) = preparation.batches(files)
    return batch


def of_images(data: DataSpec) -> tuple[Preparation, Any, list[Path]]:
    assert data.folder is not None
    prepared = prepare_images(data)
    images = open_images(prepared.location)
    files = [data.folder / path for path in prepared.files.path]
    return Preparation("images", data, {}, images.shape, images.range16), images.images, files


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("colour", [True, False])
def test_images(fit: str, colour: bool, make_folder: Callable[..., Path]) -> None:
    folder = make_folder({"a": 12, "b": 12}, colour=colour)
    preparation, expected, files = of_images(DataSpec(folder=folder, image_size=8, fit=fit))
    found = read(preparation, *files)
    np.testing.assert_array_equal(found.inputs[0], expected)
    assert found.names == [str(file) for file in files]
    assert (found.skipped, found.remarks) == ([], [])


def test_images_of_16_bits_are_scaled_as_in_training(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / "deep" / label).mkdir(parents=True)
        for i in range(10):
            pixels = random.integers(1000, 9000, (8, 8), dtype=np.uint16)
            Image.fromarray(pixels).save(tmp_path / "deep" / label / f"{i}.png")
    preparation, expected, files = of_images(DataSpec(folder=tmp_path / "deep", image_size=8))
    assert preparation.range16 is not None
    np.testing.assert_array_equal(read(preparation, *files).inputs[0], expected)
    eight = Preparation("images", preparation.data, {}, preparation.image, None)
    (skipped,) = read(eight, files[0]).skipped
    assert "has 16 bits a pixel, and the model learnt from images with 8" in str(skipped)


def test_images_that_differ_from_those_of_the_training(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_folder({"a": 12, "b": 12}, colour=False)
    preparation, _, files = of_images(DataSpec(folder=folder, image_size=8))
    coloured = make_folder({"c": 1}, "new") / "c" / "0000.png"
    (tmp_path / "notes.txt").write_text("no image")
    found = read(preparation, coloured, tmp_path / "notes.txt", files[0])
    assert found.inputs[0].shape == (2, 8, 8, 1)
    assert [Path(name).name for name in found.names] == ["0000.png", files[0].name]
    assert "made grey, as the training images were" in found.remarks[0]
    assert "notes.txt: is no image of a known format" in str(found.skipped[0])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    random = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "u": random.normal(5, 3, 60),
            "v": random.normal(-1, 0.1, 60),
            "colour": random.choice(["red", "green"], 60),
            "kind": np.array(["a", "b", "c"])[np.arange(60) % 3],
        }
    )
    frame.loc[::7, "u"] = np.nan
    frame.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def test_rows_of_a_table_without_its_target(table: Path, tmp_path: Path) -> None:
    data = DataSpec(table={"file": table, "target": "kind"})
    examples = prepare_table(data).examples
    preparation = Preparation("table", data, examples.facts)
    np.testing.assert_array_equal(read(preparation, table).inputs[0], examples.inputs[0])
    rows = pd.read_csv(table).drop(columns="kind")
    rows[["colour", "v", "u"]].to_parquet(tmp_path / "new.parquet")
    np.testing.assert_array_equal(read(preparation, tmp_path / "new.parquet").inputs[0], examples.inputs[0])
    rows.loc[3, "colour"] = "blue"
    rows["v"] = rows["v"].astype(object)
    rows.loc[4, "v"] = "broken"
    rows.to_csv(tmp_path / "odd.csv", index=False)
    assert read(preparation, tmp_path / "odd.csv").remarks == [
        "column v: entries that are no numbers, replaced by the median of the training rows (1)",
        "column colour: entries that the training rows do not have (1)",
    ]
    few = pd.DataFrame({"u": [5.0, "x", ">9", 4.0], "v": [-1.0, -1.0, None, 50.0], "colour": "red"})
    few.to_csv(tmp_path / "few.csv", index=False)
    found = read(preparation, tmp_path / "few.csv")
    u = examples.facts["columns"][0]
    np.testing.assert_allclose(found.inputs[0][[0, 3], 0] * u["scale"] + u["centre"], [5, 4], rtol=1e-6)
    assert found.remarks == [
        "column u: entries that are no numbers, replaced by the median of the training rows (2)",
        "column v: missing entries, of which the training rows have none (1)",
        "column v: entries more than 10 standard deviations from the mean of the training rows (1)",
    ]
    rows.drop(columns="u").to_csv(tmp_path / "less.csv", index=False)
    with pytest.raises(DataError, match="lacks u, from which the model learnt; found: v, colour"):
        read(preparation, tmp_path / "less.csv")


@pytest.mark.parametrize("scaling", ["set", "centred", "series"])
@pytest.mark.parametrize("length", [None, 5])
def test_series(scaling: str, length: int | None, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    for label in "ab":
        (tmp_path / "stars" / label).mkdir(parents=True)
        for i in range(8):
            times = np.cumsum(random.uniform(0.1, 2, 6 + i % 3))
            flux = random.normal(3, 2, len(times))
            flux[2] = np.nan
            frame = pd.DataFrame({"note": "x", "flat": 1.0, "time": times, "flux": flux})
            frame.to_csv(tmp_path / "stars" / label / f"{i}.csv", index=False)
    data = DataSpec(series={"path": tmp_path / "stars", "scaling": scaling, "length": length})
    prepared = prepare_series(data)
    files = [tmp_path / "stars" / path for path in prepared.files.path]
    preparation = Preparation("series", data, prepared.examples.facts)
    found = read(preparation, *files)
    for made, expected in zip(found.inputs, prepared.examples.inputs, strict=True):
        np.testing.assert_array_equal(made, expected)
    pd.read_csv(files[0]).drop(columns="time").to_csv(tmp_path / "timeless.csv", index=False)
    pd.read_csv(files[0]).drop(columns="flux").to_csv(tmp_path / "dark.csv", index=False)
    skipped = read(preparation, tmp_path / "timeless.csv", tmp_path / "dark.csv").skipped
    assert "has no column of times, which the model needs" in str(skipped[0])
    assert "lacks flux; found: note, flat, time" in str(skipped[1])


def test_a_forecast_looks_at_the_end_of_a_series(tmp_path: Path) -> None:
    values = np.sin(np.arange(200) / 5) + np.arange(200) / 100
    pd.DataFrame({"level": values}).to_csv(tmp_path / "tide.csv", index=False)
    data = DataSpec(series={"path": tmp_path / "tide.csv", "forecast": {"target": "level", "history": 12}})
    examples = prepare_series(data).examples
    preparation = Preparation("series", data, examples.facts)
    pd.DataFrame({"level": values[:-1]}).to_csv(tmp_path / "earlier.csv", index=False)
    found = read(preparation, tmp_path / "earlier.csv")
    np.testing.assert_allclose(found.inputs[0][0], examples.inputs[0][-1], rtol=1e-6)
    pd.DataFrame({"level": values[:5]}).to_csv(tmp_path / "short.csv", index=False)
    (skipped,) = read(preparation, tmp_path / "short.csv").skipped
    assert "has 5 steps; allowed: at least 12, the history that the model looks at" in str(skipped)


@pytest.mark.parametrize("stretch", ["asinh", "linear"])
def test_frames_and_their_manifest(stretch: str, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    rows = ["path,x,y"]
    for i in range(14):
        image = random.normal(100, 3, (10, 12))
        image[i % 10, i % 12] += 500
        np.save(tmp_path / f"{i}.npy", image)
        rows.append(f"{i}.npy,{i % 12},{i % 10}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    frames = {"manifest": tmp_path / "manifest.csv", "targets": {"x": "px", "y": "px"}, "stretch": stretch}
    data = DataSpec(frames=frames)
    examples = prepare_frames(data).examples
    preparation = Preparation("frames", data, examples.facts)
    found = read(preparation, *(tmp_path / f"{i}.npy" for i in range(14)))
    np.testing.assert_array_equal(found.inputs[0], examples.inputs[0])
    listed = read(preparation, tmp_path / "manifest.csv")
    np.testing.assert_array_equal(listed.inputs[0], examples.inputs[0])
    assert listed.names[3] == "3.npy"
    np.save(tmp_path / "small.npy", np.ones((4, 4)))
    skipped = read(preparation, tmp_path / "small.npy", tmp_path / "missing.npy").skipped
    assert "has 4 x 4 x 1 pixels and bands; allowed: 10 x 12 x 1, as in training" in str(skipped[0])
    assert "does not exist" in str(skipped[1])


def test_folders_stand_for_their_files(tmp_path: Path) -> None:
    for name in ("b.png", "a/2.png", "a/1.png", ".hidden/3.png", ".DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert [str(file.relative_to(tmp_path)) for file in files_in([tmp_path])] == ["b.png", "a/1.png", "a/2.png"]
    with pytest.raises(DataError, match="there is no such file or folder"):
        files_in([tmp_path / "nowhere"])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no file; allowed: files, or folders of files"):
        files_in([empty])
