"""Estimators of scikit-learn as trainers: what they measure and keep, and what is refused before a trial starts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Perceptron, Ridge, RidgeClassifier, SGDClassifier
from sklearn.metrics import f1_score, r2_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from small_tables import clouds, planes

import aifs_tune
from aifs_tune.config import trusted_code
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import RequestError, TrainerError, UntrustedCodeError
from aifs_tune.testing import TrainerContract
from aifs_tune.trainers import sklearn_files
from aifs_tune.trainers.effects import check_effects
from aifs_tune.trainers.factory import check_trainer
from aifs_tune.trainers.folded import folded
from aifs_tune.trainers.protocol import Trainer
from aifs_tune.trainers.sklearn import EstimatorRecipe, SklearnTrainer

TABLE = {"table": {"bundled": "breast_cancer"}}
NUMBERS = {"table": {"file": "t.csv", "target": "yield", "predict": "values"}}
DEPTH = {"max_depth": {"type": "int", "low": 1, "high": 9}}
C = {"type": "float", "low": 0.01, "high": 10, "log": True}


def trainer_of(code: Any, examples: Any = None, **more: Any) -> SklearnTrainer:
    return SklearnTrainer(examples or clouds(), estimator=EstimatorRecipe("lab:it", code), threads=1, **more)


def scaled_svc(gamma: float = 0.1, seed: int = 0) -> Any:
    return make_pipeline(StandardScaler(), SVC(gamma=gamma, probability=False, random_state=seed))


class TestForest(TrainerContract):
    first: ClassVar = {"n_estimators": 3, "max_depth": 2}
    second: ClassVar = {"n_estimators": 5}

    def make(self) -> Trainer:
        return trainer_of(RandomForestClassifier)


class TestRegressor(TrainerContract):
    first: ClassVar = {"alpha": 1.0}
    second: ClassVar = {"alpha": 100.0}

    def make(self) -> Trainer:
        return trainer_of(Ridge, planes())


class TestPipelineOfAFunction(TrainerContract):
    first: ClassVar = {"svc__C": 0.5, "gamma": 0.1}
    second: ClassVar = {"svc__C": 0.01, "gamma": 2.0}

    def make(self) -> Trainer:
        return trainer_of(scaled_svc)


def test_a_classifier_measures_what_scikit_learn_does():
    examples = clouds(apart=1.0)
    trainer = trainer_of(RandomForestClassifier, examples, class_weights="none")
    trainer.reset({"max_depth": 3}, seed=5)
    metrics = trainer.epoch()
    assert (trainer.is_finished, trainer.epoch()) == (True, {})
    (x,) = examples.inputs
    own = RandomForestClassifier(max_depth=3, random_state=5).fit(x[examples.train], examples.y_true[examples.train])
    expected = f1_score(examples.y_true[examples.val], own.predict(x[examples.val]), average="macro")
    assert metrics["val_macro_f1"] == pytest.approx(expected)
    assert {"loss", "accuracy", "val_loss", "val_auc", "val_balanced_accuracy"} <= metrics.keys()
    assert trainer.evaluate("test").keys() == {n.replace("val_", "test_") for n in metrics if n.startswith("val_")}


def test_a_regressor_measures_in_the_units_of_its_targets():
    examples = planes(n_targets=1)
    trainer = trainer_of(RandomForestRegressor, examples)
    trainer.reset({"n_estimators": 20}, seed=1)
    metrics = trainer.epoch()
    (x,), train, val = examples.inputs, examples.train, examples.val
    own = RandomForestRegressor(n_estimators=20, random_state=1).fit(x[train], examples.y_true[train, 0])
    predicted = own.predict(x[val])
    assert metrics["val_r2"] == pytest.approx(r2_score(examples.y_true[val, 0], predicted), rel=1e-5)
    assert metrics["val_mae_t0"] == pytest.approx(2 * np.abs(predicted - examples.y_true[val, 0]).mean(), rel=1e-5)


def test_balanced_classes_weigh_rows_unless_the_space_weighs_classes():
    rare = clouds(n=160, n_classes=2, apart=0.5)
    rare.y_true[::3] = 0

    def coefficients(**params: Any) -> Any:
        trainer = trainer_of(LogisticRegression, rare, class_weights=params.pop("weights", "balanced"))
        trainer.reset(params, seed=0)
        trainer.epoch()
        return trainer._model.intercept_

    plain, weighed = coefficients(weights="none"), coefficients()
    assert abs(plain - weighed) > 0.05
    assert coefficients(class_weight="balanced") == pytest.approx(weighed, abs=1e-3)
    assert coefficients(class_weight="balanced", weights="none") == pytest.approx(weighed, abs=1e-3)


def test_the_last_step_of_a_pipeline_gets_the_weights_and_a_neighbour_none():
    trainer = trainer_of(scaled_svc)
    trainer.reset({}, seed=0)
    assert list(trainer._weights()) == ["svc__sample_weight"]
    trainer = trainer_of(KNeighborsClassifier)
    trainer.reset({}, seed=0)
    trainer.epoch()
    assert "takes no sample_weight" in trainer.notes["class_weights"]


@pytest.mark.parametrize("estimator", [LinearSVC, RidgeClassifier, SGDClassifier, Perceptron])
def test_without_probabilities_there_is_no_loss(estimator):
    trainer = trainer_of(estimator)
    trainer.reset({}, seed=0)
    metrics = trainer.epoch()
    assert set(metrics) == {"accuracy", "val_accuracy", "val_balanced_accuracy", "val_macro_f1"}


def test_seed_and_threads_go_to_every_part_that_takes_them():
    recipe = EstimatorRecipe("lab:it", lambda: make_pipeline(StandardScaler(), RandomForestClassifier()))
    made = recipe.make({}, seed=7, threads=2).get_params()
    assert (made["randomforestclassifier__random_state"], made["randomforestclassifier__n_jobs"]) == (7, 2)
    own = EstimatorRecipe("lab:it", lambda: RandomForestClassifier(random_state=3, n_jobs=1)).make(
        {}, seed=7, threads=2
    )
    assert (own.random_state, own.n_jobs) == (3, 1)
    assert EstimatorRecipe("lab:it", lambda seed: SVC(cache_size=seed)).make({}, seed=7).cache_size == 7


def test_folds_average_what_estimators_measure():
    parts = [clouds(seed=seed, apart=1.0) for seed in range(3)]
    own = folded(trainer_of(LogisticRegression, parts[0]), [trainer_of(LogisticRegression, p) for p in parts[1:]])
    own.reset({"C": 0.1}, seed=0)
    metrics, each = own.epoch(), []
    for part in parts[1:]:
        one = trainer_of(LogisticRegression, part)
        one.reset({"C": 0.1}, seed=0)
        each.append(one.epoch()["val_macro_f1"])
    assert metrics["val_macro_f1"] == pytest.approx(np.mean(each))


def test_the_model_that_is_kept_predicts_as_the_one_that_was_measured(tmp_path):
    examples = planes(n_targets=2)
    trainer = trainer_of(RandomForestRegressor, examples)
    trainer.reset({"n_estimators": 4}, seed=1)
    with pytest.raises(TrainerError, match="no epoch was trained yet"):
        trainer.save_best(tmp_path)
    trainer.epoch()
    loaded = sklearn_files.load_estimator(trainer.save_best(tmp_path).parent)
    rows = examples.inputs[0][examples.test]
    expected = trainer._model.predict(rows) * [2.0, 3.0] + [0.0, 10.0]
    np.testing.assert_allclose(loaded.predict(rows), expected, rtol=1e-4, atol=1e-5)
    assert loaded.facts["params"] == {"n_estimators": 4}
    (tmp_path / "model.skops").write_bytes(b"PK")
    with pytest.raises(TrainerError, match=r"model.skops cannot be loaded"):
        sklearn_files.load_estimator(tmp_path)


class Majority(ClassifierMixin, BaseEstimator):
    """An estimator of one's own, in a module of one's own."""

    def fit(self, x: Any, y: Any) -> Majority:
        self.classes_, n = np.unique(y, return_counts=True)
        self.most_ = self.classes_[n.argmax()]
        return self

    def predict(self, x: Any) -> Any:
        return np.full(len(x), self.most_)


def test_classes_of_other_packages_are_loaded_only_if_they_are_allowed(tmp_path, monkeypatch):
    trainer = trainer_of(Majority)
    trainer.reset({}, seed=0)
    trainer.epoch()
    facts = json.loads((trainer.save_best(tmp_path).parent / "model.json").read_text())
    with pytest.raises(RequestError, match=r"test_sklearn_trainer.Majority, which nobody has allowed"):
        sklearn_files.load_estimator(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps(facts | {"trainer": "test_sklearn_trainer:Majority"}))
    with pytest.raises(UntrustedCodeError, match="--trust-code test_sklearn_trainer:Majority"):
        sklearn_files.load_estimator(tmp_path)
    monkeypatch.setattr(trusted_code, "_allowed", {"test_sklearn_trainer:Majority"})
    assert sklearn_files.load_estimator(tmp_path).predict(np.zeros((2, 6))).shape == (2, 3)


def test_without_skops_no_model_is_kept_and_predict_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(sklearn_files, "find_spec", lambda name: None)
    assert not trainer_of(Ridge, planes()).has_files
    with pytest.raises(TrainerError, match=r"pip install 'aifs-tune\[sklearn\]', and train again"):
        sklearn_files.load_estimator(tmp_path)


LAB = """
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
def pipeline(): return make_pipeline(StandardScaler(), LogisticRegression())
def penalised(C, max_iter=100): return LogisticRegression(C=C, max_iter=max_iter)
def run(C): return 0.5
def curve(C, trial): return 0.5
def broken(C): raise ValueError("no lamp")
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "estimatorlab.py").write_text(LAB)
    monkeypatch.syspath_prepend(tmp_path)
    names = ["pipeline", "penalised", "run", "curve", "broken"]
    monkeypatch.setattr(trusted_code, "_allowed", {f"estimatorlab:{name}" for name in names})


