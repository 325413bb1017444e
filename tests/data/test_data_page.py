"""The page Your data: each of its rows is a tree of files, made here, and a sweep file that check-data reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import tifffile
from astropy.io import fits
from PIL import Image
from scipy.sparse import csr_matrix
from typer.testing import CliRunner

from aifs_tune.cli.main import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"
HEADER = ["your files", "example", "sweep file", "checked"]
SPACE = "space: {learning_rate: {type: float, low: 0.001, high: 0.01, default: 0.001}}"
N = 30


def rows_of_the_page() -> dict[tuple[str, str], tuple[list[str], list[str]]]:
    """Section and first cell of each row, with the code of its examples and of its sweep file."""
    rows, section = {}, ""
    for line in PAGE.read_text().splitlines():
        section = line.strip("*") if line.startswith("**") else section
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and len(cells) == len(HEADER) and cells != HEADER and not line.startswith("|---"):
            rows[section, cells[0]] = tuple(re.findall(r"`([^`]+)`", cell) for cell in cells[1:3])
    return rows  # type: ignore[return-value]


def image(file: Path, i: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(i).integers(0, 255, (24, 24), np.uint8)).save(file)


def curve(i: int) -> pd.DataFrame:
    return pd.DataFrame({"time": np.arange(16) * 1.5, "flux": np.random.default_rng(i).normal(size=16)})


def classes_of_images(at: Path) -> None:
    for i in range(N):
        image(at / "survey" / ("galaxy", "star")[i % 2] / f"{i}.png", i)


def parts_of_images(at: Path) -> None:
    for i in range(N):
        image(at / "survey" / ("train", "train", "test")[i % 3] / ("galaxy", "star")[i % 2] / f"{i}.png", i)


def folds_of_images(at: Path) -> None:
    for i in range(N):
        image(at / "sounds" / f"fold{1 + i // 2 % 5}" / ("dog", "siren")[i % 2] / f"{i}.png", i)


def listed_images(at: Path) -> None:
    for i in range(N):
        image(at / "images" / f"{i}.png", i)
    table = {"image": [f"{i}.png" for i in range(N)], "label": [("galaxy", "star")[i % 2] for i in range(N)]}
    pd.DataFrame(table).to_csv(at / "labels.csv", index=False)


def frames_of_numbers(at: Path) -> None:
    for i in range(N):
        fits.PrimaryHDU(np.random.default_rng(i).normal(size=(16, 16)).astype(np.float32)).writeto(at / f"{i}.fits")
    table = {"path": [f"{i}.fits" for i in range(N)], "x": np.arange(N) % 16, "y": np.arange(N) % 13}
    pd.DataFrame(table).to_csv(at / "sky.csv", index=False)


def frames_of_classes(at: Path) -> None:
    for i in range(N):
        np.save(at / f"{i}.npy", np.random.default_rng(i).normal(size=(16, 16)))
    table = {"path": [f"{i}.npy" for i in range(N)], "label": ["ab"[i % 2] for i in range(N)]}
    pd.DataFrame(table).to_csv(at / "sky.csv", index=False)


def bodies(at: Path) -> None:
    header = fits.Header({"EXPTIME": 30.0})
    for i in range(N):
        fits.writeto(at / f"{i}.fits", np.random.default_rng(i).normal(100, 5, (32, 32)).astype(np.float32), header)
    table = {"image": [f"{i}.fits" for i in range(N)], "x": 12.0, "y": 20.0, "label": ["ab"[i % 2] for i in range(N)]}
    pd.DataFrame(table).to_csv(at / "bodies.csv", index=False)


def boxes(at: Path) -> None:
    (at / "Annotations").mkdir()
    for i in range(N):
        picture = at / "JPEGImages" / f"{i}.jpg"
        image(picture, i)
        (at / "Annotations" / f"{i}.xml").write_text(
            f"<annotation><filename>{i}.jpg</filename><size><width>24</width><height>24</height><depth>1</depth></size>"
            f"<object><name>{'ab'[i % 2]}</name><bndbox><xmin>4</xmin><ymin>5</ymin><xmax>12</xmax><ymax>13</ymax>"
            "</bndbox></object></annotation>"
        )


def arrays_of_images(at: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (3 * N, 12, 12), np.uint8)
    labels = np.arange(3 * N) % 2
    parts = {"x_train": images[:60], "y_train": labels[:60], "x_test": images[60:], "y_test": labels[60:]}
    np.savez(at / "digits.npz", **parts)


def stacks(at: Path) -> None:
    for i in range(N):
        planes = np.random.default_rng(i).integers(0, 4096, (5, 16, 16), np.uint16)
        tifffile.imwrite(at / f"{i}.tif", planes, imagej=True, metadata={"axes": "ZYX"})
    table = {"path": [f"{i}.tif" for i in range(N)], "label": ["ab"[i % 2] for i in range(N)]}
    pd.DataFrame(table).to_csv(at / "cells.csv", index=False)


def counts() -> np.ndarray:
    return np.random.default_rng(0).poisson(3.0, (N, 80)) * 4


def genes_in_rows(at: Path) -> None:
    samples = [f"s{i}" for i in range(N)]
    frame = pd.DataFrame(counts().T, columns=samples)
    frame.insert(0, "gene", [f"G{i}" for i in range(len(frame))])
    frame.to_csv(at / "counts.tsv", sep="\t", index=False)
    labels = {"sample": samples, "tissue": [("liver", "lung")[i % 2] for i in range(N)]}
    pd.DataFrame(labels).to_csv(at / "samples.csv", index=False)


def cells(at: Path) -> None:
    with pd.option_context("future.infer_string", False):  # anndata does not write pandas' own text
        obs = pd.DataFrame({"tissue": [("liver", "lung")[i % 2] for i in range(N)]}, index=[f"c{i}" for i in range(N)])
        found = anndata.AnnData(csr_matrix(counts().astype(np.float32)), obs=obs)
        found.write_h5ad(at / "cells.h5ad")


def array_of_rows(at: Path) -> None:
    np.savez(at / "table.npz", X=np.random.default_rng(0).normal(size=(N, 4)), y=np.arange(N) % 2)


def table(target: str, file: str) -> Callable[[Path], None]:
    def make(at: Path) -> None:
        random = np.random.default_rng(0)
        entries = [("liver", "lung")[i % 2] for i in range(N)] if target == "tissue" else random.normal(size=N)
        frame = pd.DataFrame({target: entries, "age": random.integers(20, 80, N), "g1": random.normal(size=N)})
        frame.to_csv(at / file, index=False) if file.endswith(".csv") else frame.to_parquet(at / file)

    return make


def classes_of_series(at: Path, write: Callable[[pd.DataFrame, Path], Any] | None = None) -> None:
    for i in range(N):
        file = at / "curves" / ("mira", "rr")[i % 2] / str(i)
        file.parent.mkdir(parents=True, exist_ok=True)
        if write is None:
            curve(i).to_csv(file.with_suffix(".csv"), index=False)
        else:
            write(curve(i), file)


def as_fits(frame: pd.DataFrame, file: Path) -> None:
    columns = [fits.Column(name.upper(), "D", array=frame[name]) for name in frame]
    fits.BinTableHDU.from_columns(columns).writeto(file.with_suffix(".fits"))


def listed_series(at: Path) -> None:
    for i in range(N):
        curve(i).to_csv(at / f"{i}.csv", index=False)
    table = {"path": [f"{i}.csv" for i in range(N)], "kind": ["ab"[i % 2] for i in range(N)], "star": np.arange(N) // 2}
    pd.DataFrame(table).to_csv(at / "stars.csv", index=False)


def long_table(at: Path) -> None:
    frames = [curve(i).rename(columns={"time": "mjd"}).assign(id=i, label="ab"[i % 2]) for i in range(N)]
    pd.concat(frames).to_csv(at / "all.csv", index=False)


def wide_table(at: Path) -> None:
    frame = pd.DataFrame([curve(i)["flux"].to_numpy() for i in range(N)]).add_prefix("t")
    frame.insert(0, "label", ["ab"[i % 2] for i in range(N)])
    frame.to_csv(at / "wide.csv", index=False)


def archive(at: Path) -> None:
    (at / "Coffee").mkdir()
    for part, numbers in (("TRAIN", range(20)), ("TEST", range(20, N))):
        lines = [",".join(map(str, curve(i)["flux"])) + f":{i % 2}" for i in numbers]
        text = "\n".join(["@problemName Coffee", "@timeStamps false", "@classLabel true 0 1", "@data", *lines])
        (at / "Coffee" / f"Coffee_{part}.ts").write_text(text)


def arrays(at: Path) -> None:
    np.savez(at / "data.npz", X=np.stack([curve(i)["flux"] for i in range(N)]), y=np.arange(N) % 2)


def river(at: Path) -> None:
    pd.DataFrame({"time": np.arange(400), "level": np.sin(np.arange(400) / 9)}).to_csv(at / "river.csv", index=False)


TREES: dict[tuple[str, str], Callable[[Path], None]] = {
    ("Images", "A folder for each class"): classes_of_images,
    ("Images", "Folders for the parts"): parts_of_images,
    ("Images", "Folders for folds"): folds_of_images,
    ("Images", "One folder and a list"): listed_images,
    ("Images", "Arrays"): arrays_of_images,
    ("Images", "A manifest: numbers to predict"): frames_of_numbers,
    ("Images", "Frames with many bodies"): bodies,
    ("Images", "Boxes of Pascal VOC or COCO"): boxes,
    ("Images", "A manifest: classes"): frames_of_classes,
    ("Images", "Stacks and deep colours in TIFF, DICOM"): stacks,
    ("Tables", "Rows and a column of classes"): table("tissue", "cells.csv"),
    ("Tables", "Rows and a column of numbers"): table("dose", "cells.parquet"),
    ("Tables", "Genes in rows, and a list of samples"): genes_in_rows,
    ("Tables", "AnnData, 10x folders, sparse NPZ, GEO series matrices"): cells,
    ("Tables", "Arrays"): array_of_rows,
    ("Series", "A folder for each class"): classes_of_series,
    ("Series", "The same in FITS, miniSEED, NumPy"): lambda at: classes_of_series(at, as_fits),
    ("Series", "A manifest"): listed_series,
    ("Series", "A long table: a row for each step"): long_table,
    ("Series", "A wide table: a row for each series"): wide_table,
    ("Series", "UCR and UEA archives"): archive,
    ("Series", "Arrays"): arrays,
    ("Series", "One long series to forecast"): river,
    ("Elsewhere", "Any of these in an object store"): classes_of_images,
}


def test_each_row_of_the_page_has_a_tree_here() -> None:
    assert list(rows_of_the_page()) == list(TREES)


@pytest.mark.parametrize("row", TREES, ids=lambda row: row[1])
def test_the_sweep_file_of_a_row_reads_its_tree(
    row: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    TREES[row](tmp_path)
    examples, sweep = rows_of_the_page()[row]
    files = [example for example in examples if re.search(r"\.\w+$", example) and "://" not in example]
    suffixes = {file.suffix for file in tmp_path.rglob("*")}
    assert {Path(file).suffix for file in files} <= suffixes
    text = "\n".join(["name: mine", *sweep, SPACE]).replace("s3://bucket", tmp_path.as_uri())
    (tmp_path / "my.yaml").write_text(text)
    done = CliRunner().invoke(app, ["check-data", "my.yaml"])
    assert done.exit_code == 0, f"{done.exception}\n{done.output}"
    assert "fingerprint" in done.stdout
