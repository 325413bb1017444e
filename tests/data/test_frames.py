"""Manifests of images: what is learnt from them, what is left out, and what is refused."""

from __future__ import annotations

import gzip
import io
import re
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from aifs_tune.config.data import DataSpec, MovingSky
from aifs_tune.data import open_examples
from aifs_tune.data.frames.files import read_frames
from aifs_tune.data.frames.manifest import load_manifest
from aifs_tune.data.frames.prepare import prepare_frames
from aifs_tune.data.simulate.moving_sky import draw_field, simulate_moving_sky, star_image
from aifs_tune.data.sources import locate, prepare
from aifs_tune.errors import DataError

POSITIONS = {"x": "px", "y": "px", "brightness": "mag"}
N = 20


def stars(folder: Path, *, n: int = N, size: tuple[int, int] = (10, 12)) -> list[dict[str, Any]]:
    """FITS images of a star each, and their rows of a manifest."""
    random = np.random.default_rng(3)
    rows = []
    for i in range(n):
        x, y = random.uniform(2, size[1] - 3), random.uniform(2, size[0] - 3)
        image = random.normal(100, 2, size)
        image[round(y), round(x)] += 300 + 10 * i
        fits.PrimaryHDU(image.astype(np.float32)).writeto(folder / f"{i}.fits")
        rows.append({"path": f"{i}.fits", "x": x, "y": y, "brightness": 10 + i / 4, "night": f"n{i % 7}"})
    return rows


def manifest(folder: Path, rows: list[dict[str, Any]]) -> Path:
    lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


def spec(file: Path, **frames: Any) -> DataSpec:
    return DataSpec(frames={"manifest": file, "targets": POSITIONS, **frames})


def test_positions_of_stars_are_scaled_by_the_training_set_and_groups_stay_together(tmp_path: Path) -> None:
    rows = stars(tmp_path)
    prepared = prepare_frames(spec(manifest(tmp_path, rows), group="night"))
    examples = open_examples(prepared.location)
    assert examples.inputs[0].shape == (N, 10, 12, 1)
    assert examples.inputs[0].dtype == np.float16
    assert [(target.name, target.unit) for target in examples.targets] == list(POSITIONS.items())
    told = np.array([[row[name] for name in POSITIONS] for row in rows])
    centres, scales = (np.array([getattr(t, name) for t in examples.targets]) for name in ("centre", "scale"))
    np.testing.assert_allclose(examples.y_true * scales + centres, told, rtol=1e-4)
    np.testing.assert_allclose(examples.y_true[examples.train].mean(axis=0), 0, atol=1e-5)
    nights = [{rows[i]["night"] for i in part} for part in (examples.train, examples.val, examples.test)]
    assert not nights[0] & nights[1] | nights[1] & nights[2] | nights[0] & nights[2]
    peaks = examples.inputs[0][..., 0].reshape(N, -1).argmax(axis=1)
    assert [divmod(int(peak), 12) for peak in peaks] == [(round(row["y"]), round(row["x"])) for row in rows]
    assert examples.facts["roles"] == ["x", "y", "magnitude"]


def test_a_manifest_with_a_class_and_numbers_has_both(tmp_path: Path) -> None:
    rows = [{**row, "kind": ("star", "galaxy")[i % 2]} for i, row in enumerate(stars(tmp_path))]
    rows[4]["kind"] = ""
    data = spec(manifest(tmp_path, rows), label="kind", targets={"x": "px", "y": "px"})
    assert (data.has_classes("frames"), data.targets("frames")) == (True, ("x", "y"))
    prepared = prepare_frames(data)
    examples = open_examples(prepared.location)
    kept = [row for i, row in enumerate(rows) if i != 4]
    assert [examples.classes[i] for i in examples.labels] == [row["kind"] for row in kept]
    centres, scales = (np.array([getattr(t, name) for t in examples.targets]) for name in ("centre", "scale"))
    told = np.array([[row["x"], row["y"]] for row in kept])
    np.testing.assert_allclose(examples.numbers * scales + centres, told, rtol=1e-4)
    assert "left out: 1 rows without kind or x or y" in prepared.lines
    with pytest.raises(ValueError, match="label: x is one of the targets; allowed: another column of classes"):
        spec(tmp_path / "manifest.csv", label="x")