def check(trainer: Any, space: Any, data: Any = TABLE, **more: Any) -> None:
    spec = parse_sweep({"name": "a", "trainer": trainer, "data": data, "space": space, **more})
    check_trainer(spec)
    check_effects(spec)


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize(
    ("trainer", "space", "more"),
    [
        ("sklearn.ensemble:RandomForestClassifier", DEPTH, {}),
        ({"name": "sklearn.ensemble:RandomForestClassifier", "folds": 5, "class_weights": "none"}, DEPTH, {}),
        ("estimatorlab:pipeline", {"logisticregression__C": C, "standardscaler__with_mean": True}, {}),
        ("estimatorlab:penalised", {"C": C, "tol": 0.1}, {"evaluate_test": True}),
        ("sklearn.linear_model:Ridge", {"alpha": C}, {"data": NUMBERS, "objective": {"metric": "val_mae_yield"}}),
    ],
)
def test_estimators_and_functions_that_return_one_are_allowed(trainer, space, more):
    check(trainer, space, **more)


FOREST = "sklearn.ensemble:RandomForestClassifier"


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize(
    ("trainer", "space", "more", "says"),
    [
        (FOREST, {"max_dept": 3}, {}, r"space.max_dept: .* no such parameter, did you mean max_depth\?; allowed: boot"),
        ("estimatorlab:pipeline", {"svc__C": C}, {}, r"space.svc__C: estimatorlab:pipeline has no such parameter"),
        ("estimatorlab:penalised", {"tol": 0.1}, {}, r"requires the argument C, which is no parameter of the space"),
        ("estimatorlab:run", {"C": C}, {}, r"data: has no effect: estimatorlab:run returned 0.5, and a function reads"),
        ("estimatorlab:curve", {"C": C}, {}, r"data: has no effect: estimatorlab:curve takes trial"),
        ("estimatorlab:broken", {"C": C}, {}, r"cannot be made with \{'C': .*\} \(ValueError: no lamp\)"),
        ("sklearn.multiclass:OneVsRestClassifier", {"n_jobs": 1}, {}, "cannot be made without arguments"),
        ("sklearn.linear_model:Ridge", {"alpha": C}, {}, "is a regressor, and data.table.predict is classes"),
        (FOREST, DEPTH, {"data": NUMBERS, "objective": {"metric": "val_r2"}}, "is a classifier, and .* is values"),
        (FOREST, DEPTH, {"objective": {"metric": "val_f1"}}, "objective.metric: .* does not report 'val_f1'"),
        (
            "sklearn.svm:LinearSVC",
            {"C": C},
            {"objective": {"metric": "val_loss"}},
            r"val_loss needs probabilities .*LinearSVC does not give; .*val_macro_f1; or .*Calibrated",
        ),
        ("sklearn.svm:LinearSVC", {"C": C}, {"evaluate_test": True}, "evaluate_test: true is not possible"),
        (FOREST, DEPTH, {"search": {"epochs": 5}}, "search.epochs: 5 has no effect: an estimator is fitted in one"),
        ({"name": FOREST, "patience": 3}, DEPTH, {}, "trainer.patience: 3 has no effect"),
        ({"name": FOREST, "precision": "float32"}, DEPTH, {}, "trainer.precision: float32 has no effect"),
        ({"name": FOREST, "checkpoint_s": 1}, DEPTH, {}, "trainer.checkpoint_s: 1.* has no effect"),
        (
            {"name": "sklearn.neighbors:KNeighborsClassifier", "class_weights": "none"},
            {"n_neighbors": 3},
            {},
            "trainer.class_weights: none has no effect: fit of the estimator takes no sample_weight",
        ),
        (
            {"name": FOREST, "class_weights": "none"},
            {"class_weight": "balanced"},
            {},
            "trainer.class_weights: none has no effect: the space has class_weight",
        ),
        (FOREST, DEPTH, {"search": {"replicates": 3}}, "search.replicates"),
        (FOREST, DEPTH, {"search": {"scheduler": "pbt", "epochs": 8}}, "parameters cannot change in a running trial"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_trial_starts(trainer, space, more, says):
    with pytest.raises(RequestError, match=says):
        check(trainer, space, **more)


def test_an_estimator_is_fitted_in_one_epoch_unless_the_file_says_otherwise():
    given = {"name": "a", "trainer": FOREST, "data": TABLE, "space": DEPTH}
    assert parse_sweep(given).search.epochs == 1
    assert parse_sweep(given | {"search": {"trials": 3, "epochs": 2}}).search.epochs == 2
    assert parse_sweep(given | {"trainer": "mlp", "space": {"units": 8}}).search.epochs == 20


def test_an_estimator_of_a_known_library_needs_no_trust_and_nothing_else_of_it_runs(monkeypatch):
    monkeypatch.setattr(trusted_code, "_allowed", set())
    assert trusted_code.import_code(FOREST, "trainer") is RandomForestClassifier
    for name in ("sklearn.utils:shuffle", "sklearn.datasets:fetch_openml", "sklearn.base:ClassifierMixin"):
        with pytest.raises(UntrustedCodeError, match="nobody has allowed it"):
            trusted_code.import_code(name, "trainer")


def test_an_estimator_without_a_table_is_told_to_get_one(tmp_path):
    storage = f"sqlite:///{tmp_path}/lab.db"
    for code in (Majority, Majority(), make_pipeline(StandardScaler(), Majority())):
        with pytest.raises(RequestError, match=r"data: missing: .* learns from a table"):
            aifs_tune.tune(code, {"x": 1.0}, trials=1, storage=storage)


@pytest.mark.parametrize(
    ("library", "name", "params"),
    [
        ("xgboost", "xgboost:XGBClassifier", {"n_estimators": 5, "max_depth": 3}),
        ("lightgbm", "lightgbm:LGBMClassifier", {"n_estimators": 5, "num_leaves": 4, "verbosity": -1}),
    ],
)
def test_other_libraries_come_in_by_the_same_door(library, name, params, tmp_path):
    code = getattr(pytest.importorskip(library), name.partition(":")[2])
    space = {key: {"type": "fixed", "value": value} for key, value in params.items()}
    if library == "lightgbm":
        del space["verbosity"]
    check(name, space)
    with pytest.raises(RequestError, match=r"space.max_dept: .* did you mean max_depth\?"):
        check(name, {"max_dept": 3})
    trainer = trainer_of(code)
    trainer.reset({key: value for key, value in params.items() if key in space}, seed=1)
    metrics = trainer.epoch()
    assert metrics["val_accuracy"] > 0.5
    trainer.reset({key: value for key, value in params.items() if key in space}, seed=1)
    assert trainer.epoch() == metrics
    loaded = sklearn_files.load_estimator(trainer.save_best(tmp_path).parent)
    rows = clouds().inputs[0]
    np.testing.assert_allclose(loaded.predict(rows), trainer._model.predict_proba(rows), rtol=1e-5)


def test_an_estimator_is_fitted_to_the_rows_that_have_all_targets_and_says_so() -> None:
    whole = planes()
    y_true = whole.y_true.copy()
    y_true[whole.train[:7], 1] = np.nan
    trainer = trainer_of(Ridge, dataclasses.replace(whole, y_true=y_true))
    assert np.isfinite(list(trainer.epoch().values())).all()
    assert trainer.notes["targets"] == "7 training rows without one of the targets were left out"
    expected = Ridge(random_state=0).fit(whole.inputs[0][whole.train[7:]], whole.y_true[whole.train[7:]])
    np.testing.assert_allclose(trainer._model.coef_, expected.coef_, rtol=1e-4)
