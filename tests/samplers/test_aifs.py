"""AifsSampler in Optuna studies: proposals, start-up, failures, constraints."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase
from optuna.trial import TrialState, create_trial

from aifs_tune.samplers import aifs
from aifs_tune.samplers.aifs import N_STARTUP_TRIALS, AifsSampler
from aifs_tune.samplers.learning_curves import KERNEL


class TestOptunasOwnSuite(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return AifsSampler


SPACE = {
    "a": FloatDistribution(0, 1),
    "b": FloatDistribution(1e-5, 1e-1, log=True),
    "c": CategoricalDistribution(["x", "y", "z"]),
    "d": IntDistribution(1, 9),
}


def score(params) -> float:
    off = (params["a"] - 0.7) ** 2 + (np.log10(params["b"]) + 3) ** 2 / 16 + (params["d"] - 6) ** 2 / 64
    return -off - 0.3 * (params["c"] != "y")


def curve(params, epoch: int) -> float:
    return score(params) - 0.8 / epoch


def drive(study, n_trials: int, epochs: int = 1, objective=curve, space=SPACE) -> None:
    for _ in range(n_trials):
        trial = study.ask(space)
        for epoch in range(1, epochs + 1):
            trial.report(objective(trial.params, epoch), epoch)
        study.tell(trial, objective(trial.params, epochs))


def new_study(direction="maximize", **options) -> optuna.Study:
    options = {"space": SPACE, "last_epoch": 8, **options}
    return optuna.create_study(direction=direction, sampler=AifsSampler(**options))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in (1, 2))])
def test_it_finds_the_best_far_sooner_than_chance(seed):
    study = new_study(seed=seed)
    drive(study, 40, epochs=8)
    random = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=seed))
    drive(random, 400)
    assert max(score(t.params) for t in study.trials) > max(score(t.params) for t in random.trials)
    assert max(score(t.params) for t in study.trials) > -0.01


def test_minimising_is_maximising_the_negative():
    most, least = new_study(seed=3), new_study("minimize", seed=3)
    drive(most, 16)
    drive(least, 16, objective=lambda params, epoch: -curve(params, epoch))
    assert [t.params for t in most.trials] == [t.params for t in least.trials]


def test_the_unit_of_the_objective_does_not_matter():
    plain, scaled = new_study(seed=3), new_study(seed=3)
    drive(plain, 16)
    drive(scaled, 16, objective=lambda params, epoch: 1024 * curve(params, epoch))
    assert [t.params for t in plain.trials] == [t.params for t in scaled.trials]


def test_a_new_process_continues_as_the_old_one_would_have(tmp_path):
    at_once = new_study(seed=5)
    drive(at_once, 20, epochs=4)
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(study_name="s", storage=url, direction="maximize")
    for _ in range(20):
        sampler = AifsSampler(seed=5, space=SPACE, last_epoch=8)
        drive(optuna.load_study(study_name="s", storage=url, sampler=sampler), 1, epochs=4)
    again = optuna.load_study(study_name="s", storage=url)
    assert [t.params for t in again.trials] == [t.params for t in at_once.trials]
    assert sum(KERNEL in t.system_attrs for t in again.trials) >= 2, "the kernel is fitted anew as the data grow"


def test_it_learns_from_running_and_from_stopped_trials():
    study = new_study(seed=0)
    for i in range(30):
        trial = study.ask(SPACE)
        trial.report(curve(trial.params, 1), 1)
        if i % 2:
            study.tell(trial, state=TrialState.PRUNED)
    late = [score(t.params) for t in study.trials[20:]]
    early = [score(t.params) for t in study.trials[:N_STARTUP_TRIALS]]
    assert np.median(late) > np.median(early) + 0.1


@pytest.mark.parametrize("max_running", [300, 6])
def test_trials_that_run_at_the_same_time_differ(monkeypatch, max_running):
    monkeypatch.setattr(aifs, "MAX_RUNNING", max_running)
    study = new_study(seed=0)
    drive(study, 12)
    asked = [study.ask(SPACE).params for _ in range(16)]
    unit_points = np.array([[p["a"], (np.log10(p["b"]) + 5) / 4, p["d"] / 9, ord(p["c"])] for p in asked])
    distances = np.sqrt(((unit_points[:, None] - unit_points[None]) ** 2).sum(2))[np.triu_indices(16, 1)]
    assert distances.min() > 0.01


@pytest.mark.parametrize("seed", range(4))
def test_regions_where_trials_fail_are_avoided(seed):
    """The score rises towards a region where every trial failed: proposals lie at its boundary."""
    space = {"a": SPACE["a"]}
    study = optuna.create_study(direction="maximize", sampler=AifsSampler(seed=seed, space=space))
    for a in np.linspace(0.02, 0.98, 25).tolist():
        how = {"value": a} if a < 0.68 else {"state": TrialState.FAIL}
        study.add_trial(create_trial(params={"a": a}, distributions=space, **how))
    assert 0.6 < study.ask(space).params["a"] < 0.74


def test_values_that_are_not_finite_are_not_learned():
    study = new_study(seed=0)
    for _ in range(15):
        trial = study.ask(SPACE)
        trial.report(float("nan"), 1)
        trial.report(curve(trial.params, 2), 2)
        study.tell(trial, curve(trial.params, 2))
    assert all(np.isfinite([t.params[name] for name in "abd"]).all() for t in study.trials)


def test_nothing_is_proposed_that_is_not_allowed():
    study = new_study(seed=0, allows=lambda params: params["a"] + params["d"] / 9 <= 1)
    drive(study, 30)
    assert all(t.params["a"] + t.params["d"] / 9 <= 1 for t in study.trials)
    best = max(score(t.params) for t in study.trials)
    assert best > -0.12, "the best allowed is about -0.06"


def test_constraints_that_nothing_satisfies_are_an_error_and_no_hang():
    study = new_study(seed=0, allows=lambda params: False)
    with pytest.raises(optuna.exceptions.OptunaError, match="50,000"):
        study.ask(SPACE)


def test_conditional_parameters_are_modelled_where_they_are_active():
    space = {
        "optimizer": CategoricalDistribution(["adam", "sgd"]),
        "momentum": FloatDistribution(0, 1),
        "x": FloatDistribution(0, 1),
    }
    sampler = AifsSampler(seed=0, space=space, conditions={"momentum": {"optimizer": ["sgd"]}})
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(45):
        trial = study.ask()
        is_sgd = trial.suggest_categorical("optimizer", ["adam", "sgd"]) == "sgd"
        value = 1 - (trial.suggest_float("momentum", 0, 1) - 0.8) ** 2 if is_sgd else 0.7
        study.tell(trial, value - (trial.suggest_float("x", 0, 1) - 0.3) ** 2)
    assert study.best_params["optimizer"] == "sgd"
    assert study.best_value > 0.99


@pytest.mark.parametrize("values", [1, 2])
def test_a_space_smaller_than_the_sweep_is_searched_to_the_end(values):
    space = {"a": CategoricalDistribution(list(range(values))), "b": IntDistribution(1, 2)}
    study = optuna.create_study(sampler=AifsSampler(seed=0, space=space))
    for _ in range(20):
        trial = study.ask(space)
        study.tell(trial, trial.params["b"])
    assert study.best_value == 1


def test_a_thousand_workers_can_ask_before_anybody_has_reported():
    study = new_study(seed=0)
    asked = [tuple(study.ask(SPACE).params.values()) for _ in range(200)]
    assert len(set(asked)) == 200


@pytest.mark.parametrize("seed", range(3))
def test_one_trial_with_favourable_noise_does_not_decide_the_search(seed):
    """Twenty trials of each choice show that y is best; the best single value is an outlier of x."""
    rng = np.random.default_rng(0)
    study = new_study(seed=seed, last_epoch=1)
    for _ in range(60):
        params = {
            "a": float(rng.random()),
            "b": float(10 ** rng.uniform(-5, -1)),
            "c": str(rng.choice(["x", "y", "z"])),
            "d": int(rng.integers(1, 10)),
        }
        noise = 0.15 * rng.standard_normal()
        study.add_trial(create_trial(params=params, distributions=SPACE, value=score(params) + noise))
    outlier = {"a": 0.7, "b": 1e-3, "c": "x", "d": 6}
    study.add_trial(create_trial(params=outlier, distributions=SPACE, value=study.best_value + 0.1))
    assert study.ask(SPACE).params["c"] == "y"
