"""What users' objective functions do, one case a trial, in workers of a real Ray."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import aifs_tune
from aifs_tune.artifacts import read_log

CASES = Path(__file__).parents[3] / "shared" / "cases" / "functions"
pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here"),
]

VALUES = {
    "np_float32": 0.1,
    "np_0d": 0.5,
    "np_1elem": 0.5,
    "np_bool": 1.0,
    "tf_tensor": 0.5,
    "tf_dict": 0.5,
    "tuple_one": 0.5,
    "dict_extra_str": 0.5,
    "dict_extra_none": 0.5,
    "dict_extra_list": 0.5,
    "dict_extra_nan": 0.5,
    "dict_metric_slash": 0.5,
    "dict_nested": 0.5,
    "decimal": 0.5,
    "fraction": 0.5,
    "warn": 0.2,
    "print": 0.2,
    "log": 0.2,
    "thread": 1.0,
    "subprocess": 0.25,
    "mp_pool": 0.2,
    "argparse": 0.1,
    "cwd": 0.3,
    "relative_read": 0.4,
    "chdir": 0.1,
    "after_chdir": 0.1,
    "global_state": 0.1,
    "matplotlib": 0.1,
    "main_guard": 0.0,
    "signal": 0.1,
    "close_stdout": 0.1,
    "big_dict": 0.1,
    "yield_in_list": 0.2,
}
REASONS = {
    "tuple": r"returned (0.5, 0.3) (tuple); allowed: a number",
    "list_of_epochs": "returned a list of 3 ([0.1, 0.2, 0.3]); allowed: a number",
    "none": "returned None (a function without return does); allowed: a number",
    "string": "returned '0.5' (str); allowed: a number",
    "dict_missing": "the objective 'value' was not reported; reported: val_acc",
    "dict_empty": "the objective 'value' was not reported; reported: nothing",
    "inf": "value is inf at epoch 1",
    "minus_inf": "value is -inf at epoch 1",
    "nan": "value is nan at epoch 1",
    "bigint": "returned a number of 1329 bits, which is too large",
    "complex": "returned 1j (complex); allowed: a number",
    "unpicklable_exc": "Unpicklable: msg (trainer_cases.py:",
    "twoargs_exc": "TwoArgs: 1-2 (trainer_cases.py:",
    "sysexit": "SystemExit: no licence (trainer_cases.py:",
    "keyboard": "KeyboardInterrupt (trainer_cases.py:",
    "long_exc": "ValueError: xxxx",
    "multiline_exc": "ValueError: line 1 line 2 line 3",
    "chained": "RuntimeError: cannot fit (trainer_cases.py:",
    "assert": "AssertionError (trainer_cases.py:",
    "keyerror": "KeyError: 'lr' (trainer_cases.py:",
    "stopiteration": "StopIteration (trainer_cases.py:",
    "async_def": "returned a coroutine; allowed: what asyncio.run returns",
}
LOGS = {
    "print": "HELLO from trial\nERR text",
    "warn": "deprecated thing",
    "log": "my log",
    "chained": "ZeroDivisionError: division by zero",
    "multiline_exc": "line 2",
}


@pytest.mark.parametrize("forks", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_each_case_gives_what_a_user_expects(forks, tmp_path, monkeypatch):
    for file in ("trainer_cases.py", "trainer_cases.yaml"):
        shutil.copy(CASES / file, tmp_path)
    (tmp_path / "relative.txt").write_text("0.4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.syspath_prepend(tmp_path)
    # A fork beside the threads of a worker may hang, the more so on a loaded machine.
    values = {case: value for case, value in VALUES.items() if forks or case != "mp_pool"}
    cases = [*values, *REASONS, "random", "np_random"]
    overrides = ["search.stop_after_failures=null", "search.epoch_timeout_s=60"]
    overrides += [f"space.case.choices={json.dumps(cases)}", f"search.trials={len(cases)}"]
    sweep = aifs_tune.load_sweep("trainer_cases.yaml", overrides=overrides)
    study = sweep.run(storage=f"sqlite:///{tmp_path}/lab.db").study
    trials = {t.params["case"]: t for t in study.all_trials()}
    assert set(trials) == set(cases)
    found = {case: trials[case].value for case in values}
    assert found == {case: pytest.approx(value, abs=1e-7) for case, value in values.items()}
    for case, reason in REASONS.items():
        assert trials[case].state == "failed", case
        assert reason in trials[case].reason, case
    for case, text in LOGS.items():
        assert text in read_log(study, trials[case]), case
    assert trials["dict_extra_str"].notes == {"note": "fine", "path": "x.txt"}
    assert trials["dict_extra_list"].notes == {"history": [1, 2, 3]}
    assert trials["dict_nested"].metrics["val/acc"] == 0.3
    assert trials["after_chdir"].metrics["in_root"] == 0.0
    assert trials["cwd"].metrics["has_file"] == 1.0
    assert len(trials["big_dict"].metrics) == 1001
    assert len(trials["long_exc"].reason) < 400


EPOCHS = {
    "missing_mid": ("complete", 5, 0.4),
    "more_than_epochs": ("complete", 5, 0.4),
    "fewer": ("complete", 1, 0.1),
    "best_mid": ("complete", 5, 0.9),
    "changes_keys": ("complete", 5, 0.4),
    "ints": ("complete", 5, 4.0),
    "val_loss_min": ("complete", 5, 0.2),
    "nan_other": ("complete", 5, 0.4),
    "return_in_gen": ("complete", 5, 0.4),
    "nan_mid": ("failed", 2, 0.1),
    "inf_mid": ("failed", 2, 0.1),
    "raise_late": ("failed", 3, 0.2),
    "string_mid": ("failed", 2, 0.1),
    "none": ("failed", 0, None),
}


def test_each_kind_of_curve_gives_what_a_user_expects(tmp_path, monkeypatch):
    for file in ("epochs.py", "epochs.yaml"):
        shutil.copy(CASES / file, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.syspath_prepend(tmp_path)
    study = aifs_tune.load_sweep("epochs.yaml").run(storage=f"sqlite:///{tmp_path}/lab.db", in_process=True).study
    trials = {t.params["case"]: t for t in study.all_trials()}
    assert {case: (t.state, t.epochs, t.value) for case, t in trials.items()} == EPOCHS
    assert trials["return_in_gen"].notes == {"returned": 5.0}
    assert "RuntimeError: out of samples (epochs.py:" in trials["raise_late"].reason
