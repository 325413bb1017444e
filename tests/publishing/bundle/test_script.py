"""The script of a bundle: it answers as aifs-tune predict does, in a process that has neither aifs-tune nor Keras."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from trained_studies import trained_study

import aifs_tune
from aifs_tune.publishing.bundle.script import SCRIPT

FIXED = {"type": "float", "low": 1e-3, "high": 1e-2, "log": True, "default": 3e-3}
BLOCKED = """
import runpy, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"aifs_tune", "tensorflow", "keras", "pandas", "sklearn", "scipy"}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
NOISE = np.random.default_rng(0)
START = NOISE.bit_generator.state


@pytest.fixture(autouse=True)
def same_noise() -> None:
    """Let each test draw the same, alone or after others."""
    NOISE.bit_generator.state = START


def answers_of_script(bundle: Path, new: Path) -> tuple[pd.DataFrame, str]:
    """The table that the script writes, and what it says."""
    asked = [sys.executable, "-c", BLOCKED, str(bundle / SCRIPT), str(new), "-o", str(bundle.parent / "answers.csv")]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return pd.read_csv(bundle.parent / "answers.csv"), done.stderr


def check(bundle: Path, new: Path, unreadable: str) -> pd.DataFrame:
    """Compare the answers of the script with those of the package, which names the same file as unreadable."""
    expected = aifs_tune.load_model(bundle).predict_files([new])
    found, said = answers_of_script(bundle, new)
    assert [Path(each.name).name for each in expected.skipped] == [unreadable]
    assert re.findall(r"left out: (.*?):", said) == [str(new / unreadable)]
    assert list(found.columns) == list(expected.table.columns)
    assert list(found["file"]) == list(expected.table["file"])
    assert list(found.get("class", [])) == list(expected.table.get("class", []))
    numbers = [name for name in found.columns if name not in ("file", "class")]
    np.testing.assert_allclose(found[numbers], expected.table[numbers], rtol=1e-5, atol=1e-5)
    assert found[numbers].std().max() > 1e-3, "answers that differ from file to file"
    return found