def test_classes_of_many_images_in_one_file_with_given_subsets(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.normal(0, 1, (N, 9, 9))
    images[::2, 4, 4] += 20
    np.save(tmp_path / "all.npy", images)
    parts = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    rows = [
        {"path": "all.npy", "number": i, "label": ("star", "sky")[i % 2], "part": part} for i, part in enumerate(parts)
    ]
    examples = prepare_frames(spec(manifest(tmp_path, rows), targets={}, index="number", part="part")).examples
    assert examples.classes == ("sky", "star")
    assert examples.y_true.tolist() == [1, 0] * 10
    assert examples.val.tolist() == [12, 13, 14, 15]
    assert examples.facts["roles"] == []


def test_rows_of_one_file_need_the_number_of_their_image(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", np.random.default_rng(0).normal(size=(N, 8, 8)))
    file = manifest(tmp_path, [{"path": "all.npy", "label": "ab"[i % 2]} for i in range(N)])
    with pytest.raises(DataError, match=rf"{N} rows name 1 different files, such as all.npy; .*: data.frames.index"):
        prepare_frames(spec(file, targets={}))


def test_frames_of_several_files_and_formats_become_bands_and_are_resized(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    rows = []
    for i in range(N):
        pages = random.integers(0, 255, (2, 16, 16), dtype=np.uint8)
        np.save(tmp_path / f"{i}.npy", pages[0])
        Image.fromarray(pages[1]).save(tmp_path / f"{i}.png")
        rows.append({"first": f"{i}.npy", "second": f"{i}.png", "z": random.normal()})
    data = spec(manifest(tmp_path, rows), path=["first", "second"], targets={"z": {}}, image_size=8)
    examples = prepare_frames(data).examples
    assert examples.inputs[0].shape == (N, 8, 8, 2)
    assert (examples.facts["native"], examples.facts["shape"]) == ([16, 16], [8, 8, 2])
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "7.png")
    lines = prepare_frames(data).lines
    assert any(
        "7.npy + 7.png: has frames of 5 x 5 and 16 x 16 pixels; allowed: frames of one size" in one for one in lines
    )


def test_unreadable_images_are_left_out_and_named_and_too_many_are_an_error(tmp_path: Path) -> None:
    rows = stars(tmp_path)
    file = manifest(tmp_path, rows)
    (tmp_path / "4.fits").write_bytes(b"SIMPLE  =")
    (tmp_path / "5.fits").unlink()
    fits.PrimaryHDU(np.full((10, 12), np.nan, np.float32)).writeto(tmp_path / "6.fits", overwrite=True)
    prepared = prepare_frames(spec(file))
    text = "\n".join(prepared.lines)
    assert len(prepared.examples.y_true) == N - 3
    for name, reason in (
        ("4", "cannot be read as FITS"),
        ("5", "does not exist"),
        ("6", "has a band without a finite pixel"),
    ):
        assert f"left out: {name}.fits: {reason}" in text
    with pytest.raises(
        DataError, match=r"3 images cannot be used; allowed when strict: none\n  4.fits: cannot be read"
    ):
        prepare_frames(spec(file), strict=True)
    with pytest.raises(
        DataError,
        match=r"20 of 20 images cannot be used; allowed: at most half\n  18 such as 0.fits and 1.fits: has no HDU",
    ):
        prepare_frames(spec(file, hdu="SCI"))


def _header(columns: int, rows: int) -> bytes:
    """Of a FITS file that says it has so many pixels."""
    axes = (("SIMPLE", "T"), ("BITPIX", -32), ("NAXIS", 2), ("NAXIS1", columns), ("NAXIS2", rows))
    cards = "".join(f"{name:8}= {value:>20}".ljust(80) for name, value in axes) + "END".ljust(80)
    return cards.ljust(2880).encode()


def test_files_that_lie_about_their_size_cost_no_memory(tmp_path: Path) -> None:
    rows = stars(tmp_path)
    (tmp_path / "4.fits").write_bytes(_header(10**6, 10**6) + bytes(2880))
    (tmp_path / "5.fits").write_bytes(_header(10**15, 10**15) + bytes(2880))
    with gzip.open(tmp_path / "6.fits.gz", "wb") as bomb:
        bomb.write(_header(16_000, 16_000))
        for _ in range(64):
            bomb.write(bytes(4_000_000))
    tiles = fits.CompImageHDU(np.zeros((64, 64), np.float32), compression_type="GZIP_1")
    tiles.writeto(tmp_path / "7.fits", overwrite=True)
    lie = (tmp_path / "7.fits").read_bytes()
    for axis in (b"ZNAXIS1", b"ZNAXIS2"):
        lie = lie.replace(axis + b" =                   64", axis + b" =              1000000")
    (tmp_path / "7.fits").write_bytes(lie)
    with h5py.File(tmp_path / "8.h5", "w") as sparse:
        sparse.create_dataset("image", shape=(10**6, 10**6), dtype="f4", chunks=(1000, 1000), compression="gzip")
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)})
    (tmp_path / "9.npy").write_bytes(array.getvalue() + bytes(100))
    for number, suffix in ((6, "fits.gz"), (8, "h5"), (9, "npy")):
        rows[number]["path"] = f"{number}.{suffix}"
    tracemalloc.start()
    prepared = prepare_frames(spec(manifest(tmp_path, rows)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 50e6
    text = "\n".join(prepared.lines)
    for name, reason in (
        ("4.fits", "cannot be read as FITS (File may have been truncated"),
        ("5.fits", "cannot be read as FITS"),
        ("3 such as 6.fits.gz and 7.fits", "has 16000 x 16000 pixels; allowed: at most 64,000,000 in all"),
        ("9.npy", "cannot be read as NumPy"),
    ):
        assert f"left out: {name}: {reason}" in text


def test_processes_read_what_this_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aifs_tune.data.frames.files._SETTLED_NS", 10**18)  # so that everything is read again
    data = spec(manifest(tmp_path, stars(tmp_path)))
    (tmp_path / "4.fits").write_bytes(b"SIMPLE  =")
    with fits.open(tmp_path / "2.fits", mode="update") as opened:
        opened[0].data[:2] = np.nan
    here, there = prepare_frames(data, processes=0), prepare_frames(data, processes=2)
    assert here.location == there.location  # its name is a digest of all that is stored
    assert here.lines == there.lines


def test_an_image_that_ends_its_process_costs_that_image_alone(tmp_path: Path) -> None:
    names = [f"{i}.npy" for i in range(N)]
    names[7] = "kill.npy"
    for name in names:
        np.save(tmp_path / name, np.ones((9, 9)))
    data = spec(manifest(tmp_path, [{"path": name, "z": i} for i, name in enumerate(names)]), targets={"z": {}}).frames
    assert data is not None
    listed, options = load_manifest(data), {"lock_file": tmp_path / "lock", "worker": "dying_frame_worker"}
    frames = read_frames(listed, data, tmp_path, None, processes=1, **options)
    assert frames.rows == [*range(7), *range(8, N)]
    assert [str(one) for one in frames.skipped_files] == [
        "kill.npy: crashes the process that reads it (killed by SIGKILL)"
    ]
    for name in ("5.npy", "15.npy"):
        np.save(tmp_path / name, np.ones((9, 8)))
    with pytest.raises(DataError, match=r"0.npy has 9 x 9 px and 5.npy has 9 x 8 px; allowed: images of one size"):
        read_frames(listed, data, tmp_path, None, processes=2, **options)


def test_missing_pixels_and_rows_are_counted(tmp_path: Path) -> None:
    rows = stars(tmp_path)
    with fits.open(tmp_path / "2.fits", mode="update") as opened:
        opened[0].data[:2] = np.nan
    rows[1]["x"] = ""
    text = "\n".join(prepare_frames(spec(manifest(tmp_path, rows))).lines)
    assert "left out: 1 rows without x or y or brightness" in text
    assert "24 missing pixels filled" in text


def test_nothing_is_read_again_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = spec(manifest(tmp_path, stars(tmp_path)))
    monkeypatch.setattr("aifs_tune.data.frames.files._SETTLED_NS", -(10**18))
    first = prepare_frames(data)
    monkeypatch.setattr("aifs_tune.data.frames.prepare.read_frames", None)
    assert prepare_frames(data).location == first.location
    (tmp_path / "3.fits").write_bytes((tmp_path / "4.fits").read_bytes())
    with pytest.raises(TypeError):
        prepare_frames(data)


@pytest.mark.parametrize(
    ("change", "frames", "message"),
    [
        ({"path": "../1.fits"}, {}, "row 1 has the path '../1.fits', outside the folder of the manifest"),
        ({"path": "/data/1.fits"}, {}, "row 1 has the path '/data/1.fits', outside"),
        ({"path": "1.csv"}, {}, "row 1 has the path '1.csv' with an unknown suffix; allowed: .fits"),
        ({"path": ""}, {}, "row 1 has the path nan; allowed: the path of an image file"),
        ({"x": "left"}, {}, "x is 'left' in row 1; allowed: finite numbers"),
        ({"x": "inf"}, {}, "x is inf in row 1; allowed: finite numbers"),
        ({}, {"path": "file"}, "no column 'file'; allowed: path, x, y, brightness, night"),
        ({}, {"targets": {"z": {}}}, "no column 'z'; allowed: path, x"),
        ({}, {"targets": {}}, "no column 'label'; allowed: path"),
        ({}, {"group": "field"}, "no column 'field'"),
        ({}, {"part": "night"}, "'n0' is not a subset; allowed: train, val, test"),
        ({}, {"index": "x"}, r"x is .* in row 1; allowed: whole numbers from 0"),
        ({}, {"targets": {}, "label": "x"}, "x has 20 distinct entries"),
    ],
)
def test_a_wrong_manifest_is_refused(
    tmp_path: Path, change: dict[str, Any], frames: dict[str, Any], message: str
) -> None:
    rows = stars(tmp_path)
    if frames.get("label") == "x":
        message, rows = "x has 30 distinct entries in 30 rows; allowed: classes that repeat", rows * 2
        rows = [{**row, "x": i / 7} for i, row in enumerate(rows[:30])]
    rows[0] = rows[0] | change
    with pytest.raises(DataError, match=message) as refused:
        prepare_frames(spec(manifest(tmp_path, rows), **frames))
    assert re.search(r"manifest .*manifest\.csv: ", str(refused.value))


def test_few_images_one_size_and_numbers_of_bands_are_required(tmp_path: Path) -> None:
    rows = stars(tmp_path)
    with pytest.raises(DataError, match="9 rows with x, y, brightness; allowed: at least 10"):
        prepare_frames(spec(manifest(tmp_path, rows[:9])))
    with pytest.raises(DataError, match="there is no such file; allowed: a CSV or Parquet file"):
        prepare_frames(spec(tmp_path / "absent.csv"))
    file = manifest(tmp_path, rows)
    fits.PrimaryHDU(np.ones((20, 12), np.float32)).writeto(tmp_path / "6.fits", overwrite=True)
    with pytest.raises(
        DataError, match=r"0.fits has 10 x 12 px and 6.fits has 20 x 12 px; allowed: images of one size"
    ):
        prepare_frames(spec(file))
    with pytest.raises(DataError, match=r"allowed if positions, vectors or lengths in px are predicted: one size"):
        prepare_frames(spec(file, image_size=8))
    assert prepare_frames(spec(file, image_size=8, targets={"brightness": "mag"})).examples.inputs[0].shape[1:3] == (
        8,
        8,
    )
    fits.PrimaryHDU(np.ones((2, 10, 12), np.float32)).writeto(tmp_path / "6.fits", overwrite=True)
    with pytest.raises(DataError, match=r"0.fits has 1 bands and 6.fits has 2; allowed: the same number of bands"):
        prepare_frames(spec(file))


def test_a_path_on_the_command_line_replaces_the_manifest(tmp_path: Path) -> None:
    data = DataSpec(frames={"targets": POSITIONS})
    assert data.targets("frames") == tuple(POSITIONS)
    with pytest.raises(DataError, match=r"sky needs a manifest of images; give --data FILE or data.frames"):
        locate(data, "frames", "sky")
    file = manifest(tmp_path, stars(tmp_path))
    located = locate(data.at(file, "frames"), "frames", "sky")
    said: list[str] = []
    made = prepare(located, "frames", strict=False, tell=said.append, progress=lambda *_: None)
    assert open_examples(made.location).fingerprint == made.fingerprint
    assert said[0] == f"manifest {file}: {N} images of 10 x 12 px, 1 bands"


def centroid(image: np.ndarray) -> tuple[float, float]:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return float((image * columns).sum() / image.sum()), float((image * rows).sum() / image.sum())


def test_the_simulated_source_is_where_the_manifest_says_and_moves_so() -> None:
    star = star_image(41, 17.3, 22.6, seeing=2.5, beta=4.0)
    assert centroid(star) == pytest.approx((17.3, 22.6), abs=0.15)
    sky = MovingSky(images=30, size=40, stars=0, interval_s=50)
    for number in range(10):
        frames, (x, y, vx, vy, magnitude) = draw_field(sky, number)
        for i, frame in enumerate(np.nan_to_num(frames, nan=float(np.nanmedian(frames)))):
            here = x + 50 * i * vx, y + 50 * i * vy
            rows, columns = np.mgrid[:40, :40]
            near = np.where(np.hypot(columns - here[0], rows - here[1]) < 4, frame - np.median(frame), 0)
            assert centroid(near) == pytest.approx(here, abs=0.6)
            assert near.sum() == pytest.approx(10 ** (-0.4 * (magnitude - 26)), rel=0.4)


def test_a_simulated_sky_is_drawn_once_and_read_as_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path))
    sky = {"images": 40, "size": 16, "frames": 3, "seed": 5}
    frames = {"simulate": sky, "path": "image", "targets": {"x": "px", "y": "px"}, "group": "field", "hdu": "all"}
    data = locate(DataSpec(frames=frames), "frames", "sky")
    found = [prepare(data, "frames", strict=True, tell=lambda _: None, progress=lambda *_: None) for _ in range(2)]
    assert found[0] == found[1]
    assert open_examples(found[0].location).inputs[0].shape == (40, 16, 16, 3)
    file = simulate_moving_sky(MovingSky(**sky))
    with fits.open(file.parent / "frames" / "000000.fits") as opened:
        assert [hdu.name for hdu in opened] == ["PRIMARY", "FRAME1", "FRAME2", "FRAME3"]
        assert opened["FRAME3"].header["TSTART"] == 120
