"""Signal efficiency at a false-positive rate, and the Brier score: their values, and what a sweep is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Perceptron
from sklearn.metrics import brier_score_loss, roc_curve
from small_images import SMALL_NET, blobs
from small_series import SMALL_CNN1D, slopes
from small_tables import clouds

from aifs_tune.analysis import evaluate_events
from aifs_tune.config.loading import parse_sweep
from aifs_tune.data.signal import RATES, RankedSignal, Signal, rate_of, signal_efficiencies
from aifs_tune.errors import DataError, RequestError
from aifs_tune.trainers.boosting import BoostingTrainer
from aifs_tune.trainers.factory import check_trainer
from aifs_tune.trainers.models.cnn import CnnTrainer
from aifs_tune.trainers.models.cnn1d import Cnn1dTrainer
from aifs_tune.trainers.models.mlp import MlpTrainer
from aifs_tune.trainers.network.metrics import measure
from aifs_tune.trainers.predictions import signal_of
from aifs_tune.trainers.sklearn import EstimatorRecipe, SklearnTrainer

METRIC = "val_signal_efficiency@0.1"
TABLE = {"signal": "malignant", "table": {"bundled": "breast_cancer"}}


def of_roc_curve(is_signal: np.ndarray, scores: np.ndarray, rate: float) -> float:
    false_positive, true_positive, _ = roc_curve(is_signal, scores, drop_intermediate=False)
    return float(true_positive[false_positive <= rate].max())


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32 - 1), st.integers(2, 80), st.integers(1, 12), st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9]))
def test_it_is_the_last_point_of_the_curve_of_scikit_learn(seed: int, n: int, levels: int, rate: float) -> None:
    random = np.random.default_rng(seed)
    is_signal = random.permutation(np.arange(n) % 3 == 0)
    scores = random.integers(0, levels, n) + is_signal * random.integers(0, 2)  # many are equal
    (found,) = signal_efficiencies(is_signal, scores, [rate])
    assert found == pytest.approx(of_roc_curve(is_signal, scores, rate))


def test_a_rate_allows_whole_examples_of_the_background() -> None:
    is_signal = np.arange(200) % 2 == 0
    scores = np.where(is_signal, 0.0, np.arange(200.0) - 100)  # 49 or 50 of 100 are above the signal
    above = int((scores[~is_signal] > 0).sum())
    exact = above / 100
    equal = 100 * np.nextafter(0.29, 0)
    assert equal < 29
    assert signal_efficiencies(is_signal, scores, [exact, exact - 0.011]) == [1.0, 0.0]
    wrong = np.concatenate([np.full(29, 2.0), np.zeros(71)])
    assert signal_efficiencies(np.arange(101) == 100, np.append(wrong, 1.0), [0.29]) == [1.0]


def test_weights_count_as_copies() -> None:
    random = np.random.default_rng(3)
    is_signal, scores = np.arange(40) % 2 == 0, random.normal(size=40).round(1)
    copies = random.integers(0, 4, 40)
    ranked = RankedSignal(is_signal, scores).efficiencies(copies.astype(float), list(RATES))
    assert ranked == signal_efficiencies(np.repeat(is_signal, copies), np.repeat(scores, copies), list(RATES))
    assert np.isnan(RankedSignal(is_signal, scores).efficiencies(is_signal.astype(float), [0.1])).all()


def test_of_several_classes_all_others_are_the_background() -> None:
    random = np.random.default_rng(0)
    rows, labels = random.dirichlet(np.ones(3), 90), (np.arange(90) % 3).astype(np.int32)
    measured = measure(labels, np.log(rows).astype(np.float32), signal=Signal("b"), classes=("a", "b", "c"))
    for rate in RATES:
        assert measured[f"signal_efficiency@{rate:g}"] == pytest.approx(of_roc_curve(labels == 1, rows[:, 1], rate))


@pytest.mark.parametrize(
    ("metric", "rate"),
    [
        ("val_signal_efficiency@0.01", 0.01),
        ("signal_efficiency@1e-3", 0.001),
        ("val_auc", None),
        ("my_signal_efficiency@0.1", None),
    ],
)
def test_the_rate_is_in_the_name(metric: str, rate: float | None) -> None:
    assert rate_of(metric) == rate


@pytest.mark.parametrize("text", ["", "1", "0", "-0.1", "5%", "nan", "inf", " 0.1", "0_1", "0.1 "])
def test_what_is_no_rate(text: str) -> None:
    rate = rate_of(f"val_signal_efficiency@{text}")
    assert rate is not None
    assert np.isnan(rate)


def two_clouds(asked: str = METRIC) -> Any:
    return replace(clouds(n_classes=2), signal=signal_of("class 1", [asked]))


@pytest.mark.parametrize("kind", ["mlp", "boosting", "estimator", "cnn1d", "cnn"])
def test_classifying_trainers_report_it_and_choose_the_best_epoch_by_it(kind: str) -> None:
    from sklearn.linear_model import LogisticRegression

    asked = "val_signal_efficiency@0.3"
    options: dict[str, Any] = {"metric": asked, "mode": "max", "threads": 1}
    if kind == "cnn":
        trainer: Any = CnnTrainer(
            replace(blobs(n_classes=2), signal=signal_of("class 1", [asked])), SMALL_NET, **options
        )
    elif kind == "cnn1d":
        examples = slopes()
        trainer = Cnn1dTrainer(
            replace(examples, signal=signal_of(examples.classes[0], [asked])), SMALL_CNN1D, **options
        )
    elif kind == "estimator":
        recipe = EstimatorRecipe("sklearn:it", LogisticRegression)
        trainer = SklearnTrainer(two_clouds(asked), estimator=recipe, **options)
    else:
        trainer = (MlpTrainer if kind == "mlp" else BoostingTrainer)(two_clouds(asked), **options)
    measured = trainer.epoch()
    assert [name for name in measured if "@" in name] == [f"val_{name}" for name in (*Signal("").metrics, asked[4:])]
    assert trainer.best_value == measured[asked]
    assert 0 < trainer.evaluate("val")[asked] <= 1


def sweep(trainer: str = "mlp", data: Any = TABLE, metric: str = METRIC, **more: Any) -> Any:
    space = {"C": 1.0} if ":" in trainer else {"learning_rate": 0.1}
    objective = {"metric": metric}
    return parse_sweep({"name": "s", "trainer": trainer, "data": data, "objective": objective, "space": space} | more)


@pytest.mark.parametrize("trainer", ["mlp", "boosting", "sklearn.linear_model:LogisticRegression"])
def test_any_rate_is_an_objective(trainer: str) -> None:
    check_trainer(sweep(trainer, metric="val_signal_efficiency@0.003"))
    check_trainer(sweep(trainer, trade_off=[{"metric": "val_signal_efficiency@0.4"}]))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"data": {"table": {"bundled": "breast_cancer"}}},
            "needs the class that is the signal; allowed: with data.sign",
        ),
        ({"metric": "val_signal_efficiency@2"}, "'2' is no false-positive rate; allowed after @: a number above 0 and"),
        ({"metric": "signal_efficiency@0.1"}, "did you mean val_signal_efficiency@0.1?"),
        (
            {"data": {"table": {"file": "t.csv", "target": "yield", "predict": "values"}}},
            "the mlp does not report 'val_signal_efficiency@0.1'",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(changes: Any, told: str) -> None:
    with pytest.raises(RequestError, match=r"^objective\.metric: ") as caught:
        check_trainer(sweep(**changes))
    assert told in str(caught.value)


def test_an_estimator_without_probabilities_cannot_be_measured() -> None:
    with pytest.raises(
        RequestError, match=r"needs probabilities of the classes, which sklearn\.linear_model:Perceptron"
    ):
        check_trainer(sweep("sklearn.linear_model:Perceptron", space={"alpha": 1e-4}))
    recipe = EstimatorRecipe("sklearn:it", Perceptron)
    trainer = SklearnTrainer(two_clouds(), estimator=recipe, metric="val_macro_f1", mode="max", threads=1)
    assert set(trainer.epoch()) == {"accuracy", "val_accuracy", "val_balanced_accuracy", "val_macro_f1"}


def test_a_signal_that_is_no_class_and_too_few_others_are_refused() -> None:
    with pytest.raises(RequestError, match="signal: 'gamma' is not allowed; allowed: class 0, class 1"):
        MlpTrainer(replace(clouds(n_classes=2), signal=Signal("gamma")))
    with pytest.raises(
        DataError, match=r"10 of the background are too few for val_signal_efficiency@0\.01; .* and 100$"
    ):
        MlpTrainer(two_clouds("val_signal_efficiency@0.01"), metric="val_signal_efficiency@0.01", mode="max")


@pytest.mark.parametrize("n_signal", [0, 30])
def test_the_brier_score_is_that_of_scikit_learn_and_of_evaluate_events(n_signal: int) -> None:
    random = np.random.default_rng(5)
    labels = random.permutation(np.arange(90) < n_signal)
    shares = random.dirichlet(np.ones(2), 90)
    found = measure(labels.astype(np.int32), np.log(shares).astype(np.float32), signal=Signal("b"), classes=("a", "b"))[
        "signal_brier"
    ]
    assert found == pytest.approx(brier_score_loss(labels, shares[:, 1], labels=[False, True]), rel=1e-5)
    assert found == pytest.approx(evaluate_events(labels, shares[:, 1]).scores["brier"].value, rel=1e-5)


def test_the_brier_score_of_what_is_not_finite_is_none() -> None:
    rows = np.full((4, 2), np.nan, np.float32)
    assert np.isnan(
        measure(np.array([0, 1, 0, 1], np.int32), rows, signal=Signal("b"), classes=("a", "b"))["signal_brier"]
    )