@pytest.mark.parametrize(("fit", "mode"), [("crop", "RGB"), ("pad", "L")])
def test_images(url: str, tmp_path: Path, fit: str, mode: str) -> None:
    for i in range(24):
        file = tmp_path / "survey" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = NOISE.integers(0, 120, (20, 30, 3), np.uint8)
        pixels[..., 1] += 100 * (i % 2)
        Image.fromarray(pixels).convert(mode).save(file)
    data = {"folder": str(tmp_path / "survey"), "image_size": 16, "fit": fit}
    small = {"filters": 4, "dense_units": 8, "batch_size": 8}
    trained_study(
        url,
        {"trainer": {"name": "cnn", "precision": "float32"}, "data": data, "space": {"learning_rate": FIXED, **small}},
        epochs=2,
    )
    made = aifs_tune.export("mine", tmp_path / "bundle", storage=url)
    assert SCRIPT in made.files
    assert f"python {SCRIPT} FILES -o answers.csv" in (made.folder / "README.md").read_text()

    new = tmp_path / "new"
    (new / "deeper").mkdir(parents=True)
    colours = NOISE.integers(0, 255, (41, 29, 3), np.uint8)
    Image.fromarray(colours).save(new / "colours.png")
    Image.fromarray(colours).resize((300, 200)).save(new / "large.jpg", quality=90)
    Image.fromarray(NOISE.integers(0, 255, (9, 40, 4), np.uint8), "RGBA").save(new / "deeper" / "clear.png")
    Image.fromarray(colours[..., 0]).save(new / "grey.bmp")
    tifffile.imwrite(new / "stain.tif", colours)
    (new / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (new / ".hidden").write_text("not looked at")
    found = check(made.folder, new, "broken.png")
    assert len(found) == 5


def test_images_of_16_bits_are_scaled_as_in_training(url: str, tmp_path: Path) -> None:
    for i in range(24):
        file = tmp_path / "survey" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(NOISE.integers(500, 3000 + 5000 * (i % 2), (16, 16)).astype(np.uint16)).save(file)
    data = {"folder": str(tmp_path / "survey"), "image_size": 16}
    small = {"filters": 4, "dense_units": 8, "batch_size": 8}
    trained_study(
        url,
        {"trainer": {"name": "cnn", "precision": "float32"}, "data": data, "space": {"learning_rate": FIXED, **small}},
        epochs=2,
    )
    made = aifs_tune.export("mine", tmp_path / "bundle", storage=url)
    new = tmp_path / "new"
    new.mkdir()
    for i in range(3):
        deep = NOISE.integers(0, 4000 * (i + 1), (16, 20)).astype(np.uint16)
        Image.fromarray(deep).save(new / f"{i}.png")
    tifffile.imwrite(new / "stack.tif", NOISE.integers(0, 4000, (5, 16, 16)).astype(np.uint16))
    check(made.folder, new, "stack.tif")


def samples(n: int) -> pd.DataFrame:
    """Rows with gaps, text and a target that follows from them."""
    frame = pd.DataFrame({"mass": NOISE.normal(50, 20, n).round(2), "site": NOISE.choice(["north", "south", "sea"], n)})
    frame["dose"] = [f"{value:.1f}" if value > -1 else "n/a" for value in NOISE.normal(0, 1, n)]
    frame["yield"] = frame["mass"] * 2 + 30 * (frame["site"] == "sea") + NOISE.normal(0, 1, n)
    frame["kind"] = np.where(frame["mass"] > 50, "heavy", "light")
    frame.loc[::9, "mass"] = np.nan
    frame.loc[1::9, "mass"] = -999
    return frame


def test_a_table_of_classes_and_numbers(url: str, tmp_path: Path) -> None:
    samples(80).to_csv(tmp_path / "samples.csv", index=False)
    table = {"file": str(tmp_path / "samples.csv"), "target": "kind", "numbers": {"yield": "kg"}, "missing": [-999]}
    named = {"name": "mlp", "precision": "float32"}
    sweep = {"trainer": named, "data": {"table": table}, "space": {"learning_rate": FIXED, "values_weight": 0.5}}
    trained_study(url, sweep | {"objective": {"metric": "val_rmse_yield", "mode": "min"}}, epochs=3)
    made = aifs_tune.export("mine", tmp_path / "bundle", storage=url)
    assert "Output: probabilities: heavy, light; numbers: yield [kg]." in (made.folder / "README.md").read_text()
    samples(20).drop(columns=["kind", "yield"]).to_csv(tmp_path / "new.csv", index=False)
    model = aifs_tune.load_model(made.folder)
    expected = model.predict_files([tmp_path / "new.csv"]).table
    found, _ = answers_of_script(made.folder, tmp_path / "new.csv")
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5, atol=1e-5, check_dtype=False)
    assert list(found.columns) == ["file", "class", "p_heavy", "p_light", "yield [kg]"]
    np.testing.assert_allclose(found["p_heavy"] + found["p_light"], 1, atol=1e-5)
    assert found["yield [kg]"].mean() == pytest.approx(samples(80)["yield"].mean(), rel=0.5)
    explained = model.explain_files([tmp_path / "new.csv"], of="yield", most=2)
    assert (explained.unit, [one.of for one in explained.each]) == ("kg", ["yield", "yield"])
    np.testing.assert_allclose([one.answer for one in explained.each], expected["yield [kg]"][:2], rtol=1e-4)
    of_class = model.explain_files([tmp_path / "new.csv"], most=2)
    assert (of_class.unit, [one.of for one in of_class.each]) == ("probability", list(expected["class"][:2]))


@pytest.mark.parametrize("predict", ["classes", "values"])
@pytest.mark.parametrize("trainer", ["mlp", "boosting"])
def test_tables(url: str, tmp_path: Path, trainer: str, predict: str) -> None:
    samples(80).to_csv(tmp_path / "samples.csv", index=False)
    target, other = ("kind", "yield") if predict == "classes" else ("yield", "kind")
    table = {"file": str(tmp_path / "samples.csv"), "target": target, "predict": predict, "missing": [-999]}
    table |= {"leave_out": [other], "unit": "kg"} if predict == "values" else {"leave_out": [other]}
    space: dict[str, Any] = {"learning_rate": FIXED}
    objective = {"metric": "val_macro_f1" if predict == "classes" else "val_r2", "mode": "max"}
    named = {"name": trainer, "precision": "float32"} if trainer == "mlp" else trainer
    trained_study(url, {"trainer": named, "data": {"table": table}, "space": space, "objective": objective}, epochs=3)
    made = aifs_tune.export("mine", tmp_path / "bundle", storage=url)
    new = tmp_path / "new"
    new.mkdir()
    samples(20).drop(columns=target).to_csv(new / "a.csv", index=False)
    samples(7).to_csv(new / "b.csv", sep=";", index=False)
    expected = aifs_tune.load_model(made.folder).predict_files([new]).table
    (new / "c.csv").write_text("mass,site,dose\n1.5,sea,about 3\n")
    found, said = answers_of_script(made.folder, new)
    assert f"left out: {new / 'c.csv'}: has 'about 3' in the column dose; only plain numbers" in said
    assert len(found) == 27
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5, atol=1e-5, check_dtype=False)
    assert (predict == "values") == ("yield [kg]" in found.columns)


