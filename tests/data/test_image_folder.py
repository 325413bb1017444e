"""The class and the subset of each file."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from aifs_tune.data.images.folder import SkippedFile, scan_folder, shown, subset_in
from aifs_tune.errors import DataError

MakeFolder = Callable[..., Path]


def test_class_folders(make_folder: MakeFolder) -> None:
    folder = make_folder({"star": 2, "galaxy/near": 1, "galaxy/far": 1})
    (folder / "SOURCE.txt").write_text("a survey")
    (folder / ".git").mkdir()
    (folder / "star" / ".hidden.png").touch()
    (folder / "star" / "Thumbs.db").write_text("x")
    scan = scan_folder(folder)
    assert [(file.name, file.label, file.subset) for file in scan.files] == [
        ("galaxy/far/0000.png", "galaxy", None),
        ("galaxy/near/0000.png", "galaxy", None),
        ("star/0000.png", "star", None),
        ("star/0001.png", "star", None),
    ]
    assert (scan.classes, scan.subsets, scan.skipped_files) == (("galaxy", "star"), (), ())


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_subset_folders(make_folder: MakeFolder, val: str) -> None:
    scan = scan_folder(make_folder({"train/a": 1, "train/b": 1, f"{val}/a": 1, "test/b": 1}))
    assert scan.subsets == ("train", "val", "test")
    assert scan.classes == ("a", "b")
    found = {(file.subset, file.label) for file in scan.files}
    assert found == {("train", "a"), ("train", "b"), ("val", "a"), ("test", "b")}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("training_set", "test_set"),
        ("train_data", "test_data"),
        ("train-images", "holdout"),
        ("TrainSet", "TestSet"),
        ("seg_train", "seg_test"),
    ],
)
def test_common_spellings_of_the_subsets(make_folder: MakeFolder, train: str, test: str) -> None:
    scan = scan_folder(make_folder({f"{train}/a": 1, f"{train}/b": 1, f"{test}/a": 1, f"{test}/b": 1}))
    assert (scan.subsets, scan.classes, scan.notes) == (("train", "test"), ("a", "b"), ())


def test_subsets_one_level_deeper(make_folder: MakeFolder) -> None:
    scan = scan_folder(
        make_folder({"data/train/train/a": 1, "data/train/train/b": 1, "data/test/a": 1, "data/test/b": 1})
    )
    assert (scan.subsets, scan.classes) == (("train", "test"), ("a", "b"))
    assert scan.notes == ("the data are those in its folder data",)
    assert {file.name for file in scan.files} >= {"data/train/train/a/0000.png", "data/test/b/0000.png"}


@pytest.mark.parametrize("unlabelled", ["test", "test/unknown", "Test_Images"])
def test_a_test_set_without_classes_is_left_out_and_named(make_folder: MakeFolder, unlabelled: str) -> None:
    scan = scan_folder(make_folder({"train/a": 2, "train/b": 2, unlabelled: 2}))
    assert (scan.subsets, scan.classes) == ((), ("a", "b"))
    assert {(file.subset, file.label) for file in scan.files} == {(None, "a"), (None, "b")}
    assert "aifs-tune predict can use it" in scan.notes[0]
    assert scan.notes[1] == "train is divided into training, validation and test sets"


def test_folders_beside_the_subsets_are_left_out_and_those_of_systems_ignored(make_folder: MakeFolder) -> None:
    junk = {"__MACOSX/train/a": 1, "train/@eaDir/x": 1, "annotations": 1}
    scan = scan_folder(make_folder({"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1, **junk}))
    assert (scan.subsets, scan.classes) == (("train", "val"), ("a", "b"))
    assert scan.notes == ("left out: the folder annotations, which is none of train, val",)


@pytest.mark.parametrize(
    ("counts", "subsets"),
    [
        ({"a/train": 2, "a/test": 1, "b/train": 2, "b/test": 1}, ("train", "test")),
        ({"a/Training": 2, "a/valid": 1, "a/holdout": 1, "b/train": 2, "b/val": 1}, ("train", "val", "test")),
        ({"x/a/train": 2, "x/a/val": 1, "x/b/train": 2, "x/b/val": 1}, ("train", "val")),
    ],
)
def test_parts_inside_classes_are_the_parts(
    make_folder: MakeFolder, counts: dict[str, int], subsets: tuple[str, ...]
) -> None:
    scan = scan_folder(make_folder(counts))
    assert (scan.subsets, scan.classes) == (subsets, ("a", "b"))
    assert len(scan.files) == sum(counts.values())
    for file in scan.files:
        assert file.subset == subset_in(file.name.split("/")[-2])
        assert file.label in file.name.split("/")[:-2]
    assert any("the parts are the folders inside the classes (a/" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (
            {"a/train": 1, "a/test": 1, "b": 2},
            r"a has parts inside \(test, train\), and b has no folders; allowed",
        ),
        ({"a/train": 1, "a/test": 1, "b/test": 2}, "and b has test; allowed"),
        ({"a/train": 1, "a/test": 1, "b/train": 1, "b/far": 2}, "and b has far, train; allowed"),
        ({"a/train": 1, "a/val": 1, "a/valid": 1, "b/train": 1, "b/val": 1}, "and a has train, val, valid; allowed"),
    ],
)
def test_parts_inside_some_classes_are_refused(make_folder: MakeFolder, counts: dict[str, int], said: str) -> None:
    with pytest.raises(DataError, match=said):
        scan_folder(make_folder(counts))


def test_folders_inside_classes_and_twins_in_capitals_are_named(make_folder: MakeFolder) -> None:
    scan = scan_folder(make_folder({"Star": 1, "star/near": 1, "star/far": 2, "galaxy": 1}))
    assert scan.notes == (
        "the classes Star, star differ in capitals alone",
        "images in folders inside a class folder (star/far, star/near) count as images of that class",
    )
    assert scan_folder(make_folder({"galaxy": 1, "star": 1}, "plain")).notes == ()


@pytest.mark.parametrize("part", ["val", "test"])
def test_classes_that_differ_between_parts_in_capitals_are_refused_as_such(make_folder: MakeFolder, part: str) -> None:
    with pytest.raises(DataError, match=f"the class cat of train is called Cat in {part}; give both folders one name"):
        scan_folder(make_folder({"train/cat": 1, "train/dog": 1, f"{part}/Cat": 1, f"{part}/dog": 1}))


def test_a_class_may_be_called_train(make_folder: MakeFolder) -> None:
    scan = scan_folder(make_folder({"train": 1, "tram": 1}))
    assert (scan.subsets, scan.classes) == ((), ("train", "tram"))
    assert scan.notes == ("the folder train is taken for a class, as are those beside it",)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"train": 1, "test": 1}, "train and test|test and train"),
        ({"val/a": 1, "test/a": 1}, "has test, val but no train"),
        ({"train/a": 1, "val/a": 1, "valid/a": 1}, "two names for the same subset"),
    ],
)
def test_doubtful_layouts_are_refused(make_folder: MakeFolder, counts: dict[str, int], said: str) -> None:
    with pytest.raises(DataError, match=said):
        scan_folder(make_folder(counts))


def test_what_is_no_data_folder_is_refused_with_the_layout(tmp_path: Path, make_folder: MakeFolder) -> None:
    file = tmp_path / "file.jpg"
    file.touch()
    (tmp_path / "empty").mkdir()
    for folder, said in [
        (tmp_path / "absent", "absent: does not exist"),
        (file, r"file.jpg: is a file, not a folder"),
        (tmp_path / "empty", "has nothing and no class folders"),
        (make_folder({".": 3}), "has 3 files such as 0000.png and no class folders"),
    ]:
        with pytest.raises(DataError, match=said) as raised:
            scan_folder(folder)
        assert "expected FOLDER/<class>/*.jpg" in str(raised.value)


def test_links_are_followed_once(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder({"a": 2})
    elsewhere = make_folder({"b": 1}, "elsewhere")
    (folder / "b").symlink_to(elsewhere / "b")
    (folder / "a" / "again.png").symlink_to(folder / "a" / "0000.png")
    (folder / "a" / "loop").symlink_to(folder / "a")
    (folder / "a" / "self").symlink_to(folder / "a" / "self")
    (folder / "a" / "up").symlink_to(folder)
    scan = scan_folder(folder, follow_links=True)
    assert [file.name for file in scan.files] == ["a/0000.png", "a/0001.png", "b/0000.png"]
    reasons = {one.name: one.reason for one in scan.skipped_files}
    assert reasons["a/again.png"] == "is a link to a/0000.png, which is already read"
    assert reasons["a/loop"] == "is a link to a, which is already read"
    assert reasons["a/up"] == "is a link to ., which is already read"
    assert reasons["a/self"].startswith("is a broken link")


def test_what_is_no_file_is_never_opened(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder({"a": 1, "b": 1})
    os.mkfifo(folder / "a" / "pipe.png")
    (folder / "a" / "null.png").symlink_to("/dev/null")
    (folder / "b" / "empty.png").touch()
    (folder / "b" / "gone.png").symlink_to(folder / "nowhere")
    with socket.socket(socket.AF_UNIX) as unix, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder / "a")  # the path of a socket must be short
        unix.bind("socket.png")
    assert scan_folder(folder).skipped_files == (
        SkippedFile("a/null.png", "is a device, not a file"),
        SkippedFile("a/pipe.png", "is a FIFO, not a file"),
        SkippedFile("a/socket.png", "is a socket, not a file"),
        SkippedFile("b/empty.png", "is empty"),
        SkippedFile("b/gone.png", "is a broken link (No such file or directory)"),
    )


def test_a_huge_file_is_left_out_unread(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 1, "b": 1})
    with open(folder / "a" / "huge.tif", "wb") as file:
        file.truncate(2**40)
    assert "1,099,511,627,776 bytes; allowed: at most 536,870,912" in scan_folder(folder).skipped_files[0].reason


def test_shown_names_can_be_printed() -> None:
    assert shown("Sterne/é☆.png") == "Sterne/é☆.png"
    assert shown("a\nb\x1b[31m") == r"a\nb\x1b[31m"
    assert shown("\udcff") == r"\udcff"
