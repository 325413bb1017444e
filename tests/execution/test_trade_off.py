"""Several objectives: the Pareto front, its samplers, its weights, its doors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from sweep_text import BASE, refusal

from aifs_tune import load_sweep
from aifs_tune.artifacts.trial_artifacts import BestWeights, TrialArtifacts
from aifs_tune.cli import main as cli
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.sweep import Objective
from aifs_tune.errors import ConflictError, NotFoundError, RequestError
from aifs_tune.study.index import get_study
from aifs_tune.study.open import open_study
from aifs_tune.study.study import Study
from aifs_tune.study.trial import Trial

X = {"x": {"type": "float", "low": 0, "high": 2}}


@pytest.fixture
def study(url) -> Study:
    return open_study("alloy", space=X, storage=url, metric="strength", trade_off={"cost": "min"})


def told(study: Study, strength: float, cost: float) -> Trial:
    return study.tell(study.ask(), {"strength": strength, "cost": cost, "humidity": 0.5})


def test_the_front_has_what_no_other_trial_beats_in_all(study):
    assert study.front == []
    with pytest.raises(NotFoundError, match="no complete trial yet"):
        _ = study.best
    for strength, cost in ((1, 1), (3, 5), (2, 2), (2, 4), (0, 0.5)):
        told(study, strength, cost)
    study.tell(study.ask(), state="failed", reason="lamp")
    assert [trial.number for trial in study.front] == [1, 2, 0, 4]
    assert study.best.number == 1
    assert study.best.values == {"strength": 3, "cost": 5}
    assert study.best.metrics == {"strength": 3, "cost": 5, "humidity": 0.5}
    assert [frozen.values for frozen in study._optuna.best_trials] == [[1, 1], [3, 5], [2, 2], [0, 0.5]]


def test_of_one_objective_the_front_is_the_best(url):
    study = open_study("one", space=X, storage=url, mode="min")
    for value in (2.0, 1.0, 1.0):
        study.tell(study.ask(), value)
    assert [trial.number for trial in study.front] == [1, 2]
    assert study.best.values == {}


def test_every_objective_is_told(study):
    trial = study.ask()
    with pytest.raises(
        RequestError, match=r"trial 0: 1.5 does not say which .*; allowed: a value for each of strength"
    ):
        study.tell(trial, 1.5)
    with pytest.raises(RequestError, match=r"'cost' was not reported; it reported: strength"):
        study.report(trial, 1, {"strength": 1.0})
    failed = study.tell(trial, {"strength": 1.5})
    assert (failed.state, failed.reason) == ("failed", "no value for cost")
    undefined = study.tell(study.ask(), {"strength": 1.5, "cost": float("nan")})
    assert (undefined.state, undefined.reason) == ("failed", "value nan for cost")
    complete = told(study, 1.0, 2.0)
    assert study.tell(complete, {"strength": 1.0, "cost": 2.0}) == complete
    with pytest.raises(ConflictError, match=r"complete with value 1.0, 2.0; .* complete with value 1.0, 3.0 was not"):
        study.tell(complete, {"strength": 1.0, "cost": 3.0})


def test_the_best_epoch_is_that_of_the_first_objective(study):
    trial = study.ask()
    study.report(trial, 1, {"strength": 1.0, "cost": 1.0})
    study.report(trial, 2, {"strength": 3.0, "cost": 9.0})
    study.report(trial, 3, {"strength": 2.0, "cost": 4.0})
    assert study.trial(trial).values == {"strength": 3.0, "cost": 9.0}
    done = study.tell(trial)
    assert (done.state, done.value, done.epoch) == ("complete", 3.0, 2)
    assert done.values == {"strength": 3.0, "cost": 9.0}


def test_a_study_keeps_its_objectives(study, url):
    again = open_study("alloy", space=X, storage=url, metric="strength", trade_off={"cost": "min"})
    assert again.spec == study.spec
    with pytest.raises(ConflictError, match="with other objectives to trade off"):
        open_study("alloy", space=X, storage=url, metric="strength")


@pytest.mark.parametrize("sampler", ["aifs", "tpe", "nsga2", "nsga3", "qmc", "random"])
def test_samplers_of_several_objectives(url, sampler):
    """x from 0 to 1 is the front of x^2 against (x - 1)^2."""
    study = open_study(
        "pair", space=X, storage=url, metric="left", mode="min", trade_off={"right": "min"}, sampler=sampler
    )
    for _ in range(24):
        trial = study.ask()
        x = float(trial.params["x"])
        study.tell(trial, {"left": x**2, "right": (x - 1) ** 2})
    assert study.counts()["complete"] == 24
    assert len(study.front) >= 6
    assert all(float(trial.params["x"]) <= 1.0 for trial in study.front[:-1])


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"sampler": "cmaes"}, "search.sampler: cmaes supports one objective only; allowed: aifs, tpe, gp, qmc, nsga2"),
        ({"scheduler": "asha"}, "search.scheduler: asha stops trials by one objective.*; allowed: none"),
    ],
)
def test_what_knows_one_objective_is_refused(search, said):
    sweep = {"name": "two", "space": X, "trade_off": [{"metric": "cost", "mode": "min"}]}
    assert parse_sweep(sweep).search.sampler.name == "aifs"
    assert parse_sweep(sweep).search.scheduler == "none"
    with pytest.raises(RequestError, match=said):
        parse_sweep({**sweep, "search": search})


def test_wrong_objectives_are_named_with_their_line(tmp_path):
    text = BASE.replace("search:", "trade_off:\n  - {metric: val_macro_f1}\nsearch:")
    assert "base.yaml:4: trade_off.0.metric: val_macro_f1 is already an objective" in str(
        refusal(tmp_path / "base.yaml", text)
    )
    text = text.replace("{metric: val_macro_f1}", "{metric: val_loss, mode: lowest}")
    assert "base.yaml:4: trade_off.0.mode: 'lowest'" in str(refusal(tmp_path / "base.yaml", text))


def test_weights_of_the_whole_front_are_kept(tmp_path):
    keep = BestWeights(tmp_path, [Objective(metric="s"), Objective(metric="c", mode="min")], [])
    for number, (s, c) in enumerate(((1, 1), (3, 5), (2, 2), (2, 4), (1, 0.5))):
        TrialArtifacts(tmp_path, number).save_weights(lambda folder: (folder / "w").write_text("w"))
        keep.ended(Trial(number, "complete", {}, 0, value=s, values={"s": s, "c": c}))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["trial-000001", "trial-000002", "trial-000004"]


LAB = """
def measure(x):
    return {"quality": 1 - (x - 1) ** 2, "cost": x * x}
