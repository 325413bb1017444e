from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import f1_score, log_loss
from small_tables import clouds, planes

from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.trainers.boosting import BoostingTrainer, bin_edges, binned
from aifs_tune.trainers.predictions import CLASS_METRICS, value_metrics


def test_epochs_together_are_what_scikit_learn_fits_at_once() -> None:
    examples = clouds()
    trainer = BoostingTrainer(examples, {"trees": 3, "leaf_samples": 5}, seed=4, class_weights="none", threads=1)
    measured = [trainer.epoch() for _ in range(4)]
    assert tuple(measured[-1]) == CLASS_METRICS
    model = HistGradientBoostingClassifier(max_iter=12, min_samples_leaf=5, early_stopping=False, random_state=4)
    inputs = examples.inputs[0]
    model.fit(inputs[examples.train], examples.y_true[examples.train])
    expected = f1_score(examples.y_true[examples.val], model.predict(inputs[examples.val]), average="macro")
    assert measured[-1]["val_macro_f1"] == pytest.approx(expected)
    assert measured[-1]["val_macro_f1"] > 0.7
    assert measured[-1]["loss"] < measured[0]["loss"]


def test_a_number_is_predicted_in_its_unit() -> None:
    examples = planes(n_targets=1)
    trainer = BoostingTrainer(examples, {"leaf_samples": 5}, threads=1)
    measured = [trainer.epoch() for _ in range(5)][-1]
    assert tuple(measured) == value_metrics(["t0"])
    assert measured["val_r2"] > 0.4
    assert measured["val_rmse_t0"] == pytest.approx(2.0 * np.sqrt(measured["val_loss"]), rel=1e-6)


def test_the_best_epoch_is_measured_again_on_any_part() -> None:
    trainer = BoostingTrainer(clouds(), {"leaf_samples": 2, "learning_rate": 0.5}, threads=1)
    with pytest.raises(TrainerError, match="no epoch was trained yet"):
        trainer.evaluate("test")
    measured = [trainer.epoch() for _ in range(6)]
    assert trainer.best_epoch is not None
    assert trainer.best_epoch < 6
    best = measured[trainer.best_epoch - 1]
    again = trainer.evaluate("val")
    assert again == {name: pytest.approx(value) for name, value in best.items() if name.startswith("val_")}
    assert trainer.evaluate("test")["test_loss"] > 0
    assert trainer.epoch()["loss"] < measured[-1]["loss"], "it goes on with all trees"


def test_patience_ends_a_trial() -> None:
    trainer = BoostingTrainer(clouds(), {"learning_rate": 1.0, "leaf_samples": 2}, patience=2, threads=1)
    n = 0
    while not trainer.is_finished:
        trainer.epoch()
        n += 1
        assert n < 100
    assert trainer.epoch() == {}
    trainer.reset({}, seed=0)
    assert not trainer.is_finished


def test_what_is_not_allowed_is_refused() -> None:
    with pytest.raises(
        RequestError, match=r"'dropout': 0\.5 is not a parameter of the boosting; allowed: learning_rate"
    ):
        BoostingTrainer(clouds(), {"dropout": 0.5})
    with pytest.raises(RequestError, match="leaves: 1 is not allowed"):
        BoostingTrainer(clouds(), {"leaves": 1})
    with pytest.raises(RequestError, match="t0, t1 are 2 numbers; allowed for boosting: classes, or one number"):
        BoostingTrainer(planes())
    with pytest.raises(RequestError, match="seed: -1 is not allowed"):
        BoostingTrainer(clouds(), seed=-1)


def test_many_different_values_are_told_apart_as_scikit_learn_does() -> None:
    examples = clouds(n=1500, columns=4)
    trainer = BoostingTrainer(examples, {"trees": 20}, class_weights="none", threads=1)
    measured = trainer.epoch()
    model = HistGradientBoostingClassifier(max_iter=20, early_stopping=False, random_state=0)
    inputs = examples.inputs[0]
    model.fit(inputs[examples.train], examples.y_true[examples.train])
    expected = log_loss(examples.y_true[examples.val], model.predict_proba(inputs[examples.val]))
    assert measured["val_loss"] == pytest.approx(expected, rel=0.03)


def test_steps_keep_the_order_and_hold_equally_many() -> None:
    random = np.random.default_rng(0)
    training, column = (random.normal(size=n).astype(np.float32) ** 3 for n in (2000, 500))
    edges = bin_edges(training)
    steps, there = binned(column, edges), binned(training, edges)
    assert np.all(np.diff(steps[np.argsort(column)]) >= 0)
    counts = np.unique(there, return_counts=True)[1]
    assert len(counts) == 255
    assert counts.max() - counts.min() <= 1
    few = np.repeat(np.arange(255, dtype=np.float32), 4)
    assert binned(column, bin_edges(few)) is column
