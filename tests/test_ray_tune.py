"""What a dead worker is said to have died of."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from aifs_tune.ray_tune import TrialWatch, cause_of_death
from aifs_tune.trial import Checkpoint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The actor died. Worker exit type: OUT Worker exit detail: gone. Some common causes include: x", "OUT Worker"),
        ("Task was killed due to the node running low on memory.", "killed due to the node running low on memory"),
        ("", "no reason is known"),
    ],
)
def test_a_death_has_a_short_cause(tmp_path, text, words):
    file = tmp_path / "error.txt"
    file.write_text(f"Failure # 1 (occurred at noon)\n{text}\n")
    cause = cause_of_death(SimpleNamespace(error_file=str(file)))
    assert cause.startswith("its worker process died: ")
    assert words in cause
    assert "common causes" not in cause


def test_a_paused_trial_is_not_taken_for_a_hung_one(monkeypatch):
    killed = []
    monkeypatch.setattr("aifs_tune.ray_tune.ray.kill", killed.append)
    watch = TrialWatch(SimpleNamespace(error=None), silence_s=0.0)
    paused, hung = (
        SimpleNamespace(trial_id=name, temporary_state=SimpleNamespace(ray_actor=name)) for name in ("paused", "hung")
    )
    for trial in (paused, hung):
        watch.on_trial_start(1, [], trial)
    watch.on_trial_save(1, [], paused)
    watch.on_step_end(1, [paused, hung])
    assert killed == ["hung"]


def test_a_worker_that_takes_over_knows_of_the_newest_checkpoint():
    class Trial(SimpleNamespace):
        def set_config(self, config):
            self.config = config

    watch = TrialWatch(SimpleNamespace(error=None), silence_s=1.0)
    trial = Trial(trial_id="t", config={"number": 3, "checkpoint": None})
    watch.on_trial_result(1, [], trial, {"epoch": 4, "checkpoint": '{"state.npz": "abc"}'})
    watch.on_trial_result(1, [], trial, {"epoch": 5, "checkpoint": None})
    assert trial.config["number"] == 3
    assert Checkpoint(**json.loads(trial.config["checkpoint"])) == Checkpoint(4, {"state.npz": "abc"})
