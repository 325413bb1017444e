"""``aifs_tune.tune`` inside a trial of another sweep."""

from __future__ import annotations

import pytest

import aifs_tune
from aifs_tune.errors import InterruptedSweepError, RequestError
from aifs_tune.execution import nested
from aifs_tune.storage.storage import Storage

X = {"x": {"type": "float", "low": 0, "high": 1}}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIFS_TUNE_STORAGE", f"sqlite:///{tmp_path}/lab.db")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def inner(x):
    return -((x - 0.5) ** 2)


def search(x):
    return {"value": aifs_tune.tune(inner, X, trials=2, sampler="random", seed=int(1e6 * x)).best.value + x}


def search_with_trial(x, trial):
    for _ in range(2):
        trial.report(search(x))


@pytest.mark.parametrize("outer", [search, search_with_trial])
def test_a_trial_may_search_in_the_same_storage(outer):
    result = aifs_tune.tune(outer, X, trials=3, epochs=2, scheduler="none", sampler="random")
    assert result.study.counts()["complete"] == 3
    assert [t.number for t in aifs_tune.load_study(result.study.name).all_trials()] == [0, 1, 2]
    names = {found.study_name for found in Storage(None).optuna.get_all_studies()}
    assert len(names) == 1 + 3 * (1 if outer is search else 2)
    assert all(aifs_tune.load_study(name).counts()["complete"] >= 2 for name in names)


def test_the_study_of_the_trial_itself_is_refused():
    def run(x):
        return aifs_tune.tune(inner, X, trials=1, name="same").best.value

    result = aifs_tune.tune(run, X, trials=1, name="same", sampler="random")
    assert "is that of the sweep in whose trial this one begins" in result.study.all_trials()[0].reason


def test_an_interrupt_of_an_inner_sweep_ends_the_outer_one():
    def stop(x):
        raise KeyboardInterrupt

    def run(x):
        return aifs_tune.tune(stop, X, trials=1, sampler="random", name="inner").best.value

    with pytest.raises(InterruptedSweepError, match="study outer"):
        aifs_tune.tune(run, X, trials=3, name="outer", sampler="random")
    assert aifs_tune.load_study("outer").counts()["waiting"] == 1
    assert nested._RUNNING.sweeps == []


def test_a_worker_is_told_at_once_that_another_process_writes(monkeypatch, tmp_path):
    outer = aifs_tune.tune(inner, X, trials=1, sampler="random")
    monkeypatch.setattr(nested, "_DRIVERS", set())
    nested.works_for(outer.study.artifacts)
    with pytest.raises(RequestError, match=r"lab\.db is being written by the sweep that runs this trial"):
        aifs_tune.tune(inner, X, trials=1, sampler="random")
    assert aifs_tune.tune(inner, X, trials=1, sampler="random", storage=f"sqlite:///{tmp_path}/inner.db").trials.shape[
        0
    ]


def test_a_space_that_is_used_up_is_told_in_one_line(capsys):
    space = {"x": {"type": "choice", "choices": [0.0, 1.0]}}
    aifs_tune.tune(inner, space, trials=2)
    assert "have been tried" not in capsys.readouterr().err
    aifs_tune.tune(inner, space, trials=3)
    [line] = [line for line in capsys.readouterr().err.splitlines() if "have been tried" in line]
    assert "All 2 configurations of the search space" in line
