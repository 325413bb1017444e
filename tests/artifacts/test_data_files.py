"""The data files of a study, and the message when they changed. No training."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from records import open_record

from aifs_tune.artifacts.data_files import match_files, share_files, study_files
from aifs_tune.config.data import DataSpec
from aifs_tune.data.sources import Prepared, prepare
from aifs_tune.errors import ConflictError, DamagedError, NotFoundError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.record import StudyRecord


def images(folder: Path, *, of_each: int = 10) -> Path:
    random = np.random.default_rng(0)
    for label in ("galaxy", "star"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(of_each):
            pixels = random.integers(0, 255, (12, 12), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i:03d}.png")
    return folder


def prepared(data: DataSpec, kind: str = "images") -> Prepared:
    return prepare(data, kind, strict=True, tell=lambda _: None, progress=lambda *_: None)


def study_of(tmp_path: Path, name: str = "sky") -> StudyRecord:
    return open_record(
        name, space={"x": {"type": "float", "low": 0, "high": 1}}, storage=f"sqlite:///{tmp_path}/lab.db"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return images(tmp_path / "sky")


@pytest.fixture
def study(tmp_path: Path, folder: Path) -> StudyRecord:
    """A study that ran on ``folder``."""
    study, made = study_of(tmp_path), prepared(DataSpec(folder=folder, image_size=8))
    match_files(study, made.fingerprint, made.files)
    return study


def test_a_study_says_which_file_was_in_which_subset(study: StudyRecord, folder: Path) -> None:
    found = study_files(study)
    assert sorted(found["path"]) == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    for row in found.itertuples():
        assert row.sha256 == hashlib.sha256((folder / row.path).read_bytes()).hexdigest()
        assert row.label == row.path.split("/")[0]
    assert dict(found["part"].value_counts()) == {"train": 12, "val": 4, "test": 4}
    assert found["example"].tolist() == list(range(20))
    assert found["group"].isna().all()
    reopened = Storage(study.storage.url)
    (told,) = [value for key, value in reopened.optuna.get_study_user_attrs(study.id).items() if key.endswith(":files")]
    assert len(str(told)) < 300, "the table is no part of the database"


def test_the_rows_are_those_of_the_decoded_images(study: StudyRecord, folder: Path) -> None:
    from aifs_tune.data import open_images

    opened = open_images(prepared(DataSpec(folder=folder, image_size=8)).location)
    found = study_files(study).set_index("example")
    for part in ("train", "val", "test"):
        assert (found.loc[getattr(opened, part), "part"] == part).all()
    for example, row in found.iterrows():
        pixels = np.asarray(Image.open(folder / row["path"]).resize((8, 8), Image.Resampling.BILINEAR, None, 3.0))
        assert (opened.images[int(example), :, :, 0] == pixels).all()


def test_names_are_those_of_this_folder_though_the_pictures_are_cached_from_another(
    study: StudyRecord, folder: Path, tmp_path: Path
) -> None:
    """The cache knows contents alone; the same pictures have other names elsewhere, in another order."""
    other = tmp_path / "renamed"
    for i, path in enumerate(sorted(folder.rglob("*.png"), reverse=True)):
        (other / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, other / path.parent.name / f"{i:03d}-new.png")
    made = prepared(DataSpec(folder=other, image_size=8))
    before = study_files(study).set_index("example")["sha256"]
    assert made.fingerprint == prepared(DataSpec(folder=folder, image_size=8)).fingerprint
    now = made.files.to_frame().set_index("example")
    assert (now["sha256"] == before).all()
    assert now["path"].str.endswith("-new.png").all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: shutil.copy(f / "star/001.png", f / "galaxy/900.png"), r"1 file added \(galaxy/900.png\)"),
        (lambda f: (f / "star/001.png").unlink(), r"1 file removed \(star/001.png\)"),
        (
            lambda f: Image.fromarray(np.zeros((12, 12), np.uint8)).save(f / "star/002.png"),
            r"1 file changed \(star/002.png\)",
        ),
        (
            lambda f: (f / "star/001.png").rename(f / "galaxy/001b.png"),
            r"1 file renamed \(star/001.png to galaxy/001b.png\)",
        ),
        (
            lambda f: [(f / f"star/00{i}.png").unlink() for i in range(4)],
            r"4 files removed \(star/000.png, star/001.png, star/002.png, \.\.\.\)",
        ),
    ],
)
def test_a_later_run_on_changed_data_says_which_files(
    change: Any, words: str, study: StudyRecord, folder: Path
) -> None:
    change(folder)
    made = prepared(DataSpec(folder=folder, image_size=8))
    with pytest.raises(ConflictError, match=r"was run on other data .*\n  .*" + words):
        match_files(study, made.fingerprint, made.files)


def test_another_division_of_the_same_files_is_noticed(study: StudyRecord, folder: Path) -> None:
    made = prepared(DataSpec.model_validate({"folder": folder, "image_size": 8, "split": {"seed": 3}}))
    with pytest.raises(ConflictError, match=r"files moved \(galaxy/\d+.png from \w+ to \w+, "):
        match_files(study, made.fingerprint, made.files)
    made = prepared(DataSpec(folder=folder, image_size=9))
    with pytest.raises(ConflictError, match="the files are the same, but they are read or split differently"):
        match_files(study, made.fingerprint, made.files)


def test_a_study_of_the_same_data_has_the_same_files(study: StudyRecord, folder: Path, tmp_path: Path) -> None:
    confirmation = study_of(tmp_path, "sky-confirm")
    with pytest.raises(NotFoundError, match="study 'sky-confirm': its data files are not recorded"):
        study_files(confirmation)
    share_files(confirmation, study)
    pd.testing.assert_frame_equal(study_files(confirmation), study_files(study))
    (folder / "star/003.png").unlink()
    made = prepared(DataSpec(folder=folder, image_size=8))
    with pytest.raises(ConflictError, match=r"study 'sky-confirm' was run on other data .*\n  1 file removed"):
        match_files(confirmation, made.fingerprint, made.files)


def test_a_table_that_was_tampered_with_is_refused(study: StudyRecord) -> None:
    (file,) = Path(study.artifacts).rglob("files.parquet")
    study_files(study).assign(part="train").to_parquet(file)
    with pytest.raises(DamagedError, match=r"files\.parquet: its SHA-256 is"):
        study_files(study)


def test_rows_of_a_table_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"u": np.arange(30.0) % 7, "patient": [f"p{i // 2}" for i in range(30)], "target": list("ab") * 15}
    )
    frame.loc[4, "target"] = None
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = DataSpec.model_validate({"table": {"file": tmp_path / "t.csv", "group": "patient"}})
    made = prepared(data, "table")
    found = made.files.to_frame()
    assert found["position"].tolist() == [f"row {i + 1}" for i in range(30) if i != 4]
    assert (found["path"] == "t.csv").all()
    assert found["sha256"].unique().tolist() == [hashlib.sha256((tmp_path / "t.csv").read_bytes()).hexdigest()]
    from aifs_tune.data import open_examples

    examples = open_examples(made.location)
    for row in found.itertuples():
        line = frame.iloc[int(row.position.split()[1]) - 1]
        assert (row.label, row.group) == (line["target"], line["patient"])
        assert examples.classes[examples.y_true[row.example]] == row.label
        assert row.example in getattr(examples, row.part)


def test_series_and_their_manifest_are_named(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    (tmp_path / "curves").mkdir()
    for i in range(12):
        pd.DataFrame({"v": random.normal(size=8)}).to_csv(tmp_path / "curves" / f"s{i}.csv", index=False)
    listed = pd.DataFrame({"path": [f"curves/s{i}.csv" for i in range(12)], "label": list("ab") * 6})
    listed.to_csv(tmp_path / "manifest.csv", index=False)
    found = prepared(DataSpec.model_validate({"series": {"path": tmp_path}}), "series").files.to_frame()
    assert found["path"].tolist() == ["manifest.csv", *listed["path"]]
    assert found["example"].tolist()[1:] == list(range(12))
    assert found["part"].isna().tolist() == [True] + [False] * 12


def test_windows_of_a_series_say_their_steps(tmp_path: Path) -> None:
    pd.DataFrame({"value": np.sin(np.arange(200) / 5)}).to_csv(tmp_path / "long.csv", index=False)
    series = {"path": tmp_path / "long.csv", "forecast": {"history": 8, "horizon": 2}}
    found = prepared(DataSpec.model_validate({"series": series}), "series").files.to_frame()
    assert found.iloc[3][["path", "position"]].tolist() == ["long.csv", "steps 3 to 10 for 12"]
    assert found["part"].isna().sum() == 2 * (8 + 2), "windows in the gaps between subsets are in none"
