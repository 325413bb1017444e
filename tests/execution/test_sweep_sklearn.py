"""Sweeps of an estimator of scikit-learn: from a file, on Ray and in this process, to the model that predicts rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import aifs_tune
from aifs_tune.artifacts import kept_weights
from aifs_tune.errors import RequestError, UntrustedCodeError
from aifs_tune.trainers.predictions import read_predictions

DATA = {"table": {"bundled": "breast_cancer"}}
C = {"type": "float", "low": 0.01, "high": 10, "log": True}
FILE = """
name: forest
trainer: {name: "sklearn.ensemble:RandomForestClassifier", folds: 3}
data: {table: {bundled: breast_cancer}}
evaluate_test: true
search: {trials: 3}
space:
  n_estimators: {type: int, low: 5, high: 20}
  criterion: {type: choice, choices: [gini, entropy]}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIFS_TUNE_STORAGE", f"sqlite:///{tmp_path}/lab.db")


def rows_of(tmp_path):
    file = tmp_path / "rows.csv"
    load_breast_cancer(as_frame=True).frame.drop(columns="target").to_csv(file, index=False)
    return file


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
def test_a_sweep_file_names_an_estimator_in_one_line_and_its_model_predicts(run, tmp_path):
    (tmp_path / "forest.yaml").write_text(FILE)
    told = run("run", "forest.yaml", "--workers", "2")
    assert told.code == 0, told.err
    assert "each trial is measured on 3 folds" in told.err
    study = aifs_tune.load_study("forest")
    assert study.counts()["complete"] == 3
    test = read_predictions(kept_weights(study, study.best))
    assert (test.y_pred.argmax(axis=1) == test.y_true).mean() > 0.9
    told = run("predict", "forest", str(rows_of(tmp_path)), "-o", "answers.csv")
    assert told.code == 0, told.err
    table = pd.read_csv("answers.csv")
    assert list(table.columns) == ["file", "class", "p_benign", "p_malignant"]
    np.testing.assert_allclose(table["p_malignant"].to_numpy()[test.rows], test.y_pred[:, 1], rtol=1e-5, atol=1e-6)
    assert run("run", "forest.yaml", "--epochs", "3").err.count("search.epochs: 3 has no effect") == 1


def test_a_pipeline_is_tuned_and_its_final_model_is_fitted_to_more_rows(tmp_path):
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    space = {"logisticregression__C": C}
    result = aifs_tune.tune(pipeline, space, trials=2, data=DATA, name="lines")
    assert (result.study.spec.objective.metric, result.study.counts()["complete"]) == ("val_macro_f1", 2)
    more = aifs_tune.tune(pipeline, space, trials=3, data=DATA, name="lines")
    assert len(more.trials) == 5
    assert pipeline.get_params()["logisticregression__C"] == 1.0
    answers = aifs_tune.load_model("lines").predict_files([rows_of(tmp_path)])
    truth = load_breast_cancer().target
    assert ((answers.table["class"] == "benign") == (truth == 1)).mean() > 0.9
    with pytest.raises(RequestError, match=r"LogisticRegression is not the trainer of the study"):
        aifs_tune.resume("lines", trainer=LogisticRegression, in_process=True)


def test_a_model_without_probabilities_predicts_classes_alone(run, tmp_path):
    result = aifs_tune.tune(RidgeClassifier, {"alpha": C}, trials=2, data=DATA, name="ridge", sampler="random")
    assert result.best.value > 0.9
    told = run("predict", "ridge", str(rows_of(tmp_path)), "-o", "answers.csv")
    assert told.code == 0, told.err
    assert "note: the model gives classes without probabilities" in told.err
    table = pd.read_csv("answers.csv")
    assert list(table.columns) == ["file", "class"]
    assert ((table["class"] == "benign") == (load_breast_cancer().target == 1)).mean() > 0.9
    calibrated = aifs_tune.tune(
        CalibratedClassifierCV(RidgeClassifier()), {"estimator__alpha": C}, trials=1, data=DATA, metric="val_auc"
    )
    assert calibrated.best.value > 0.9


def test_a_study_of_a_known_estimator_is_resumed_without_trust(tmp_path, monkeypatch):
    aifs_tune.tune(LogisticRegression, {"C": C}, trials=1, data=DATA, name="known")
    assert aifs_tune.load_study("known").trainer == "sklearn.linear_model:LogisticRegression"
    monkeypatch.setattr("aifs_tune.config.trusted_code._allowed", set())
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "nothing"))
    assert len(aifs_tune.resume("known", in_process=True).trials) == 1


def test_a_function_that_returns_an_estimator_needs_trust_in_a_study_of_somebody_else(tmp_path, monkeypatch):
    (tmp_path / "foldlab.py").write_text(
        "from sklearn.linear_model import LogisticRegression\ndef make(C): return LogisticRegression(C=C)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    aifs_tune.tune("foldlab:make", {"C": C}, trials=1, data=DATA, name="own")
    monkeypatch.setattr("aifs_tune.config.trusted_code._allowed", set())
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "nothing"))
    with pytest.raises(UntrustedCodeError, match="--trust-code foldlab:make"):
        aifs_tune.resume("own", in_process=True)
    assert aifs_tune.load_model("own").classes == ("benign", "malignant")


def test_a_trial_whose_fit_fails_says_why():
    result = aifs_tune.tune(
        LogisticRegression,
        {"solver": {"type": "choice", "choices": ["lbfgs", "fastest"]}},
        trials=2,
        data=DATA,
        sampler="grid",
        name="wrong",
    )
    failed = next(trial for trial in result.study.all_trials() if trial.state == "failed")
    assert "The 'solver' parameter of LogisticRegression must be" in failed.reason


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
def test_the_final_model_of_an_estimator_is_fitted_to_training_and_validation_rows():
    aifs_tune.tune(LogisticRegression, {"C": C}, trials=2, data=DATA, name="plain")
    made = aifs_tune.finalize("plain")
    assert made.study.name == "plain-final"
    assert aifs_tune.load_model("plain").name.startswith("the final model")
