"""What Tune is told: schedulers that remember, causes of death."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from aifs_tune.ray_tune import GRACE_EPOCHS, cause_of_death, make_scheduler
from aifs_tune.spec import SearchSpec
from aifs_tune.trial import Trial


def earlier(number: int, value: float) -> tuple[Trial, list[tuple[int, float]]]:
    return Trial(number, "complete", {}, 0), [(epoch, value) for epoch in range(1, 9)]


def decide(scheduler, value: float, epoch: int) -> str:
    trial = SimpleNamespace(trial_id="new")
    scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"epoch": epoch, "objective": value})


def test_a_resumed_sweep_stops_trials_by_what_it_saw_before():
    search = SearchSpec(epochs=16)
    history = [earlier(n, n / 10) for n in range(9)]
    assert decide(make_scheduler(search, "max", history), 0.1, GRACE_EPOCHS) == TrialScheduler.STOP
    assert decide(make_scheduler(search, "max", history), 0.9, GRACE_EPOCHS) == TrialScheduler.CONTINUE
    assert decide(make_scheduler(search, "min", history), 0.1, GRACE_EPOCHS) == TrialScheduler.CONTINUE
    assert decide(make_scheduler(search, "min", history), 0.9, GRACE_EPOCHS) == TrialScheduler.STOP
    assert decide(make_scheduler(search, "max", []), 0.1, GRACE_EPOCHS) == TrialScheduler.CONTINUE


def test_no_trial_is_stopped_within_its_grace():
    history = [earlier(n, 1.0) for n in range(9)]
    for epoch in range(1, GRACE_EPOCHS):
        scheduler = make_scheduler(SearchSpec(epochs=16), "max", history)
        assert decide(scheduler, 0.0, epoch) == TrialScheduler.CONTINUE


@pytest.mark.parametrize("search", [SearchSpec(scheduler="none"), SearchSpec(epochs=4), SearchSpec(epochs=2)])
def test_where_nothing_can_be_stopped_early_nothing_is(search):
    assert type(make_scheduler(search, "max", [])) is FIFOScheduler


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
