"""PbtScheduler-based training, with trials and a controller that only look like Tune's."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from aifs_tune.config.loading import parse_sweep
from aifs_tune.execution.ray.pbt_scheduler import PbtScheduler

CONTINUE, PAUSE = TrialScheduler.CONTINUE, TrialScheduler.PAUSE

SPACE = {
    "rate": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
    "units": {"type": "choice", "choices": [8, 16]},
}


class TuneTrial:
    PENDING, RUNNING, PAUSED, TERMINATED, ERROR = "PENDING", "RUNNING", "PAUSED", "TERMINATED", "ERROR"

    def __init__(self, number: int) -> None:
        self.config = {"number": number, "params": json.dumps(params(number)), "n_stored": 0, "n_inherited": 0}
        self.config["checkpoint"] = f"of {number}"
        self.status, self.experiment_tag, self.placement_group_factory = self.PENDING, "", "one cpu"

    def is_finished(self) -> bool:
        return self.status in (self.TERMINATED, self.ERROR)

    def set_config(self, config) -> None:
        self.config = config


def params(number: int) -> dict:
    return {"rate": 0.001 * (number + 1), "units": 8 if number % 2 else 16}


class Sweep:
    """A population of ``n`` that measures what it is told."""

    def __init__(self, n: int = 8, *, mode: str = "max", first: int = 2, seed: int = 0, workers: int = 3) -> None:
        search = {"scheduler": "pbt", "trials": n, "epochs": 9, "perturb_epochs": 2, "seed": seed}
        spec = parse_sweep({"name": "p", "objective": {"mode": mode}, "search": search, "space": SPACE})
        self.made, self.room = [], {}
        self.population = PbtScheduler(
            spec,
            lambda *made: self.made.append(made),
            static_params=("units",),
            n_trials=n,
            workers=workers,
            first=first,
        )
        self.trials = [TuneTrial(number) for number in range(n)]
        cache = SimpleNamespace(increase_max=lambda key, by: self.room.update({key: by}))
        self.controller = SimpleNamespace(get_trials=lambda: self.trials, _actor_cache=cache)
        for trial in self.trials:
            self.population.on_trial_add(self.controller, trial)

    def measure(self, number: int, epoch: int, value: float | None = None) -> str:
        trial = self.trials[number]
        trial.status = trial.RUNNING
        value = float(number) if value is None else value
        decision = self.population.on_trial_result(self.controller, trial, {"epoch": epoch, "objective": value})
        if decision == PAUSE:
            trial.status = trial.PAUSED
        return decision

    def next(self):
        return self.population.choose_trial_to_run(self.controller)


def test_the_worst_quarter_goes_on_from_the_best_quarter():
    sweep = Sweep()
    assert sweep.room == {"one cpu": 3}, "workers stay between two rounds"
    assert [sweep.measure(n, 1) for n in range(8)] == [CONTINUE] * 8
    assert [sweep.measure(n, 2) for n in range(8)] == [PAUSE] * 8
    assert sweep.made == []
    assert sweep.next() is not None
    ((epoch, exploits),) = sweep.made
    assert epoch == 2
    assert [move.number for move in exploits] == [0, 1]
    assert {move.source for move in exploits} <= {6, 7}
    for move in exploits:
        source, config = params(move.source), sweep.trials[move.number].config
        assert move.params["units"] == source["units"]
        assert move.params["rate"] != params(move.number)["rate"]
        assert (json.loads(config["params"]), config["n_stored"], config["n_inherited"]) == (move.params, 2, 2)
        assert config["checkpoint"] == f"of {move.source}", "the weights that it goes on with are known by their hash"
    assert [json.loads(trial.config["params"]) for trial in sweep.trials[2:]] == [params(n) for n in range(2, 8)]
    assert all(trial.config["n_stored"] == 2 for trial in sweep.trials)
    assert [sweep.measure(n, 3) for n in range(8)] == [CONTINUE] * 8
    assert [sweep.measure(n, 4, -n) for n in range(8)] == [PAUSE] * 8
    sweep.next()
    assert [move.number for move in sweep.made[1][1]] == [7, 6]


def test_the_smallest_is_best_where_it_should_be():
    sweep = Sweep(mode="min")
    for n in range(8):
        sweep.measure(n, 2)
    sweep.next()
    assert {move.source for move in sweep.made[0][1]} <= {0, 1}


@pytest.mark.parametrize("order", [range(8), reversed(range(8)), (3, 7, 1, 0, 6, 2, 5, 4)])
def test_who_comes_first_decides_nothing(order):
    sweep = Sweep()
    for n in order:
        sweep.measure(n, 2)
    sweep.next()
    expected = Sweep()
    for n in range(8):
        expected.measure(n, 2)
    expected.next()
    assert sweep.made == expected.made


def test_another_seed_draws_otherwise():
    drawn = []
    for seed in range(4):
        sweep = Sweep(seed=seed)
        for n in range(8):
            sweep.measure(n, 2)
        sweep.next()
        drawn.append(str(sweep.made))
    assert len(set(drawn)) == 4


@pytest.mark.parametrize("end", ["TERMINATED", "ERROR"])
def test_nobody_waits_for_a_trial_that_ended(end):
    sweep = Sweep()
    for n in range(7):
        sweep.measure(n, 2)
    sweep.trials[7].status = "RUNNING"
    sweep.next()
    assert sweep.made == []
    sweep.trials[7].status = end
    sweep.next()
    assert {move.source for move in sweep.made[0][1]} <= {5, 6}


def test_a_trial_whose_worker_died_is_waited_for():
    sweep = Sweep()
    for n in range(8):
        sweep.measure(n, 2)
    sweep.trials[7].status = "PENDING"
    sweep.population.on_trial_add(sweep.controller, sweep.trials[7])
    assert sweep.trials[7].config["n_stored"] == 1, "else its checkpoint may be of epoch 2, and it would go on to 3"
    sweep.next()
    assert sweep.made == []
    assert sweep.measure(7, 2) == PAUSE
    sweep.next()
    assert len(sweep.made) == 1


def test_no_more_trials_run_than_there_are_workers():
    sweep = Sweep(workers=3)
    for trial in sweep.trials:
        trial.status = "PAUSED"
    for _ in range(3):
        assert sweep.population.has_room()
        sweep.next().status = "RUNNING"
    assert not sweep.population.has_room()
    assert sweep.next() is None


def test_those_that_are_further_are_left_alone():
    sweep = Sweep(first=4)
    ahead = sweep.trials[7]
    ahead.config["n_stored"] = 6
    sweep.population.on_trial_add(sweep.controller, ahead)
    assert sweep.measure(7, 7, 99.0) == CONTINUE
    for n in range(7):
        assert sweep.measure(n, 4) == PAUSE
    sweep.next()
    numbers = {number for move in sweep.made[0][1] for number in (move.number, move.source)}
    assert 7 not in numbers
