"""Catalogues of bodies in each format, and their tiles and masks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aifs_tune.config import DataSpec
from aifs_tune.config.data import SkyFields
from aifs_tune.data.bodies.catalogue import load_catalogue
from aifs_tune.data.bodies.prepare import CLASS, IS_OWN, SIZE, STATE, X, Y, prepare_bodies
from aifs_tune.data.bodies.tiles import tiles_of
from aifs_tune.data.examples import ExampleSet
from aifs_tune.data.simulate.sky_fields import SATURATION_E, draw_field, simulate_sky_fields
from aifs_tune.errors import DataError, RequestError

N = 12
HEADER = "image,x,y,label,size,magnitude"


def frames(folder: Path, shape: tuple[int, int] = (40, 48)) -> None:
    random = np.random.default_rng(0)
    for i in range(N):
        np.save(folder / f"{i}.npy", random.normal(100, 5, shape).astype(np.float32))


def table(folder: Path, rows: list[str], header: str = HEADER) -> Path:
    file = folder / "bodies.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def rows_of_all() -> list[str]:
    return [f"{i}.npy,{10 + i},{20 + i},{'ab'[i % 2]},3.5,{15 + i / 10}" for i in range(N)]


def data_of(catalogue: Path, **changes: Any) -> DataSpec:
    return DataSpec(bodies={"catalogue": catalogue, "tile": 48, **changes})


def bodies_of(examples: ExampleSet) -> NDArray[np.float64]:
    """Counted bodies with x and y in px of their frames, sorted by x."""
    tiles, bodies = np.nonzero((examples.y_true[..., STATE] > 0) & (examples.y_true[..., IS_OWN] > 0))
    found = np.array(examples.y_true[tiles, bodies], np.float64)
    found[:, X : Y + 1] += examples.inputs[2][tiles, 1:3]
    return found[np.argsort(found[:, X])]


def test_a_table_becomes_tiles_with_bodies(tmp_path: Path) -> None:
    frames(tmp_path)
    prepared = prepare_bodies(data_of(table(tmp_path, rows_of_all()), numbers={"magnitude": "mag"}))
    examples = prepared.examples
    assert [one.shape for one in examples.inputs] == [(N, 48, 48, 1), (N, 48, 48), (N, 7)]
    assert examples.classes == ("a", "b")
    found = bodies_of(examples)
    np.testing.assert_allclose(found[:, X], 10 + np.arange(N))
    np.testing.assert_allclose(found[:, Y], 20 + np.arange(N))
    assert found[:, CLASS].tolist() == [0, 1] * (N // 2)
    target = examples.targets[0]
    np.testing.assert_allclose(found[:, 6] * target.scale + target.centre, 15 + np.arange(N) / 10, rtol=1e-6)
    # The frame has 40 rows of the 48 of a tile; what is beside it counts for nothing.
    assert examples.inputs[1].sum() == N * 40 * 48


def test_the_first_pixel_may_be_1(tmp_path: Path) -> None:
    frames(tmp_path)
    found = bodies_of(prepare_bodies(data_of(table(tmp_path, rows_of_all()), first_pixel=1)).examples)
    np.testing.assert_allclose(found[:, X], 9 + np.arange(N))


def test_what_is_guessed_or_left_out_is_named(tmp_path: Path) -> None:
    frames(tmp_path)
    rows = [f"{i}.npy,{10 + i},20" for i in range(N)] + ["0.npy,48,3", "1.npy,,"]
    lines = prepare_bodies(data_of(table(tmp_path, rows, "image,x,y"))).lines
    assert "no column of classes (data.bodies.label): every body is a body" in lines
    assert "no column of sizes (data.bodies.size): every body counts as 4 px wide" in lines
    assert "left out: 1 bodies outside of their frame" in lines


def test_a_fits_table_gives_the_same(tmp_path: Path) -> None:
    from astropy.table import Table

    frames(tmp_path)
    rows = [row.split(",") for row in rows_of_all()]
    columns: list[Any] = [list(column) for column in zip(*rows, strict=True)]
    for i in (1, 2, 4, 5):
        columns[i] = [float(each) for each in columns[i]]
    file = tmp_path / "bodies.fits"
    Table(columns, names=HEADER.split(",")).write(file)
    expected = bodies_of(prepare_bodies(data_of(table(tmp_path, rows_of_all()))).examples)
    np.testing.assert_array_equal(bodies_of(prepare_bodies(data_of(file)).examples), expected)


def test_coco_boxes_become_centres(tmp_path: Path) -> None:
    frames(tmp_path)
    images = [{"id": 7 + i, "file_name": f"{i}.npy"} for i in range(N)]
    # Pixels 10 to 13 and 20 to 28: the centre is at 11.5 and 24.
    boxes = [{"image_id": 7 + i, "category_id": 3, "bbox": [10, 20, 4, 9], "iscrowd": int(i == 0)} for i in range(N)]
    file = tmp_path / "coco.json"
    file.write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 3, "name": "cell"}]}))
    prepared = prepare_bodies(data_of(file))
    found = bodies_of(prepared.examples)
    assert found[:, X].tolist() == [11.5] * (N - 1)
    assert found[:, Y].tolist() == [24] * (N - 1)
    np.testing.assert_allclose(found[:, SIZE], 6)
    assert prepared.examples.classes == ("cell",)
    assert "left out: 1 bodies marked as difficult (their pixels are masked)" in prepared.lines
    first = prepared.examples.inputs[1][0, :40]
    assert first[24, 11] == 0
    assert first[2, 2] == 1


VOC = """<annotation><filename>{i}.npy</filename><object><name>{name}</name><difficult>0</difficult>
<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>14</xmax><ymax>29</ymax></bndbox></object></annotation>"""


def voc(folder: Path) -> Path:
    (folder / "xml").mkdir()
    for i in range(N):
        (folder / "xml" / f"{i}.xml").write_text(VOC.format(i=i, name="cell"))
    frames(folder)
    return folder / "xml"


def test_voc_files_and_lists_of_parts(tmp_path: Path) -> None:
    folder = voc(tmp_path)
    parts = {"train": range(8), "val": range(8, 10), "test": [10]}
    for part, numbers in parts.items():
        (tmp_path / f"{part}.txt").write_text("\n".join(map(str, numbers)))
    prepared = prepare_bodies(data_of(folder, images="..", sets=".."))
    assert [len(getattr(prepared.examples, part)) for part in parts] == [8, 2, 1]
    found = bodies_of(prepared.examples)
    assert (found[:, X] == 11.5).all()
    assert (found[:, Y] == 24).all()
    assert any(line.startswith("left out: 1 frames in no list of") for line in prepared.lines)


def test_saturated_and_edge_pixels_are_masked(tmp_path: Path) -> None:
    frames(tmp_path)
    bright = np.load(tmp_path / "0.npy")
    bright[30, 20] = 5000
    np.save(tmp_path / "0.npy", bright)
    catalogue = table(tmp_path, [*rows_of_all(), "0.npy,21,30,a,3,15", "1.npy,2,2,a,3,15"])
    prepared = prepare_bodies(data_of(catalogue, saturation=4000, edge=4, radius_px=2))
    mask = prepared.examples.inputs[1][0]
    assert mask[30, 18:23].tolist() == [0] * 5
    assert mask[30, 17] == mask[27, 20] == 1
    assert mask[:4].sum() == 0
    assert mask[:, :4].sum() == 0
    assert len(bodies_of(prepared.examples)) == N
    assert "left out: 2 bodies on masked pixels" in prepared.lines


def test_binning_and_overlapping_tiles_keep_every_body_once(tmp_path: Path) -> None:
    frames(tmp_path, (150, 170))
    random = np.random.default_rng(1)
    xy = random.uniform(-0.5, 149.5, (200, 2))
    catalogue = table(tmp_path, [f"{i % N}.npy,{x},{y},a,3,15" for i, (x, y) in enumerate(xy)])
    examples = prepare_bodies(data_of(catalogue, binning=2, tile=32)).examples
    found = bodies_of(examples)
    assert len(found) == 200
    np.testing.assert_allclose((found[:, X] + 0.5) * 2 - 0.5, np.sort(xy[:, 0]), atol=1e-4)
    np.testing.assert_allclose(found[:, SIZE], 1.5)


@pytest.mark.parametrize("size", [(32, 32), (33, 100), (200, 31), (129, 65)])
def test_counted_areas_cover_a_frame_once(size: tuple[int, int]) -> None:
    counted = np.zeros(size, int)
    for left, top, x0, x1, y0, y1 in tiles_of(*size, 32):
        counted[y0:y1, x0:x1] += 1
        assert left <= x0 < x1 <= left + 32
        assert top <= y0 < y1 <= top + 32
    assert (counted == 1).all()


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("file,x,y", "0.npy,1,2", "no column 'image'; allowed: file, x, y"),
        ("image,x,y", "0.npy,one,2", "x is 'one' in row"),
        ("image,x,y,size", "0.npy,1,2,0", "the size of body 1 is 0 px; allowed: above 0"),
        ("image,x,y", "0.gif7,1,2", "has an unknown suffix; allowed: "),
        ("image,x,y", "../0.npy,1,2", "the folder of the frames"),
    ],
)
def test_a_wrong_table_is_told(tmp_path: Path, header: str, row: str, message: str) -> None:
    frames(tmp_path)
    blank = "," * header.count(",")
    rows = [row, *(f"{i}.npy{blank}" for i in range(1, N))]
    with pytest.raises(DataError, match=message):
        load_catalogue(data_of(table(tmp_path, rows, header)).bodies)  # type: ignore[arg-type]


def test_wrong_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    for file, message in (("a.json", "is not a COCO file"), ("none.csv", "there is no such file")):
        with pytest.raises(DataError, match=message):
            load_catalogue(data_of(tmp_path / file).bodies)  # type: ignore[arg-type]
    folder = voc(tmp_path)
    (folder / "0.xml").write_text("<annotation><filename>0.npy</filename><object><name>a</name></object></annotation>")
    with pytest.raises(DataError, match=r"0.xml: an object has no bndbox"):
        load_catalogue(data_of(folder).bodies)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"data.bodies.numbers: names a column, but .* has Pascal VOC files"):
        load_catalogue(data_of(folder, numbers={"flux": "Jy"}).bodies)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"part": "part", "sets": "lists"}, "sets: cannot be combined with part"),
        ({"brightness": "flux"}, "brightness: flux is no number of role magnitude or flux"),
        ({"numbers": {"vx": "px/s"}}, "1 of role vx and 0 of role vy"),
        ({"numbers": {"x": "px"}}, "role x is that of the place of a body"),
        ({"tile": 50}, "tile: "),
    ],
)
def test_a_wrong_section_is_told(changes: dict[str, Any], message: str) -> None:
    import aifs_tune

    overrides = [f"data.bodies.{name}={json.dumps(value)}" for name, value in changes.items()]
    with pytest.raises(RequestError, match=message):
        aifs_tune.load_sweep("blood_cell_boxes", overrides=overrides)


def test_simulated_fields_have_the_light_of_their_bodies() -> None:
    sky = SkyFields(fields=12, size=96, bodies=1, galaxies=0, blends=0, cosmic_rays=0)
    for number in range(400):
        pixels, bodies = draw_field(sky, number)
        inside = len(bodies) == 1 and all(18 < each < 78 for each in (bodies[0].x, bodies[0].y))
        if inside and bodies[0].magnitude < 16 and np.nanmax(pixels) < SATURATION_E:
            around = np.s_[round(bodies[0].y) - 15 : round(bodies[0].y) + 16, round(bodies[0].x) - 15 :][:2]
            light = np.nansum((pixels - np.nanmedian(pixels))[around][:, :31])
            assert light == pytest.approx(10 ** (-0.4 * (bodies[0].magnitude - 26)), rel=0.2)
            row, column = np.unravel_index(np.nanargmax(pixels), pixels.shape)
            assert abs(column - bodies[0].x) <= 1
            assert abs(row - bodies[0].y) <= 1
            return
    pytest.fail("no field with one bright star near its centre")


def test_simulated_fields_are_the_same_for_the_same_seed() -> None:
    sky = SkyFields(fields=12, size=32, bodies=4)
    first = simulate_sky_fields(sky).read_text()
    again = draw_field(sky, 3)
    np.testing.assert_array_equal(again[0], draw_field(sky, 3)[0])
    assert len([line for line in first.splitlines() if line.startswith("frames/000003")]) == max(1, len(again[1]))


@pytest.mark.skipif("AIFS_TUNE_BCCD" not in os.environ, reason="AIFS_TUNE_BCCD names no folder of BCCD")
def test_the_blood_cells_of_bccd() -> None:
    import aifs_tune

    folder = Path(os.environ["AIFS_TUNE_BCCD"]) / "BCCD" / "Annotations"
    spec = aifs_tune.load_sweep("blood_cell_boxes", data=str(folder)).spec
    assert spec.data is not None
    examples = prepare_bodies(spec.data).examples
    assert examples.classes == ("Platelets", "RBC", "WBC")
    assert len(examples.train) == 205
