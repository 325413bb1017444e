"""Sweeps on a real Ray in which the sampler and the scheduler share one model."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from aifs_tune import load_sweep, resume
from aifs_tune.config.cross_validation import CrossValidation
from aifs_tune.errors import ConflictError
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.confirm import measure_noise
from aifs_tune.samplers.learning_curves import KERNEL
from aifs_tune.storage.storage import Storage
from aifs_tune.study.ranking import noise_in
from aifs_tune.study.record import record_of

pytestmark = pytest.mark.usefixtures("one_ray")
LAB = """
def curve(x, rate, epochs):
    '''Best at x 0.7 and rate 1e-3; what is bad starts as well as what is good.'''
    from math import log10
    end = 1 - 2 * (x - 0.7) ** 2 - (log10(rate) + 3) ** 2 / 9
    for epoch in range(1, epochs + 1):
        yield {"score": end - (1 + end) / epoch}

def flat(x, seed):
    '''Nothing depends on x: what differs is noise.'''
    import random
    return random.Random(seed).gauss(0, 1)
"""
SWEEP = """
name: search
trainer: searchlab:curve
objective: {metric: score, mode: max}
search: {trials: 30, epochs: 16, workers: 2, scheduler: SCHEDULER}
constraints: [x + rate < 0.95]
space:
  x: {type: float, low: 0, high: 1}
  rate: {type: float, low: 1e-6, high: 1, log: true}
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "searchlab.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def sweep_file(lab: Path, scheduler: str) -> Path:
    file = lab / f"{scheduler}.yaml"
    file.write_text(SWEEP.replace("SCHEDULER", scheduler))
    return file


def test_a_call_that_is_repeated_with_finish_asks_for_nothing_twice(lab):
    (lab / "search.yaml").write_text(SWEEP.replace("SCHEDULER", "none"))
    sweep = load_sweep(lab / "search.yaml")
    how = {"trials": 3, "epochs": 1, "storage": f"sqlite:///{lab}/lab.db", "finish": True}
    assert sweep.run(**how).study.counts()["complete"] == 3
    again = sweep.run(**how)
    assert (again.study.name, again.study.counts()["complete"]) == ("search", 3)
    more = sweep.run(**how | {"finish": False, "study": "search"})
    assert more.study.counts()["complete"] == 6
    other = load_sweep(lab / "search.yaml", overrides=["space.x.high=2"])
    with pytest.raises(ConflictError, match="another search space"):
        other.run(**how | {"study": "search"})
    foreign = optuna.load_study(study_name="search", storage=how["storage"])
    foreign.add_trial(optuna.trial.create_trial(value=0.5))
    record_of(more.study).request_trials(8)
    assert sweep.run(**how).study.counts()["complete"] == 9, "what another program added is none of those asked for"


def test_a_sweep_stops_what_has_little_chance_and_finds_the_best(lab, url):
    study = load_sweep(sweep_file(lab, "aifs")).run(storage=url).study
    trials = study.all_trials()
    counts = study.counts()
    assert counts["complete"] + counts["pruned"] == len(trials) == 30
    stopped = [trial for trial in trials if trial.state == "pruned"]
    assert len(stopped) >= 8
    assert all(trial.reason.split(";")[0] == f"stopped early at epoch {trial.epochs}" for trial in stopped)
    assert sum(trial.epochs for trial in trials) < 0.75 * 30 * 16
    assert all(trial.params["x"] + trial.params["rate"] < 0.95 for trial in trials)
    assert study.best.params["x"] == pytest.approx(0.7, abs=0.15)
    assert 1e-4 < study.best.params["rate"] < 1e-2
    stored = Storage(url).optuna.get_all_trials(study._optuna._study_id)
    assert sum(KERNEL in trial.system_attrs for trial in stored) >= 2

    more = load_sweep(sweep_file(lab, "aifs")).run(storage=url, study=study.name, trials=5)
    assert len(more.study.all_trials()) == 35
    warm = load_sweep(sweep_file(lab, "aifs")).run(storage=url, trials=3, epochs=2, warm_start=study.name)
    begun, own, _ = [dict(trial.params) for trial in warm.study.all_trials()][:3]
    assert begun == more.study.best.params
    assert own not in [trial.params for trial in more.study.best_trials(3)]
    assert record_of(warm.study).fact("warm_start")[0]["n_trials"] == 35
    assert resume(study.name, storage=url).study.counts()["waiting"] == 0


