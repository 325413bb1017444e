"""Images in different subsets that look alike, and the command that shows data before any training."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from aifs_tune.cli.main import app
from aifs_tune.config.data import DataSpec
from aifs_tune.data import prepare_images
from aifs_tune.errors import DataError, RequestError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes in three subsets; one training image is also in the test set, stored with another quality."""
    random = np.random.default_rng(2)
    for part, n in (("train", 8), ("val", 4), ("test", 4)):
        for label in ("cell", "debris"):
            (tmp_path / "d" / part / label).mkdir(parents=True)
            for i in range(n):
                pixels = np.asarray(Image.fromarray(random.integers(0, 255, (6, 6), np.uint8)).resize((48, 48)))
                Image.fromarray(pixels).save(tmp_path / "d" / part / label / f"{part}{i}.png")
    Image.open(tmp_path / "d/train/cell/train3.png").save(tmp_path / "d/test/cell/again.jpg", quality=60)
    return tmp_path / "d"


def test_near_duplicates_in_different_subsets_are_named_once_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = prepare_images(DataSpec(folder=folder, image_size=32)).preflight.near_duplicates
    assert found is not None
    assert (found.n_pairs, found.n_images) == (1, 2)
    assert {found.worst[0].first, found.worst[0].second} == {"train/cell/train3.png", "test/cell/again.jpg"}
    assert {found.worst[0].first_subset, found.worst[0].second_subset} == {"train", "test"}
    assert "1 pair of images in different subsets looks alike: " in found.text
    assert "keep images of the same object in one subset: use data.group_by" in found.text
    monkeypatch.setattr(
        "aifs_tune.data.images.near_duplicates.near_duplicates", lambda *_, **__: pytest.fail("the result is stored")
    )
    again = prepare_images(DataSpec(folder=folder, image_size=32)).preflight
    assert again.near_duplicates == found
    assert f"warning: {found.text}" in again.lines()


def test_they_are_refused_or_not_looked_for_where_the_sweep_file_says_so(folder: Path) -> None:
    with pytest.raises(DataError, match=r"1 pair of images .*allowed with data.near_duplicates refuse: none"):
        prepare_images(DataSpec(folder=folder, image_size=32, near_duplicates="refuse"))
    assert (
        prepare_images(DataSpec(folder=folder, image_size=32, near_duplicates="ignore")).preflight.near_duplicates
        is None
    )
    (folder / "test/cell/again.jpg").unlink()
    clean = prepare_images(DataSpec(folder=folder, image_size=32, near_duplicates="refuse")).preflight.near_duplicates
    assert clean is not None
    assert (clean.n_pairs, clean.text) == (0, "")


def test_many_images_are_looked_at_within_bounds_and_it_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aifs_tune.data.images.near_duplicates.MAX_COMPARISONS", 0)
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(folder.parent / "cache"))
    found = prepare_images(DataSpec(folder=folder, image_size=32)).preflight.near_duplicates
    assert found is not None
    assert "only hashes that differ in at most 0 of 64 bits were compared" in found.limits


def test_the_command_shows_subsets_duplicates_and_the_fingerprint(folder: Path) -> None:
    words = ["check-data", "celestial_cnn", "--data", str(folder)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    shown = " ".join(done.stdout.split())
    assert "│ cell │ 8 │ 4 │ 5 │" in shown
    assert "again.jpg (test)" in shown
    answer = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert answer["subsets"]["train"] == {"examples": 16, "classes": {"cell": 8, "debris": 8}, "groups": None}
    assert answer["near_duplicates"]["n_pairs"] == 1
    assert answer["fingerprint"] in shown


@pytest.mark.parametrize(("n_columns", "n_classes"), [(2000, 3), (20, 60)])
def test_a_wide_table_and_many_classes_fit_on_a_screen(
    n_columns: int, n_classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(600, n_columns)).round(3)).add_prefix("gene")
    more = {f"same{i}": np.ones(600) for i in range(20)}
    more |= {f"text{i}": [f"entry {i} {j}" for j in range(600)] for i in range(20)}
    more |= {f"gap{i}": np.where(random.random(600) < 0.2, -9999, random.normal(size=600)) for i in range(20)}
    target = [f"kind{j % n_classes:02d}" for j in range(600)]
    pd.concat([frame, pd.DataFrame(more | {"target": target})], axis=1).to_csv(tmp_path / "t.csv", index=False)
    done = CliRunner().invoke(app, ["check-data", "gene_expression", "--data", str(tmp_path / "t.csv")])
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) <= 45
    shown = " ".join(done.stdout.split())
    assert "left out: columns same0, same1, same2 and 17 more, constant in the training set" in shown
    assert "left out: columns text0, text1, text2 and 17 more, text with 600 distinct entries such as" in shown
    assert "warning: columns gap0, gap1, gap2 and 17 more: is -9999 a missing value?" in shown
    assert f"gene0, gene1 and {n_columns + 18} more" in shown
    assert ("│ 48 more classes │ 288" in shown) is (n_classes == 60)


def test_the_command_refuses_what_has_no_data(folder: Path) -> None:
    refused = CliRunner().invoke(app, ["check-data", "crystal_growth"])
    assert isinstance(refused.exception, RequestError)
    assert "takes no data, so there is nothing to check" in str(refused.exception)
    for file in (folder / "train/cell").iterdir():
        file.unlink()
    refused = CliRunner().invoke(app, ["check-data", "celestial_cnn", "--data", str(folder)])
    assert isinstance(refused.exception, DataError)
    assert "usable classes: debris; allowed: at least 2" in str(refused.exception)


