"""Boosted trees that were saved as plain arrays predict what scikit-learn predicts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_tables import clouds, planes

from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import DamagedError, TrainerError
from aifs_tune.trainers.boosting import BoostingTrainer
from aifs_tune.trainers.checkpoint import read_state, write_state
from aifs_tune.trainers.trees import load_trees

CASES = {
    "three classes": clouds(),
    "two classes": clouds(n_classes=2),
    "a number": planes(n_targets=1),
    "many values": clouds(n=900, columns=3),
}


def trained(examples: ExampleSet, epochs: int = 4, **params: float) -> BoostingTrainer:
    trainer = BoostingTrainer(examples, {"leaf_samples": 3, "trees": 4, **params}, seed=3, threads=1)
    for _ in range(epochs):
        trainer.epoch()
    return trainer


@pytest.mark.parametrize("name", CASES)
def test_loaded_trees_predict_what_the_trainer_predicted(name: str, tmp_path: Path) -> None:
    examples = CASES[name]
    trainer = trained(examples)
    trainer.save_predictions(tmp_path)
    expected = np.load(tmp_path / "test.npz")["y_pred"]
    trainer.save_best(tmp_path)
    loaded = load_trees(tmp_path)
    (inputs,) = examples.inputs
    np.testing.assert_allclose(loaded.predict(inputs[examples.test]), expected, rtol=1e-5, atol=1e-7)
    assert loaded.classes == examples.classes
    assert loaded.facts["epoch"] == trainer.best_epoch


def test_a_class_without_training_rows_has_probability_0(tmp_path: Path) -> None:
    examples = clouds()
    train = examples.train[examples.y_true[examples.train] != 1]
    less = ExampleSet(**{**vars(examples), "train": train})
    trained(less).save_best(tmp_path)
    probabilities = load_trees(tmp_path).predict(examples.inputs[0])
    assert probabilities[:, 1].max() == 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_left_out_columns_are_not_looked_at(tmp_path: Path) -> None:
    examples = clouds()
    trained(examples, kept_columns=0.5).save_best(tmp_path)
    loaded = load_trees(tmp_path)
    (inputs,) = examples.inputs
    others = sorted(set(range(6)) - set(loaded.columns.tolist()))
    assert len(others) == 3
    changed = inputs.copy()
    changed[:, others] = 1e6
    np.testing.assert_array_equal(loaded.predict(changed), loaded.predict(inputs))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("node/left", 0),
        ("node/right", 10_000),
        ("node/feature_idx", 99),
        ("starts", -1),
        ("columns", 99),
        ("edge_starts", 77),
        ("baseline", None),
    ],
)
def test_arrays_that_lead_nowhere_are_refused(name: str, value: int | None, tmp_path: Path) -> None:
    trained(clouds(n=900, columns=3)).save_best(tmp_path)
    arrays, facts = read_state(tmp_path, "weights")
    if value is None:
        arrays[name] = arrays[name][:1]
    else:
        arrays[name] = arrays[name].astype(np.int64)
        arrays[name].reshape(-1)[:] = value
    del facts["sha256"]
    write_state(tmp_path, "weights", arrays, facts)
    with pytest.raises(TrainerError, match="boosted trees"):
        load_trees(tmp_path)


def test_another_file_than_the_study_knows_is_refused(tmp_path: Path) -> None:
    trained(clouds()).save_best(tmp_path)
    facts = json.loads((tmp_path / "weights.json").read_text())
    assert facts["trainer"] == "boosting"
    with pytest.raises(DamagedError):
        load_trees(tmp_path, hashes={"weights.npz": "0" * 64, "weights.json": "0" * 64})