@pytest.mark.parametrize(
    ("section", "steps"),
    [({}, "even"), ({"length": 12, "scaling": "series"}, "uneven"), ({"keep": "first", "length": 12}, "dates")],
)
def test_series(url: str, tmp_path: Path, section: dict[str, Any], steps: str) -> None:
    def curve(i: int, n: int) -> pd.DataFrame:
        times: Any = np.arange(n) * 2.0
        if steps == "uneven":
            times = np.cumsum(NOISE.exponential(1.0, n)).round(3)
        if steps == "dates":
            times = [f"2024-05-{1 + k // 24:02d}T{k % 24:02d}:00" for k in range(n)]
        flux = np.sin(np.arange(n) * (0.3 + 0.5 * (i % 2))) + NOISE.normal(0, 0.1, n)
        made = pd.DataFrame({"time": times, "flux": flux, "sky": NOISE.normal(5, 1, n)})
        made.loc[::5, "sky"] = np.nan
        return made

    for i in range(24):
        file = tmp_path / "stars" / "ab"[i % 2] / f"{i}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        curve(i, 18).to_csv(file, index=False)
    data = {"series": {"path": str(tmp_path / "stars"), **section}}
    small = {"filters": 4, "batch_size": 8}
    trained_study(
        url,
        {
            "trainer": {"name": "cnn1d", "precision": "float32"},
            "data": data,
            "space": {"learning_rate": FIXED, **small},
        },
        epochs=2,
    )
    made = aifs_tune.export("mine", tmp_path / "bundle", storage=url)
    new = tmp_path / "new"
    new.mkdir()
    for i, n in enumerate((18, 9, 25)):
        curve(i, n).to_csv(new / f"{i}.csv", index=False)
    (new / "night.csv").write_text("time,flux,sky\n1,2.5,\n2,cloud,4\n")
    check(made.folder, new, "night.csv")


def test_what_the_script_does_not_read_is_said_at_the_export(url: str, tmp_path: Path) -> None:
    samples(40).to_csv(tmp_path / "samples.csv", index=False)
    table = {"file": str(tmp_path / "samples.csv"), "target": "kind", "decimal": ".", "time_format": "%d.%m.%Y"}
    trained_study(url, {"trainer": "boosting", "data": {"table": table}, "space": {"learning_rate": FIXED}})
    made = aifs_tune.export("mine", tmp_path / "bundle", storage=url)
    why = "it is not written for data.table.decimal, data.table.time_format; aifs-tune predict reads them"
    assert made.missing[f"model, {SCRIPT}"].startswith(why)
    assert SCRIPT not in made.files
    assert f"There is no {SCRIPT} file: {why}" in (made.folder / "README.md").read_text()


def test_numbers_that_can_be_read_in_two_ways_are_refused(url: str, tmp_path: Path) -> None:
    samples(40).to_csv(tmp_path / "samples.csv", index=False)
    table = {"file": str(tmp_path / "samples.csv"), "target": "kind", "missing": [-999]}
    trained_study(url, {"trainer": "boosting", "data": {"table": table}, "space": {"learning_rate": FIXED}})
    made = aifs_tune.export("mine", tmp_path / "bundle", storage=url)
    new = tmp_path / "new"
    new.mkdir()
    good = "mass,site,dose,yield\n1.5,sea,3,2\n"
    texts = {
        "thousands.csv": "mass;site;dose;yield\n1.037;sea;3;2\n2.500;sea;3;2\n",
        "commas.csv": good + '"1,5",sea,3,2\n',
        "comment.csv": "# of May\n" + good,
        "units.csv": good.replace("\n1.5", "\nkg,,,\n1.5"),
        "ragged.csv": good + "1,sea\n",
        "lacks.csv": good.replace("dose", "dosis"),
        "codes.csv": good.replace("sea", "7"),
        "latin.csv": good.replace("sea", "süd"),
        "table.xlsx": good,
    }
    for name, text in texts.items():
        (new / name).write_text(text, encoding="latin-1")
    (new / "z.csv").write_text(good)
    found, said = answers_of_script(made.folder, new)
    assert len(found) == 1
    assert {Path(file).name for file in re.findall(r"left out: (.*?):", said)} == set(texts)
    for words in ("may mean thousands", "lines that begin with #", "no column dosis".replace("dosis", "dose")):
        assert words in said
