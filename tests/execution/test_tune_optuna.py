"""``aifs_tune.tune`` of objectives of Optuna, in this process."""

from __future__ import annotations

import optuna
import pytest

import aifs_tune
from aifs_tune.errors import InterruptedSweepError, RequestError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIFS_TUNE_STORAGE", f"sqlite:///{tmp_path}/lab.db")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_an_objective_runs_unchanged():
    def objective(trial):
        x = trial.suggest_float("x", -10, 10)
        return (x - 2) ** 2

    result = aifs_tune.tune(objective, trials=25, mode="min")
    assert abs(result.best.params["x"] - 2) < 0.5
    assert result.study.name == "objective"
    assert [(t.state, t.epochs) for t in result.study.all_trials()] == [("complete", 1)] * 25


def curve(trial):
    kind = trial.suggest_categorical("kind", ["fast", "slow"])
    end = trial.suggest_float("end", 0, 1)
    power = trial.suggest_int("power", 1, 4) if kind == "slow" else 8
    for step in range(0, 160, 10):
        trial.report(end * (1 - 0.5 ** ((step + 1) / 160 * power)), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    trial.set_user_attr("trial", trial.number)
    return end


def test_trials_are_pruned_and_complete_ones_are_worth_what_was_returned():
    result = aifs_tune.tune(curve, trials=40, sampler="random")
    counts = result.study.counts()
    assert counts["pruned"] > 5
    assert counts["complete"] + counts["pruned"] == 40
    for trial in result.study.all_trials():
        if trial.state == "complete":
            assert trial.value == trial.params["end"]
            assert trial.notes == {"trial": trial.number}
            assert [m.metrics.get("step") for m in result.study.curve(trial)][1:] == [10.0 * i for i in range(1, 16)]
    assert result.study.spec.space["power"].when == {"kind": ("slow",)}
    assert optuna.load_study(study_name="curve", storage=result.study.storage.url).best_value == result.best.value


def test_an_objective_that_prunes_itself_is_pruned_with_its_words():
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        if x > 0.5:
            raise optuna.TrialPruned("x is too large")
        return x

    trials = aifs_tune.tune(objective, trials=8, sampler="random").study.all_trials()
    assert {(t.state, t.reason) for t in trials} == {("pruned", "x is too large"), ("complete", None)}
    assert all((t.state == "pruned") == (t.params["x"] > 0.5) for t in trials)


def test_a_study_is_continued_without_recording_runs_and_a_changed_range_is_refused():
    calls = []

    def objective(trial):
        calls.append(trial.number)
        return sum(trial.suggest_float(name, 0, 1) for name in ("a", "b"))

    aifs_tune.tune(objective, trials=2, name="sum")
    n = len(calls)
    assert len(aifs_tune.tune(objective, trials=3, name="sum").trials) == 5
    assert len(calls) == n + 3
    high = 2

    def changed(trial):
        return sum(trial.suggest_float(name, 0, high) for name in ("a", "b"))

    changed.__name__ = "objective"
    trials = aifs_tune.tune(changed, trials=1, name="sum").study.all_trials()
    assert "a: asked for float 0 to 2, but the search space of the study has" in trials[-1].reason
    assert len(aifs_tune.resume("sum", trainer=objective, in_process=True).trials) == 6


def test_several_objectives_of_an_objective():
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        return x, 1 - x

    front = aifs_tune.tune(objective, trials=6, metric="a", trade_off={"b": "min"}).study.front
    assert all(t.values["b"] == pytest.approx(1 - t.values["a"]) for t in front)


def test_a_value_that_is_not_finite_fails_the_trial():
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        trial.report(x, 0)
        return float("nan") if x > 0.5 else x

    trials = aifs_tune.tune(objective, trials=6, sampler="random", scheduler="none").study.all_trials()
    assert {(t.state, t.reason) for t in trials} == {("failed", "value is nan at the end"), ("complete", None)}


def test_other_functions_need_a_space():
    with pytest.raises(RequestError, match="space: missing; allowed: the search space"):
        aifs_tune.tune(lambda x: x)
    with pytest.raises(RequestError, match="space: missing"):
        aifs_tune.tune("mylab:run")


def test_an_interrupt_while_the_space_is_read_stores_nothing():
    def objective(trial):
        if trial.suggest_int("n", 1, 3) == 2:
            raise KeyboardInterrupt
        return trial.suggest_float("x" if trial.params["n"] else "y", 0, 1)

    with pytest.raises(InterruptedSweepError, match="while the objective was run to find its search space"):
        aifs_tune.tune(objective, name="never")
    with pytest.raises(aifs_tune.AifsTuneError):
        aifs_tune.load_study("never")


def test_a_report_of_nan_is_a_step_without_a_value(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def objective(trial):
        x = trial.suggest_float("a", 0, 1)
        trial.report(5, 0)
        trial.report(float("nan"), 1)
        return 2 + x

    study = aifs_tune.tune(objective, trials=2, storage=f"sqlite:///{tmp_path}/lab.db").study
    assert [(t.state, t.value) for t in study.all_trials()] == [
        ("complete", 2 + t.params["a"]) for t in study.all_trials()
    ]
