"""The final model of a study, on a real Ray: trained on training and validation sets, tested once, predicting files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from typer.testing import CliRunner

import aifs_tune
from aifs_tune import load_model
from aifs_tune.analysis.final_model import FINAL, find_final_model
from aifs_tune.analysis.test_part import find_evaluation
from aifs_tune.artifacts.trial_artifacts import kept_weights
from aifs_tune.cli.main import app
from aifs_tune.config.cross_validation import CrossValidation
from aifs_tune.config.loading import parse_sweep
from aifs_tune.data import open_examples, prepare_table
from aifs_tune.errors import ConflictError, RequestError
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.confirm import SweepOptions, confirm, evaluate_test
from aifs_tune.execution.finalize import evaluate_final, finalize
from aifs_tune.execution.sweep import Sweep
from aifs_tune.study.record import record_of
from aifs_tune.trainers.boosting import bin_edges, binned

pytestmark = pytest.mark.usefixtures("one_ray")
OPTIONS = SweepOptions(workers=2, callback=NullCallback())
SEARCH = {"trials": 3, "epochs": 4, "workers": 2, "sampler": "random", "scheduler": "none"}
TREES = {
    "name": "nuclei",
    "trainer": "boosting",
    "data": {"table": {"bundled": "breast_cancer"}},
    "search": SEARCH,
    "space": {"learning_rate": {"type": "float", "low": 0.01, "high": 0.5, "log": True, "default": 0.02}},
}
NET = {
    **TREES,
    "trainer": {"name": "mlp", "patience": 3, "precision": "float32"},
    "space": {"units": {"type": "int", "low": 4, "high": 16, "default": 8}, "layers": 1},
}


def bundled_rows(folder: Path) -> Path:
    frame = load_breast_cancer(as_frame=True).frame.drop(columns="target")
    frame.to_csv(folder / "rows.csv", index=False)
    return folder / "rows.csv"


def test_trees_are_fitted_to_training_and_validation_rows_and_tested_once(url: str, tmp_path: Path) -> None:
    study = Sweep.from_spec(parse_sweep(TREES)).run(storage=url).study
    found = confirm("nuclei", storage=url, top=1, cv=CrossValidation(folds=3), options=OPTIONS)
    made = finalize("nuclei", storage=url, options=OPTIONS)
    assert made.study.name == "nuclei-final"
    assert [each.name for each in made.candidates] == [found.leader.name]
    best = sorted(
        t.epoch or 0
        for t in found.study.all_trials()
        if t.params.get("learning_rate") == made.candidates[0].params["learning_rate"]
    )
    assert made.epochs == (best[1],), "the median of the best epochs of its three folds"
    assert made.expected is not None
    assert made.expected.mean == pytest.approx(found.mean(found.leader.name))
    assert made.expected.interval is not None
    assert made.expected.interval[0] < made.expected.mean < made.expected.interval[1]

    examples = open_examples(prepare_table(study.spec.data).location)
    (inputs,) = examples.inputs
    both = np.concatenate([examples.train, examples.val])
    rate = float(made.candidates[0].params["learning_rate"])
    steps = np.stack([binned(column, bin_edges(column[both])) for column in inputs.T], axis=1)
    model = HistGradientBoostingClassifier(max_iter=10 * made.epochs[0], learning_rate=rate, early_stopping=False)
    y_true = examples.y_true[both]
    model.fit(steps[both], y_true, sample_weight=(len(both) / (2 * np.bincount(y_true)))[y_true])
    tested = evaluate_final(made)
    assert tested.candidate == f"the final model of {found.leader.name}"
    assert (tested.predictions.rows == examples.test).all()
    own = tested.predictions.y_pred
    np.testing.assert_allclose(own, model.predict_proba(steps[examples.test]), rtol=1e-4)
    stored = find_evaluation(study.storage, "nuclei")
    assert stored is not None
    assert stored.is_final_model
    assert evaluate_final(made).to_json() == tested.to_json(), "it is read, not evaluated again"
    with pytest.raises(ConflictError, match="was used for the final model of"):
        evaluate_test("nuclei", found.leader, storage=url, options=OPTIONS)

    with pytest.raises(ConflictError, match="another final model cannot be tested on it"):
        finalize("nuclei", storage=url, ensemble=2, for_test=True, options=OPTIONS)
    assert find_final_model(record_of(study)).study.name == "nuclei-final", "nothing was trained"
    done = CliRunner().invoke(app, ["confirm", "nuclei", "--test", "--top", "2", "--storage", url])
    assert isinstance(done.exception, ConflictError)
    assert "allowed: confirm without --test" in str(done.exception)

    rows = bundled_rows(tmp_path)
    answers = load_model("nuclei", storage=url).predict_files([rows])
    np.testing.assert_allclose(answers.table[["p_benign", "p_malignant"]].to_numpy()[examples.test], own, rtol=1e-5)
    assert aifs_tune.finalize("nuclei", storage=url, options=OPTIONS).study.name == "nuclei-final", (
        "it is not made again"
    )


def test_an_ensemble_of_networks_from_the_command_line(url: str, tmp_path: Path) -> None:
    study = Sweep.from_spec(parse_sweep(NET)).run(storage=url).study
    run = CliRunner()
    done = run.invoke(app, ["finalize", "nuclei", "--ensemble", "3", "--workers", "2", "--storage", url])
    assert done.exit_code == 0, done.output
    assert "nuclei-final: 3 models, trained on the training and validation sets together" in done.stdout
    assert "the study was not confirmed" in done.stderr
    made = find_final_model(record_of(study))
    assert made is not None
    assert len(made.members) == 3, "the weights of all members are kept"
    assert not made.equal_members
    assert made.epochs == (study.best.epoch,)
    for trial in made.members:
        facts = json.loads((kept_weights(made.study, trial) / "weights.json").read_text())
        assert facts["epoch"] == made.epochs[0] == trial.epochs, "the last epoch is kept"

    rows = bundled_rows(tmp_path)
    done = run.invoke(app, ["predict", "nuclei", str(rows), "-o", str(tmp_path / "answers.csv"), "--storage", url])
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "answers.csv")
    assert list(table.columns) == ["file", "class", "p_benign", "p_malignant"]
    model = load_model("nuclei", storage=url)
    examples = open_examples(prepare_table(study.spec.data).location)
    each = [member.predict(examples.inputs[0]) for member in model.members]
    np.testing.assert_allclose(table[["p_benign", "p_malignant"]], np.mean(each, axis=0), rtol=1e-4, atol=1e-6)
    by_its_own_name = load_model("nuclei-final", storage=url)
    assert by_its_own_name.name == model.name == f"the final model of trial {study.best.number} (3 seeds)"
    assert len(by_its_own_name.members) == 3
    alone = load_model("nuclei", storage=url, trial=study.best.number)
    assert (alone.name, len(alone.members)) == (f"trial {study.best.number}", 1)

    bundle = aifs_tune.export("nuclei", tmp_path / "bundle", storage=url)
    assert {f"final_model/{i}/weights/weights.npz" for i in range(3)} <= set(bundle.files)
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "is in `final_model/0` to `final_model/2`" in card
    assert "Its prediction is the mean of their outputs." in card
    asked = [sys.executable, str(tmp_path / "bundle" / "predict_onnx.py"), str(rows), "-o", str(tmp_path / "again.csv")]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stderr
    assert f"569 predictions of the final model of trial {study.best.number} (3 seeds)" in said
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "again.csv"), table, rtol=1e-5, atol=1e-5)
    of_bundle = load_model(tmp_path / "bundle")
    assert (of_bundle.name, len(of_bundle.members)) == (model.name, 3)
    pd.testing.assert_frame_equal(of_bundle.predict_files([rows]).table, model.predict_files([rows]).table)
    copy = aifs_tune.import_study(tmp_path / "bundle", storage=f"sqlite:///{tmp_path}/other.db", study="copy")
    assert copy.counts()["complete"] == 3

    best = run.invoke(app, ["best", "nuclei-final", "--storage", url])
    assert "These values are of examples that the model was trained on" in best.stderr
    several = finalize("nuclei", storage=url, ensemble=2, members="configurations", options=OPTIONS)
    assert several.study.name == "nuclei-final-2"
    assert len({trial.params["units"] for trial in several.members}) == 2
    assert several.study.fact(FINAL)["members"] == 2
    with pytest.raises(RequestError, match="ensemble: 50 configurations are not possible: study 'nuclei' has 3"):
        finalize("nuclei", storage=url, ensemble=50, members="configurations", options=OPTIONS)
    with pytest.raises(RequestError, match="trains a final model itself"):
        finalize("nuclei-final", storage=url, options=OPTIONS)
