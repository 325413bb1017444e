"""What a dead worker is said to have died of."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace

import pytest
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError

from aifs_tune.execution.ray.callback import TrialMonitor, cause_of_death
from aifs_tune.execution.ray.patches import apply_patches
from aifs_tune.execution.ray.searcher import StudySearcher
from aifs_tune.execution.ray.tuner import _Places
from aifs_tune.study.trial import Checkpoint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The actor died. Worker exit type: OUT Worker exit detail: gone. Some common causes include: x", "OUT Worker"),
        ("The worker was killed by somebody.", "worker was killed by somebody"),
        ("", "unknown reason"),
    ],
)
def test_a_death_has_a_short_cause(text, words):
    cause, ran_out = cause_of_death(f"Failure # 1 (occurred at noon)\n{text}\n")
    assert cause.startswith("the worker process died: ")
    assert words in cause
    assert "common causes" not in cause
    assert not ran_out


LOW = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: 4abc) was "
    "4.54GB used / 23.54GB limit (0.192871)\nOOM kill reason: Memory usage 4850536448B exceeded threshold"
)


def test_a_worker_that_ray_killed_for_its_memory_ran_out_of_it():
    cause, ran_out = cause_of_death(f"Failure # 1 (occurred at noon)\n{LOW}\n")
    assert ran_out
    assert cause == (
        "out of memory: Ray killed the worker process because the machine ran low on memory, 4.54GB of 23.54GB used"
    )


def test_the_last_death_counts():
    later = f"Failure # 1 (occurred at noon)\n{LOW}\nFailure # 2 (occurred at one)\nthe actor died\n"
    assert cause_of_death(later) == ("the worker process died: the actor died", False)


def test_tune_outlives_a_kill_by_rays_memory_monitor(monkeypatch):
    told = []
    task = SimpleNamespace(
        _tracked_actor=SimpleNamespace(actor_id=1, _on_error=None), _on_error=lambda actor, error: told.append(error)
    )
    manager = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    apply_patches()
    apply_patches()
    unpatched = RayActorManager._actor_task_failed.__wrapped__
    assert not hasattr(unpatched, "__wrapped__"), "patched once"
    with pytest.raises(RuntimeError, match="Caught unexpected exception"):
        unpatched(manager, tracked_actor_task=task, exception=OutOfMemoryError(LOW))
    RayActorManager._actor_task_failed(manager, tracked_actor_task=task, exception=OutOfMemoryError(LOW))
    assert isinstance(told[0], RayActorError)
    assert str(told[0]) == LOW


def test_a_trial_whose_worker_is_gone_is_not_taken_for_a_hung_one(monkeypatch):
    killed = []
    monkeypatch.setattr("aifs_tune.execution.ray.callback.ray.kill", killed.append)
    told = []
    searcher = SimpleNamespace(
        error=None,
        running={"starts_again": SimpleNamespace(number=7)},
        is_last_failure_counted=True,
        notice=told.append,
    )
    watch = TrialMonitor(searcher, timeout_s=0.0)
    names = ("paused", "starts_again", "hung")
    trials = [
        SimpleNamespace(trial_id=name, temporary_state=SimpleNamespace(ray_actor=name), error_file=None)
        for name in names
    ]
    for trial in trials:
        watch.on_trial_start(1, [], trial)
    watch.on_trial_save(1, [], trials[0])
    watch.on_trial_recover(1, [], trials[1])
    watch.on_step_end(1, trials)
    assert killed == ["hung"]
    again = "is tried again from its last checkpoint, if it has one: the worker process died: unknown reason"
    assert told == [f"trial 7 {again}"]
    searcher.is_last_failure_counted = False
    watch.on_trial_recover(1, [], trials[1])
    assert len(told) == 1, "a worker that asked to be replaced is no news"


def test_a_sweep_that_finds_no_place_on_the_cluster_says_so_once(monkeypatch):
    told = []
    now = [0.0]
    monkeypatch.setattr("aifs_tune.execution.ray.callback.time.monotonic", lambda: now[0])
    searcher = SimpleNamespace(error=None, running={"a": None}, notice=told.append)
    watch = TrialMonitor(searcher, timeout_s=1000.0)
    for now[0] in (1.0, 50.0, 62.0, 63.0, 100.0):
        watch.on_step_end(1, [])
    watch.on_trial_start(1, [], SimpleNamespace(trial_id="a"))
    for now[0] in (101.0, 102.0):
        watch.on_step_end(1, [])
    assert [text.split(":")[0] for text in told] == ["no trial could begin for 60 s", "trials are running again"]


def test_a_machine_that_is_taken_away_is_no_failure_of_its_trial():
    searcher = StudySearcher.__new__(StudySearcher)
    searcher.excluded_nodes, searcher._n_nodes_lost = None, Counter()
    is_leaving = False
    searcher._leaving_nodes = SimpleNamespace(are_there=lambda: is_leaving)
    said = "The actor died because its node has died. Node Id: 4d85 the actor's node was terminated expectedly: SIGTERM"
    gone = [RayActorError(error_msg=said) for _ in range(11)]
    for error in gone:
        searcher.on_worker_failure("a", error)
    assert [error.preempted for error in gone] == [True] * 10 + [False], "Tune counts the eleventh"
    own = RayActorError(error_msg="Worker exit type: SYSTEM_ERROR")
    searcher.on_worker_failure("b", own)
    assert not own.preempted
    is_leaving = True
    taken = RayActorError(error_msg="Worker exit type: SYSTEM_ERROR")
    searcher.on_worker_failure("b", taken)
    assert taken.preempted, "the batch system ends machine and worker at once"
    assert cause_of_death(f"Failure # 1\n{said}") == (
        "the machine of its worker was lost, terminated expectedly: SIGTERM",
        False,
    )


def test_a_sweep_tells_when_nodes_join_or_leave():
    told = []
    pool = SimpleNamespace(fit=iter([6, 6, 4, 4, 8]).__next__)
    searcher = SimpleNamespace(running=dict.fromkeys("abcd"), notice=told.append)
    places = _Places(pool, searcher)
    assert [places.has_room() for _ in range(4)] == [True, False, False, True]
    assert told == [
        "nodes have left the cluster: 4 trials at a time now, 6 before",
        "nodes have joined the cluster: 8 trials at a time now, 4 before",
    ]


def test_a_worker_that_takes_over_knows_of_the_newest_checkpoint():
    class Trial(SimpleNamespace):
        def set_config(self, config):
            self.config = config

    watch = TrialMonitor(SimpleNamespace(error=None), timeout_s=1.0)
    trial = Trial(trial_id="t", config={"number": 3, "checkpoint": None})
    watch.on_trial_result(1, [], trial, {"epoch": 4, "checkpoint": '{"state.npz": "abc"}'})
    watch.on_trial_result(1, [], trial, {"epoch": 5, "checkpoint": None})
    assert trial.config["number"] == 3
    assert Checkpoint(**json.loads(trial.config["checkpoint"])) == Checkpoint(4, {"state.npz": "abc"})