"""
SWEEP = """
name: traded
trainer: tradelab:measure
objective: {metric: quality, mode: max}
trade_off:
  - {metric: cost, mode: min}
search: {trials: 16, epochs: 1, workers: 2}
space:
  x: {type: float, low: 0, high: 2}
"""


@pytest.mark.usefixtures("one_ray")
def test_a_sweep_ends_with_a_front(tmp_path: Path, monkeypatch, capsys, url):
    (tmp_path / "tradelab.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "traded.yaml").write_text(SWEEP)
    result = load_sweep(tmp_path / "traded.yaml").run(storage=url)
    assert result.study.counts()["complete"] == 16
    front = result.study.front
    assert all(0 <= float(trial.params["x"]) <= 1.001 for trial in front[1:])

    def typed(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["aifs-tune", *words, "--storage", url])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        return capsys.readouterr().out

    answer = json.loads(typed("best", "traded", "--json"))
    assert answer["trade_off"] == [{"metric": "cost", "mode": "min"}]
    assert [each["trial"] for each in answer["front"]] == [trial.number for trial in front]
    assert all(set(each["values"]) == {"quality", "cost"} for each in answer["front"])
    shown = typed("best", "traded")
    assert "quality (max) against cost (min)" in shown
    assert json.loads(typed("status", "traded", "--json"))["trade_off"] == answer["trade_off"]
    assert json.loads(typed("studies", "--json"))[0]["trade_off"] == answer["trade_off"]
    assert f"Pareto front: {len(front)} trials" in shown
    assert "quality" in (head := typed("trials", "traded").splitlines()[1])
    assert "cost" in head
    asked = json.loads(typed("ask", "traded"))
    number = str(asked["trial"])
    assert json.loads(typed("report", "traded", number, "1", "0.5", "--metric", "cost=2"))["value"] == 0.5
    done = json.loads(typed("tell", "traded", number, "--metric", "quality=0.75", "--metric", "cost=1"))
    assert (done["state"], done["values"]) == ("complete", {"quality": 0.75, "cost": 1.0})
    assert get_study(result.study.storage, "traded").counts()["complete"] == 17
