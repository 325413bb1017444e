"""Folders with more than classes: masks beside images, folds, labels of boxes; and lists that name other folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pictures import picture

from aifs_tune.config.data import DataSpec, LabelsSpec
from aifs_tune.data import prepare_images
from aifs_tune.data.images.folder import scan_folder
from aifs_tune.data.images.listed import scan_listed
from aifs_tune.errors import DataError

MakeFolder = Callable[..., Path]


@pytest.mark.parametrize("ending", ["_mask", "_seg", "_label", " mask", "_mask_1"])
def test_files_named_after_an_image_beside_them_are_masks(make_folder: MakeFolder, ending: str) -> None:
    folder = make_folder({"a": 6, "b": 6})
    for label in "ab":
        for i in range(6):
            picture(100 + i).save(folder / label / f"{i:04d}{ending}.png")
    picture(200).save(folder / "a" / "face_mask.png")
    prepared = prepare_images(DataSpec(folder=folder, image_size=16))
    assert prepared.preflight.n_images == 13
    named = f"12 files such as a/0000{ending}.png"
    assert any(line.startswith(f"warning: left out: {named}, masks") for line in prepared.preflight.lines())
    assert [row["column"] for row in prepared.preflight.columns if row["left_out"]] == [named]


def test_folders_of_masks_inside_classes_and_beside_them_are_left_out(make_folder: MakeFolder) -> None:
    scan = scan_folder(make_folder({"a/images": 4, "a/masks": 4, "b/images": 4, "b/masks": 4}))
    assert {file.name.split("/")[1] for file in scan.files} == {"images"}
    assert any("8 files such as a/masks/0000.png" in note for note in scan.notes)
    beside = scan_folder(make_folder({"a": 4, "b": 4, "masks": 4}, "beside"))
    assert beside.classes == ("a", "b")
    assert any("left out: the folder masks" in note for note in beside.notes)


def test_a_class_may_be_called_mask(make_folder: MakeFolder) -> None:
    scan = scan_folder(make_folder({"mask": 4, "no_mask": 4}))
    assert scan.classes == ("mask", "no_mask")
    assert len(scan.files) == 8


@pytest.mark.parametrize(
    "counts",
    [
        {"images": 4, "masks": 4},
        {"Images/train": 4, "Images/val": 4, "Labels/train": 4, "Labels/val": 4},
        {"train/images": 4, "train/labels": 4, "valid/images": 4, "valid/labels": 4},
        {"JPEGImages": 4, "SegmentationClass": 4, "Annotations": 4},
    ],
    ids=["masks", "YOLO", "Roboflow", "VOC"],
)
def test_images_with_masks_or_boxes_are_refused(make_folder: MakeFolder, counts: dict[str, int]) -> None:
    with pytest.raises(DataError, match=r"not classes, and only classes or numbers of whole images are learnt"):
        scan_folder(make_folder(counts))


def test_a_folder_of_coco_is_refused(make_folder: MakeFolder) -> None:
    folder = make_folder({"train2017": 4, "val2017": 4, "annotations": 0})
    with pytest.raises(DataError, match=r"train2017 and val2017 hold files, .* so the classes are unknown"):
        scan_folder(folder)


@pytest.mark.parametrize("name", ["fold{}", "fold_{}", "{}"])
def test_folds_are_kept_in_one_part(make_folder: MakeFolder, name: str) -> None:
    counts = {f"{name.format(fold)}/{label}": 4 for fold in range(1, 6) for label in ("bark", "siren")}
    prepared = prepare_images(DataSpec(folder=make_folder(counts), image_size=16))
    assert prepared.images.classes == ("bark", "siren")
    parts: dict[str, set[str]] = {}
    for path, part in zip(prepared.files.path, prepared.files.part, strict=True):
        parts.setdefault(path.split("/")[0], set()).add(part)
    assert [len(its) for its in parts.values()] == [1] * 5
    first = f"{name.format(1)}, {name.format(2)} and 3 more have the same classes ({name.format(1)}/bark): folds"
    assert any(first in line for line in prepared.preflight.lines())
    assert prepared.preflight.grouped_by == "the folds"


def test_two_folds_are_mixed_and_numbers_may_be_classes(make_folder: MakeFolder) -> None:
    two = scan_folder(make_folder({"fold1/a": 3, "fold1/b": 3, "fold2/a": 3, "fold2/b": 3}))
    assert two.classes == ("a", "b")
    assert {file.group for file in two.files} == {None}
    assert any("so they are mixed" in note for note in two.notes)
    assert scan_folder(make_folder({"0": 3, "1": 3, "2": 3}, "digits")).classes == ("0", "1", "2")


def listed(folder: Path, text: str) -> tuple[str, ...]:
    (folder / "labels.csv").write_text(text)
    return scan_listed(folder, LabelsSpec(file=folder / "labels.csv")).notes


def test_what_a_list_says_of_other_folders_and_classes_is_named(make_folder: MakeFolder) -> None:
    folder = make_folder({"train": 8})
    rows = [f"../{i:04d}.png,{'ab'[i % 2]}" for i in range(6)]
    notes = listed(folder, "\n".join(["image,label", *rows, "0006.png,"]))
    assert any(
        note.startswith("6 entries name another folder, and are taken by the name alone (../0000") for note in notes
    )
    assert "left out: 1 entries of labels.csv without a class" in notes
    several = ["a b", "a", "b", "a", "b", "a", "b"]
    notes = listed(folder, "\n".join(["image,label", *(f"{i:04d}.png,{each}" for i, each in enumerate(several))]))
    assert any("a b look like several classes of one image" in note for note in notes)


def test_a_file_that_entries_of_two_folders_could_mean_is_left_out(make_folder: MakeFolder) -> None:
    folder = make_folder({"images": 8}) / "images"
    rows = [f"x/{i:04d}.png,{'ab'[i % 2]}" for i in range(6)] + ["y/0000.png,a"]
    (folder / "labels.csv").write_text("\n".join(["image,label", *rows]))
    scan = scan_listed(folder, LabelsSpec(file=folder / "labels.csv"))
    assert [one.name for one in scan.skipped_files] == ["0000.png"]
    assert "in the folders x, y" in scan.skipped_files[0].reason


def test_columns_of_0_and_1_are_refused_as_such(make_folder: MakeFolder) -> None:
    with pytest.raises(DataError, match=r"healthy, rust have 0 and 1, a column for each class; allowed: one column"):
        listed(make_folder({"d": 2}), "image,healthy,rust\n0000.png,0,1\n0001.png,1,0")
