"""From a folder to images, split and report: what is left out, what is warned of, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import picture
from PIL import Image

from aifs_tune.config.data import DataSpec
from aifs_tune.data import PreparedImages, prepare_images
from aifs_tune.errors import DataError

MakeFolder = Callable[..., Path]


def prepared(folder: Path, *, strict: bool = False, **options: Any) -> PreparedImages:
    return prepare_images(DataSpec.model_validate({"folder": folder, "image_size": 8, **options}), strict=strict)


def reasons(result: PreparedImages) -> dict[str, str]:
    return {one.name: one.reason for one in result.preflight.skipped_files}


def test_bad_files_are_left_out_and_named(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 6, "b": 6})
    whole = (folder / "a" / "0000.png").read_bytes()
    (folder / "a" / "cut.png").write_bytes(whole[:200])
    (folder / "a" / "empty.png").touch()
    (folder / "b" / "notes.txt").write_text("cloudy")
    (folder / "b" / "neu\n☆\x1b.png").write_bytes(b"x")
    os.mkfifo(folder / "b" / "pipe.png")
    frames = [picture(80), picture(81)]
    frames[0].save(folder / "b" / "film.png", save_all=True, append_images=frames)
    result = prepared(folder)
    assert reasons(result) == {
        "a/cut.png": "is damaged (image file is truncated)",
        "a/empty.png": "is empty",
        "b/film.png": "has 3 frames; allowed: 1",
        r"b/neu\n☆\x1b.png": "is no image of a known format",
        "b/notes.txt": "is no image of a known format",
        "b/pipe.png": "is a FIFO, not a file",
    }
    assert len(result.images.images) == 12
    assert "left out: a/empty.png: is empty" in result.preflight.lines()
    with pytest.raises(
        DataError, match=r"6 files or classes cannot be used; allowed when strict: none\n  a/cut.png: is damaged"
    ):
        prepared(folder, strict=True)


def test_strict_names_reasons_with_two_files_of_each(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 6, "b": 6})
    for i in range(23):
        (folder / "a" / f"bad{i:02d}.png").write_text(str(i))
    (folder / "b" / "empty.png").touch()
    with pytest.raises(DataError) as raised:
        prepared(folder, strict=True)
    assert str(raised.value).splitlines()[1:] == [
        "  23 such as a/bad00.png and a/bad01.png: is no image of a known format",
        "  b/empty.png: is empty",
    ]


def test_strict_passes_where_nothing_is_wrong(make_folder: MakeFolder) -> None:
    assert prepared(make_folder({"a": 6, "b": 6}), strict=True).preflight.n_images == 12


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything, so a test of permissions runs as somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_unreadable_file_and_folder_are_left_out(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder({"a": 6, "b": 6, "b/more": 2}, seed=7)
    (folder / "a" / "0000.png").chmod(0)
    (folder / "b" / "more").chmod(0)
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    parents = [path for path in tmp_path.parents if path.stat().st_uid == os.geteuid() and path != Path("/")]
    modes = {path: path.stat().st_mode for path in [tmp_path, *parents]}
    try:
        for path, mode in modes.items():
            path.chmod(mode | 0o055)
        with as_nobody():
            result = prepare_images(DataSpec(folder=folder, image_size=8), cache=cache)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
        (folder / "b" / "more").chmod(0o700)
    assert reasons(result) == {
        "a/0000.png": "cannot be read (Permission denied)",
        "b/more/": "cannot be listed (Permission denied)",
    }


def test_classes_too_small_for_every_subset_are_left_out(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 6, "b": 6, "few": 2, "one": 1})
    (folder / "none").mkdir()
    (folder / "bad").mkdir()
    (folder / "bad" / "x.png").write_text("x")
    for i in range(5):
        shutil.copy(folder / "one" / "0000.png", folder / "one" / f"copy{i}.png")
    result = prepared(folder)
    assert result.images.classes == result.preflight.classes == ("a", "b")
    assert len(result.images.images) == 12
    few = "usable images, {} different images; allowed: at least 3, one for each subset (left out)"
    assert result.preflight.warnings == (
        "class bad: has 0 " + few.format(0),
        "class few: has 2 " + few.format(2),
        "class none: has 0 " + few.format(0),
        "class one: has 6 " + few.format(1),
    )
    assert reasons(result) == {"bad/x.png": "is no image of a known format"}
    with pytest.raises(DataError, match="class few: has 2 usable images"):
        prepared(folder, strict=True)
    assert prepared(folder, split={"test": 0}).images.classes == ("a", "b", "few")


@pytest.mark.parametrize("strict", [False, True])
def test_fewer_than_two_classes_is_refused(make_folder: MakeFolder, strict: bool) -> None:
    folder = make_folder({"a": 6, "b": 1})
    with pytest.raises(DataError, match=r"usable classes: a; allowed: at least 2; left out:\n  class b: has 1 usable"):
        prepared(folder, strict=strict)
    (folder / "a" / "0000.png").write_text("x")
    with pytest.raises(DataError, match=r"a/0000\.png: is no image"):
        prepare_images(DataSpec(folder=folder, image_size=8))


def test_no_folder_is_refused() -> None:
    with pytest.raises(DataError, match=r"data.folder: no value given"):
        prepare_images(DataSpec())


def test_subsets_are_disjoint_cover_all_and_hold_every_class(make_folder: MakeFolder) -> None:
    images = prepared(make_folder({"a": 40, "b": 10})).images
    rows = np.concatenate([images.train, images.val, images.test])
    assert sorted(rows) == list(range(50))
    counts = [Counter(images.labels[part].tolist()) for part in (images.train, images.val, images.test)]
    assert counts == [{0: 24, 1: 6}, {0: 8, 1: 2}, {0: 8, 1: 2}]


def test_the_folders_of_train_val_and_test_are_the_subsets(make_folder: MakeFolder) -> None:
    folder = make_folder({"train/a": 4, "train/b": 3, "valid/a": 2, "valid/b": 2, "test/a": 1, "test/b": 2})
    result = prepared(folder)
    assert result.preflight.counts == {"train": {"a": 4, "b": 3}, "val": {"a": 2, "b": 2}, "test": {"a": 1, "b": 2}}
    assert [len(part) for part in (result.images.train, result.images.val, result.images.test)] == [7, 4, 3]


def test_val_is_split_from_train_and_test_stays(make_folder: MakeFolder) -> None:
    counts = prepared(make_folder({"train/a": 10, "train/b": 10, "test/a": 3, "test/b": 3})).preflight.counts
    assert counts == {"train": {"a": 8, "b": 8}, "val": {"a": 2, "b": 2}, "test": {"a": 3, "b": 3}}


def test_without_a_test_folder_the_test_is_empty(make_folder: MakeFolder) -> None:
    result = prepared(make_folder({f"{part}/{label}": 5 for part in ("train", "val") for label in "ab"}))
    assert len(result.images.test) == 0
    assert len(result.images.val) > 0


def test_a_train_folder_alone_is_divided_into_all_three(make_folder: MakeFolder) -> None:
    result = prepared(make_folder({"train/a": 10, "train/b": 10}))
    assert [len(part) for part in (result.images.train, result.images.val, result.images.test)] == [12, 4, 4]
    assert result.preflight.warnings == ("train is divided into training, validation and test sets",)


def test_a_class_missing_in_a_subset_folder_is_left_out(make_folder: MakeFolder) -> None:
    counts = {f"{part}/{label}": 3 for part in ("train", "val") for label in "ab"} | {"train/c": 3, "val/d": 3}
    result = prepared(make_folder(counts))
    assert result.images.classes == ("a", "b")
    assert result.preflight.warnings == (
        "class c: has no usable image in val (left out)",
        "class d: has no usable image in train (left out)",
    )


def test_the_split_ignores_names_and_folders(make_folder: MakeFolder) -> None:
    one = make_folder({"a": 9, "b": 9})
    two = make_folder({"a": 9, "b": 9}, "renamed")
    for i, file in enumerate(sorted((two / "a").iterdir(), reverse=True)):
        file.rename(file.with_name(f"new{i}.png"))
    first, second = (prepared(folder).images for folder in (one, two))
    assert np.array_equal(first.val, second.val)
    assert np.array_equal(first.images, second.images)


def grouped(folder: Path) -> Path:
    """Rename so that images of a class are in fields f0 to f5."""
    for file in sorted(folder.rglob("*.png")):
        file.rename(file.with_name(f"f{int(file.stem) % 6}_{file.stem}.png"))
    return folder


@pytest.mark.parametrize("pattern", ["^(f[0-9])_", "^f[0-9]"])
def test_a_group_is_in_one_subset(make_folder: MakeFolder, pattern: str) -> None:
    folder = grouped(make_folder({"a": 24, "b": 12}))
    (folder / "a" / "odd.png").write_bytes(next((folder / "a").iterdir()).read_bytes())
    result = prepared(folder, group_by=pattern)
    assert result.preflight.n_groups == 6
    assert reasons(result) == {"a/odd.png": f"its name does not match group_by {pattern!r}"}
    assert not [warning for warning in result.preflight.warnings if "in more than one subset" in warning]
    assert [min(by_class.values()) > 0 for by_class in result.preflight.counts.values()] == [True] * 3


def test_too_few_groups_are_reported(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 6, "b": 6})
    for file in sorted(folder.rglob("*.png")):
        file.rename(file.with_name(f"f{int(file.stem) % 2}_{file.stem}.png"))
    with pytest.raises(DataError, match="class a: has 6 usable images, 2 groups; allowed: at least 3"):
        prepared(folder, group_by="^f[0-9]")


def test_groups_that_cannot_be_split_are_refused(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 3, "b": 3, "c": 3})
    # Three groups for each of three classes, but any two classes share two of them in a ring.
    names = {"a": "xyz", "b": "xyw", "c": "xzw"}
    for label, groups in names.items():
        for i, group in enumerate(groups):
            (folder / label / f"{i:04d}.png").rename(folder / label / f"{group}.png")
    with pytest.raises(DataError, match=r"group_by '\^\.': 4 groups .* so that train, val, test each have every"):
        prepared(folder, group_by="^.")


def test_groups_across_subset_folders_are_warned_of(make_folder: MakeFolder) -> None:
    folder = make_folder({f"{part}/{label}": 3 for part in ("train", "val") for label in "ab"})
    warnings = prepared(folder, group_by="^[0-9]+").preflight.warnings
    assert warnings == ("3 groups in more than one subset: 0000, 0001, 0002",)


def test_copies_stay_in_one_subset_and_are_counted(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 20, "b": 20})
    for i in range(20):
        for k in range(2):
            shutil.copy(folder / "a" / f"{i:04d}.png", folder / "a" / f"copy{k}-{i}.png")
    result = prepared(folder)
    assert result.preflight.duplicates.within == 20
    images = result.images
    part_of = np.zeros(len(images.labels), int)
    part_of[images.val], part_of[images.test] = 1, 2
    by_pixels: dict[bytes, set[int]] = {}
    for pixels, part in zip(images.images, part_of, strict=True):
        by_pixels.setdefault(pixels.tobytes(), set()).add(int(part))
    assert all(len(parts) == 1 for parts in by_pixels.values())
    assert "20 images with copies in the same class; copies stay in one subset" in result.preflight.lines()


def test_conflicting_labels_and_copies_across_subsets_are_warned_of(make_folder: MakeFolder) -> None:
    folder = make_folder({f"{part}/{label}": 3 for part in ("train", "val") for label in "ab"})
    shutil.copy(folder / "train/a/0000.png", folder / "train/b/copy.png")
    shutil.copy(folder / "train/a/0001.png", folder / "val/a/copy.png")
    found = prepared(folder).preflight
    assert (found.duplicates.across_classes, found.duplicates.across_subsets) == (1, 1)
    assert found.warnings == (
        "1 image in more than one class: train/a/0000.png = train/b/copy.png",
        "1 image in more than one subset: train/a/0001.png = val/a/copy.png",
    )


def test_channels_are_one_only_if_all_images_are_grey(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 5, "b": 5}, colour=False)
    assert prepared(folder).images.shape == (8, 8, 1)
    assert prepared(folder, channels="rgb").images.shape == (8, 8, 3)
    picture(50).save(folder / "a" / "colour.png")
    mixed = prepared(folder).images
    assert mixed.shape == (8, 8, 3)
    assert ((mixed.images[..., 0] == mixed.images[..., 1]).all(axis=(1, 2))).sum() == 10
    assert prepared(folder, channels="grey").images.shape == (8, 8, 1)


def test_16_bit_images_are_scaled_as_asked_or_measured(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 1, "b": 1}, colour=False)
    for label, base in (("a", 1000), ("b", 3000)):
        for i in range(5):
            Image.fromarray(np.full((8, 8), base + i, np.uint16)).save(folder / label / f"faint{i}.png")
    result = prepared(folder)
    rows = [result.files.path[row] for row in result.images.train.tolist() if "faint" in result.files.path[row]]
    low, high = (limit(1000 * (1 + 2 * (row[0] == "b")) + int(row[-5]) for row in rows) for limit in (min, max))
    assert result.preflight.range16 == (low, high)
    assert result.images.images[result.images.labels == 1].max() >= 250
    assert any(f"16-bit values {low} to {high} become 0 to 255" in line for line in result.preflight.lines())
    assert "10 16-bit images mixed with 8-bit images: brightness may differ" in result.preflight.warnings
    given = prepared(folder, range16=[0, 5000]).images.images
    assert {51, 153} <= set(np.unique(given))


def test_the_report_is_plain_json(make_folder: MakeFolder) -> None:
    folder = make_folder({"a": 5, "b": 5})
    os.rename(os.fsencode(folder / "a" / "0000.png"), os.fsencode(folder / "a") + b"/\xff.png")
    (folder / "a" / "bad\n.png").write_text("x")
    found = prepare_images(DataSpec(folder=folder, image_size=8)).preflight
    back = json.loads(json.dumps(found.to_json()).encode("utf-8"))
    assert back["counts"]["train"] == {"a": 3, "b": 3}
    assert back["bits"] == {"8": 10}
    assert back["width"] == {"min": 20, "median": 20.0, "max": 20}
    assert back["skipped_files"] == [{"name": "a/bad\\n.png", "reason": "is no image of a known format"}]
    assert all(line.isprintable() for line in found.lines())


def test_importing_data_is_cheap() -> None:
    code = (
        "import sys, aifs_tune.data, aifs_tune.data.images.prepare\n"
        "print([m for m in ('tensorflow', 'ray', 'optuna', 'sklearn', 'pandas') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
