"""Any Python function as a trainer."""

from __future__ import annotations

import functools
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.trusted_code import trust
from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.trainers.factory import check_trainer
from aifs_tune.trainers.function import FunctionTrainer, check_callable, code_name, import_function, make_user_trainer


def epochs_of(function, params, *, epochs=4, seed=7):
    trainer = make_user_trainer(function, objectives=["score"], mode="max", epochs=epochs)
    trainer.reset(params, seed=seed)
    taken = []
    while not trainer.is_finished:
        metrics = trainer.epoch()
        if metrics:
            taken.append(metrics)
    return taken


def test_a_number_is_the_objective():
    assert epochs_of(lambda x, y: x + y, {"x": 1, "y": 2.5}) == [{"score": 3.5}]


def test_a_dictionary_is_all_metrics():
    assert epochs_of(lambda x: {"score": x, "cost": 2}, {"x": 1}) == [{"score": 1.0, "cost": 2.0}]


@pytest.mark.parametrize("name", ["params", "config"])
def test_one_dictionary_argument_takes_all_parameters(name):
    scope: dict = {}
    exec(f"def run({name}, seed):\n return len({name}) + seed", scope)  # noqa: S102 - argument names are the point
    assert epochs_of(scope["run"], {"a": 1, "b": 2}) == [{"score": 9.0}]


def test_seed_and_epochs_are_given_to_who_asks():
    def run(x, seed, epochs):
        return x + seed + epochs

    assert epochs_of(run, {"x": 100}) == [{"score": 111.0}]


def test_a_parameter_called_seed_is_the_parameter():
    assert epochs_of(lambda seed: seed, {"seed": 3}) == [{"score": 3.0}]


def test_a_generator_is_a_curve_of_any_length():
    def run(x):
        for epoch in range(1, 4):
            yield x * epoch

    assert epochs_of(run, {"x": 2}) == [{"score": 2.0}, {"score": 4.0}, {"score": 6.0}]


def test_a_reset_drops_the_running_trial():
    closed = []

    def run(x):
        try:
            while True:
                yield x
        finally:
            closed.append(x)

    trainer = FunctionTrainer(run, objectives=["score"], epochs=9)
    trainer.reset({"x": 1}, seed=0)
    trainer.epoch()
    trainer.reset({"x": 2}, seed=0)
    assert closed == [1]
    assert trainer.epoch() == {"score": 2.0}


@pytest.mark.parametrize("answer", [None, "good", [1.0], (1.0, 2.0), {"score": "high"}, {"score": None}, 1j, 10**400])
def test_what_is_no_number_is_refused_by_name(answer):
    def measure():
        return answer

    with pytest.raises(TrainerError, match="measure returned"):
        epochs_of(measure, {})


def test_nan_is_passed_on_for_the_runner_to_judge():
    assert math.isnan(epochs_of(lambda: float("nan"), {})[0]["score"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_lab:run", "cannot import 'no_such_lab'"),
        ("lab_with_imports:no_such", "lab_with_imports has no 'no_such'; its functions: .*train"),
        ("aifs_tune.testing:__name__", "is 'aifs_tune.testing', not a function"),
        ("os:system", "os:system is of Python itself"),
        ("builtins:print", "builtins:print is of Python itself"),
        ("lab_with_imports:system", "is defined in (posix|nt), not in lab_with_imports"),
        ("lab_with_imports:create_study", "defined in optuna.*, not in lab_with_imports.*or its own name, optuna"),
    ],
)
def test_what_cannot_be_imported_is_named(tmp_path, monkeypatch, name, words):
    (tmp_path / "lab_with_imports.py").write_text(
        "from os import system\nfrom optuna import create_study\ndef train(): ..."
    )
    monkeypatch.syspath_prepend(tmp_path)
    trust([name])
    with pytest.raises(RequestError, match=words):
        import_function(name)


