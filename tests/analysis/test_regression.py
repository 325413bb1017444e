"""Scores of predicted numbers on held-out examples, against scikit-learn, NumPy and by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from aifs_tune.analysis.bootstrap import Resampling
from aifs_tune.analysis.regression import SCORES, _TargetScores, evaluate_values, scores_table
from aifs_tune.errors import RequestError

FEW = Resampling(n_draws=200)


def predictions(n: int = 200, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    y_true = rng.normal(20, 3, (n, 2))
    return y_true, y_true + rng.normal(0.1, 1, (n, 2))


def test_the_scores_are_scikit_learns_and_numpys() -> None:
    y_true, y_pred = predictions()
    found = evaluate_values(y_true, y_pred, targets={"magnitude": "mag", "age": "Gyr"}, resampling=FEW)
    for i, target in enumerate(found):
        true, answer = y_true[:, i], y_pred[:, i]
        errors = np.abs(answer - true)
        expected = {
            "r2": metrics.r2_score(true, answer),
            "mae": metrics.mean_absolute_error(true, answer),
            "rmse": metrics.root_mean_squared_error(true, answer),
            "bias": (answer - true).mean(),
            "error_q50": np.median(errors),
            "error_q90": np.quantile(errors, 0.9),
            "error_q95": np.quantile(errors, 0.95),
            "error_q99": np.quantile(errors, 0.99),
        }
        assert list(target.scores) == list(SCORES) == list(expected)
        for name, value in expected.items():
            assert target.scores[name].value == pytest.approx(value), name
            assert (target.scores[name].low or 0) <= value <= (target.scores[name].high or 0)
    assert (found[1].name, found[1].unit, found[1].n) == ("age", "Gyr", 200)


def test_weights_are_repeated_examples() -> None:
    y_true, y_pred = (values[:40, 0] for values in predictions())
    weights = np.random.default_rng(1).integers(0, 4, 40)
    repeated = _TargetScores(np.repeat(y_true, weights), np.repeat(y_pred, weights))(np.ones(weights.sum()))
    assert _TargetScores(y_true, y_pred)(weights.astype(float)) == pytest.approx(repeated)


def test_the_largest_errors_come_first_by_hand() -> None:
    found = evaluate_values([1.0, 2.0, 3.0], [1.5, 2.0, 1.0], targets={"x": ""}, resampling=Resampling(0), n_worst=2)[0]
    assert [(miss.index, miss.truth, miss.predicted) for miss in found.worst] == [(2, 3.0, 1.0), (0, 1.0, 1.5)]
    assert found.scores["mae"].value == pytest.approx(2.5 / 3)
    assert found.scores["r2"].value == pytest.approx(1 - 4.25 / 2)


def test_r2_of_a_truth_that_does_not_vary_is_undefined() -> None:
    found = evaluate_values([0.1] * 9, np.arange(9.0), targets={"x": "m"}, resampling=FEW)[0]
    assert found.scores["r2"].value is None
    assert found.scores["mae"].low is not None


def test_plain_values_and_a_table() -> None:
    found = evaluate_values(*predictions(), targets={"magnitude": "mag", "age": "Gyr"}, resampling=FEW)
    plain = json.loads(json.dumps([target.to_dict() for target in found], allow_nan=False))
    assert plain[0]["scores"]["mae"]["value"] == found[0].scores["mae"].value
    table = scores_table(found)
    assert table.columns.tolist() == ["target", "unit", "score", "value", "low", "high"]
    assert table["unit"].tolist() == ["", *["mag"] * 7, "", *["Gyr"] * 7]


def test_groups_widen_intervals_of_examples_that_err_together() -> None:
    rng = np.random.default_rng(2)
    y_true, plate = rng.normal(size=400), np.repeat(np.arange(20), 20)
    y_pred = y_true + rng.normal(size=20)[plate]
    widths = []
    for groups in (plate.tolist(), None):
        bias = evaluate_values(y_true, y_pred, targets={"x": ""}, groups=groups, resampling=FEW)[0].scores["bias"]
        widths.append((bias.high or 0) - (bias.low or 0))
    assert widths[0] > 3 * widths[1]


@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0]], r"y_true: shape \(1, 2\); allowed: \(examples, 1\)"),
        ([1.0, 2.0], [1.0], "y_pred: 1 given; allowed: 2"),
        ([1.0, 2.0], [1.0, np.inf], "y_pred: inf of example 1; allowed: finite numbers"),
        ([], [], "y_true: shape"),
    ],
)
def test_what_is_no_prediction_is_refused(y_true: Any, y_pred: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        evaluate_values(y_true, y_pred, targets={"x": ""})


def test_an_example_that_lacks_a_target_does_not_count_for_it() -> None:
    y_true, y_pred = predictions(40)
    y_true[5:25, 1] = np.nan
    groups = [f"g{i // 2}" for i in range(40)]
    units = {"magnitude": "mag", "age": "Gyr"}
    both, age = evaluate_values(y_true, y_pred, targets=units, groups=groups, resampling=FEW)
    has = np.flatnonzero(~np.isnan(y_true[:, 1]))
    alone = evaluate_values(
        y_true[has, 1], y_pred[has, 1], targets={"age": "Gyr"}, groups=[groups[i] for i in has], resampling=FEW
    )[0]
    assert (both.n, age.n) == (40, 20)
    assert age.scores == alone.scores
    assert {miss.index for miss in age.worst} <= set(has.tolist())
    assert age.worst[0].truth == y_true[age.worst[0].index, 1]


def test_a_target_without_any_value_is_refused() -> None:
    with pytest.raises(RequestError, match="y_true: no value of 'age'; allowed: at least one"):
        evaluate_values([[1.0, np.nan]], [[1.0, 2.0]], targets={"mass": "kg", "age": "Gyr"})
