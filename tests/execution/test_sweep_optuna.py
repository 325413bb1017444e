"""Objectives of Optuna on a real Ray, and results of Ray Tune as studies."""

from __future__ import annotations

import optuna
import pytest

import aifs_tune

pytestmark = pytest.mark.usefixtures("one_ray")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIFS_TUNE_STORAGE", f"sqlite:///{tmp_path}/lab.db")


def test_an_objective_runs_unchanged_on_workers():
    slope = 0.5

    def objective(trial):
        kind = trial.suggest_categorical("kind", ["up", None])
        x = trial.suggest_float("x", 0, 1)
        if kind is None:
            trial.suggest_int("n", 1, 3)
        if x > 0.8:
            raise optuna.TrialPruned("x is too large")
        for step in range(3):
            trial.report(slope * x * step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        trial.set_user_attr("number", trial.number)
        return x

    result = aifs_tune.tune(objective, trials=10, workers=2, sampler="random", scheduler="none")
    trials = result.study.all_trials()
    assert {t.state for t in trials} == {"complete", "pruned"}
    for trial in trials:
        if trial.state == "complete":
            assert (trial.value, trial.epochs, trial.notes) == (trial.params["x"], 3, {"number": trial.number})
        else:
            assert (trial.reason, trial.epochs) == ("x is too large", 0)
    assert {t.params["kind"] for t in trials} == {"up", "None"}
    assert all(("n" in t.params) == (t.params["kind"] == "None") for t in trials)