def test_a_sweep_without_a_trainer_cannot_run():
    spec = parse_sweep({"name": "k", "space": {"x": {"type": "float", "low": 0, "high": 1}}})
    with pytest.raises(RequestError, match="names no trainer"):
        check_trainer(spec)
    with pytest.raises(RequestError, match=r"'gan' is unknown; allowed: cnn, .*, module:function"):
        check_trainer(parse_sweep({"name": "k", "trainer": "gan", "space": {"x": 1.0}}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objective": {"metric": "val_f2"}}, "objective.metric: the cnn does not report 'val_f2'"),
        (
            {"space": {"lerning_rate": 0.1}},
            "space.lerning_rate: the cnn has no such parameter, did you mean learning_rate.; allowed: .*learning_rate",
        ),
        ({"space": {"dropout": {"type": "float", "low": 0.0, "high": 1.5}}}, "space.dropout.*1.5"),
        ({"space": {"optimizer": {"type": "choice", "choices": ["adam", "adagrad"]}}}, "space.optimizer.*adagrad"),
    ],
)
def test_what_the_cnn_cannot_run_is_refused_before_it_starts(change, words):
    with pytest.raises(RequestError, match=words):
        check_trainer(parse_sweep({"name": "k", "trainer": "cnn", "space": {"dropout": 0.5}} | change))


def test_what_a_function_took_of_a_gpu_is_the_most_that_it_said():
    peaks = iter([300.0, 700.0, 500.0])

    def run(x):
        for peak in peaks:
            yield {"score": x, "gpu_peak_mb": peak}

    trainer = FunctionTrainer(run, objectives=["score"], epochs=3)
    assert trainer.gpu_peak_mb is None
    trainer.reset({"x": 1}, seed=0)
    assert [trainer.epoch()["gpu_peak_mb"] for _ in range(3)] == [300.0, 700.0, 500.0]
    assert trainer.gpu_peak_mb == 700.0


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (np.float32(0.5), 0.5),
        (np.array(0.5), 0.5),
        (np.array([0.5]), 0.5),
        (np.bool_(True), 1.0),
        (Decimal("0.5"), 0.5),
        (Fraction(1, 2), 0.5),
        ((0.5,), 0.5),
        (True, 1.0),
    ],
)
def test_numbers_of_any_library_are_the_objective(answer, value):
    assert epochs_of(lambda: answer, {}) == [{"score": value}]
    assert epochs_of(lambda: {"score": answer if answer != (0.5,) else 0.5}, {}) == [{"score": value}]


def test_text_lists_and_none_beside_the_objective_are_notes():
    trainer = make_user_trainer(
        lambda: {"score": 1, "why": "warm", "history": [1, 2], "auc": None, "model": object, "val": {"acc": 0.5}},
        objectives=["score"],
        mode="max",
        epochs=1,
    )
    trainer.reset({}, seed=0)
    assert trainer.epoch() == {"score": 1.0, "val/acc": 0.5}
    assert trainer.notes == {"why": "warm", "history": [1, 2], "auc": None, "model": "<class 'object'>"}


def test_long_notes_are_cut_and_what_has_no_repr_is_named():
    class Mute:
        def __repr__(self):
            raise OSError

    trainer = make_user_trainer(
        lambda: {"score": 1, "text": "x" * 9000, "mute": Mute()}, objectives=["score"], mode="max", epochs=1
    )
    trainer.reset({}, seed=0)
    trainer.epoch()
    assert len(trainer.notes["text"]) == 2000
    assert trainer.notes["mute"] == "Mute whose repr raises OSError"


def test_a_tuple_has_a_number_for_each_objective():
    trainer = make_user_trainer(lambda: (1, 2.5), objectives=["score", "cost"], mode="max", epochs=1)
    trainer.reset({}, seed=0)
    assert trainer.epoch() == {"score": 1.0, "cost": 2.5}
    trainer = make_user_trainer(lambda: 3.0, objectives=["score", "cost"], mode="max", epochs=1)
    trainer.reset({}, seed=0)
    with pytest.raises(TrainerError, match="a tuple with a number for each of score, cost"):
        trainer.epoch()


