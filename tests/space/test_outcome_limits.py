"""Limits: results that exceed one are kept, are never best, and teach the sampler where not to go."""

from __future__ import annotations

import pytest

from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import ConflictError, NotFoundError, RequestError, SweepFileError
from aifs_tune.publishing.summary import best_summary
from aifs_tune.space.outcome_limits import Limit
from aifs_tune.study.open import open_study
from aifs_tune.study.record import record_of

SPACE = {"x": {"type": "float", "low": 0.0, "high": 1.0}, "y": {"type": "float", "low": 0.0, "high": 1.0}}
LIMITS = ["pressure <= 3", "purity >= 0.9"]


def measure(params):
    """The more of both the better, up to a pressure of 3, where x + y is 1."""
    return {"yield": params["x"] + 0.5 * params["y"], "pressure": 3 * (params["x"] + params["y"]), "purity": 0.95}


def opened(url, **options):
    return open_study("limited", space=SPACE, storage=url, metric="yield", limits=LIMITS, **options)


@pytest.mark.parametrize("sampler", ["aifs", "tpe", "nsga2", "random"])
def test_what_exceeds_a_limit_is_kept_and_never_best(url, sampler):
    study = opened(url, sampler=sampler, seed=2)
    for _ in range(12):
        trial = study.ask()
        study.tell(trial, measure(trial.params))
    trials = study.all_trials()
    assert {trial.state for trial in trials} == {"complete"}
    assert {trial.feasible for trial in trials} == {True, False}
    assert all(trial.feasible == (trial.metrics["pressure"] <= 3) for trial in trials)
    assert study.best.feasible
    assert study.best.value == max(trial.value for trial in trials if trial.feasible)
    assert all(trial.feasible for trial in study.best_trials(12) + study.front)
    assert best_summary(study)["feasible"] is True


def test_optuna_sees_the_limits_as_its_own(url):
    study = opened(url)
    study.tell(study.ask(), {"yield": 1.0, "pressure": 5.0, "purity": 0.95})
    frozen = study._optuna.get_trials()[0]
    assert frozen.constraints == {"pressure <= 3": 2.0, "purity >= 0.9": pytest.approx(-0.05)}


def test_the_sampler_learns_the_border(url):
    """The optimum, x = 1 and y = 0, lies on it: the later proposals come near, from both sides."""
    study = opened(url, seed=1)
    for _ in range(22):
        trial = study.ask()
        study.tell(trial, measure(trial.params))
    later = study.all_trials()[12:]
    assert sum(bool(trial.feasible) for trial in later) >= 3
    assert sum(trial.metrics["pressure"] > 3.5 for trial in later) <= 3
    assert study.best.value > 0.93


def test_a_result_says_what_the_limits_need(url):
    study = opened(url)
    with pytest.raises(
        RequestError,
        match="the metrics of the limits; allowed: a value for each of yield, pressure, purity",
    ):
        study.tell(study.ask(), 1.0)
    told = study.tell(0, {"yield": 1.0, "pressure": 2.0})
    assert (told.state, told.reason) == ("failed", "no value for purity")
    told = study.tell(study.ask(), {"yield": 1.0, "pressure": float("nan"), "purity": 1.0})
    assert (told.state, told.reason) == ("failed", "value nan for pressure")


def test_infeasible_can_be_told_without_a_value(url):
    study = opened(url)
    told = study.tell(study.ask(), state="infeasible", reason="the valve opened")
    assert (told.state, told.feasible, told.reason) == ("failed", False, "the valve opened")
    assert study.tell(0, state="infeasible", reason="the valve opened") == told
    with pytest.raises(ConflictError, match="the first result stands"):
        study.tell(0, measure(told.params))
    assert study.attach({"x": 0.5, "y": 0.9}, state="infeasible").feasible is False


def test_while_nothing_keeps_to_the_limits_there_is_no_best(url):
    study = opened(url)
    study.tell(study.ask(), {"yield": 1.0, "pressure": 9.0, "purity": 0.95})
    assert record_of(study).find_best() is None
    assert study.front == []
    with pytest.raises(NotFoundError, match=r"within pressure <= 3, purity >= 0\.9 yet; .* 1 complete"):
        _ = study.best


def test_another_limit_is_another_question(url):
    opened(url)
    with pytest.raises(ConflictError, match="other limits"):
        open_study("limited", space=SPACE, storage=url, metric="yield", limits=["pressure <= 4", LIMITS[1]])


@pytest.mark.parametrize(
    ("text", "metrics", "excess"),
    [
        ("p <= 3", {"p": 4.5}, 1.5),
        ("p >= -1e-3", {"p": 0.0}, -1e-3),
        ("max pressure<=2", {"max pressure": 2}, 0.0),
        ("p <= 3", {"p": float("inf")}, None),
        ("p <= 3", {}, None),
    ],
)
def test_the_excess_over_a_limit(text, metrics, excess):
    assert Limit(text).excess(metrics) == (excess if excess is None else pytest.approx(excess))


@pytest.mark.parametrize("text", ["p < 3", "p", "p <= q", "<= 3", "p <= 1 <= 2x", "p == 3", "p <= 1.2.3", "p\n <= 3"])
def test_what_is_no_limit_is_refused_with_what_is(text):
    with pytest.raises(SweepFileError, match="METRIC <= NUMBER or METRIC >= NUMBER"):
        parse_sweep({"name": "s", "space": SPACE, "limits": [text]})


def test_a_sampler_that_cannot_heed_limits_is_refused_by_name():
    with pytest.raises(SweepFileError, match="cmaes does not support limits"):
        parse_sweep({"name": "s", "space": SPACE, "limits": LIMITS, "search": {"sampler": "cmaes"}})