def radio_sources(n: int, *, seed: int, classes: int = 2, size: int = 48) -> list[tuple[str, np.ndarray]]:
    """Images like those of the FIRST survey: black, with one or two blobs in the middle."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - size / 2
    found = []
    for i in range(n):
        n_blobs, image = 1 + i % classes, np.zeros((size, size))
        for _ in range(n_blobs):
            (dx, dy), width = random.normal(0, 1.5 * n_blobs**1.7, 2), random.uniform(1.6, 3)
            image += random.uniform(0.5, 1) * np.exp(-((x - dx) ** 2 + (y - dy) ** 2) / 2 / width**2)
        noisy = 250 * image / image.max() + random.normal(0, 3, image.shape)
        found.append((("compact", "double")[i % classes], noisy.clip(0, 255).astype(np.uint8)))
    return found


def galaxies(n: int, *, seed: int, size: int = 48) -> list[tuple[str, np.ndarray]]:
    """Pictures of coarse structures, no two alike."""
    random = np.random.default_rng(seed)
    coarse = [Image.fromarray(random.integers(0, 255, (6, 6), np.uint8)) for _ in range(n)]
    return [(("spiral", "merger")[i % 2], np.asarray(one.resize((size, size)))) for i, one in enumerate(coarse)]


def saved(folder: Path, pictures: list[tuple[str, np.ndarray]], n_copies: int) -> Path:
    """Pictures as files, of which the first are also there as JPEG files."""
    for i, (label, pixels) in enumerate(pictures):
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / label / f"{i:04d}.png")
        if i < n_copies:
            Image.fromarray(pixels).save(folder / label / f"{i:04d}.jpg", quality=80)
    return folder


@pytest.mark.parametrize(("seed", "classes"), [(1, 2), (2, 2)])
def test_where_any_two_images_look_alike_no_pairs_are_listed_and_one_line_says_so(
    tmp_path: Path, seed: int, classes: int
) -> None:
    folder = saved(tmp_path / "first", radio_sources(500, seed=seed, classes=classes), 0)
    report = prepare_images(DataSpec(folder=folder, image_size=48)).preflight
    found = report.near_duplicates
    assert found is not None
    assert (found.n_pairs, found.worst) == (0, ())
    (line,) = [line for line in report.lines() if "alike" in line]
    assert "look as alike as copies do (correlation 0.95), so likeness tells nothing of copies" in line
    refusing = DataSpec(folder=folder, image_size=48, near_duplicates="refuse")
    assert prepare_images(refusing).preflight.near_duplicates == found
    shown = CliRunner().invoke(
        app, ["check-data", "celestial_cnn", "--data", str(folder), "--set", "data.image_size=48"]
    )
    assert "No near duplicates" not in shown.stdout


@pytest.mark.parametrize(("seed", "n_copies"), [(1, 12), (2, 250)])
def test_copies_of_pictures_are_listed_however_many(tmp_path: Path, seed: int, n_copies: int) -> None:
    folder = saved(tmp_path / "sky", galaxies(300, seed=seed), n_copies)
    prepared = prepare_images(DataSpec(folder=folder, image_size=48))
    part = dict(zip(prepared.files.path, prepared.files.part, strict=True))
    apart = sum(part[path] != part.get(path.replace(".jpg", ".png")) for path in part if path.endswith(".jpg"))
    found = prepared.preflight.near_duplicates
    assert found is not None
    assert found.limits == ""
    assert 0 < apart == found.n_pairs


def test_many_findings_fit_on_a_screen_and_json_has_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    random, n, units = np.random.default_rng(0), 120, ["mg", "kg", "ms"]
    columns: dict[str, object] = {"target": ["a", "b", "c"] * (n // 3), "id": random.permutation(n) + 1000}
    columns |= {"free": [f"text {i}" for i in range(n)], "const": 5, "inf": [np.inf, *random.normal(size=n - 1)]}
    columns |= {"m9": np.where(random.random(n) < 0.1, -9999, random.normal(size=n))}
    columns |= {f"share{i}": [f"{v}.{i} %" for v in random.integers(0, 100, n)] for i in range(2)}
    columns |= {f"mass{i}": [f"{v} {unit}" for v in random.integers(0, 100, n)] for i, unit in enumerate(units)}
    columns |= {f"many{i}": [f"{v:,}" for v in random.integers(1000, 99999, n)] for i in range(2)}
    columns |= {"odd": ["broken", *random.normal(size=n - 1)], "size": random.choice(["low", "Low"], n)}
    pd.DataFrame(columns).to_csv(tmp_path / "t.csv", index=False)
    words = ["check-data", "gene_expression", "--data", str(tmp_path / "t.csv")]
    told = CliRunner().invoke(app, words).stdout
    assert len(told.splitlines()) <= 40
    assert "warning: column m9: is -9999 a missing value?" in told
    assert "left out: column id, a different whole number in each row" in told
    assert "('broken' in row 1) and count as missing" in told
    more = re.search(r"and (\d+) more findings: --json lists all", told)
    assert more is not None
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["found"]
    assert sum("".join(line.split())[:60] not in "".join(told.split()) for line in found) == int(more[1])
