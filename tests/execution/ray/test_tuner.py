"""What a dead worker is said to have died of."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError

from aifs_tune.execution.ray.callback import TrialMonitor, cause_of_death
from aifs_tune.execution.ray.patches import apply_patches
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
    watch = TrialMonitor(SimpleNamespace(error=None), timeout_s=0.0)
    names = ("paused", "starts_again", "hung")
    trials = [SimpleNamespace(trial_id=name, temporary_state=SimpleNamespace(ray_actor=name)) for name in names]
    for trial in trials:
        watch.on_trial_start(1, [], trial)
    watch.on_trial_save(1, [], trials[0])
    watch.on_trial_recover(1, [], trials[1])
    watch.on_step_end(1, trials)
    assert killed == ["hung"]


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