@pytest.mark.parametrize("scheduler", ["hyperband", pytest.param("median", marks=pytest.mark.soak)])
def test_tune_s_other_schedulers_stop_trials_too(lab, url, scheduler):
    study = load_sweep(sweep_file(lab, scheduler), overrides=["search.sampler=random"]).run(storage=url).study
    assert study.counts()["pruned"] >= 4
    assert study.counts()["complete"] >= 1
    assert all(trial.epochs >= 4 for trial in study.all_trials())


@pytest.mark.soak
def test_a_sweep_ends_by_itself_where_a_further_trial_would_gain_less_than_the_noise(lab, url):
    (lab / "flat.yaml").write_text(
        """
name: flat
trainer: searchlab:flat
objective: {metric: score, mode: max}
search: {trials: 100, epochs: 1, workers: 2, scheduler: none, replicates: 2, stop: gain_below_noise}
space: {x: {type: float, low: 0, high: 1}}
"""
    )
    study = load_sweep("flat.yaml").run(storage=url).study
    counts = study.counts()
    assert 10 <= counts["complete"] < 60
    assert (counts["running"], counts["failed"]) == (0, 0)
    assert study.recommendation().should_stop
    assert resume("flat", storage=url).study.counts()["complete"] <= counts["complete"] + 2


@pytest.mark.soak
def test_finalists_are_trained_again_and_the_best_mean_leads(lab, url):
    (lab / "noisylab.py").write_text(
        LAB
        + '''
def noisy(x, seed, epochs):
    """Two values of x are about as good; the worse one is lucky with the sweep's seeds."""
    import random
    yield {"score": {0: 0.0, 1: 10.0, 2: 10.5}[x] + random.Random(seed).gauss(0, 1)}
'''
    )
    (lab / "noisy.yaml").write_text(
        """
name: noisy
trainer: noisylab:noisy
objective: {metric: score, mode: max}
search: {trials: 3, epochs: 1, workers: 2, sampler: random, finalists: 2, finalist_seeds: 4}
space: {x: {type: choice, choices: [0, 1, 2], default: 1}}
"""
    )
    heard = Heard()
    first = load_sweep("noisy.yaml").run(storage=url, study="unknown", callback=heard).study
    assert len(first.all_trials()) == 3
    assert any("noise unknown; measure it with: aifs-tune noise noisy" in line for line in heard.lines)
    noise = measure_noise("noisy.yaml", storage=url, cv=CrossValidation(folds=1, repeats=6))
    assert 0.4 < noise.sd < 2.0
    study = load_sweep("noisy.yaml").run(storage=url, study="known", callback=heard).study
    assert study.noise_floor == (noise.sd, 5)
    assert study.counts()["complete"] == 3 + 2 * 3
    assert record_of(study).n_requested == 9
    again = [trial.params["x"] for trial in study.all_trials()[3:]]
    assert sorted(again) == [1, 1, 1, 2, 2, 2]
    assert len({trial.seed for trial in study.all_trials()}) == 9
    best = study.best
    assert best.replicates is not None
    assert len(best.replicates.trials) == 4
    others = [trial for trial in study.all_trials() if trial.params["x"] == 3 - best.params["x"]]
    assert best.replicates.mean > sum(trial.value for trial in others) / 4
    assert study.best_trials(9)[-1].params["x"] == 0, "who was trained once stands behind"
    assert study.recommendation().noise == pytest.approx(noise_in(study.all_trials())[0])
    assert resume("known", storage=url).study.counts()["complete"] == 9


class Heard(NullCallback):
    """Keeps what a sweep says."""

    def __init__(self):
        self.lines = []

    def on_status(self, text):
        self.lines.append(text)
