"""What a person sees while a sweep runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from aifs_tune._util.formatting import duration, number
from aifs_tune.cli.progress import LiveTable, PlainLines
from aifs_tune.config.sweep import Objective
from aifs_tune.execution.callbacks import Plan
from aifs_tune.study.trial import Trial

PLAN = Plan("lab", Objective(metric="score"), n_trials=4, workers=2, epochs=8, best=None, tuned=("rate", "flip"))


def trial(n: int, state: str, value: float | None = None, reason: str | None = None) -> Trial:
    return Trial(n, state, {"rate": 0.00123456, "fixed": 3, "flip": True}, 0, value=value, epochs=3, reason=reason)


def tell(callback) -> None:
    callback.on_status("reading [survey]")
    callback.on_progress("decoding", 5, 10)
    callback.on_progress("decoding", 10, 10)
    callback.on_sweep_start(PLAN)
    callback.on_trial_start(trial(0, "running"))
    callback.on_trial_result(trial(0, "running", 0.5))
    callback.on_trial_complete(trial(0, "complete", 0.5))
    callback.on_trial_start(trial(1, "running"))
    callback.on_trial_complete(trial(1, "failed", reason="the lamp [red]broke"))
    callback.on_trial_start(trial(2, "running"))


def test_plain_lines_are_one_line_an_event():
    sink = io.StringIO()
    tell(PlainLines(Console(file=sink, width=60)))
    lines = sink.getvalue().splitlines()
    assert lines[:3] == ["reading [survey]", "decoding: 10", "study lab: 4 trials of up to 8 epochs, 2 at a time"]
    assert lines[3] == "trial 0 started  rate=0.001235  flip=true"
    assert lines[4] == "trial 0 complete  score 0.5 after 3 epochs"
    assert lines[5].startswith("1/4 trials   best score 0.5 (trial 0)   ")
    assert "trial 1 failed  score - after 3 epochs  (the lamp [red]broke)" in lines


def test_the_live_table_shows_all_there_is_to_know():
    sink = io.StringIO()
    console = Console(file=sink, width=100, force_terminal=True, color_system=None)
    with LiveTable(console) as table:
        tell(table)
    shown = sink.getvalue().split("\x1b")[-1]
    for words in ("trial", "epoch", "score", "complete", "the lamp [red]broke", "0.5 best", "3/8", "2/4 trials"):
        assert words in sink.getvalue(), words
    assert "decoding" not in shown


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "-"), (4.4, "4 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_are_for_people(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"), [(None, "-"), (0.123456, "0.1235"), (1177.4, "1177"), (12345.6, "12346"), (1e-5, "1e-05")]
)
def test_numbers_are_short(value, words):
    assert number(value) == words


def test_of_equal_trials_the_earlier_one_is_the_best_as_in_the_summary():
    sink = io.StringIO()
    lines = PlainLines(Console(file=sink, width=100))
    lines.on_sweep_start(PLAN)
    for n in (1, 0, 2):
        lines.on_trial_complete(trial(n, "complete", 0.5))
    assert "best score 0.5 (trial 0)" in sink.getvalue().splitlines()[-1]
