"""Classes whose names are alike are named in every kind of data, also where they are why a part lacks a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aifs_tune.config.data import DataSpec, LabelsSpec
from aifs_tune.data import prepare_frames, prepare_series, prepare_table
from aifs_tune.data.class_names import alike_classes
from aifs_tune.data.images.listed import scan_images
from aifs_tune.errors import DataError

N = 40
RANDOM = np.random.default_rng(0)
MIXED = ["rr", "RR", "mira", "eb"] * (N // 4)
IN_PARTS = ["rr", "mira"] * (N // 4) + ["RR", "mira"] * (N // 4)
PARTS = ["train"] * (N // 2) + ["val", "val", "test", "test"] * (N // 8)
SAID = "the classes RR, rr differ in capitals alone"


def manifest(folder: Path, suffix: str, labels: Sequence[str]) -> Path:
    rows = [f"{i}{suffix},{label},{part}" for i, (label, part) in enumerate(zip(labels, PARTS, strict=True))]
    (folder / "m.csv").write_text("\n".join(["path,label,part", *rows]))
    return folder / "m.csv"


def of_frames(folder: Path, labels: Sequence[str], part: str | None = None) -> Sequence[str]:
    for i in range(N):
        np.save(folder / f"{i}.npy", RANDOM.normal(size=(8, 8)))
    return prepare_frames(DataSpec(frames={"manifest": manifest(folder, ".npy", labels), "part": part})).lines


def of_series(folder: Path, labels: Sequence[str], part: str | None = None) -> Sequence[str]:
    for i in range(N):
        values = "\n".join(f"{step},{x}" for step, x in enumerate(RANDOM.normal(size=20)))
        (folder / f"{i}.csv").write_text(f"time,flux\n{values}")
    return prepare_series(DataSpec(series={"path": manifest(folder, ".csv", labels), "part": part})).lines


def of_table(folder: Path, labels: Sequence[str], part: str | None = None) -> Sequence[str]:
    rows = [f"{x},{y},{p}" for x, y, p in zip(RANDOM.normal(size=N), labels, PARTS, strict=True)]
    (folder / "t.csv").write_text("\n".join(["x,y,part", *rows]))
    table = {"file": folder / "t.csv", "target": "y", "part": part, "leave_out": [] if part else ["part"]}
    return prepare_table(DataSpec(table=table)).lines


@pytest.mark.parametrize("read", [of_frames, of_series, of_table])
def test_classes_alike_are_named_and_stay_apart(read: Any, tmp_path: Path) -> None:
    assert f"warning: {SAID}" in read(tmp_path, MIXED)


@pytest.mark.parametrize("read", [of_frames, of_series])
def test_classes_alike_are_named_where_a_part_lacks_one(read: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"no train \w+ of class RR \({SAID}\); allowed: every class in train"):
        read(tmp_path, IN_PARTS, "part")


def test_in_a_table_both_are_left_out_and_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"class RR has no row in train; .*\({SAID}\); allowed at least 2 other"):
        of_table(tmp_path, IN_PARTS, "part")


def test_in_a_list_of_images_they_are_named(tmp_path: Path) -> None:
    for i in range(N):
        Image.fromarray(RANDOM.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / f"{i}.png")
    scan = scan_images(tmp_path, LabelsSpec(file=manifest(tmp_path, ".png", MIXED)))
    assert SAID in scan.notes


def test_in_an_npz_file_the_file_is_named(tmp_path: Path) -> None:
    images = RANDOM.integers(0, 255, (N, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=["a", "b"] * 20, x_test=images, y_test=["A", "b"] * 20)
    with pytest.raises(DataError, match=r"data file .*a\.npz: the class a of train is called A in test"):
        scan_images(tmp_path / "a.npz", None)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a", "A ", "b"], ["the classes A , a differ in capitals, spaces or hyphens alone"]),
        (["type-1", "Type 1"], ["the classes Type 1, type-1 differ in capitals, spaces or hyphens alone"]),
        (["1", "-1", "1-2", "12"], []),
        (["a", "b", "a"], []),
    ],
)
def test_what_is_alike(names: list[str], found: list[str]) -> None:
    assert alike_classes(names) == found


@pytest.mark.parametrize(
    ("names", "is_said"),
    [
        (["HAM10000_images_part_1", "HAM10000_images_part_2"], True),
        (["batch1", "batch2", "batch3"], True),
        (["n01440764", "n01443537"], False),
        (["grade 1", "grade 2"], False),
        (["sunset1", "sunset2"], False),
        (["part_1", "other"], False),
    ],
)
def test_folders_that_are_numbered_parts_are_asked_about(names: list[str], is_said: bool, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).mkdir()
        Image.fromarray(RANDOM.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / name / "1.png")
    notes = scan_images(tmp_path, None).notes
    assert any("look like parts of one data set, not classes; if the classes stand in" in n for n in notes) == is_said
