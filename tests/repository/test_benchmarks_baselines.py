"""What benchmarks/held_out.py compares the best of a sweep with."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import aifs_tune
from aifs_tune.config.data import DataSpec
from aifs_tune.config.loading import parse_sweep
from aifs_tune.data import prepare_table
from aifs_tune.data.examples import Target, store_examples
from aifs_tune.data.sources import prepare
from aifs_tune.data.split import Subsets
from aifs_tune.errors import RequestError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def parts() -> Subsets:
    rows = np.arange(600, dtype=np.int32)
    return {"train": rows[:400], "val": rows[400:500], "test": rows[500:]}


def test_a_linear_law_is_found_by_the_linear_baseline(parts: Subsets) -> None:
    linear = import_module("baselines.linear")
    random = np.random.default_rng(0)
    windows = random.normal(size=(600, 6, 2)).astype(np.float32)
    values = (windows[:, -1] @ [1.0, -0.5])[:, None].astype(np.float32)
    lengths = np.full(600, 6, np.int32)
    numbers = store_examples([windows, lengths], values, parts, targets=[Target("value", None, 0.0, 1.0)])
    forecast = aifs_tune.load_sweep("forecast").spec
    found = linear.score_linear(forecast.model_dump(mode="json"), str(numbers))
    assert found["loss"] < 0.001
    assert found["penalty"] == min(linear.PENALTIES)
    classes = store_examples([windows, lengths], (values[:, 0] > 0).astype(np.int32), parts, classes=["low", "high"])
    curves = aifs_tune.load_sweep("light_curves").spec
    assert linear.score_linear(curves.model_dump(mode="json"), str(classes))["macro_f1"] > 0.9


def test_another_trainer_is_asked_the_same_question() -> None:
    spec = aifs_tune.load_sweep("residual_cnn").spec
    told, params = import_module("baselines.by_name").other_trainer("cnn", spec)
    other = parse_sweep(told)
    assert (other.data, other.objective, other.search.epochs) == (spec.data, spec.objective, spec.search.epochs)
    assert other.space.default_params() == params == {"learning_rate": 1e-3}


def test_a_baseline_that_cannot_learn_from_the_data_is_refused() -> None:
    check_baseline = import_module("baselines.by_name").check_baseline
    message = "--baseline: trees learns from table, the sweep from series; allowed: file, trainer, plain, ridge, linear"
    with pytest.raises(RequestError, match=message):
        check_baseline("trees", "series")
    check_baseline("file", "series")
    message = "--baseline: trees cannot learn classes and numbers together; allowed: file, trainer, plain"
    with pytest.raises(RequestError, match=message):
        check_baseline("trees", "table", both=True)
    check_baseline("plain", "table", both=True)


def test_trees_learn_species_and_numbers_of_showers() -> None:
    spec = aifs_tune.load_sweep("particles", overrides=["data.table.showers.events=400"]).spec
    assert spec.data is not None
    found = import_module("baselines.plain").score_plain_of(prepare_table(spec.data).examples)
    assert found["macro_f1"] > 0.6
    assert found["rmse_energy"] < 20
    assert found["r2_energy"] > 0.5


def test_test_lines_count_the_boundaries_they_cross() -> None:
    counting = import_module("baselines.counting")
    image = np.full((40, 40), 200.0)
    image[:, 5::10] = 100.0  # four dark columns, which only rows cross
    assert counting.crossings_per_px(image, 0.5, 20.0) == pytest.approx(4 * 40 / (2 * 1600))
    assert counting.crossings_per_px(image, 0.5, 500.0) == 0
    assert counting.dark_share(image, 0.1, 50.0) == pytest.approx(0.1)


def test_the_forest_tells_spots_from_lines(tmp_path: Path) -> None:
    forest = import_module("baselines.forest")
    random, images, labels = np.random.default_rng(0), [], []
    for i in range(90):
        image = random.normal(180, 10, (24, 24)).clip(0, 255)
        row, column = random.integers(4, 18, 2)
        image[(slice(row, row + 4), slice(column, column + 4)) if i % 2 else (row, slice(None))] = 40
        images.append(image.astype(np.uint8))
        labels.append(("line", "spot")[i % 2])
    np.savez(tmp_path / "shapes.npz", X=np.array(images), y=np.array(labels))
    data = DataSpec(folder=tmp_path / "shapes.npz", image_size=24)
    location = prepare(data, "images", strict=False, tell=lambda _: None, progress=lambda *_: None).location
    assert forest.score_forest(str(location), 0)["macro_f1"] > 0.9
