"""``aifs_tune.tune``: any callable, in this process."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import threading
import warnings

import numpy as np
import optuna
import pytest

import aifs_tune
from aifs_tune.artifacts import kept_weights, read_log
from aifs_tune.errors import ConflictError, InterruptedSweepError, NotFoundError, RequestError

X = {"x": {"type": "float", "low": 0, "high": 1}}
CASE = {"case": {"type": "int", "low": 0, "high": 9}}


def state_of(study):
    return [(t.state, t.epochs) for t in study.all_trials()]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIFS_TUNE_STORAGE", f"sqlite:///{tmp_path}/lab.db")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_three_lines_find_the_best_of_a_closure():
    centre = 0.3
    result = aifs_tune.tune(lambda x: -((x - centre) ** 2), X, trials=25)
    assert abs(result.best.params["x"] - centre) < 0.05
    assert result.study.name == "lambda"
    assert len(result.trials) == 25
    assert aifs_tune.load_study("lambda").counts()["complete"] == 25


def test_the_same_call_without_a_name_starts_a_new_study_and_with_one_goes_on():
    def area(x):
        return x

    assert aifs_tune.tune(area, X, trials=2).study.name == "area"
    assert aifs_tune.tune(area, X, trials=2).study.name == "area-2"
    assert len(aifs_tune.tune(area, X, trials=3, name="area").trials) == 5
    with pytest.raises(ConflictError, match="another search space"):
        aifs_tune.tune(area, {"x": {"type": "float", "low": 0, "high": 2}}, trials=1, name="area")


def test_an_interrupted_call_is_finished_by_the_same_call():
    begun = []

    def slow(x, trial):
        begun.append(trial.epoch)
        for epoch in range(trial.epoch, trial.epochs):
            if len(begun) == 3 and epoch == 1:
                raise KeyboardInterrupt
            trial.report(x + epoch)

    with pytest.raises(InterruptedSweepError, match="aifs-tune resume"):
        aifs_tune.tune(slow, X, trials=5, epochs=3, name="slow", scheduler="none")
    assert state_of(aifs_tune.load_study("slow")) == [("complete", 3), ("complete", 3), ("waiting", 1)]
    result = aifs_tune.tune(slow, X, trials=5, epochs=3, name="slow", scheduler="none", finish=True)
    assert state_of(result.study) == [("complete", 3)] * 5
    again = aifs_tune.resume("slow", trainer=slow, in_process=True)
    assert len(again.trials) == 5


def test_a_study_of_python_is_resumed_with_its_own_trainer_only():
    def one(x):
        return x

    def other(x):
        return x

    aifs_tune.tune(one, X, trials=1, name="lab")
    with pytest.raises(RequestError, match=r"other is not the trainer of the study; allowed: .*one"):
        aifs_tune.resume("lab", trainer=other, in_process=True)


def test_trials_that_promise_little_are_stopped_early():
    def run(x, epochs):
        for epoch in range(epochs):
            yield x * (1 - 0.5**epoch)

    result = aifs_tune.tune(run, X, trials=30, epochs=16, sampler="random")
    counts = result.study.counts()
    assert counts["pruned"] > 5
    assert counts["complete"] + counts["pruned"] == 30
    assert result.best.value == max(t.value for t in result.study.all_trials())


def test_output_warnings_and_tracebacks_are_kept_with_each_trial(capfd):
    def noisy(case):
        print("case", case)  # noqa: T201
        print("to stderr", file=sys.stderr)  # noqa: T201
        logging.getLogger("lamp").warning("hot")
        if case == 1:
            try:
                raise KeyError("lamp")
            except KeyError as error:
                raise ValueError("cannot shine") from error
        return case

    result = aifs_tune.tune(noisy, {"case": {"type": "int", "low": 0, "high": 1}}, trials=2, sampler="grid")
    told = capfd.readouterr()
    assert "case 0" in told.out
    assert told.err.count("Traceback") >= 2  # the first failure is printed at once, with its cause
    logs = {t.params["case"]: read_log(result.study, t) for t in result.study.all_trials()}
    assert logs[0].startswith("case 0\nto stderr\n")
    assert "KeyError: 'lamp'" in logs[1]
    assert "ValueError: cannot shine" in logs[1]
    assert "direct cause" in logs[1]
    assert "aifs_tune/" not in logs[1]
    failed = next(t for t in result.study.all_trials() if t.state == "failed")
    assert failed.reason.startswith("ValueError: cannot shine (test_tune.py:")


def test_a_silent_trial_has_no_log():
    result = aifs_tune.tune(lambda x: x, X, trials=1)
    with pytest.raises(NotFoundError, match="study 'lambda': trial 0 left no output"):
        read_log(result.study, 0)


def test_a_long_log_keeps_its_end():
    def chatty(x, epochs):
        for epoch in range(epochs):
            print("\n".join(f"{epoch} {i:06d}" for i in range(20_000)))  # noqa: T201
            yield x

    log = read_log(aifs_tune.tune(chatty, X, trials=1, epochs=2).study, 0)
    assert len(log) <= 64 * 1024
    assert log.endswith("1 019999\n")


def test_each_trial_finds_the_process_as_new(tmp_path, monkeypatch):
    def run(case):
        left = {
            "folder": os.getcwd() == str(tmp_path),
            "environment": "LEFT" not in os.environ,
            "path": "/left" not in sys.path,
            "argv": "--left" not in sys.argv,
            "stdout": not getattr(sys.stdout, "is_left", False),
            "filters": not any(entry[1] and entry[1].pattern == "left" for entry in warnings.filters),
            "logging": logging.getLogger().level != 7,
            "umask": os.umask(0o077) != 0o077,
            "excepthook": sys.excepthook is sys.__excepthook__,
            "thread hook": threading.excepthook is threading.__excepthook__,
            "signal": signal.getsignal(signal.SIGUSR1) is not signal.SIG_IGN,
            "float errors": np.geterr()["under"] == "ignore",
            "recursion": sys.getrecursionlimit() != 777,
        }
        os.chdir("/")
        os.environ["LEFT"] = "1"
        sys.path.append("/left")
        sys.argv.append("--left")
        warnings.filterwarnings("ignore", message="left")
        logging.getLogger().setLevel(7)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        np.seterr(under="raise")
        sys.setrecursionlimit(777)
        sys.excepthook = threading.excepthook = print
        stream = open(os.devnull, "w")  # noqa: SIM115
        stream.is_left = True
        sys.stdout = stream
        return {"value": sum(left.values()), "case": case, "left": [k for k, v in left.items() if not v]}

    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    before = dict(os.environ), list(sys.path), list(warnings.filters), sys.stdout
    result = aifs_tune.tune(run, CASE, trials=3)
    assert [t.notes["left"] for t in result.study.all_trials()] == [[], [], []]
    assert (dict(os.environ), list(sys.path), list(warnings.filters), sys.stdout) == before
    assert os.getcwd() == str(tmp_path)
    assert np.geterr()["under"] == "ignore"
    assert sys.getrecursionlimit() != 777


def test_the_search_does_not_mind_what_a_program_does_with_floating_point_errors():
    with np.errstate(all="raise"):
        result = aifs_tune.tune(lambda x: -((x - 0.3) ** 2), X, trials=25)
        assert np.geterr()["under"] == "raise"
    assert result.study.counts()["complete"] == 25


def test_an_interrupt_before_the_study_is_there_is_no_traceback(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("aifs_tune.execution.sweep.sweep_storage", interrupted)
    with pytest.raises(InterruptedSweepError, match="interrupted; continue a study that has begun"):
        aifs_tune.tune(lambda x: x, X, trials=1)


@pytest.mark.parametrize("given", [optuna.distributions.FloatDistribution(0, 1), np.linspace(0, 1, 3)])
def test_a_parameter_of_another_library_is_named(given):
    with pytest.raises(
        RequestError, match=r"space.x: .* is neither a value nor a mapping; allowed: .*with type: float"
    ):
        aifs_tune.tune(lambda x: x, {"x": given}, trials=1)


def yielding(x):
    yield from (x, 2 * x)


def with_trial(x, trial):
    trial.report(x)


@pytest.mark.parametrize(
    ("function", "epochs", "is_told"),
    [(yielding, None, True), (with_trial, None, True), (yielding, 1, False), (lambda x: x, None, False)],
)
def test_one_epoch_by_default_is_told_where_a_trial_could_have_more(capsys, function, epochs, is_told):
    aifs_tune.tune(function, X, trials=1, epochs=epochs)
    assert ("each trial has one epoch, which is the default; epochs=N allows N" in capsys.readouterr().err) == is_told


def test_the_global_generators_are_seeded_from_the_trial_and_given_back():
    random.seed(1)
    np.random.seed(1)
    expected = random.Random(1).random(), np.random.RandomState(1).rand()

    def run(x):
        return {"value": random.random(), "numpy": np.random.rand()}

    first = aifs_tune.tune(run, X, trials=4, name="a").study.all_trials()
    second = aifs_tune.tune(run, X, trials=4, name="b").study.all_trials()
    assert [dict(t.metrics) for t in first] == [dict(t.metrics) for t in second]
    assert len({t.value for t in first}) == 4
    assert (random.random(), np.random.rand()) == expected


def test_an_objective_that_is_measured_every_few_epochs():
    def run(x, epochs):
        for epoch in range(1, epochs + 1):
            yield {"loss": 1 / epoch, **({"value": x + epoch} if epoch % 3 == 0 else {})}

    trial = aifs_tune.tune(run, X, trials=1, epochs=7, scheduler="none").best
    assert (trial.epochs, trial.epoch) == (7, 6)
    assert trial.value == trial.params["x"] + 6


def test_an_objective_that_never_comes_is_named_with_what_came():
    def run(x, epochs):
        for _ in range(epochs):
            yield {"val_acc": x}

    study = aifs_tune.tune(run, X, trials=1, epochs=2, metric="val_accuracy", scheduler="none").study
    reason = study.trial(0).reason
    assert reason == "the objective 'val_accuracy' was not reported, did you mean val_acc?; reported: val_acc"


@pytest.mark.parametrize("nan_epochs", ["fail", "skip"])
def test_one_nan_among_finite_epochs_fails_or_is_skipped(nan_epochs):
    def run(x, epochs):
        for epoch in range(epochs):
            yield float("nan") if epoch == 1 else x + epoch

    document = {"name": "nan", "trainer": {"name": "lab:run", "nan_epochs": nan_epochs}, "space": X}
    document |= {"objective": {"metric": "value"}, "search": {"trials": 1, "epochs": 3, "scheduler": "none"}}
    spec = aifs_tune.execution.sweep.parse_sweep(document)
    trial = aifs_tune.Sweep.from_spec(spec, run).run(in_process=True).study.trial(0)
    if nan_epochs == "skip":
        assert (trial.state, trial.epochs, trial.value) == ("complete", 3, trial.params["x"] + 2)
    else:
        assert (trial.state, trial.reason) == ("failed", "value is nan at epoch 2")


def test_the_files_of_the_best_trial_are_kept():
    def run(x, trial):
        trial.save("x.txt", f"{x}\n")
        return x

    result = aifs_tune.tune(run, X, trials=6)
    folder = kept_weights(result.study, result.best)
    assert (folder / "x.txt").read_text() == f"{result.best.params['x']}\n"


def test_a_time_limit_ends_the_sweep_and_nothing_is_lost():
    def run(x, epochs):
        for _ in range(epochs):
            yield x

    result = aifs_tune.tune(run, X, trials=10_000, epochs=2, timeout_s=4, scheduler="none", name="timed")
    counts = result.study.counts()
    assert 0 < counts["complete"] < 10_000
    assert counts["waiting"] <= 1
    assert counts["failed"] == 0


def test_several_objectives_come_as_a_tuple():
    result = aifs_tune.tune(lambda x: (x, x * x), X, trials=8, trade_off={"cost": "min"})
    assert result.study.front
    assert all(set(t.values) == {"value", "cost"} for t in result.study.front)


def test_a_class_of_trainers_is_swept():
    class Line:
        def reset(self, params, seed=0):
            self.x, self.n = params["x"], 0

        def epoch(self):
            self.n += 1
            return {"value": np.float32(self.x * self.n)}

    result = aifs_tune.tune(Line, X, trials=4, epochs=3, scheduler="none")
    assert [t.epochs for t in result.study.all_trials()] == [3] * 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheduler": "pbt", "epochs": 8}, "pbt: parameters cannot change .*, or a class with change, save and load"),
        ({"resources": {"fresh_process": True}}, "resources.fresh_process: true needs processes of its own"),
        ({"sampler": "magic"}, "magic"),
        ({"trials": 0}, "trials"),
    ],
)
def test_what_cannot_run_here_is_refused_before_it_starts(options, words):
    with pytest.raises(RequestError, match=words):
        aifs_tune.tune(lambda x: x, X, **options)
    with pytest.raises(NotFoundError):
        aifs_tune.load_study("lambda")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda y: y, "requires the argument y, which is no parameter of the space"),
        (lambda: 1.0, "takes no such argument; allowed: none"),
        (lambda x, /: x, "takes x by its position only"),
        (3, "is 3, not a function"),
    ],
)
def test_functions_that_do_not_fit_the_space_are_refused(function, words):
    with pytest.raises(RequestError, match=words):
        aifs_tune.tune(function, X, trials=1)


def test_a_script_is_named_where_its_function_cannot_be_found(tmp_path):
    study = aifs_tune.tune(lambda x: x, X, trials=1, name="nb").study
    spec = study.spec.model_copy(update={"trainer": study.spec.trainer.model_copy(update={"name": "__main__:gone"})})
    from aifs_tune.study.record import record_of

    record_of(study).replace_spec(spec)
    with pytest.raises(RequestError, match="gone was given in Python, in a script or notebook, and cannot be imported"):
        aifs_tune.resume("nb", trust_code=["__main__:gone"])


class Panic(BaseException):
    """As some compiled libraries raise it."""


class Mute(Exception):
    def __str__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("\ud800"), r"ValueError: \ud800"),
        (Mute(), "Mute: its message cannot be made: ZeroDivisionError"),
        (Panic("core"), "Panic: core"),
        (GeneratorExit(), "GeneratorExit"),
    ],
)
def test_whatever_a_trial_raises_fails_that_trial_alone(error, words):
    def run(case):
        if case == 1:
            raise error
        return {"value": case, "\ud800": 1.0, "note": "\ud801"}

    space = {"case": {"type": "int", "low": 0, "high": 2}}
    study = aifs_tune.tune(run, space, trials=3, sampler="grid").study
    states = {t.params["case"]: t for t in study.all_trials()}
    assert [states[case].state for case in (0, 1, 2)] == ["complete", "failed", "complete"]
    assert words in states[1].reason
    assert states[0].notes == {"note": "\\ud801"}


def test_sweeps_in_threads_that_print_do_not_disturb_each_other(tmp_path):
    def run(x):
        for _ in range(4):
            print("busy")  # noqa: T201
        return x

    def sweep(n):
        done.append(aifs_tune.tune(run, X, trials=15, name=f"t{n}", storage=f"sqlite:///{tmp_path}/{n}.db"))

    done: list = []
    before = sys.stdout
    threads = [threading.Thread(target=sweep, args=[n]) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.study.counts()["complete"] for r in done] == [15, 15, 15]
    assert sys.stdout is before


def test_figures_that_were_there_stay_and_those_of_trials_are_closed():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    own = pyplot.figure().number

    def run(x):
        pyplot.figure()
        return len(pyplot.get_fignums())

    study = aifs_tune.tune(run, X, trials=3).study
    assert [t.value for t in study.all_trials()] == [2.0, 2.0, 2.0]
    assert own in pyplot.get_fignums()
    pyplot.close("all")


def test_a_function_with_a_name_of_other_letters():
    def fünktion(x):
        return x

    assert aifs_tune.tune(fünktion, X, trials=1).study.counts()["complete"] == 1


def test_the_precision_that_a_script_gave_keras_stays():
    keras = pytest.importorskip("keras")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:

        def run(x):
            found = keras.config.dtype_policy().name
            keras.config.set_dtype_policy("float64")
            return {"value": x, "policy": found}

        study = aifs_tune.tune(run, X, trials=3).study
        assert [t.notes["policy"] for t in study.all_trials()] == ["mixed_bfloat16"] * 3
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("name", 5),
        ("space", [1]),
        ("space", None),
        ("space", {}),
        ("sampler", None),
        ("sampler", 5),
        ("sampler", [1]),
        ("scheduler", 5),
        ("trials", "10"),
        ("trials", -1),
        ("trials", None),
        ("epochs", "3"),
        ("workers", 0),
        ("storage", 5),
        ("mode", "up"),
        ("metric", 5),
        ("trade_off", ["loss"]),
        ("constraints", "x < 1"),
        ("constraints", None),
        ("resources", 5),
        ("data", 5),
        ("callback", 5),
        ("seed", "x"),
        ("timeout_s", "1h"),
    ],
)
def test_an_argument_that_is_not_allowed_is_named_with_what_is(argument, value):
    with pytest.raises(RequestError, match=rf"{argument}\b.*allowed: "):
        aifs_tune.tune(lambda x: x, **{"space": X, "trials": 1, argument: value})
