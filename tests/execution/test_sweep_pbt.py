"""A population on a real Ray, and its best trial's schedule replayed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from aifs_tune import load_sweep
from aifs_tune.cli import main as cli
from aifs_tune.data.sources import prepare
from aifs_tune.execution.context import TrialContext
from aifs_tune.execution.pbt import lineage
from aifs_tune.execution.runner import Runner
from aifs_tune.trainers.factory import check_trainer, make_trainer

pytestmark = pytest.mark.usefixtures("one_ray")
SWEEP = """
name: population
trainer: mlp
data:
  table: {target: target, simulate: {samples: 60, genes: 20}}
objective: {metric: val_loss, mode: min}
search: {scheduler: pbt, perturb_epochs: 2, trials: 4, epochs: 6, workers: 2}
space:
  learning_rate: {type: float, low: 1e-4, high: 1e-1, log: true}
  dropout: {type: float, low: 0.0, high: 0.8, step: 0.1}
  units: {type: choice, choices: [8, 16]}
  layers: 1
  batch_size: 16
"""


def test_a_population_finds_a_schedule_that_can_be_replayed(tmp_path: Path, url, monkeypatch, capsys):
    file = tmp_path / "population.yaml"
    file.write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    study = load_sweep(file).run(storage=url).study
    trials = study.all_trials()
    assert [trial.state for trial in trials] == ["complete"] * 4
    assert [[m.epoch for m in study.curve(trial)] for trial in trials] == [[1, 2, 3, 4, 5, 6]] * 4
    assert len({trial.worker for trial in trials}) <= 2, "workers stay while all are paused"
    changes = [change for trial in trials for change in trial.schedule]
    assert sorted(change.epoch for change in changes) == [3, 5]
    for change in changes:
        assert study.spec.check_params(change.params) == dict(change.params)
    assert [folder.name for folder in study.artifacts.glob("trial-*")] == [f"trial-{study.best.number:06d}"]

    changed = next(trial for trial in trials if trial.schedule)
    steps = lineage(study, changed)
    assert steps[0][0] == 1
    assert len({params["units"] for _, params in steps}) == 1, "weights keep their shape"

    monkeypatch.setattr(type(study), "best_trials", lambda self, top: [self.trial(changed.number)])
    monkeypatch.setattr(sys, "argv", ["aifs-tune", "best", "population", "--yaml", "--storage", url])
    with pytest.raises(SystemExit):
        cli.main()
    answer = yaml.safe_load(capsys.readouterr().out)
    assert [entry["epoch"] for entry in answer["replay"]] == [epoch for epoch, _ in steps]

    again = yaml.safe_load(SWEEP)
    again |= {"space": answer["params"], "replay": answer["replay"], "search": {"trials": 1, "epochs": 6}}
    file.write_text(yaml.safe_dump(again))
    spec = load_sweep(file).spec
    check_trainer(spec)
    data = prepare(spec.data, "table", strict=False, tell=str, progress=lambda *done: None).location
    runner = Runner(
        TrialContext(spec, data, tmp_path / "replayed", tmp_path),
        lambda params, seed: make_trainer(spec, data, params=params, seed=seed, threads=1),
    )
    runner.start(0, spec.space.default_params(), seed=1)
    taken = [runner.next_result() for _ in range(6)]
    assert [step.ended for step in taken] == [None] * 5 + ["complete"]
    trained_with = runner._trainer._train_state.params
    assert trained_with.learning_rate == steps[-1][1]["learning_rate"]
    assert trained_with.dropout == steps[-1][1]["dropout"]
