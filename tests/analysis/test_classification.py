"""Scores of predicted probabilities on held-out examples, against scikit-learn and by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from aifs_tune.analysis.bootstrap import Resampling, wilson_interval
from aifs_tune.analysis.classification import HeldOutClasses, RankedScores, evaluate_classes
from aifs_tune.errors import RequestError

CLASSES = ["galaxy", "quasar", "star"]
FEW = Resampling(n_draws=200)


def predictions(n: int = 300, *, seed: int = 0, k: int = 3) -> tuple[Any, Any]:
    """True classes (n,) of uneven frequency, and probabilities (n, k) that mostly agree with them."""
    rng = np.random.default_rng(seed)
    y_true = rng.choice(k, n, p=np.arange(k, 0, -1) / np.arange(1, k + 1).sum())
    logits = rng.normal(size=(n, k)) + 1.5 * (y_true[:, None] == np.arange(k))
    return y_true, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def found() -> HeldOutClasses:
    y_true, probabilities = predictions()
    return evaluate_classes(y_true, probabilities, classes=CLASSES, resampling=FEW)


def test_the_report_is_scikit_learns(found: HeldOutClasses) -> None:
    y_true, probabilities = predictions()
    theirs = metrics.classification_report(
        y_true, probabilities.argmax(1), target_names=CLASSES, digits=3, output_dict=True
    )
    for row in found.report.classes + found.report.averages[1:]:
        expected = theirs[row.name]
        assert [row.precision, row.recall, row.f1] == pytest.approx(
            [expected[name] for name in ("precision", "recall", "f1-score")]
        )
        assert row.support == expected["support"]
    micro = found.report.averages[0]
    assert (micro.precision, micro.f1) == (pytest.approx(theirs["accuracy"]), pytest.approx(theirs["accuracy"]))


def test_its_text_is_the_table_that_papers_print() -> None:
    """Laid out as scikit-learn does where it prints micro averages: of some of the labels."""
    y_true, probabilities = predictions(60, k=4)
    none_of_the_last = y_true < 3
    y_true, guesses = y_true[none_of_the_last], probabilities[none_of_the_last, :3].argmax(1)
    certain = np.eye(4)[guesses]
    ours = evaluate_classes(y_true, certain, classes=[*CLASSES, "other"], resampling=Resampling(0)).report.to_text()
    theirs = metrics.classification_report(
        [*y_true, 3], [*guesses, 3], labels=[0, 1, 2], target_names=CLASSES, digits=3
    ).splitlines()
    theirs.insert(5, "       other      0.000     0.000     0.000         0")
    assert ours.splitlines() == theirs


def test_the_confusion_matrix_is_scikit_learns(found: HeldOutClasses) -> None:
    y_true, probabilities = predictions()
    assert found.confusion.tolist() == metrics.confusion_matrix(y_true, probabilities.argmax(1)).tolist()
    assert found.confusion_frame().loc["galaxy", "star"] == found.confusion[0, 2]


def test_the_scores_are_scikit_learns(found: HeldOutClasses) -> None:
    y_true, probabilities = predictions()
    guesses, is_one = probabilities.argmax(1), np.eye(3)[y_true]
    expected = {
        "accuracy": metrics.accuracy_score(y_true, guesses),
        "balanced_accuracy": metrics.balanced_accuracy_score(y_true, guesses),
        "macro_f1": metrics.f1_score(y_true, guesses, average="macro"),
        "auc": metrics.roc_auc_score(y_true, probabilities, multi_class="ovr", average="macro"),
        "brier": sum(metrics.brier_score_loss(is_one[:, i], probabilities[:, i]) for i in range(3)),
    }
    for name, value in expected.items():
        assert found.scores[name].value == pytest.approx(value), name
        low, high = found.scores[name].low, found.scores[name].high
        assert low is not None
        assert high is not None
        assert low < value < high
    assert str(found.scores["accuracy"]).startswith(f"{expected['accuracy']:.3f} [")


def test_the_curves_are_scikit_learns(found: HeldOutClasses) -> None:
    y_true, probabilities = predictions()
    for i, curves in enumerate(found.curves):
        false_positive, true_positive, _ = metrics.roc_curve(y_true == i, probabilities[:, i])
        assert curves.name == CLASSES[i]
        assert curves.false_positive_rates.tolist() == false_positive.tolist()
        assert curves.auc == pytest.approx(metrics.auc(false_positive, true_positive))
        steps = -np.diff(curves.recalls) * curves.precisions[:-1]
        full = metrics.average_precision_score(y_true == i, probabilities[:, i])
        assert curves.average_precision == pytest.approx(full)
        assert steps.sum() == pytest.approx(full, abs=0.05)


def test_calibration_by_hand() -> None:
    shares = np.array([[0.9, 0.1], [0.9, 0.1], [0.95, 0.05], [0.3, 0.7], [0.35, 0.65], [0.5, 0.5]])
    found = evaluate_classes([0, 0, 1, 1, 0, 0], shares, classes=["a", "b"], resampling=Resampling(0))
    filled = [(one.low, one.n, one.confidence, one.accuracy) for one in found.reliability if one.n]
    expected_bins = [(0.4, 1, 0.5, 1), (0.6, 2, 0.675, 0.5), (0.8, 2, 0.9, 1), (0.9, 1, 0.95, 0)]
    assert filled == [pytest.approx(one) for one in expected_bins]
    expected = (1 * 0.5 + 2 * 0.175 + 2 * 0.1 + 1 * 0.95) / 6
    assert found.scores["calibration_error"].value == pytest.approx(expected)
    assert (found.scores["accuracy"].low, found.scores["accuracy"].high) == (None, None)


def test_scores_of_many_classes_and_examples_are_short_in_python() -> None:
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.ones(10), 2000)
    found = evaluate_classes(random.integers(10, size=2000), shares, classes=list("abcdefghij"), resampling=FEW)
    assert len(repr(found)) < 2500
    assert "macro_f1" in repr(found)
    assert "worst" not in repr(found)


def test_the_worst_mistakes_come_first() -> None:
    shares = np.array([[0.6, 0.4, 0.0], [0.1, 0.2, 0.7], [0.05, 0.9, 0.05], [0.8, 0.1, 0.1]])
    found = evaluate_classes([1, 0, 2, 0], shares, classes=CLASSES, resampling=Resampling(0), n_worst=2)
    assert [(one.index, one.truth, one.predicted) for one in found.worst] == [
        (2, "star", "quasar"),
        (1, "galaxy", "star"),
    ]
    assert (found.worst[0].probability, found.worst[0].probability_of_truth) == (0.9, 0.05)
    assert found.worst_frame()["index"].tolist() == [2, 1]


@pytest.mark.parametrize("seed", range(3))
def test_the_weighted_area_is_scikit_learns_ties_included(seed: int) -> None:
    rng = np.random.default_rng(seed)
    is_one, probabilities = rng.random(80) < 0.3, rng.integers(0, 10, 80) / 10
    weights = rng.integers(0, 4, 80).astype(float)
    expected = metrics.roc_auc_score(is_one, probabilities, sample_weight=weights)
    assert RankedScores(is_one, probabilities).auc(weights) == pytest.approx(expected)


def test_intervals_follow_the_seed_and_narrow_with_examples() -> None:
    small, large = ([*predictions(n), n] for n in (100, 1600))
    widths = []
    for y_true, probabilities, _ in (small, large):
        found = evaluate_classes(y_true, probabilities, classes=CLASSES, resampling=FEW)
        again = evaluate_classes(y_true, probabilities, classes=CLASSES, resampling=FEW)
        other = evaluate_classes(y_true, probabilities, classes=CLASSES, resampling=Resampling(200, seed=1))
        assert found.scores == again.scores != other.scores
        widths.append((found.scores["accuracy"].high or 0) - (found.scores["accuracy"].low or 0))
    assert 2.5 < widths[0] / widths[1] < 6.5  # a square root of 16 is expected


def test_the_interval_of_accuracy_is_about_that_of_its_standard_error() -> None:
    y_true, probabilities = predictions(1600)
    found = evaluate_classes(y_true, probabilities, classes=CLASSES, resampling=Resampling(2000)).scores["accuracy"]
    value, half = found.value or 0, ((found.high or 0) - (found.low or 0)) / 2
    assert half == pytest.approx(1.96 * np.sqrt(value * (1 - value) / 1600), rel=0.1)


def test_whole_groups_are_resampled() -> None:
    y_true, probabilities = predictions(60)
    copies = np.repeat(np.arange(60), 20)
    many = [y_true[copies], probabilities[copies]]
    alone = evaluate_classes(y_true, probabilities, classes=CLASSES, resampling=Resampling(500)).scores["accuracy"]
    grouped, single = (
        evaluate_classes(*many, classes=CLASSES, groups=groups, resampling=Resampling(500)).scores["accuracy"]
        for groups in ([f"field {i}" for i in copies], None)
    )
    widths = [(one.high or 0) - (one.low or 0) for one in (alone, grouped, single)]
    assert widths[1] == pytest.approx(widths[0], rel=0.2)
    assert widths[2] < 0.4 * widths[1]


def test_few_groups_leave_no_interval() -> None:
    y_true, probabilities = predictions(60)
    found = evaluate_classes(y_true, probabilities, classes=CLASSES, groups=[i % 4 for i in range(60)], resampling=FEW)
    assert {one.low for one in found.scores.values()} == {None}


def test_a_part_with_one_class_has_no_curves() -> None:
    found = evaluate_classes([1] * 8, predictions(8)[1], classes=CLASSES, resampling=FEW)
    assert found.curves == ()
    assert found.scores["auc"].value is None
    assert str(found.scores["auc"]) == "undefined"
    assert found.report.averages[1].recall == found.scores["balanced_accuracy"].value


def test_all_of_it_is_plain(found: HeldOutClasses) -> None:
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["n"] == 300
    assert plain["scores"]["macro_f1"]["low"] == found.scores["macro_f1"].low
    assert plain["report"]["averages"][0]["name"] == "micro avg"
    assert len(plain["curves"][0]["recalls"]) == len(plain["curves"][0]["precisions"])
    assert found.scores_frame().loc["auc", "value"] == found.scores["auc"].value
    assert found.report.to_frame().loc["star", "support"] == found.report.classes[2].support


@pytest.mark.parametrize(
    ("y_true", "probabilities", "changes", "message"),
    [
        ([0, 1], [[0.5, 0.5], [0.2, 0.8]], {}, r"probabilities: shape \(2, 2\); allowed: \(examples, 3\)"),
        ([], np.empty((0, 3)), {}, r"shape \(0, 3\)"),
        ([0], [[1.0, 0, 0], [1, 0, 0]], {}, r"y_true: shape \(1,\); allowed: \(2,\)"),
        ([0, 3], [[1.0, 0, 0], [1, 0, 0]], {}, "y_true: 3 of example 1; allowed: the index of a class, from 0 to 2"),
        ([0, 1], [[1.0, 0, 0], [0.5, 0.1, 0]], {}, "probabilities: 0.5, 0.1, 0 of example 1; allowed: numbers from 0"),
        ([0, 1], [[np.nan, 0, 0], [1, 0, 0]], {}, "probabilities: nan, 0, 0 of example 0"),
        ([0, 1], [[1.0, 0, 0], [1, 0, 0]], {"groups": ["a"]}, "groups: 1 given; allowed: 2, one for each example"),
    ],
)
def test_what_is_no_prediction_is_refused(y_true: Any, probabilities: Any, changes: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        evaluate_classes(y_true, probabilities, classes=CLASSES, **changes)


def test_a_resampling_that_cannot_be_is_refused() -> None:
    with pytest.raises(RequestError, match="confidence: 95 is not allowed"):
        Resampling(confidence=95)
    with pytest.raises(RequestError, match="n_draws: -1 is not allowed"):
        Resampling(-1)


@pytest.mark.parametrize(
    ("right", "wrong", "expected"), [(20, 0, (0.839, 1.0)), (98, 2, (0.930, 0.994)), (0, 10, (0.0, 0.278))]
)
def test_the_interval_of_the_accuracy_is_wilsons(right: int, wrong: int, expected: tuple[float, float]) -> None:
    y_true = np.arange(right + wrong) % 2
    answers = np.where(np.arange(right + wrong) < right, y_true, 1 - y_true)
    shares = np.where(answers[:, None] == np.arange(2), 0.9, 0.1)
    estimate = evaluate_classes(y_true, shares, classes=["a", "b"], resampling=Resampling(4000)).scores["accuracy"]
    assert (estimate.low, estimate.high) == pytest.approx(expected, abs=0.004)


def test_scores_of_a_perfect_answer_are_not_certain() -> None:
    y_true = np.array([0] * 18 + [1] * 2)
    shares = np.where(y_true[:, None] == np.arange(2), 0.9, 0.1)
    scores = evaluate_classes(y_true, shares, classes=["a", "b"]).scores
    assert [scores[name].high for name in ("accuracy", "balanced_accuracy", "macro_f1")] == [1.0] * 3
    assert scores["auc"].low is None, "in too many resamples a class is missing"
    assert scores["accuracy"].low == pytest.approx(0.839, abs=0.001)
    assert all((scores[name].low or 1) < 0.7 for name in ("balanced_accuracy", "macro_f1")), "two examples of b"


def test_whole_groups_count_as_one_example_where_all_is_right() -> None:
    y_true = np.tile([0, 1], 60)
    shares = np.where(y_true[:, None] == np.arange(2), 0.9, 0.1)
    groups = np.repeat(np.arange(6), 20)
    grouped = evaluate_classes(y_true, shares, classes=["a", "b"], groups=groups).scores["accuracy"]
    assert grouped.low == pytest.approx(wilson_interval(1.0, 6)[0], abs=0.01)


def test_the_calibration_error_is_compared_with_that_of_a_calibrated_model() -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 0.98, 119)
    y_true = (rng.random(119) < sure).astype(int)
    found = evaluate_classes(y_true, np.stack([1 - sure, sure], axis=1), classes=["a", "b"])
    estimate, (mean, most) = found.scores["calibration_error"], found.calibrated
    assert (estimate.low, estimate.high) == (None, None)
    assert 0 < mean < most < 0.2
    assert (estimate.value or 1) < most, "this model is calibrated"
    overconfident = evaluate_classes(y_true, np.where(np.arange(2) == 1, 0.99, 0.01)[None].repeat(119, 0), classes="ab")
    assert (overconfident.scores["calibration_error"].value or 0) > 2 * overconfident.calibrated[1]
    assert found.to_dict()["calibration_error_by_chance"] == {"mean": mean, "quantile_95": most}


def test_a_signal_has_its_efficiency_with_an_interval_at_each_rate() -> None:
    rng = np.random.default_rng(5)
    y_true = (np.arange(900) % 3 > 0).astype(int)
    share = 1 / (1 + np.exp(-2 * rng.normal(size=900) - 3 * y_true + 1.5))
    shares = np.stack([1 - share, share], axis=1)
    found = evaluate_classes(y_true, shares, classes=["h", "g"], signal="g", resampling=Resampling(300))
    false_positive, true_positive, _ = metrics.roc_curve(y_true, share, drop_intermediate=False)
    for rate in (0.01, 0.02, 0.05, 0.1, 0.2):
        estimate = found.scores[f"signal_efficiency@{rate:g}"]
        assert estimate.value == pytest.approx(true_positive[false_positive <= rate].max())
        assert 0 < (estimate.low or 0) < (estimate.value or 0) < (estimate.high or 0) < 1
    assert (found.signal, found.to_dict()["signal"]) == ("g", "g")
    plain = evaluate_classes(y_true, shares, classes=["h", "g"], resampling=Resampling(300))
    assert plain.scores == {name: one for name, one in found.scores.items() if "@" not in name}


def test_a_signal_that_is_no_class_is_refused() -> None:
    with pytest.raises(RequestError, match="signal: 'muon' is not one of the classes; allowed: a, b"):
        evaluate_classes([0, 1], [[0.9, 0.1], [0.1, 0.9]], classes=["a", "b"], signal="muon")


def test_all_of_a_signal_kept_is_not_certain() -> None:
    y_true, share = np.arange(60) % 2, np.where(np.arange(60) % 2 == 1, 0.9, 0.1)
    found = evaluate_classes(y_true, np.stack([1 - share, share], axis=1), classes=["a", "b"], signal="b")
    estimate = found.scores["signal_efficiency@0.1"]
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert 0.8 < (estimate.low or 0) < 0.95
