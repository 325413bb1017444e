"""Images of one folder whose classes stand in a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures import picture

from aifs_tune.config.data import DataSpec
from aifs_tune.data import prepare_images
from aifs_tune.data.images.listed import scan_images
from aifs_tune.data.sources import locate, prepare
from aifs_tune.errors import DataError

N = 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train").mkdir()
    for i in range(N):
        picture(i).save(tmp_path / "train" / f"img_{i:03d}.png")
    return tmp_path / "train"


def classes() -> list[str]:
    return ["cat" if i % 2 else "dog" for i in range(N)]


def table(folder: Path, name: Callable[[int], str], head: str = "id,label", more: str = "") -> Path:
    file = folder.parent / "labels.csv"
    lines = [head, *(f"{name(i)},{label}" for i, label in enumerate(classes()))]
    file.write_text("\n".join(lines) + "\n" + more)
    return file


def scanned(folder: Path, file: Path, **columns: str) -> Any:
    return scan_images(folder, DataSpec(folder=folder, labels={"file": file, **columns}).labels)


@pytest.mark.parametrize(
    "name",
    [
        lambda i: f"img_{i:03d}",
        lambda i: f"img_{i:03d}.png",
        lambda i: f"train/img_{i:03d}.png",
        lambda i: f"data\\train\\img_{i:03d}.png",
        lambda i: f"/kaggle/input/train/img_{i:03d}.png",
    ],
)
def test_entries_name_files_with_and_without_path_and_suffix(folder: Path, name: Callable[[int], str]) -> None:
    scan = scanned(folder, table(folder, name))
    assert [file.label for file in scan.files] == classes()
    assert (scan.classes, scan.subsets, scan.skipped_files) == (("cat", "dog"), (), ())
    assert scan.notes == ("the classes are those of labels.csv: label by id",)


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("image_id,diagnosis", {}),
        ("Filename,Class", {}),
        ("image,kind", {}),
        ("what,species", {}),
        ("a,b", {"name": "a", "label": "b"}),
    ],
)
def test_columns_are_told_by_their_names_or_named(folder: Path, head: str, columns: dict[str, str]) -> None:
    scan = scanned(folder, table(folder, lambda i: f"img_{i:03d}.png", head), **columns)
    assert [file.label for file in scan.files] == classes()


def test_what_does_not_fit_is_counted_and_left_out(folder: Path) -> None:
    picture(99).save(folder / "other.png")
    (folder / "b").mkdir()
    picture(98).save(folder / "b" / "other.png")
    more = "img_000.png,cat\nimg_900.png,cat\nother,dog\n"
    scan = scanned(folder, table(folder, lambda i: f"img_{i:03d}.png", more=more))
    assert len(scan.files) == N - 1
    assert [str(one) for one in scan.skipped_files] == ["img_000.png: is listed with 2 classes"]
    assert scan.notes[1:] == (
        "left out: 1 entries of labels.csv without a file (img_900.png)",
        "left out: 1 entries of labels.csv with several files (other)",
        "left out: 2 files that are not listed; aifs-tune predict can use them",
    )


def test_a_list_that_fits_nothing_or_is_unclear_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"none of its 20 entries in 'id' \(x0, x1, x2, ...\) names a file below"):
        scanned(folder, table(folder, lambda i: f"x{i}"))
    file = table(folder, lambda i: f"img_{i:03d}.png,1", "a,b,c")
    with pytest.raises(DataError, match="which columns hold the files and the classes is not clear; found: a, b, c"):
        scanned(folder, file)
    with pytest.raises(DataError, match="no column 'd'; allowed: a, b, c"):
        scanned(folder, file, label="d")


def test_they_are_prepared_like_folders_of_classes_and_found_where_data_were_moved(folder: Path) -> None:
    file = table(folder, lambda i: f"img_{i:03d}")
    data = DataSpec(folder=folder, image_size=8, labels=file)
    made = prepare_images(data)
    assert made.images.classes == ("cat", "dog")
    assert [len(part) for part in (made.images.train, made.images.val, made.images.test)] == [12, 4, 4]
    for label in ("cat", "dog"):
        (folder.parent / "sorted" / label).mkdir(parents=True)
    for i, label in enumerate(classes()):
        (folder.parent / "sorted" / label / f"{i}.png").write_bytes((folder / f"img_{i:03d}.png").read_bytes())
    of_folders = prepare_images(DataSpec(folder=folder.parent / "sorted", image_size=8))
    assert made.images.fingerprint == of_folders.images.fingerprint
    moved = data.model_copy(update={"labels": DataSpec(labels="elsewhere/labels.csv").labels})
    found = prepare(
        locate(moved, "images", "cnn"), "images", strict=False, tell=lambda _: None, progress=lambda *_: None
    )
    assert found.fingerprint == made.images.fingerprint
    assert found.division["by"] == "random"
