"""Schedulers that remember earlier sweeps, and the one that ranks trials and asks the model."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from aifs_tune.config.search import SearchSpec
from aifs_tune.execution.ray.schedulers import GRACE_EPOCHS, Ranks, make_scheduler
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


def asked(worth):
    """A function that answers for the model, and the list of what it was asked."""
    calls = []

    def continuation_value(trial_id: str, epoch: int, value: float) -> float | None:
        calls.append((trial_id, epoch))
        return worth

    return continuation_value, calls


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_the_best_eighth_continues_and_the_worse_half_stops_whatever_the_model_says(mode: str, sign: int) -> None:
    history = [earlier(n, sign * n / 100) for n in range(79)]
    for worth, decision in ((0.0, STOP), (9.0, CONTINUE), (None, CONTINUE)):
        answer, calls = asked(worth)
        ranks = scheduler(mode, history=history, scheduler="aifs", continuation_value=answer)
        assert decide(ranks, sign * 0.71, 4, "best eighth") == CONTINUE
        assert decide(ranks, sign * 0.38, 4, "worse half") == STOP
        assert not calls
        assert decide(ranks, sign * 0.6, 4, "between") == decision
        assert calls == [("between", 4)]


def test_the_model_alone_stops_at_first_epochs_of_which_nothing_is_known() -> None:
    for worth, decision in ((0.0, STOP), (0.9, CONTINUE), (None, CONTINUE)):
        ranks = scheduler(history=HISTORY[:5], scheduler="aifs", continuation_value=asked(worth)[0])
        assert [decide(ranks, 0.0, epoch) for epoch in (1, 2)] == [decision] * 2


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
@pytest.mark.parametrize(
    ("late", "decision"),
    [
        (lambda n: n, STOP),
        (lambda n: n if n > 9 else -n, STOP),
        (lambda n: 7 * n % 20, CONTINUE),
        (lambda n: -n, CONTINUE),
    ],
)
def test_the_worse_half_stops_at_first_epochs_that_predict_the_later_ones(mode, sign, late, decision) -> None:
    history = [
        (Trial(n, "complete", {}, 0), [(1, sign * n), (2, sign * late(n)), (4, sign * late(n)), (8, sign * late(n))])
        for n in range(20)
    ]
    answer, calls = asked(9.0)
    ranks = scheduler(mode, history=history, scheduler="aifs", continuation_value=answer)
    assert decide(ranks, sign * 8.5, 1, "worse half") == decision
    assert bool(calls) == (decision == CONTINUE)
    few = scheduler(mode, history=history[:5], scheduler="aifs", continuation_value=answer)
    assert decide(few, 0.5 * sign, 1, "one of few") == CONTINUE


def test_the_correlation_is_that_of_all_trials_though_only_the_best_go_on() -> None:
    rng, ranks = np.random.default_rng(0), Ranks("max")
    for n, (early, other) in enumerate(rng.standard_normal((2000, 2))):
        ranks.reported(str(n), 1, early)
        if early > 0.5:
            ranks.reported(str(n), 4, 0.8 * early + 0.6 * other)
    assert ranks.correlation_with_later(1) == pytest.approx(0.8, abs=0.06)
    assert ranks.correlation_with_later(4) is None
    same = Ranks("max")
    for n in range(9):
        same.reported(str(n), 1, 0.5)
        same.reported(str(n), 2, n)
    assert same.correlation_with_later(1) is None


def test_few_trials_are_not_ranked_but_the_best_of_them_is_protected() -> None:
    answer, calls = asked(0.0)
    ranks = scheduler(history=HISTORY[:2], scheduler="aifs", continuation_value=answer)
    assert decide(ranks, 0.95, 4, "best") == CONTINUE
    assert not calls
    assert decide(ranks, -0.5, 4, "worst of four") == STOP
    assert not calls, "four trials are enough"


def test_values_at_chance_level_are_left_to_the_model_until_others_are_better() -> None:
    ranks = scheduler(history=[], scheduler="aifs", continuation_value=asked(None)[0])
    assert [decide(ranks, 0.5, 4, f"chance {n}") for n in range(10)] == [CONTINUE] * 10
    assert [decide(ranks, 0.6, 4, f"better {n}") for n in range(3)] == [CONTINUE] * 3
    assert decide(ranks, 0.5, 4, "chance") == STOP


def test_a_trial_that_reports_an_epoch_again_counts_once() -> None:
    ranks = scheduler(history=[], scheduler="aifs", continuation_value=asked(0.0)[0])
    for n in range(3):
        decide(ranks, n / 10, 4, f"{n}")
    assert [decide(ranks, 0.9, 4, "resumed") for _ in range(9)] == [CONTINUE] * 9


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
    stopped = (Trial(0, "pruned", {}, 0), [(epoch, 0.95) for epoch in range(1, 9)])
    assert decide(scheduler(history=[stopped], scheduler="aifs", continuation_value=lambda *_: 0.0), 0.9, 1) == STOP


def test_the_model_is_not_asked_within_a_grace_that_was_asked_for_and_not_at_the_last_epoch():
    answer, calls = asked(1.0)
    model = scheduler(scheduler="aifs", grace_epochs=3, epochs=12, continuation_value=answer)
    decisions = [decide(model, 0.65, epoch) for epoch in range(1, 13)]
    assert calls == [("new", 3), ("new", 6)]
    assert decisions == [CONTINUE] * 11 + [STOP]


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
