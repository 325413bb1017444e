"""Functions of the cells of a notebook, in a real kernel: swept, interrupted, finished, shown."""

from __future__ import annotations

import re
import time

import pytest
from jupyter_client.manager import KernelManager

STARTED = "has begun"
FIRST = """
import time
import aifs_tune

wait_s = 0.0
def measure(x, trial):
    print("trial has begun", flush=True)
    for epoch in range(3):
        time.sleep(wait_s)
        trial.report(x * (epoch + 1))

X = {"x": {"type": "float", "low": 0, "high": 1}}
"""


class Notebook:
    """A kernel that runs cells; each cell's outputs as messages."""

    def __init__(self, folder, monkeypatch):
        monkeypatch.setenv("AIFS_TUNE_STORAGE", f"sqlite:///{folder}/lab.db")
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code, *, interrupt_at=None, limit_s=120):
        """The contents of the messages of a cell by kind; an interrupt is sent once a text has been shown."""
        cell, found, until = self.client.execute(code), {}, time.monotonic() + limit_s
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.1, until - time.monotonic()))
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            found.setdefault(kind, []).append(content)
            if interrupt_at is not None and interrupt_at in str(content):
                interrupt_at = None
                self.manager.interrupt_kernel()
            if kind == "status" and content["execution_state"] == "idle":
                return found

    def value(self, code):
        """The text of the value of an expression."""
        return self.run(code)["execute_result"][0]["data"]["text/plain"]

    def end(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    made = Notebook(tmp_path, monkeypatch)
    assert "error" not in made.run(FIRST)
    yield made
    made.end()


def pages(messages, kind):
    return [content["data"]["text/html"] for content in messages.get(kind, ())]


def errors(messages):
    return ["\n".join(content["traceback"]) for content in messages.get("error", ())]


def test_a_function_of_a_cell_is_swept_in_the_kernel_with_one_display(notebook):
    told = notebook.run("result = aifs_tune.tune(measure, X, trials=6, epochs=3, scheduler='none')\nresult")
    assert errors(told) == []
    assert len(pages(told, "display_data")) == 1
    last = pages(told, "update_display_data")[-1]
    assert "6/6 trials" in last
    assert "<svg" in last
    assert "study measure: value (max)" in pages(told, "execute_result")[0]
    assert notebook.value("result.study.counts()['complete'], len(result.trials)") == "(6, 6)"
    assert "trial 0: complete, 3 epochs" in pages(notebook.run("result.study.trial(0)"), "execute_result")[0]


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.soak)])
def test_an_interrupted_sweep_says_so_shortly_and_is_finished_by_the_same_call(notebook, workers):
    call = (
        f"aifs_tune.tune(measure, X, trials=5, epochs=3, scheduler='none', workers={workers}, name='lab', finish=True)"
    )
    notebook.run("wait_s = 1.0" if workers else "wait_s = 0.5")
    # in a trial: in this process its output says so, on workers the display has a trial that runs
    told = notebook.run(call, interrupt_at=STARTED if workers is None else ">running<")
    (error,) = errors(told)
    assert len(error.splitlines()) == 1
    assert re.match(r"InterruptedSweepError: .*name='lab', finish=True, or with aifs_tune\.resume\('lab'", error)
    notebook.run("wait_s = 0.0")
    assert notebook.value("aifs_tune.load_study('lab').counts()['complete'] < 5") == "True"
    assert notebook.value("aifs_tune.load_study('lab').counts()['running']") == "0"
    assert errors(notebook.run(f"result = {call}")) == []
    assert notebook.value("result.study.counts()['complete'], result.best.epochs") == "(5, 3)"


def test_an_objective_of_a_cell_runs_unchanged_on_workers(notebook):
    notebook.run(
        "def objective(trial):\n"
        "    kind = trial.suggest_categorical('kind', ['a', 'b'])\n"
        "    return trial.suggest_float('x', 0, 1) + (trial.suggest_float('y', 0, 1) if kind == 'b' else 0)\n"
    )
    told = notebook.run("result = aifs_tune.tune(objective, trials=4, workers=2, mode='min')")
    assert errors(told) == []
    assert "4/4 trials" in pages(told, "update_display_data")[-1]
    assert notebook.value("result.study.counts()['complete']") == "4"
