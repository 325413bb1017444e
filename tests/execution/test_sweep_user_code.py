"""A user's code in workers of a real Ray: closures, logs, checkpoints after a kill, fresh processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import aifs_tune
from aifs_tune.artifacts import kept_weights, read_log
from aifs_tune.errors import RequestError

pytestmark = pytest.mark.ray

X = {"x": {"type": "float", "low": 0, "high": 1}}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIFS_TUNE_STORAGE", f"sqlite:///{tmp_path}/lab.db")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_closures_with_large_arrays_and_processes_of_their_own(capfd):
    table = np.arange(2_000_000.0)

    def run(x):
        os.write(1, b"written below Python\n")
        return {"value": table[3] * x, "pid": os.getpid()}

    handler = signal.getsignal(signal.SIGINT)
    result = aifs_tune.tune(run, X, trials=3, workers=2, resources={"fresh_process": True})
    assert signal.getsignal(signal.SIGINT) is handler
    assert result.study.counts()["complete"] == 3
    assert len({t.metrics["pid"] for t in result.study.all_trials()}) == 3
    assert "the trainer holds 16 MB of data" in capfd.readouterr().err
    assert read_log(result.study, 0) == "written below Python\n"
    lock = threading.Lock()
    with pytest.raises(RequestError, match=r"cannot be sent to workers .*lock.*: it uses lock; allowed: make such"):
        aifs_tune.tune(lambda x: x if lock else 0, X, trials=1, workers=1)


def test_a_killed_trial_goes_on_from_its_checkpoint_and_keeps_what_it_said(tmp_path):
    marks = tmp_path / "killed"

    def run(x, trial):
        level = float((trial.restored / "level").read_text()) if trial.restored else 0.0
        print(f"begins at {trial.epoch}", flush=True)  # noqa: T201
        for epoch in range(trial.epoch, trial.epochs):
            level += 1.0
            with trial.checkpoint_dir() as folder:
                (folder / "level").write_text(str(level))
            trial.save("level.npy", np.array([level]))
            if epoch == 3 and not marks.exists():
                marks.touch()
                print("about to die", flush=True)  # noqa: T201
                os.kill(os.getpid(), signal.SIGKILL)
            trial.report(level)

    spec = {"trials": 1, "epochs": 5, "scheduler": "none", "workers": 1}
    sweep = aifs_tune.Sweep(run, X, name="killed", search=spec)
    sweep.spec = sweep.spec.model_copy(update={"trainer": sweep.spec.trainer.model_copy(update={"checkpoint_s": 0.0})})
    result = sweep.run()
    trial = result.best
    assert (trial.epochs, trial.value) == (5, 5.0)
    assert [m.metrics["value"] for m in result.study.curve(trial)] == [1.0, 2.0, 3.0, 4.0, 5.0]
    log = read_log(result.study, trial).splitlines()
    assert log == ["begins at 0", "about to die", "begins at 3"]
    assert np.load(kept_weights(result.study, trial) / "level.npy").tolist() == [5.0]


def test_an_interrupted_sweep_of_a_script_is_resumed_with_the_function_itself():
    def run(x, epochs):
        for epoch in range(epochs):
            time.sleep(0.05)
            yield x + epoch

    sweep = aifs_tune.Sweep(run, X, name="timed", search={"trials": 40, "epochs": 4, "scheduler": "none", "workers": 2})
    first = sweep.run(timeout_s=3)
    assert first.study.counts()["complete"] < 40
    assert aifs_tune.resume("timed", trainer=run, timeout_s=250).study.counts()["complete"] == 40


def test_the_command_line_prints_the_log_and_the_first_traceback(tmp_path):
    import subprocess
    import sys

    Path("lamp.py").write_text(
        "import warnings\n"
        "def shine(case):\n"
        "    warnings.warn('old lamp')\n"
        "    print('\\x1b[2Jcleared')\n"
        "    if case:\n"
        "        raise RuntimeError('lamp broke')\n"
        "    return 0.5\n"
    )
    Path("lamp.yaml").write_text(
        "name: lamp\ntrainer: lamp:shine\nobjective: {metric: value, mode: max}\n"
        "search: {trials: 2, epochs: 1, workers: 1, sampler: grid}\n"
        "space: {case: {type: choice, choices: [false, true]}}\n"
    )
    command = [sys.executable, "-m", "aifs_tune"]
    ran = subprocess.run([*command, "run", "lamp.yaml"], capture_output=True, text=True, timeout=120)
    assert ran.stderr.count("RuntimeError: lamp broke") >= 1
    assert "    raise RuntimeError('lamp broke')" in ran.stderr
    failed = next(t.number for t in aifs_tune.load_study("lamp").all_trials() if t.state == "failed")
    logged = subprocess.run(
        [*command, "logs", "lamp", "--trial", str(failed)], capture_output=True, text=True, timeout=60
    )
    assert logged.returncode == 0
    assert "UserWarning: old lamp" in logged.stdout
    assert "RuntimeError: lamp broke" in logged.stdout
    for arguments in (["logs", "lamp"], ["logs", "lamp", "--trial", "1", "--address", "http://head:8265"]):
        refused = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
        assert refused.returncode == 2
        assert "either --trial N, or --address" in refused.stderr
    report = subprocess.run([*command, "report", "lamp", "-o", "lamp.md"], capture_output=True, text=True, timeout=120)
    assert report.returncode == 0, report.stderr
    text = Path("lamp.md").read_text()
    assert "The end of the output of trial" in text
    assert "RuntimeError: lamp broke" in text
    assert "\x1b" not in text
