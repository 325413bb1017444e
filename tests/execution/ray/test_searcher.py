"""What becomes of a trial that ran out of memory or is stopped."""

from __future__ import annotations

import json
from typing import Any

import pytest
from records import open_record

from aifs_tune.artifacts.trial_artifacts import BestWeights
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.memory_tracking import ResourceMonitor
from aifs_tune.execution.oom_retry import oom_num_gpus
from aifs_tune.execution.ray.searcher import StudySearcher
from aifs_tune.execution.timing import Profile


@pytest.fixture
def searcher(url, space):
    study = open_record("memory", space=space, storage=url, metric="score")
    return again(study)


def result(**entries: Any) -> dict[str, Any]:
    told = {"epoch": 1, "metrics": "{}", "seconds": 1.0, "worker": "here:1", "timings": "{}", "memory_usage": None}
    told |= {"notes": "{}", "error": None, "n_beyond": 0}
    return {
        **told,
        "checkpoint": None,
        "weights": None,
        "ended": "failed",
        "reason": "out of memory with 0.5 of a GPU: it",
        "out_of_memory": True,
        **entries,
    }


def state(searcher: StudySearcher, number: int) -> str:
    return searcher._study.trial(number).state


def test_it_is_put_aside_as_it_is_and_can_be_asked_for_again(searcher):
    assert searcher.defer_oom_trials(0.5) == 0
    first, second = (searcher.suggest(name) for name in ("a", "b"))
    searcher.on_trial_result("a", result(metrics=json.dumps({"score": 0.5}), ended=None, out_of_memory=False))
    searcher.on_trial_complete("a", result(epoch=1))
    searcher.fail("b", "out of memory: Ray killed it", out_of_memory=True)
    assert [trial.number for trial in searcher.deferred] == [0, 1]
    assert searcher.unfinished() == []
    assert [state(searcher, n) for n in (0, 1)] == ["running", "running"]
    third = searcher.suggest("c")
    assert third["number"] == 2, "it is not handed out again by itself"
    for trial in searcher.deferred:
        searcher._study.requeue(trial)
    again = searcher.suggest("d")
    assert again == {**first, "n_stored": 1}
    assert searcher.suggest("e") == second


def test_a_resumed_sweep_neither_forgets_nor_repeats_it(searcher):
    searcher.defer_oom_trials(0.5)
    searcher.suggest("a")
    searcher.on_trial_complete("a", result())
    study, number = searcher._study, searcher.deferred[0].number
    study.requeue(number)
    study.enqueue({"x": 0.5, "kind": "a"})
    resumed = again(study)
    assert resumed.defer_oom_trials(0.4) == 1
    assert resumed.suggest("b")["number"] == 1, "one that is known to need more is not tried with less"
    assert oom_num_gpus(study, resumed.deferred[0]) == 0.5
    study.take_lead("the next sweep, as this one was killed")
    assert state(searcher, number) == "waiting"
    larger = again(study)
    assert larger.defer_oom_trials(1.0) == 0
    assert larger.suggest("c")["number"] == number, "nor put aside where it has more"
    assert again(study).defer_oom_trials(0.1) == 0, "one that runs already is left alone"


def again(study: Any) -> StudySearcher:
    """That of another sweep of the study."""
    monitor = ResourceMonitor(Profile(), NullCallback())
    monitor.set_worker_resources(0.5, per_node=1, is_chosen=True)
    return StudySearcher(study, "me", BestWeights(study.artifacts, study.spec.objectives, []), NullCallback(), monitor)


def test_it_failed_where_no_larger_share_is_left(searcher):
    searcher.suggest("a")
    searcher.suggest("b")
    searcher.on_trial_complete("a", result())
    searcher.fail("b", "out of memory: Ray killed it", out_of_memory=True)
    assert searcher.deferred == []
    assert [state(searcher, n) for n in (0, 1)] == ["failed", "failed"]
    assert searcher._study.trial(0).reason == "out of memory with 0.5 of a GPU: it"


def test_other_failures_stand(searcher):
    searcher.defer_oom_trials(0.5)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher.on_trial_complete("a", result(reason="it broke", out_of_memory=False))
    searcher.fail("b", "the worker process died")
    assert [state(searcher, n) for n in (0, 1)] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("n_beyond", "told"),
    [(0, ""), (1, "; 1 more had begun and was discarded"), (3, "; 3 more had begun and were discarded")],
)
def test_epochs_beyond_a_stop_are_discarded_and_counted(searcher, n_beyond, told):
    searcher.suggest("a")
    measured = result(metrics=json.dumps({"score": 0.5}), ended=None, out_of_memory=False, reason=None)
    searcher.on_trial_complete("a", measured | {"n_beyond": n_beyond})
    trial = searcher._study.trial(0)
    assert (trial.state, trial.epochs, trial.reason) == ("pruned", 1, f"stopped early at epoch 1{told}")
