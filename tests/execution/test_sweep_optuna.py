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
    assert {t.params["kind"] for t in trials} == {"up", None}
    assert all(("n" in t.params) == (t.params["kind"] is None) for t in trials)


@pytest.mark.parametrize("has_files", [True, False])
def test_an_experiment_of_ray_tune_becomes_a_study(tmp_path, monkeypatch, has_files):
    from ray import tune

    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "" if has_files else "1")
    if has_files:
        monkeypatch.delenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS")

    def train(config):
        for epoch in range(1, 4):
            tune.report({"loss": config["net"]["width"] * config["rate"] / epoch, "epoch/even": epoch % 2 == 0})
        if config["rate"] == 0.3:
            raise ValueError("too fast")

    experiment = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={
            "rate": tune.grid_search([0.1, 0.2, 0.3]),
            "net": {"width": tune.randint(8, 65), "bias": tune.choice([True, False])},
            "layers": [4, 4],
        },
        tune_config=tune.TuneConfig(metric="loss", mode="min", max_concurrent_trials=2),
        run_config=tune.RunConfig(name="demo", storage_path=str(tmp_path), verbose=0),
    )
    results = experiment.fit()
    study, left_out = aifs_tune.import_ray_tune(tmp_path / "demo", mode="min")
    trials = study.all_trials()
    assert [t.state for t in trials] == ["complete", "complete", "failed"]
    assert "ValueError: too fast" in trials[2].reason
    for ours, other in zip(trials, results, strict=True):
        config = other.config
        assert ours.params == {
            "rate": config["rate"],
            "net.width": config["net"]["width"],
            "net.bias": config["net"]["bias"],
            "layers": [4, 4],
        }
        losses = [m.metrics["loss"] for m in study.curve(ours)]
        assert losses == [pytest.approx(config["rate"] * config["net"]["width"] / n) for n in (1, 2, 3)][-len(losses) :]
        assert len(losses) == (3 if has_files else 1)
    assert study.best.value == min(r.metrics["loss"] for r in results if r.error is None)
    assert study.spec.objective.metric == "loss"
    assert "the values of layers" not in left_out
    assert study.ask().params["layers"] == [4, 4]