def test_what_follows_the_loop_of_a_generator_runs():
    done = []

    def run(x, epochs):
        for epoch in range(epochs):
            yield x + epoch
        done.append(x)
        return "finished"

    trainer = FunctionTrainer(run, objectives=["score"], epochs=3)
    trainer.reset({"x": 1}, seed=0)
    assert [trainer.epoch()["score"] for _ in range(3)] == [1.0, 2.0, 3.0]
    assert done == [1]
    assert trainer.is_finished
    assert trainer.notes == {"returned": "finished"}


def test_an_error_after_the_last_epoch_costs_no_measurement(capsys):
    def run(x, epochs):
        for _ in range(epochs):
            yield x
        raise OSError("disk full")

    trainer = FunctionTrainer(run, objectives=["score"], epochs=2)
    trainer.reset({"x": 1}, seed=0)
    assert [trainer.epoch()["score"] for _ in range(2)] == [1.0, 1.0]
    assert trainer.notes == {"error after the last epoch": "OSError: disk full"}
    assert "disk full" in capsys.readouterr().err


def test_a_generator_without_epochs_is_not_run_beyond_them():
    taken = []

    def run(x):
        while True:
            taken.append(x)
            yield x

    trainer = FunctionTrainer(run, objectives=["score"], epochs=2)
    trainer.reset({"x": 1}, seed=0)
    trainer.epoch()
    trainer.epoch()
    assert len(taken) == 2


class Line:
    def reset(self, params, *, seed):
        self.slope, self.n = params["slope"], 0

    def epoch(self):
        self.n += 1
        return {"score": np.float64(self.slope * self.n)}


class Counted(Line):
    def __init__(self, epochs):
        self.epochs = epochs


class Callable_:
    def __call__(self, x):
        return 2 * x

    def method(self, x):
        return 3 * x


@pytest.mark.parametrize(
    ("code", "name", "score"),
    [
        (Callable_, "Callable_", 2.0),
        (Callable_(), "Callable_", 2.0),
        (Callable_().method, "method", 3.0),
        (functools.partial(lambda x, y: x + y, y=4), "lambda", 5.0),
        (lambda x: x, "lambda", 1.0),
        (math.sqrt, "sqrt", 1.0),
    ],
)
def test_any_callable_is_a_trainer(code, name, score):
    assert code_name(code).rpartition(":")[2] == name
    if code is math.sqrt:
        return  # it takes its argument by position only, which the check before a sweep says
    assert epochs_of(check_callable(code, "code"), {"x": 1}) == [{"score": score}]


def test_a_class_with_reset_and_epoch_is_made_once():
    trainer = make_user_trainer(check_callable(Line, "Line"), objectives=["score"], mode="max", epochs=3)
    trainer.reset({"slope": 2.0}, seed=0)
    assert [trainer.epoch()["score"] for _ in range(2)] == [2.0, 4.0]
    assert make_user_trainer(Counted, objectives=["score"], mode="max", epochs=7).epochs == 7


def test_a_class_that_cannot_be_a_trainer_is_told_what_it_lacks():
    class Half:
        def reset(self, params, *, seed): ...

    class Needs(Line):
        def __init__(self, data, folder): ...

    async def later(x):
        return x

    with pytest.raises(RequestError, match="the class lab:Half has no epoch; allowed: a function, a class with reset"):
        check_callable(Half, "lab:Half")
    with pytest.raises(TrainerError, match="Needs cannot be made: its constructor needs data, folder"):
        make_user_trainer(check_callable(Needs, "Needs"), objectives=["score"], mode="max", epochs=1)
    with pytest.raises(RequestError, match=r"later is async; allowed: .*asyncio.run\(later"):
        check_callable(later, "lab:later")


@pytest.mark.parametrize("value", [np.ma.masked, np.ma.array([3.0], mask=True)])
def test_a_masked_element_is_no_number(value):
    with pytest.raises(TrainerError, match="allowed: a number"):
        epochs_of(lambda x: value, {"x": 1})


def test_a_tuple_for_one_objective_names_what_allows_several():
    with pytest.raises(TrainerError, match=r"returned \(1, 2\) .*; for several objectives give trade_off"):
        epochs_of(lambda x: (1, 2), {"x": 1})
