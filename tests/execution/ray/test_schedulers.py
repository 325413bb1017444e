"""Schedulers that remember earlier sweeps, and the one that asks the model."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from aifs_tune.config.search import SearchSpec
from aifs_tune.execution.ray.schedulers import GRACE_EPOCHS, ModelScheduler, make_scheduler
from aifs_tune.study.trial import Trial

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


def earlier(number: int, value: float) -> tuple[Trial, list[tuple[int, float]]]:
    return Trial(number, "complete", {}, 0), [(epoch, value) for epoch in range(1, 9)]


HISTORY = [earlier(n, n / 10) for n in range(9)]


@dataclass(frozen=True)
class TuneTrial:
    trial_id: str


def unknown(trial_id: str, epoch: int, value: float) -> None:
    return None


def scheduler(mode="max", history=HISTORY, continuation_value=unknown, **search):
    return make_scheduler(
        SearchSpec(**{"epochs": 16, "scheduler": "asha", **search}), mode, history, continuation_value
    )


def decide(scheduler, value: float, epoch: int, trial_id: str = "new") -> str:
    trial = TuneTrial(trial_id)
    scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"epoch": epoch, "objective": value})


@pytest.mark.parametrize("name", ["asha", "median", "aifs"])
def test_a_resumed_sweep_stops_trials_by_what_it_saw_before(name):
    assert decide(scheduler(scheduler=name), 0.1, GRACE_EPOCHS) == STOP
    assert decide(scheduler(scheduler=name), 0.9, GRACE_EPOCHS) == CONTINUE
    assert decide(scheduler("min", scheduler=name), 0.1, GRACE_EPOCHS) == CONTINUE
    assert decide(scheduler("min", scheduler=name), 0.9, GRACE_EPOCHS) == STOP
    assert decide(scheduler(history=[], scheduler=name), 0.1, GRACE_EPOCHS) == CONTINUE


@pytest.mark.parametrize("name", ["asha", "hyperband", "median", "aifs"])
def test_no_percentile_stops_a_trial_within_its_grace(name):
    history = [earlier(n, 1.0) for n in range(9)]
    for epoch in range(1, GRACE_EPOCHS):
        assert decide(scheduler(history=history, scheduler=name), 0.0, epoch) == CONTINUE


@pytest.mark.parametrize(
    "search", [{"scheduler": "none"}, {"epochs": 4}, {"epochs": 2}, {"epochs": 1, "scheduler": "aifs"}]
)
def test_where_nothing_can_be_stopped_early_nothing_is(search):
    assert type(scheduler(history=[], **search)) is FIFOScheduler


def test_the_model_decides_as_soon_as_it_knows():
    continuation_values = {1: None, 2: 0.9, 4: 0.6, 8: 0.75}
    asked = []

    def continuation_value(trial_id: str, epoch: int, value: float) -> float | None:
        asked.append((trial_id, epoch, value))
        return continuation_values[epoch]

    model = scheduler(scheduler="aifs", continuation_value=continuation_value)
    assert isinstance(model, ModelScheduler)
    decisions = [decide(model, 0.0, epoch) for epoch in range(1, 10)]
    assert decisions == [CONTINUE] * 3 + [STOP] + [CONTINUE] * 5, "no percentile decides once the model knows"
    assert asked == [("new", 1, 0.0), ("new", 2, 0.0), ("new", 4, 0.0), ("new", 8, 0.0)]


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_a_trial_that_was_ahead_of_all_complete_ones_is_trained_to_its_end(mode: str, sign: int) -> None:
    model = scheduler(mode, history=[earlier(0, 0.5 * sign)], scheduler="aifs", continuation_value=lambda *_: 0.0)
    assert decide(model, 0.4 * sign, 1, "behind") == STOP
    assert [decide(model, value * sign, epoch, "ahead") for epoch, value in enumerate([0.6, 0.2], 1)] == [CONTINUE] * 2
    ahead = TuneTrial("ahead")
    model.on_trial_complete(None, ahead, {"epoch": 16, "objective": 0.1 * sign, "ended": "complete"})
    assert decide(model, 0.55 * sign, 1, "next") == STOP, "its best epoch is what the next one has to be ahead of"
    assert decide(model, 0.7 * sign, 1, "failing") == CONTINUE
    model.on_trial_complete(None, TuneTrial("failing"), {"epoch": 2, "ended": "failed"})
    assert decide(model, 0.65 * sign, 1, "last") == CONTINUE, "a failed trial is ahead of nothing"


def test_nothing_leads_while_no_trial_is_complete() -> None:
    stopped = (Trial(0, "pruned", {}, 0), [(epoch, 0.1) for epoch in range(1, 9)])
    assert decide(scheduler(history=[stopped], scheduler="aifs", continuation_value=lambda *_: 0.0), 0.9, 1) == STOP


def test_the_model_is_not_asked_within_a_grace_that_was_asked_for_and_not_at_the_last_epoch():
    asked = []
    model = scheduler(
        scheduler="aifs",
        grace_epochs=3,
        epochs=12,
        continuation_value=lambda trial_id, epoch, value: asked.append(epoch) or 1.0,
    )
    decisions = [decide(model, 0.9, epoch) for epoch in range(1, 13)]
    assert asked == [3, 6]
    assert decisions[-1] == STOP
    assert set(decisions[:-1]) == {CONTINUE}


def test_a_scheduler_never_gives_a_worker_away_to_wait_for_others():
    median = scheduler(scheduler="median", history=[])
    controller = SimpleNamespace(get_live_trials=lambda: [SimpleNamespace(status="PENDING")])
    trial = TuneTrial("new")
    median.on_trial_add(controller, trial)
    for epoch in range(1, 16):
        assert median.on_trial_result(controller, trial, {"epoch": epoch, "objective": 0.0}) == CONTINUE


def test_hyperband_gives_some_trials_a_longer_grace_and_the_same_ones_again():
    def decisions():
        hyperband = scheduler(scheduler="hyperband", epochs=40, history=[earlier(n, n / 40) for n in range(40)])
        return [decide(hyperband, 0.0, GRACE_EPOCHS, f"trial {n}") for n in range(40)]

    assert set(decisions()) == {CONTINUE, STOP}
    assert decisions() == decisions()
