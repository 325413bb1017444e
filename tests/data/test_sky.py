"""The simulated sky: its camera, its bytes, and what it does with a folder."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from aifs_tune.config.data import DataSpec, Simulate
from aifs_tune.data import open_images
from aifs_tune.data.images.folder import scan_folder
from aifs_tune.data.simulate.profiles import Camera, Grid, stretch
from aifs_tune.data.simulate.sky import SHARES, Conditions, cut_out, simulate_sky
from aifs_tune.data.sources import prepare
from aifs_tune.errors import ConflictError, RequestError, WorkError

GRID = Grid.for_picture(64)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- camera


def test_blank_sky_has_the_noise_of_photons_and_readout() -> None:
    camera, sky = Camera(gain=2.0, read_noise_e=6.0), np.array([150.0, 200.0, 300.0])
    adu = camera.expose(np.zeros((3, 200, 200)), sky, np.random.default_rng(1))
    electrons = camera.calibrate(adu)

    assert ((adu.mean(axis=(1, 2)) - camera.bias_adu) * camera.gain).tolist() == pytest.approx(list(sky), rel=0.01)
    assert electrons.std(axis=(1, 2)).tolist() == pytest.approx(list(np.sqrt(sky + 36 + 4 / 12)), rel=0.02)


def test_camera_saturates() -> None:
    adu = Camera().expose(np.full((3, 2, 2), 1e7), np.zeros(3), np.random.default_rng(0))

    assert (adu == 65535).all()


@given(st.lists(st.floats(-100, 1e6), min_size=2, max_size=2, unique=True))
def test_stretch_keeps_order(levels: list[float]) -> None:
    low, high = sorted(levels)
    grey = stretch(np.broadcast_to(np.array([low, high])[None, None, :], (3, 1, 2)).copy())

    assert grey[0, 0, 0] <= grey[0, 1, 0]
    assert grey.min() >= 0


def test_stretch_keeps_colour_of_what_is_too_bright() -> None:
    red, green, blue = stretch(np.array([4e5, 2e5, 1e5]).reshape(3, 1, 1) + 10.0)[0, 0]

    assert (red, green, blue) == (255, 128, 64)


def signal_to_noise(difficulty: float) -> float:
    ratios = []
    for number in range(12):
        bands = cut_out("spiral", number, grid=GRID, seed=5, difficulty=difficulty)
        noise = np.abs(bands).mean(axis=0)[:8].ravel()
        ratios.append(bands.mean(axis=0)[24:40, 24:40].sum() / np.median(noise))
    return float(np.median(ratios))


def test_difficulty_lowers_signal_to_noise_and_widens_the_seeing() -> None:
    easy, middle, hard = (signal_to_noise(d) for d in (0.0, 0.5, 1.0))
    seeing = [np.median([Conditions.of_field(0, k, d).seeing for k in range(50)]) for d in (0.0, 0.5, 1.0)]

    assert easy > 2 * middle > 4 * hard
    assert seeing == pytest.approx([1.4, 2.1, 2.8], rel=0.1)


# --- survey


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        simulate_sky(tmp_path / name, images=24, size=32, seed=seed)

    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_a_longer_survey_begins_with_the_shorter_one(tmp_path: Path) -> None:
    simulate_sky(tmp_path / "short", images=17, size=16)
    simulate_sky(tmp_path / "long", images=40, size=16)
    short, long = contents(tmp_path / "short"), contents(tmp_path / "long")
    short.pop("survey.json")

    assert len(short) == 17
    assert short.items() <= long.items()


def test_shares_sizes_and_names(tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    survey = simulate_sky(tmp_path / "deep" / "sky", images=120, size=16, progress=lambda *a: said.append(a))
    scan = scan_folder(survey.folder)
    fields: dict[str, list[str]] = defaultdict(list)
    for file in scan.files:
        name = re.fullmatch(r"(field\d\d)_\d{6}\.png", Path(file.path).name)
        assert name, file.path
        fields[name[1]].append(file.label)
        with Picture.open(file.path) as picture:
            assert (picture.mode, picture.size) == ("RGB", (16, 16))

    assert not survey.is_reused
    assert sum(survey.counts.values()) == len(scan.files) == 120
    assert scan.skipped_files == ()
    assert scan.classes == tuple(sorted(SHARES))
    assert sum(SHARES.values()) == pytest.approx(1.0)
    assert all(abs(survey.counts[name] - 120 * share) <= 2 for name, share in SHARES.items())
    assert [len(labels) for labels in fields.values()] == [24] * 5
    assert all(abs(labels.count(c) - 24 * p) <= 2 for labels in fields.values() for c, p in SHARES.items())
    assert [done for _, done, _ in said] == [50, 100, 120]


def test_twelve_images_have_every_class(tmp_path: Path) -> None:
    assert min(simulate_sky(tmp_path / "sky", images=12, size=16, seed=9).counts.values()) >= 1


def test_hue_alone_does_not_give_the_class_away() -> None:
    hues, labels = [], []
    grid = Grid.for_picture(32)
    for label, name in enumerate(SHARES):
        for number in range(40):
            mean = cut_out(name, number, grid=grid, seed=2, difficulty=0.2).clip(0).mean(axis=(1, 2))
            hues.append(np.log(mean[:2] / mean[2]))
            labels.append(label)
    x, y = np.array(hues), np.array(labels)
    centres = np.array([x[y == label].mean(axis=0) for label in range(len(SHARES))])
    nearest = ((x[:, None, :] - centres) ** 2).sum(axis=2).argmin(axis=1)

    assert (nearest == y).mean() < 0.5


# --- folder


def test_the_same_survey_is_used_again(tmp_path: Path) -> None:
    first = simulate_sky(tmp_path / "sky", images=12, size=16)
    before = {p: p.stat().st_mtime_ns for p in first.folder.rglob("*")}
    again = simulate_sky(tmp_path / "sky", images=12, size=16)

    assert again.is_reused
    assert again.counts == first.counts
    assert before == {p: p.stat().st_mtime_ns for p in first.folder.rglob("*")}


def test_another_survey_is_left_alone(tmp_path: Path) -> None:
    simulate_sky(tmp_path / "sky", images=12, size=16, seed=1)
    before = contents(tmp_path / "sky")

    with pytest.raises(ConflictError, match="sky holds another survey, with seed 1 instead of seed 2; choose"):
        simulate_sky(tmp_path / "sky", images=12, size=16, seed=2)
    assert contents(tmp_path / "sky") == before


def test_a_survey_of_an_earlier_version_is_left_alone(tmp_path: Path) -> None:
    folder = simulate_sky(tmp_path / "sky", images=12, size=16).folder
    record = folder / "survey.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"simulated_sky": 1}))
    (folder / "artifact").rename(folder / "artefact")

    with pytest.raises(ConflictError, match="with simulated_sky 1 instead of simulated_sky 2; choose a new folder"):
        simulate_sky(folder, images=12, size=16)


def test_a_cached_survey_of_an_earlier_version_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path))
    (tmp_path / "sky-60-16-0-0.5" / "artefact").mkdir(parents=True)
    sky = DataSpec(simulate=Simulate(images=60, size=16), image_size=16)

    found = prepare(sky, "images", strict=True, tell=lambda _: None, progress=lambda *_: None)
    assert "artifact" in open_images(found.location).classes


def test_a_survey_that_lost_images_is_not_used(tmp_path: Path) -> None:
    folder = simulate_sky(tmp_path / "sky", images=12, size=16).folder
    next((folder / "stars").iterdir()).unlink()

    with pytest.raises(ConflictError, match=r"sky/stars has \d images of \d"):
        simulate_sky(folder, images=12, size=16)


@pytest.mark.parametrize("record", [None, "{", "[]", json.dumps({"simulated_sky": 0})])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, record: str | None) -> None:
    name = "notes.txt" if record is None else "survey.json"
    (tmp_path / name).write_text(record or "mine")

    with pytest.raises(ConflictError, match=re.escape(str(tmp_path))):
        simulate_sky(tmp_path, images=12, size=16)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_an_empty_folder_is_filled_and_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")

    assert simulate_sky(tmp_path / "empty", images=12, size=16).folder == tmp_path / "empty"
    with pytest.raises(ConflictError, match="file exists and is not a simulated sky"):
        simulate_sky(tmp_path / "file", images=12, size=16)
    with pytest.raises(WorkError, match="cannot be read or written"):
        simulate_sky(tmp_path / "file" / "sky", images=12, size=16)


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(phase: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_sky(tmp_path / "sky", images=12, size=16, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("images", 11, "from 12 to 1,000,000"),
        ("images", 12.0, "from 12 to 1,000,000"),
        ("size", 15, "from 16 to 1,024"),
        ("size", 1025, "from 16 to 1,024"),
        ("seed", -1, "from 0 to 4,294,967,295"),
        ("seed", True, "from 0 to 4,294,967,295"),
        ("difficulty", 1.01, "from 0 to 1"),
        ("difficulty", math.nan, "from 0 to 1"),
        ("difficulty", "0.5", "from 0 to 1"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, argument: str, value: object, allowed: str) -> None:
    with pytest.raises(RequestError, match=f"{argument} is {re.escape(repr(value))}; allowed: .*{allowed}"):
        simulate_sky(tmp_path / "sky", **{argument: value})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
