"""Links in data folders: within the folder or its DataLad or git-annex data set they are followed, others are not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aifs_tune.config.data import DataSpec, LabelsSpec
from aifs_tune.data import prepare_frames, prepare_series
from aifs_tune.data.images.folder import Scan
from aifs_tune.data.images.listed import scan_images
from aifs_tune.data.new_files import Preparation
from aifs_tune.errors import DataError

N = 24
RANDOM = np.random.default_rng(0)


def series_files(folder: Path) -> list[Path]:
    for i in range(N):
        lines = [f"{step},{value}" for step, value in enumerate(RANDOM.normal(size=20))]
        (folder / f"{i}.csv").write_text("\n".join(["time,flux", *lines]))
    return [folder / f"{i}.csv" for i in range(N)]


def image_files(folder: Path) -> list[Path]:
    for i in range(N):
        Image.fromarray(RANDOM.integers(0, 255, (8, 8), np.uint8)).save(folder / f"{i}.png")
    return [folder / f"{i}.png" for i in range(N)]


def listed(folder: Path, files: list[Path]) -> Path:
    rows = [f"{file.name},{'ab'[i % 2]}" for i, file in enumerate(files)]
    (folder / "manifest.csv").write_text("\n".join(["path,label", *rows]))
    return folder / "manifest.csv"


def of_series_manifest(folder: Path, make_links: Callable[[list[Path]], Any], **data: Any) -> int:
    files = series_files(folder)
    make_links(files)
    return len(prepare_series(DataSpec(series={"path": listed(folder, files)}, **data)).examples.y_true)


def of_series_folders(folder: Path, make_links: Callable[[list[Path]], Any], **data: Any) -> int:
    files = [
        file.rename(folder / "ab"[i % 2] / file.name) for i, file in enumerate(series_files(_with_classes(folder)))
    ]
    make_links(files)
    return len(prepare_series(DataSpec(series={"path": folder}, **data)).examples.y_true)


def of_frames(folder: Path, make_links: Callable[[list[Path]], Any], **data: Any) -> int:
    files = image_files(folder)
    make_links(files)
    return len(prepare_frames(DataSpec(frames={"manifest": listed(folder, files)}, **data)).examples.y_true)


def of_image_folders(folder: Path, make_links: Callable[[list[Path]], Any], **data: Any) -> int:
    files = [file.rename(folder / "ab"[i % 2] / file.name) for i, file in enumerate(image_files(_with_classes(folder)))]
    make_links(files)
    return _n_of(scan_images(folder, None, **data))


def of_labelled_images(folder: Path, make_links: Callable[[list[Path]], Any], **data: Any) -> int:
    files = image_files(folder)
    make_links(files)
    return _n_of(scan_images(folder, LabelsSpec(file=listed(folder, files)), **data))


KINDS = [of_series_manifest, of_series_folders, of_frames, of_image_folders, of_labelled_images]


def _with_classes(folder: Path) -> Path:
    for name in "ab":
        (folder / name).mkdir()
    return folder


def _n_of(scan: Scan) -> int:
    for one in scan.skipped_files:
        assert "outside the data folder; allowed: links inside it or its DataLad" in one.reason
    return len(scan.files)


def annexed(dataset: Path) -> Callable[[list[Path]], None]:
    """Move files into the annex of a data set, as git-annex does, and leave relative links."""

    def move(files: list[Path]) -> None:
        for file in files:
            key = f"SHA256E-{file.stat().st_size}--{file.name}"
            kept = dataset / ".git" / "annex" / "objects" / "Xx" / key / key
            kept.parent.mkdir(parents=True)
            file.rename(kept)
            kept.chmod(0o444)
            file.symlink_to(os.path.relpath(kept, file.parent))

    return move


def moved_to(place: Path) -> Callable[[list[Path]], None]:
    def move(files: list[Path]) -> None:
        place.mkdir()
        for file in files[:3]:
            file.rename(place / file.name)
            file.symlink_to(place / file.name)

    return move


@pytest.mark.parametrize("read", KINDS)
@pytest.mark.parametrize("below", [".", "curves/may"])
def test_links_into_the_annex_of_the_data_set_are_followed(read: Any, below: str, tmp_path: Path) -> None:
    folder = tmp_path / "dataset" / below
    folder.mkdir(parents=True)
    assert read(folder, annexed(tmp_path / "dataset")) == N


@pytest.mark.parametrize("read", KINDS)
def test_links_into_the_folder_itself_and_of_the_folder_are_followed(read: Any, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "given").symlink_to("real")
    assert read(tmp_path / "given", moved_to(tmp_path / "real" / ".kept")) == N


@pytest.mark.parametrize("read", [of_series_folders, of_image_folders, of_labelled_images])
def test_files_behind_other_links_are_left_out_unless_links_are_followed(read: Any, tmp_path: Path) -> None:
    for name, given, n in (("one", {}, N - 3), ("two", {"follow_links": True}, N)):
        (tmp_path / name).mkdir()
        assert read(tmp_path / name, moved_to(tmp_path / f"secret_{name}"), **given) == n


@pytest.mark.parametrize("read", [of_series_manifest, of_frames])
def test_other_links_in_a_manifest_are_refused_unless_links_are_followed(read: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    said = r"row 1 has the path '0\.\w+', a link to '.*secret/0.*', outside the folder of the manifest; .*follow_links"
    with pytest.raises(DataError, match=said):
        read(tmp_path / "one", moved_to(tmp_path / "secret"))
    assert read(tmp_path / "two", moved_to(tmp_path / "shared"), follow_links=True) == N


@pytest.mark.parametrize("read", [of_series_folders, of_image_folders])
def test_class_folders_and_parts_that_are_other_links_are_left_out(read: Any, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()

    def move(files: list[Path]) -> None:
        del files
        shutil.move(folder / "a", tmp_path / "elsewhere")
        (folder / "a").symlink_to(tmp_path / "elsewhere")
        (folder / "c").mkdir()
        for file in (folder / "b").iterdir():
            if int(file.stem) < N / 2:
                file.rename(folder / "c" / file.name)

    assert read(folder, move) == N / 2


def test_files_that_git_annex_has_not_got_are_named(tmp_path: Path) -> None:
    def lose(files: list[Path]) -> None:
        annexed(tmp_path)(files)
        for file in files[:2]:
            file.resolve().unlink()

    files = image_files(tmp_path)
    lose(files)
    found = prepare_frames(DataSpec(frames={"manifest": listed(tmp_path, files)}))
    assert any("its content is not on this machine; get it: datalad get" in line for line in found.lines)
    scan = scan_images(tmp_path, LabelsSpec(file=tmp_path / "manifest.csv"))
    assert [one.reason.partition(";")[0] for one in scan.skipped_files] == ["its content is not on this machine"] * 2


def test_new_images_of_a_manifest_are_bound_by_it_too(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    files = image_files(tmp_path / "data")
    data = DataSpec(frames={"manifest": listed(tmp_path / "data", files)})
    made = Preparation("frames", data, prepare_frames(data).examples.facts)
    assert data.frames is not None
    moved_to(tmp_path / "secret")(files)
    with pytest.raises(DataError, match=r"has the path '0\.png', a link to .*, outside the folder of the manifest"):
        list(made.batches([tmp_path / "data" / "manifest.csv"]))
    (tmp_path / "data" / "manifest.csv").write_text("path\n../secret/0.png\n")
    with pytest.raises(DataError, match=r"has the path '\.\./secret/0\.png', outside the folder of its files"):
        list(made.batches([tmp_path / "data" / "manifest.csv"]))
