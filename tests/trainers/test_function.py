"""Any Python function as a trainer."""

from __future__ import annotations

import math

import pytest

from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.trusted_code import trust
from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.trainers.factory import check_trainer
from aifs_tune.trainers.function import FunctionTrainer, import_function


def epochs_of(function, params, *, epochs=4, seed=7):
    trainer = FunctionTrainer(function, metric="score", epochs=epochs)
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

    trainer = FunctionTrainer(run, metric="score", epochs=9)
    trainer.reset({"x": 1}, seed=0)
    trainer.epoch()
    trainer.reset({"x": 2}, seed=0)
    assert closed == [1]
    assert trainer.epoch() == {"score": 2.0}


@pytest.mark.parametrize("answer", [None, "good", [1.0], {"score": "high"}, {"score": None}, 1j])
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

    trainer = FunctionTrainer(run, metric="score", epochs=3)
    assert trainer.gpu_peak_mb is None
    trainer.reset({"x": 1}, seed=0)
    assert [trainer.epoch()["gpu_peak_mb"] for _ in range(3)] == [300.0, 700.0, 500.0]
    assert trainer.gpu_peak_mb == 700.0
