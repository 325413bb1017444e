"""Forecasts of events: windows of one long series labelled by whether its target goes above a value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from aifs_tune.config.data import DataSpec, Fold, Forecast, SeriesSpec, SplitSpec
from aifs_tune.config.loading import parse_sweep
from aifs_tune.data import prepare_series
from aifs_tune.errors import DataError, RequestError
from aifs_tune.trainers.factory import check_trainer

HISTORY, HORIZON, ABOVE = 10, 5, 1.2


def level(n: int = 600, *, with_gaps: bool = False) -> NDArray[np.float64]:
    random = np.random.default_rng(3)
    values = np.zeros(n)
    for i in range(1, n):
        values[i] = 0.8 * values[i - 1] + 0.6 * random.normal()
    if with_gaps:
        values[random.random(n) < 0.03] = np.nan
    return values


def windows(tmp_path: Path, values: NDArray[np.float64], split: SplitSpec | None = None, **asked: Any) -> Any:
    path = tmp_path / "river.csv"
    pandas.DataFrame({"time": np.arange(len(values)), "level": values}).to_csv(path, index=False)
    settings = {"target": "level", "unit": "m", "history": HISTORY, "horizon": HORIZON, "above": ABOVE}
    spec = SeriesSpec(path=path, forecast=Forecast(**settings | asked))
    return prepare_series(DataSpec(series=spec, split=split or SplitSpec()))


def slow_labels(values: NDArray[np.float64], stride: int) -> tuple[dict[int, int], int, int]:
    """Label of each start of a window that has one; the numbers of windows above already, and with a gap ahead."""
    labels, n_above, n_missing = {}, 0, 0
    for start in range(0, len(values) - HISTORY - HORIZON + 1, stride):
        known = [v for v in values[: start + HISTORY] if not np.isnan(v)]
        ahead = values[start + HISTORY : start + HISTORY + HORIZON]
        if known and known[-1] > ABOVE:
            n_above += 1
        elif any(np.isnan(v) for v in ahead):
            n_missing += 1
        else:
            labels[start] = int(max(ahead) > ABOVE)
    return labels, n_above, n_missing


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("with_gaps", [False, True])
def test_labels_are_those_of_a_loop_over_the_windows(tmp_path: Path, stride: int, with_gaps: bool) -> None:
    values = level(with_gaps=with_gaps)
    labels, n_above, n_missing = slow_labels(values, stride)
    found = windows(tmp_path, values, stride=stride)
    assert found.examples.classes == ("no_event", "event")
    assert not found.examples.targets
    assert found.examples.y_true.tolist() == list(labels.values())
    positions = [f"steps {start} to {start + HISTORY - 1} for {start + HISTORY - 1 + HORIZON}" for start in labels]
    assert found.files.position == positions
    assert found.files.label == [("no_event", "event")[label] for label in labels.values()]
    assert f"left out: {n_above} windows, level is above 1.2 already" in found.lines
    told = f"left out: {n_missing} windows, level is missing within 5 steps"
    assert (told in found.lines) == with_gaps


def test_events_of_each_part_and_the_score_of_their_share_are_told(tmp_path: Path) -> None:
    found = windows(tmp_path, level())
    examples = found.examples
    y_true = {part: examples.y_true[getattr(examples, part)] for part in ("train", "val", "test")}
    counts = ", ".join(f"{part} {labels.sum()} ({labels.mean():.1%})" for part, labels in y_true.items())
    score = np.mean((y_true["train"].mean() - y_true["val"]) ** 2)
    assert found.lines[-3].endswith("an event is level above 1.2 m within 5")
    assert found.lines[-2:] == [
        f"windows followed by an event: {counts}",
        f"predicting the share of events in train has a val_signal_brier of {score:.4g}",
    ]
    assert examples.facts["forecast"]["above"] == ABOVE


def test_a_forecast_of_the_value_is_stored_as_before(tmp_path: Path) -> None:
    assert "above" not in windows(tmp_path, level(), above=None).examples.facts["forecast"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"above": 99.0}, r"river\.csv: none of the \d+ windows for train are followed by an event, level above 99 m"),
        ({"above": -99.0}, r"600 steps leave 0 windows for train"),
        ({"horizon": 900}, r"600 steps leave 0 windows for train"),
    ],
)
def test_a_value_that_divides_nothing_is_refused(tmp_path: Path, asked: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        windows(tmp_path, level(), **asked)


def test_folds_of_events_follow_each_other_in_time(tmp_path: Path) -> None:
    examples = windows(tmp_path, level(1500), SplitSpec(fold=Fold(index=0, of=3))).examples
    assert examples.train.max() < examples.test.min()
    assert set(examples.y_true[examples.test]) == {0, 1}


def test_the_value_is_a_number() -> None:
    with pytest.raises(ValidationError, match="finite number"):
        Forecast(above=float("inf"))


def sweep(**more: Any) -> Any:
    data = {"signal": "event", "series": {"simulate": {"what": "quasi_periodic"}, "forecast": {"above": 1.0}}}
    given = {"name": "s", "trainer": "rnn", "data": data, "space": {"learning_rate": 0.1}}
    return parse_sweep(given | {"objective": {"metric": "val_signal_brier", "mode": "min"}} | more)


def test_the_brier_score_is_an_objective_and_parameters_are_those_of_classes() -> None:
    check_trainer(sweep())
    check_trainer(sweep(space={"label_smoothing": 0.1}))
    with pytest.raises(RequestError, match="val_signal_brier needs the class that is the signal"):
        check_trainer(sweep(data={"series": {"forecast": {"above": 1.0}, "simulate": {"what": "mackey_glass"}}}))
    with pytest.raises(RequestError, match=r"space\.loss: has an effect only with numbers"):
        check_trainer(sweep(space={"loss": "quantiles"}))
