"""Objectives of Optuna: their space from recording runs, their trial, and their trainer."""

from __future__ import annotations

from functools import partial

import optuna
import pytest

from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.space.search_space import Space
from aifs_tune.trainers.optuna_objective import ObjectiveTrainer, is_objective, read_space

X = {"x": {"type": "float", "low": 0, "high": 1}}


def space_of(function):
    told = []
    return read_space(function, told.append), told


def made(function, space=X, *, params=None, epochs=100, objectives=("value",)):
    trainer = ObjectiveTrainer(
        function, space=Space.model_validate(space), objectives=list(objectives), mode="min", epochs=epochs
    )
    trainer.reset(params or {"x": 0.25}, seed=1)
    return trainer


def test_a_function_whose_only_argument_is_trial_is_an_objective():
    def with_data(trial, data):
        return data

    class Objective:
        def __call__(self, trial):
            return 0

    assert is_objective(lambda trial: 0)
    assert is_objective(partial(with_data, data=[1]))
    assert is_objective(Objective())
    assert not any(map(is_objective, (with_data, Objective, lambda x, trial: 0, lambda **trials: 0, lambda t: 0, min)))


# -- recording runs -----------------------------------------------------------------------------------


def test_an_objective_that_always_asks_for_the_same_runs_once_to_the_last_question():
    reached = []

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        reached.append("x")
        with open("/dev/null") as _:
            n = trial.suggest_int("n", 1, 4)
        reached.append("n")
        return x + n

    space, told = space_of(objective)
    assert list(space) == ["x", "n"]
    assert reached == ["x"]
    assert told == []


def test_others_run_with_each_choice_up_to_their_first_report():
    reported, seen = [], []

    def objective(trial):
        kind = trial.suggest_categorical("kind", ["a", None])
        seen.append(kind)
        if kind is None:
            trial.suggest_int("n", 1, 4)
        trial.set_user_attr("kind", str(kind))
        for step in range(3):
            trial.report(0.5, step)
            reported.append(step)
        return 0.5

    space, told = space_of(objective)
    assert space["kind"] == {"type": "choice", "choices": ["a", "null"]}
    assert space["n"]["when"] == {"kind": ["null"]}
    assert reported == []
    assert seen.count("a") == 1
    assert len(told) == 1
    assert f"objective ran {len(seen)} times, each up to its first report or its end" in told[0]


def of_a_name(trial):
    layers = trial.suggest_int("layers", 1, 8)
    most = layers * 2
    return trial.suggest_int("units", 0, most)


def of_the_question_itself(trial):
    return trial.suggest_int("units", 0, high=trial.suggest_int("layers", 1, 8))


@pytest.mark.parametrize("objective", [of_a_name, of_the_question_itself])
def test_a_range_that_depends_on_another_parameter_is_refused(objective):
    with pytest.raises(RequestError, match="units"):
        read_space(objective, lambda _: None)


def test_a_range_of_other_names_is_read_in_one_run():
    told = []

    def objective(trial):
        low, high = 1e-5, 1e-1
        rate = trial.suggest_float("rate", low, high, log=True)
        score = rate * 2
        trial.suggest_int("layers", 1, 3)
        raise AssertionError(score)

    assert set(read_space(objective, told.append)) == {"rate", "layers"}
    assert told == []


def test_a_helper_that_gets_the_trial_is_followed():
    def layers(trial, n):
        return [trial.suggest_int(f"units_{i}", 4, 64) for i in range(n)]

    def objective(trial):
        return sum(layers(trial, trial.suggest_int("n", 1, 3)))

    space, _ = space_of(objective)
    assert [(name, entry.get("when")) for name, entry in space.items()] == [
        ("n", None),
        ("units_0", None),
        ("units_1", {"n": [2, 3]}),
        ("units_2", {"n": [3]}),
    ]


def test_what_asks_for_nothing_or_breaks_before_is_refused():
    with pytest.raises(RequestError, match=r"asks for no parameter \(it called no trial.suggest_\.\.\.\)"):
        space_of(lambda trial: 0.5)

    def broken(trial):
        raise ValueError("no data")

    with pytest.raises(RequestError, match=r"broken: asks for no parameter \(it raised ValueError: no data\)"):
        space_of(broken)


def test_an_error_after_the_questions_is_told_and_no_end():
    def objective(trial):
        n = [trial.suggest_int(name, 1, 2) for name in ("a", "b")]
        if n == [1, 2]:
            raise ValueError("too deep")
        raise optuna.TrialPruned

    space, told = space_of(objective)
    assert list(space) == ["a", "b"]
    assert "one run raised ValueError: too deep, so parameters that follow may be missing" in told[0]


# -- the trial ----------------------------------------------------------------------------------------


