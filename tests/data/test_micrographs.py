"""Simulated micrographs: their statistics by other counts than those they are drawn by, their files and their seed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Picture
from scipy import ndimage

from aifs_tune.config.data import DataSpec, Simulate
from aifs_tune.data import open_images, prepare_frames, simulate_micrographs
from aifs_tune.data.images.folder import scan_folder
from aifs_tune.data.simulate.micrographs import (
    PERSISTENCE_PX,
    PORE_FRACTIONS,
    Micrograph,
    crack_path,
    draw_micrograph,
)
from aifs_tune.data.sources import prepare


def asked(**changes: int | float) -> Simulate:
    return Simulate.model_validate({"what": "micrographs", "size": 64} | changes)


@pytest.fixture(scope="module")
def clear() -> list[Micrograph]:
    """Micrographs without noise to speak of, of 12 specimens."""
    return [draw_micrograph(asked(difficulty=0.0), number) for number in range(144)]


def grains_per_px2(micrograph: Micrograph) -> float:
    """Density by the planimetric count: grains on an edge count half, those on the four corners together one."""
    grains = micrograph.grains
    edges = np.concatenate([grains[0], grains[-1], grains[:, 0], grains[:, -1]])
    corners = grains[[0, 0, -1, -1], [0, -1, 0, -1]]
    inside, on_edge = len(np.unique(grains)) - len(np.unique(edges)), len(np.setdiff1d(edges, corners))
    return (inside + on_edge / 2 + 1) / grains.size


def test_grains_have_the_stated_mean_intercept_by_the_planimetric_count(clear: list[Micrograph]) -> None:
    ratios = [math.pi / 4 / math.sqrt(grains_per_px2(one)) / one.mean_intercept_px for one in clear]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.03)


def test_the_intercept_of_an_image_is_that_of_its_specimen_on_average(clear: list[Micrograph]) -> None:
    """Boundaries are some per cent fewer, as intercepts below 1 px lie between two pixels."""
    boundaries = [one.mean_intercept_px / one.intercept_px for one in clear]
    assert 0.94 < np.mean(boundaries) < 1.0
    assert 0.02 < np.std(boundaries) < 0.15


def test_an_intercept_is_the_length_of_the_lines_by_the_boundaries_on_them() -> None:
    stripes = np.repeat(np.arange(4), 4)[None, :] * np.ones((16, 1), np.int64)
    pixels = np.zeros((16, 16), np.uint8)
    striped = Micrograph("sound", pixels, stripes.astype(np.int64), pixels > 0, 1.0, 0.0)
    assert striped.intercept_px == pytest.approx(2 * 16 * 15 / (16 * 3))


def test_pores_cover_the_stated_fraction(clear: list[Micrograph]) -> None:
    fractions = [one.pore_fraction for one in clear if one.label == "porous"]
    assert len(fractions) == 36
    assert np.mean(fractions) == pytest.approx(np.mean(PORE_FRACTIONS), rel=0.2)
    assert all(one.pore_fraction == 0 for one in clear if one.label != "porous")


def test_pores_are_the_large_dark_spots_of_a_clear_image(clear: list[Micrograph]) -> None:
    """Counted on the pixels: what stays after an erosion that removes boundaries, pits and scratches."""
    for one in clear:
        has_spots = ndimage.binary_opening(one.pixels < 60, np.ones((2, 2))).mean() > 0.002
        if one.label != "cracked":  # a crack leaves some of its pixels
            assert has_spots == (one.label == "porous")


def test_a_crack_bends_as_stated() -> None:
    """Mean square distance of the ends of a chain of Kratky and Porod: 2 P L (1 - P / L (1 - exp(-L / P)))."""
    random = np.random.default_rng(0)
    paths = [crack_path(100, random) for _ in range(2000)]
    found = [((path[-1] - path[0]) ** 2).sum() for path in paths]
    lengths = np.array([np.linalg.norm(np.diff(path, axis=0), axis=1).sum() for path in paths])
    ratio = PERSISTENCE_PX / lengths
    stated = 2 * PERSISTENCE_PX * lengths * (1 - ratio * (1 - np.exp(-1 / ratio)))
    assert np.mean(found) == pytest.approx(np.mean(stated), rel=0.05)


def test_a_crack_begins_at_an_edge_and_goes_inward() -> None:
    random = np.random.default_rng(1)
    for _ in range(100):
        path = crack_path(32, random)
        assert np.isclose(np.abs(path[0] - 15.5).max(), 16.0)
        assert np.abs(path[1] - 15.5).max() < 16.0


def test_a_specimen_has_twelve_images_of_one_grain_size(clear: list[Micrograph]) -> None:
    for first in range(0, len(clear), 12):
        labels = [one.label for one in clear[first : first + 12]]
        assert [labels.count(name) for name in ("sound", "porous", "cracked")] == [6, 3, 3]
        assert len({one.mean_intercept_px for one in clear[first : first + 12]}) == 1
    assert [one.label for one in clear[:12]] != [one.label for one in clear[12:24]]
    assert [one.crack_px > 0 for one in clear] == [one.label == "cracked" for one in clear]


def test_difficulty_adds_noise() -> None:
    rough = [np.abs(np.diff(draw_micrograph(asked(difficulty=d), 0).pixels.astype(int))).mean() for d in (0, 0.5, 1)]
    assert rough[0] < rough[1] < rough[2]


def test_the_same_seed_draws_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def contents(cache: str, **changes: int) -> dict[str, bytes]:
        monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path / cache))
        folder = simulate_micrographs(asked(size=24, **changes)).parent
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    short, again, other = contents("a", images=24), contents("b", images=24), contents("b", images=24, seed=1)
    longer = contents("a", images=36)
    assert short == again
    assert short != other
    manifest = short.pop("micrographs.csv")
    assert short.items() <= longer.items()
    assert longer["micrographs.csv"].startswith(manifest)


def test_the_folder_has_a_class_each_and_the_manifest_a_row_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path))
    said: list[tuple[str, int, int]] = []
    manifest = simulate_micrographs(asked(images=60, size=24), lambda *words: said.append(words))
    rows, scan = pd.read_csv(manifest), scan_folder(manifest.parent)
    assert scan.classes == ("cracked", "porous", "sound")
    assert scan.skipped_files == ()
    assert sorted(rows.image) == [file.name for file in scan.files]
    assert [done for _, done, _ in said] == [50, 60]
    for number, row in enumerate(rows.itertuples()):
        drawn = draw_micrograph(asked(images=60, size=24), number)
        with Picture.open(manifest.parent / row.image) as picture:
            np.testing.assert_array_equal(np.asarray(picture), drawn.pixels)
        assert (row.label, row.specimen) == (drawn.label, f"specimen{number // 12:04d}")
        assert row.intercept_px == pytest.approx(drawn.intercept_px, abs=1e-4)
        assert row.pore_fraction == pytest.approx(drawn.pore_fraction, abs=1e-6)


def test_a_sweep_without_data_reads_micrographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path))
    said: list[str] = []
    data = DataSpec(simulate=asked(images=36, size=24), image_size=24)
    images = open_images(prepare(data, "images", strict=True, tell=said.append, progress=lambda *_: None).location)
    assert images.images.shape == (36, 24, 24, 1)
    assert images.classes == ("cracked", "porous", "sound")
    assert "no data were given, so simulated micrographs are used; give yours with --data" in said


def test_the_manifest_has_numbers_to_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path))
    manifest = simulate_micrographs(asked(images=36, size=24))
    targets = {"intercept_px": {"unit": "px", "role": "length"}, "pore_fraction": {}}
    frames = {"manifest": manifest, "path": "image", "targets": targets, "group": "specimen", "stretch": "linear"}
    examples = prepare_frames(DataSpec.model_validate({"frames": frames}, strict=False)).examples
    assert [target.name for target in examples.targets] == ["intercept_px", "pore_fraction"]
    assert len(examples.train) + len(examples.val) + len(examples.test) == 36
