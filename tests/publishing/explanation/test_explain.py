"""What answers come from, where it is known: a spot in a corner, a burst in a series, one column of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from trained_studies import trained_study
from typer.testing import CliRunner

import aifs_tune
from aifs_tune.analysis.explanation import Explanations, entry_of
from aifs_tune.analysis.model import UserModel
from aifs_tune.cli.main import app
from aifs_tune.errors import ConflictError, RequestError, WorkError
from aifs_tune.publishing.explanation.pictures import CAVEAT, named, smoothed
from aifs_tune.trainers.keras_files import FACTS_NAME, MODEL_NAME, KerasModel

RATE = {"type": "float", "low": 1e-3, "high": 3e-2, "log": True, "default": 1e-2}
STILL = {"rotation_deg": 0.0, "width_shift": 0.0, "height_shift": 0.0, "horizontal_flip": False, "dropout": 0.0}
NOISE = np.random.default_rng(0)
START = NOISE.bit_generator.state
EDGE = 16


def spotted(has_spot: bool) -> np.ndarray:
    """Noise on grey; with a bright spot in the upper right corner."""
    pixels = NOISE.integers(60, 100, (EDGE, EDGE, 3)).astype(np.uint8)
    if has_spot:
        pixels[1:5, 11:15] = 250
    return pixels


def adds_up(found: Explanations, tolerance: float) -> None:
    """Check that contributions are the change of the answer from the reference."""
    assert found.each
    for one in found.each:
        assert one.contributions.shape == one.inputs.shape
        assert one.contributions.sum() == pytest.approx(one.answer - one.reference, abs=tolerance)


def unzipped_png(file: Path) -> tuple[int, int]:
    with Image.open(file) as image:
        assert len(np.unique(np.asarray(image.convert("L")))) > 20, "something is drawn"
        return image.size


@pytest.fixture(autouse=True)
def same_noise() -> None:
    """Let each test draw the same, alone or after others."""
    NOISE.bit_generator.state = START


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of images, new files and the bundle of the study."""
    folder = tmp_path_factory.mktemp("spots")
    NOISE.bit_generator.state = START
    for i in range(60):
        file = folder / "survey" / ("none", "spot")[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(spotted(i % 2 == 1)).save(file)
    data = {"folder": str(folder / "survey"), "image_size": EDGE}
    small = {"filters": 4, "dense_units": 8, "batch_size": 8, **STILL}
    sweep = {
        "trainer": {"name": "cnn", "precision": "float32"},
        "data": data,
        "space": {"learning_rate": RATE, **small},
    }
    url = f"sqlite:///{folder}/lab.db"
    trained_study(url, sweep, epochs=6)
    (folder / "new").mkdir()
    for i in range(3):
        Image.fromarray(spotted(True)).save(folder / "new" / f"spot {i}.png")
    (folder / "new" / "broken.png").write_bytes(b"no image")
    aifs_tune.export("mine", folder / "bundle", storage=url)
    return folder


def test_the_spot_makes_the_class(spots: Path) -> None:
    model = aifs_tune.load_model("mine", storage=f"sqlite:///{spots}/lab.db")
    found = model.explain_files([spots / "new"])
    adds_up(found, 0.02)
    assert [Path(each.name).name for each in found.skipped] == ["broken.png"]
    expected = model.predict_files([spots / "new"]).table["p_spot"]
    for one, probability in zip(found.each, expected, strict=True):
        assert one.of == "spot"
        assert one.answer == pytest.approx(probability, abs=1e-5)
        assert one.answer - one.reference > 0.2, "without the spot it is another class"
        heat = one.contributions.sum(axis=-1)
        assert heat[1:5, 11:15].sum() > 0.7 * heat.sum()
        row, column = np.unravel_index(smoothed(heat).argmax(), heat.shape)
        assert (1 <= row < 5, 11 <= column < 15) == (True, True)
    other = model.explain_files([spots / "new"], of="none", most=1)
    assert len(other.each) == 1
    assert other.each[0].contributions[1:5, 11:15].sum() < 0, "it speaks against the other class"
    assert "explained: the first 1 examples" in other.remarks[0]
    with pytest.raises(RequestError, match="of: 'spots' is not predicted by this model; allowed: none, spot"):
        model.explain_files([spots / "new"], of="spots")


def test_the_command_writes_pictures_and_tables_from_a_bundle_too(spots: Path, tmp_path: Path) -> None:
    asked = ["explain", str(spots / "bundle"), str(spots / "new"), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert f"left out: {spots / 'new' / 'broken.png'}" in done.stderr
    assert "3 answers of trial 0 explained" in done.stderr
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    own = [f"{i + 1:03d}-spot_{i}.{kind}" for i in range(3) for kind in ("csv", "png")]
    assert names == sorted([*own, "README.md", "answers.csv"])
    answers = pd.read_csv(tmp_path / "out" / "answers.csv")
    assert list(answers["picture"]) == [f"{i + 1:03d}-spot_{i}.png" for i in range(3)]
    heat = np.loadtxt(tmp_path / "out" / "001-spot_0.csv", delimiter=",")
    assert heat.sum() == pytest.approx(answers["sum_of_contributions [probability]"][0], abs=1e-3)
    width, height = unzipped_png(tmp_path / "out" / "001-spot_0.png")
    assert width > height > 400
    page = (tmp_path / "out" / "README.md").read_text()
    assert CAVEAT in page
    assert "Sundararajan" in page
    assert "broken.png" in page
    again = CliRunner().invoke(app, asked)
    assert isinstance(again.exception, ConflictError)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_text("no image")
    with pytest.raises(WorkError, match="no file could be explained, of 1"):
        aifs_tune.explain(spots / "bundle", [tmp_path / "bad"], tmp_path / "none")


def test_the_spot_in_frames_of_numbers(url: str, tmp_path: Path) -> None:
    rows = []
    for i in range(60):
        frame = spotted(i % 2 == 1)[..., 0].astype(np.float32) * 7 - 300
        np.save(tmp_path / f"{i}.npy", frame)
        rows.append({"path": f"{i}.npy", "label": ("none", "spot")[i % 2]})
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    space = {"learning_rate": 0.01, "filters": 4, "dense_units": 8, "batch_size": 8, **STILL}
    data = {"frames": {"manifest": str(tmp_path / "manifest.csv")}}
    trained_study(url, {"trainer": "cnn_values", "data": data, "space": space}, epochs=8)
    found = aifs_tune.explain("mine", [tmp_path / "1.npy"], tmp_path / "out", storage=url, of="spot")
    adds_up(found, 0.02)
    heat = found.each[0].contributions.sum(axis=-1)
    in_spot = np.zeros(heat.shape, bool)
    in_spot[1:5, 11:15] = True
    assert heat[in_spot].mean() > 4 * np.abs(heat[~in_spot]).mean()
    unzipped_png(tmp_path / "out" / "001-1.png")


def table_of(n: int) -> pd.DataFrame:
    """Rows whose mass alone decides, and whose yield is 3 kg a unit of mass and 20 kg more in the sea."""
    frame = pd.DataFrame({"dose": NOISE.normal(0, 1, n), "mass": NOISE.normal(50, 10, n)})
    frame["site"] = NOISE.choice(["north", "sea"], n)
    frame["yield"] = 3 * frame["mass"] + 20 * (frame["site"] == "sea")
    frame["kind"] = np.where(frame["mass"] > 50, "heavy", "light")
    return frame.round(3)


@pytest.mark.parametrize("trainer", ["boosting", "mlp"])
def test_the_column_that_decides(url: str, tmp_path: Path, trainer: str) -> None:
    table_of(120).to_csv(tmp_path / "samples.csv", index=False)
    table = {"file": str(tmp_path / "samples.csv"), "target": "kind", "leave_out": ["yield"]}
    trained_study(url, {"trainer": trainer, "data": {"table": table}, "space": {"learning_rate": 0.03}}, epochs=8)
    table_of(8).to_csv(tmp_path / "new.csv", index=False)
    found = aifs_tune.explain("mine", [tmp_path / "new.csv"], tmp_path / "out", storage=url)
    adds_up(found, 1e-5)
    assert (found.kind, found.unit, found.columns) == ("table", "probability", ("dose", "mass", "site"))
    assert next(iter(found.importance)) == "mass"
    assert found.importance["mass"] > 3 * found.importance["dose"]
    overall = pd.read_csv(tmp_path / "out" / "columns.csv")
    assert list(overall.columns) == ["column", "mean_absolute_contribution [probability]"]
    assert overall["column"][0] == "mass"
    rows = pd.read_csv(tmp_path / "out" / "contributions.csv")
    assert len(rows) == 24
    assert set(rows[rows["column"] == "site"]["entry"]) == {"north", "sea"}
    given = pd.read_csv(tmp_path / "new.csv")["mass"]
    np.testing.assert_allclose(rows[rows["column"] == "mass"]["entry"].astype(float), given, rtol=1e-4)
    unzipped_png(tmp_path / "out" / "columns.png")
    unzipped_png(tmp_path / "out" / "001-new-row1.png")


def test_numbers_are_explained_in_their_unit(url: str, tmp_path: Path) -> None:
    table_of(160).to_csv(tmp_path / "samples.csv", index=False)
    table = {"file": str(tmp_path / "samples.csv"), "target": "yield", "predict": "values", "unit": "kg"}
    table |= {"leave_out": ["kind"]}
    objective = {"metric": "val_r2", "mode": "max"}
    sweep = {"trainer": "boosting", "data": {"table": table}, "space": {"learning_rate": 0.2}, "objective": objective}
    trained_study(url, sweep, epochs=10)
    table_of(40).to_csv(tmp_path / "new.csv", index=False)
    found = aifs_tune.load_model("mine", storage=url).explain_files([tmp_path / "new.csv"])
    adds_up(found, 1e-3)
    assert (found.unit, {one.of for one in found.each}) == ("kg", {"yield"})
    mass = np.array([float(one.inputs[1]) for one in found.each])
    slope, of_answers = (
        np.polyfit(mass, values, 1)[0]
        for values in ([one.contributions[1] for one in found.each], [one.answer for one in found.each])
    )
    assert slope > 1.5, "kg a unit of mass"
    assert slope == pytest.approx(of_answers, rel=0.1), "the other columns have nothing to do with the mass"


def test_columns_of_an_estimator(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    table_of(120).to_csv(tmp_path / "samples.csv", index=False)
    table = {"file": str(tmp_path / "samples.csv"), "target": "kind", "leave_out": ["yield"]}
    name = f"{RandomForestClassifier.__module__.rpartition('.')[0]}:RandomForestClassifier"
    space = {"max_depth": {"type": "int", "low": 2, "high": 5, "default": 4}, "n_estimators": 10}
    trained_study(url, {"trainer": name, "data": {"table": table}, "space": space})
    table_of(12).to_csv(tmp_path / "new.csv", index=False)
    found = aifs_tune.load_model("mine", storage=url).explain_files([tmp_path / "new.csv"])
    adds_up(found, 1e-5)
    assert next(iter(found.importance)) == "mass"


def curve(has_burst: bool, n: int = 24) -> pd.DataFrame:
    """Noise with a burst at steps 9 to 12, and another channel without information."""
    flux = NOISE.normal(10, 0.3, n)
    flux[8:12] += 4 * has_burst
    return pd.DataFrame({"time": np.arange(n), "flux": flux, "sky": NOISE.normal(3, 1, n)}).round(4)


@pytest.mark.parametrize("trainer", ["cnn1d", "rnn"])
def test_the_burst_in_a_series(url: str, tmp_path: Path, trainer: str) -> None:
    for i in range(60):
        file = tmp_path / "stars" / ("burst", "quiet")[i % 2] / f"{i}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        curve(i % 2 == 0).to_csv(file, index=False)
    small = {"filters": 4, "conv_blocks": 1} if trainer == "cnn1d" else {"units": 8}
    space = {"learning_rate": 0.03, "batch_size": 8, "dropout": 0.0, **small}
    data = {"series": {"path": str(tmp_path / "stars")}}
    trained_study(url, {"trainer": trainer, "data": data, "space": space}, epochs=8 if trainer == "cnn1d" else 20)
    (tmp_path / "new").mkdir()
    for n in (24, 20):
        curve(True, n).to_csv(tmp_path / "new" / f"star{n}.csv", index=False)
    found = aifs_tune.explain("mine", [tmp_path / "new"], tmp_path / "out", storage=url, of="burst")
    adds_up(found, 0.03)
    assert found.columns == ("flux", "sky")
    assert [len(one.inputs) for one in found.each] == [20, 24]
    for one in found.each:
        assert one.inputs[8:12, 0].mean() == pytest.approx(14, abs=0.5), "in its own unit"
        in_burst = np.zeros(one.inputs.shape, bool)
        in_burst[8:12, 0] = True
        assert one.contributions[in_burst].mean() > 4 * np.abs(one.contributions[~in_burst]).mean()
    rows = pd.read_csv(tmp_path / "out" / "contributions.csv")
    assert list(rows.columns) == ["file", "explained", "step", "column", "value", "contribution [probability]"]
    assert len(rows) == 2 * 44
    unzipped_png(tmp_path / "out" / "001-star20.png")


def kept(folder: Path, model: Any) -> UserModel:
    """A user's Keras model as a trainer keeps it."""
    folder.mkdir()
    model.save(folder / MODEL_NAME)
    (folder / FACTS_NAME).write_text('{"classes": ["dim", "bright"]}')
    return UserModel("trial 3", KerasModel(folder), None)


def test_a_users_keras_model(tmp_path: Path) -> None:
    inputs = keras.Input((8, 6, 1))
    corner = keras.layers.Cropping2D(((0, 6), (0, 4)))(inputs)  # it looks at the first two rows and columns alone
    logit = keras.layers.Dense(1, kernel_initializer="ones")(keras.layers.Flatten()(corner))
    both = keras.layers.Concatenate()([keras.layers.Rescaling(-1.0)(logit), logit])
    user = kept(tmp_path / "own", keras.Model(inputs, keras.layers.Softmax()(both)))
    images = NOISE.random((3, 8, 6, 1)).astype(np.float32)
    images[:, :2, :2] += 0.5
    np.save(tmp_path / "new.npy", images)
    np.save(tmp_path / "other.npy", np.zeros((2, 3, 3, 1), np.float32))
    found = user.explain_files([tmp_path / "new.npy", tmp_path / "other.npy"])
    adds_up(found, 1e-3)
    assert [one.of for one in found.each] == ["bright"] * 3
    assert "has inputs of shape (3, 3, 1)" in str(found.skipped[0])
    for one in found.each:
        assert (one.contributions[:2, :2] != 0).all()
        assert (one.contributions[2:] == 0).all()
        assert (one.contributions[:, 2:] == 0).all()

    whole = keras.Sequential([keras.Input((5,), dtype="int32"), keras.layers.Embedding(9, 2), keras.layers.Flatten()])
    np.save(tmp_path / "words.npy", np.arange(5)[None])
    with pytest.raises(RequestError, match="no gradient with respect to its inputs"):
        kept(tmp_path / "words", whole).explain_files([tmp_path / "words.npy"])


def test_a_bar_names_its_column_and_the_whole_entry() -> None:
    assert named("od280/od315_of_diluted_wines", 3.2) == "od280/od315_of_diluted… = 3.2"
    assert named("mass", 1060.0) == "mass = 1060"
    assert named("site", "sea") == "site = sea"


def test_an_entry_of_zero_has_no_sign() -> None:
    scaled = np.array([-1.0 - 1e-7], np.float32)
    assert str(entry_of(scaled, [{"centre": 0.3, "scale": 0.3}], [0])) == "0.0"