def test_the_trial_has_optunas_methods():
    seen = {}

    def objective(trial):
        seen["before"] = dict(trial.params)
        x = trial.suggest_float("x", 0, 1)
        shape = trial.suggest_categorical("my shape", [(8, 8), (16, 16)])
        trial.set_user_attr("shape", shape)
        seen.update(x=x, shape=shape, params=dict(trial.params), number=trial.number, notes=trial.user_attrs)
        return x

    space = X | {"my_shape": {"type": "choice", "choices": [(8, 8), (16, 16)]}}
    trainer = made(objective, space, params={"x": 0.5, "my_shape": [16, 16]})
    assert trainer.epoch() == {"value": 0.5}
    assert seen["before"] == {}
    assert seen["shape"] == (16, 16)
    assert seen["params"] == {"x": 0.5, "my shape": (16, 16)}
    assert (seen["number"], seen["notes"]) == (0, {"shape": (16, 16)})
    assert trainer.is_finished


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda trial: trial.suggest_float("x", 0, 2), "x: asked for float 0 to 2, but .* has a number from 0 to 1;"),
        (lambda trial: trial.suggest_int("x", 0, 1), "x: asked for int 0 to 1, but"),
        (lambda trial: trial.suggest_float("x", 0, 1, log=True), "x: asked for float 0 to 1, log, but"),
        (lambda trial: trial.suggest_float("y", 0, 1), "y: asked for, but is not in the search space"),
        (lambda trial: trial.suggest_float("z", 0, 1), "z: asked for, but has no value in this trial"),
        (lambda trial: trial.report(0.5, -1), "step -1 is negative"),
        (lambda trial: trial.report("high", 0), "'high' is no number"),
    ],
)
def test_what_differs_from_the_space_or_cannot_be_reported_is_refused(ask, told):
    space = X | {"kind": {"type": "choice", "choices": ["a", "b"]}, "z": {**X["x"], "when": {"kind": "b"}}}
    with pytest.raises(TrainerError, match=told):
        made(ask, space, params={"x": 0.25, "kind": "a"}).epoch()


def test_what_the_trial_has_not_is_said_with_what_it_has():
    with pytest.raises(AttributeError, match=r"trial\.study: .* no such attribute; .*suggest_categorical"):
        made(lambda trial: trial.study.direction).epoch()


# -- results ------------------------------------------------------------------------------------------


def test_steps_are_epochs_and_the_returned_value_is_the_result():
    def objective(trial):
        for step in (0, 1, 1, 10):
            trial.report(1 / (step + 1), step)
        trial.report(float("nan"), 20)
        return 0.75

    trainer = made(objective)
    curve = []
    while not trainer.is_finished:
        curve.append(trainer.epoch())
    assert curve == [{"value": 1.0}, {"value": 0.5}, {"value": 1 / 11, "step": 10.0}, {"step": 20.0}, {}]
    assert trainer.final == {"value": 0.75}
    assert trainer.pruned is None


def test_steps_beyond_the_last_epoch_are_counted_and_the_objective_runs_to_its_end():
    def objective(trial):
        for step in range(5):
            trial.report(step, step)
            assert not trial.should_prune()
        return 9

    trainer = made(objective, epochs=2)
    assert [trainer.epoch(), trainer.epoch()] == [{"value": 0.0}, {"value": 1.0}]
    assert trainer.is_finished
    assert trainer.final == {"value": 9.0}
    assert trainer.notes == {"steps beyond epochs": 3}


def test_a_pruned_objective_says_so_whether_it_or_the_sweep_decides(capfd):
    def objective(trial):
        for step in range(5):
            trial.report(step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        raise optuna.TrialPruned("hopeless")

    trainer = made(objective)
    assert trainer.epoch() == {"value": 0.0}
    trainer.stop()  # the sweep's scheduler has decided
    assert trainer.notes == {}
    assert capfd.readouterr().err == ""
    trainer.reset({"x": 0.5}, seed=1)
    for step in range(5):
        assert trainer.epoch() == {"value": step}
    assert trainer.epoch() == {}
    assert trainer.pruned == "hopeless"


def test_several_objectives_are_returned_and_have_no_steps():
    trainer = made(lambda trial: [1, 2], objectives=("loss", "size"))
    assert trainer.epoch() == {"loss": 1.0, "size": 2.0}
    with pytest.raises(TrainerError, match="a study with several objectives has no steps"):
        made(lambda trial: trial.report(1, 1), objectives=("loss", "size")).epoch()


def test_nothing_returned_after_reports_is_an_error():
    def objective(trial):
        trial.report(1, 1)

    trainer = made(objective)
    trainer.epoch()
    with pytest.raises(TrainerError, match="objective returned None"):
        trainer.epoch()
