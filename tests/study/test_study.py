"""The study: ask, report, tell, and what it answers."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import optuna
import pandas as pd
import pytest

import aifs_tune
from aifs_tune.errors import ConflictError, NotFoundError, RequestError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.open import open_study
from aifs_tune.study.record import record_of
from aifs_tune.study.study import Study
from aifs_tune.study.warm_start import warm_start


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path) -> str:
    """Every test here holds on both."""
    return f"sqlite:///{tmp_path}/lab.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def study(url, space) -> Study:
    return open_study("lab", space=space, storage=url, metric="score", mode="max")


def finish(study: Study, value: float) -> int:
    trial = study.ask()
    study.report(trial, 1, {"score": value - 1, "auc": 0.5}, seconds=2.0, worker="here:1")
    study.report(trial, 2, {"score": value, "auc": 0.75}, seconds=3.0, worker="here:1")
    study.report(trial, 3, {"score": value - 0.5, "auc": float("nan")}, seconds=1.0, worker="here:1")
    return study.tell(trial).number


def test_the_stated_default_is_tried_first(study):
    trial = study.ask()
    assert trial.number == 0
    assert dict(trial.params) == {"x": 0.25, "kind": "a"}
    assert trial.state == "running"


def test_proposals_lie_in_the_space_and_carry_their_own_seeds(study):
    trials = [study.ask() for _ in range(12)]
    for trial in trials:
        assert study.spec.space.check(trial.params) == dict(trial.params)
    assert len({trial.seed for trial in trials}) == 12
    assert {"a", "b"} == {trial.params["kind"] for trial in trials}


def test_a_trial_keeps_its_best_epoch(study):
    number = finish(study, 3.0)
    trial = study.trial(number)
    assert (trial.state, trial.value, trial.epoch, trial.epochs) == ("complete", 3.0, 2, 3)
    assert dict(trial.metrics) == {"score": 3.0, "auc": 0.75}
    assert (trial.seconds, trial.worker) == (6.0, "here:1")
    assert trial.started_at is not None
    assert trial.finished_at is not None
    assert trial.started_at.utcoffset() is not None


def test_best_ranks_complete_trials_only(study):
    for value in (1.0, 3.0, 2.0):
        finish(study, value)
    pruned = study.ask()
    study.report(pruned, 1, {"score": 99.0})
    study.tell(pruned, state="pruned")
    assert [t.value for t in study.best_trials(9)] == [3.0, 2.0, 1.0]
    assert study.best.number == 1
    assert study.counts() == {"complete": 3, "pruned": 1, "failed": 0, "running": 0, "waiting": 0}


def test_minimising_studies_rank_the_other_way(url, space):
    study = open_study("down", space=space, storage=url, mode="min")
    for value in (2.0, 1.0, 3.0):
        study.tell(study.ask(), value)
    assert study.best.value == 1.0


def test_telling_again_is_the_same_or_a_conflict(study):
    trial = study.ask()
    assert study.tell(trial, 1.5) == study.tell(trial, 1.5)
    with pytest.raises(ConflictError, match=r"trial 0 is complete with value 1.5.*2.5 was not stored"):
        study.tell(trial, 2.5)
    with pytest.raises(ConflictError, match="the first result stands"):
        study.tell(trial, state="failed", reason="late")
    assert study.trial(0).value == 1.5


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {"other": 1.0}, None])
def test_what_is_no_finite_value_is_a_failure_with_a_reason(study, value):
    trial = study.tell(study.ask(), value)
    assert (trial.state, trial.value) == ("failed", None)
    assert "score" in (trial.reason or "")
    with study.storage.rdb.engine.connect() as database:
        assert database.exec_driver_sql("SELECT count(*) FROM trial_values").scalar() == 0


@pytest.mark.parametrize("metrics", [{"score": math.nan}, {"score": math.inf}, {"auc": 1.0}, {}])
def test_a_report_without_a_finite_objective_is_refused(study, metrics):
    trial = study.ask()
    with pytest.raises(RequestError, match="score"):
        study.report(trial, 1, metrics)
    assert study.trial(trial).epochs == 0


def test_only_running_trials_report(study):
    number = finish(study, 1.0)
    with pytest.raises(ConflictError, match="trial 0 is complete"):
        study.report(number, 4, {"score": 2.0})
    with pytest.raises(NotFoundError, match="no trial 77"):
        study.report(77, 1, {"score": 2.0})
    with pytest.raises(RequestError, match="epoch 0"):
        study.report(study.ask(), 0, {"score": 2.0})


def test_a_requeued_trial_is_asked_for_again_with_all_it_had(study):
    first = study.ask()
    study.report(first, 1, {"score": 0.5})
    assert record_of(study).requeue(first).state == "waiting"
    again = study.ask()
    assert (again.number, again.params, again.seed, again.epochs) == (first.number, first.params, first.seed, 1)
    with pytest.raises(ConflictError, match="cannot become waiting"):
        record_of(study).requeue(study.tell(again, 1.0))


def test_trials_of_a_dead_sweep_are_put_back_and_an_instruments_are_not(study):
    study = record_of(study)
    instrument, orphan = study.ask(), study.ask(sweep="sweep-1")
    with study.storage.writing():
        assert [t.number for t in study.take_lead("another")] == [orphan.number]
    assert study.trial(instrument).state == "running"


def test_enqueued_configurations_are_checked(study):
    with pytest.raises(RequestError, match="x"):
        study.enqueue({"x": 7.0, "kind": "a"})
    queued = study.enqueue({"x": 0.5, "kind": "b", "power": 3})
    assert (queued.state, study.ask().number, study.ask().number) == ("waiting", 0, queued.number)


def test_the_table_is_tidy(study):
    finish(study, 2.0)
    study.tell(study.ask(), state="failed", reason="lamp broke")
    table = study.trials
    assert list(table.columns) == [
        *("trial", "state", "value", "epoch", "epochs", "seconds", "worker", "started_at", "finished_at"),
        *("seed", "reason", "params_x", "params_kind", "params_power", "metrics_score", "metrics_auc"),
    ]
    assert str(table.dtypes["started_at"]) == "datetime64[us, UTC]"
    assert {str(table.dtypes[c]) for c in ("value", "params_x", "metrics_auc")} == {"Float64"}
    assert str(table.dtypes["trial"]) == "Int64"
    assert table.loc[1, "reason"] == "lamp broke"
    assert table.loc[1, "value"] is pd.NA


def test_an_empty_study_has_the_same_columns(study):
    assert list(study.trials.columns[:2]) == ["trial", "state"]
    with pytest.raises(NotFoundError, match="no complete trial yet; its trials: 1 waiting"):
        _ = study.best


def test_plain_optuna_opens_it_with_real_curves(study, url):
    finish(study, 2.0)
    theirs = optuna.load_study(study_name="lab", storage=url)
    assert theirs.best_value == 2.0
    assert theirs.best_trial.intermediate_values == {1: 1.0, 2: 2.0, 3: 1.5}
    assert theirs.best_trial.params == {"x": 0.25, "kind": "a"}
    assert theirs.metric_names == ["score"]


def test_reopening_asks_the_same_question_or_is_a_conflict(study, url, space):
    finish(study, 2.0)
    assert open_study("lab", space=space, storage=url, metric="score").best.value == 2.0
    space["x"]["high"] = 2.0
    with pytest.raises(ConflictError, match="another search space"):
        open_study("lab", space=space, storage=url, metric="score")
    with pytest.raises(ConflictError, match="another objective"):
        open_study("lab", space={**space, "x": {**space["x"], "high": 1.0}}, storage=url, metric="other")


@pytest.mark.parametrize("name", ["", "../up", "a/b", "a b", "x" * 101, "<b>", "a\n", "'; DROP TABLE studies"])
def test_names_that_could_be_something_else_are_refused(url, space, name):
    with pytest.raises(RequestError, match="not a valid name"):
        open_study(name, space=space, storage=url)


def test_opening_what_is_not_there_names_what_is(study, url, tmp_path):
    with pytest.raises(NotFoundError, match="it holds: lab"):
        get_study(Storage(url), "other")
    with pytest.raises(NotFoundError, match=r"no storage at .*none\.db"):
        Storage(f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()


def test_the_same_seed_and_history_propose_the_same(tmp_path, space):
    def proposals(file: Path) -> list[dict]:
        study = aifs_tune.open_study("s", space=space, storage=f"sqlite:///{file}", seed=5)
        asked = []
        for n in range(15):
            trial = study.ask()
            asked.append(dict(trial.params))
            study.tell(trial, float(n % 4))
        return asked

    first = proposals(tmp_path / "a.db")
    assert first == proposals(tmp_path / "b.db")
    assert len({str(p) for p in first}) > 10


def test_other_data_is_noticed(study):
    study = record_of(study)
    study.match_data("abc")
    study.match_data("abc")
    with pytest.raises(ConflictError, match="other data"):
        study.match_data("abd")


def test_a_study_can_begin_with_the_best_of_an_earlier_one(url, space, study):
    for value in (1.0, 3.0, 2.0, 0.5):
        finish(study, value)
    best = [dict(trial.params) for trial in study.best_trials(4)]
    wider = {**space, "extra": {"type": "float", "low": 0, "high": 1, "default": 0.5}}
    del wider["power"]
    later = open_study("later", space=wider, storage=url, metric="score")
    (taken,) = warm_start(record_of(later), record_of(study))
    there = [dict(trial.params) for trial in later.all_trials()]
    assert {trial.state for trial in later.all_trials()} == {"waiting"}
    assert there[0] == {"x": 0.25, "kind": "a", "extra": 0.5}, "its own default stays the first"
    expected = [{"x": p["x"], "kind": p["kind"], "extra": 0.5} for p in best]
    first = [there[number] for number in taken.first]
    assert first[0] == next(params for params in expected if params != there[0])
    assert all(params in expected for params in first)
    assert all(later_one - earlier_one == 2 for earlier_one, later_one in pairwise(taken.first)), "its own lie between"
    assert warm_start(record_of(later), record_of(study)) == [], "what waits is not added again"
    assert len(later.all_trials()) == len(there)


def test_a_study_that_has_nothing_in_common_is_no_beginning(url, study):
    finish(study, 1.0)
    other = open_study("other", space={"y": {"type": "float", "low": 0, "high": 1}}, storage=url)
    with pytest.raises(RequestError, match="'lab': no parameter is searched in both; here y, there x, kind, power"):
        warm_start(record_of(other), record_of(study))
    assert other.all_trials() == []


def test_a_value_that_was_told_stands_beside_its_own_metrics(url, space):
    study = open_study("lab", space=space, storage=url, metric="score")
    for told in (0.71, {"score": 0.71, "loss": 3.0}, 0.4, None):
        trial = study.ask()
        study.report(trial, 1, {"score": 0.2, "loss": 2.0})
        study.report(trial, 2, {"score": 0.4, "loss": 1.0})
        study.tell(trial, told)
    seen = [(trial.value, dict(trial.metrics), trial.epoch, trial.epochs) for trial in study.all_trials()]
    of_an_epoch = (0.4, {"score": 0.4, "loss": 1.0}, 2, 2)
    assert seen == [
        (0.71, {"score": 0.71}, None, 2),
        (0.71, {"score": 0.71, "loss": 3.0}, None, 2),
        of_an_epoch,
        of_an_epoch,
    ]


@pytest.mark.parametrize("told", [{"scor": 0.7}, {"scores": 0.7, "loss": 1.0}])
def test_a_metric_with_a_typo_costs_no_measurement(url, space, told):
    study = open_study("lab", space=space, storage=url, metric="score")
    trial = study.ask()
    with pytest.raises(
        RequestError, match=rf"no value for score, but one for '{next(iter(told))}'; did you mean score\?"
    ):
        study.tell(trial, told)
    assert study.trial(trial).state == "running"
    assert study.tell(trial, {"score": 0.7}).value == 0.7
    assert study.tell(study.ask(), {"loss": 1.0}).reason == "no value for score"
