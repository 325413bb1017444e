"""Tables of trials at the widths of real terminals."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from aifs_tune._util.formatting import assignments
from aifs_tune.cli.progress import LiveTable
from aifs_tune.cli.tables import render_best, render_trials
from aifs_tune.config.loading import load_sweep_file
from aifs_tune.config.sweep import Objective
from aifs_tune.execution.callbacks import Plan
from aifs_tune.publishing.summary import best_summary
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import start_study
from aifs_tune.study.trial import Trial

SHIPPED = Path(__file__).parents[2] / "search_spaces"
WIDTHS = [60, 80, 120, 200]
REASON = "ResourceExhaustedError: out of memory while allocating a tensor of 12 GB"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Trials of the longest space that ships."""
    specs = [load_sweep_file(file) for file in sorted(SHIPPED.glob("*.yaml"))]
    longest = max(specs, key=lambda spec: len(spec.space))
    storage = Storage(f"sqlite:///{tmp_path_factory.mktemp('rows')}/lab.db", create=True)
    study = start_study(storage, longest, "longest", with_default=False)
    for i, state in enumerate(["complete", "pruned", "failed", "complete"]):
        trial = study.ask()
        study.report(trial, 1, {longest.objective.metric: 0.1234 + i / 10}, seconds=12.34)
        study.tell(trial, state=state, reason={1: "stopped early at epoch 1", 2: REASON}.get(i))
    return study


def printed(renderable, width):
    sink = io.StringIO()
    Console(file=sink, width=width, force_terminal=True, color_system=None).print(renderable)
    lines = sink.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return lines


def rows(lines):
    """The cells of each row, without the head."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]


def all_parameters_are_whole(cell, params):
    whole = set(assignments(params))
    shown = re.split(r"  +", cell)
    left_out = re.fullmatch(r"\+(\d+) more", shown[-1])
    return set(shown[: -1 if left_out else None]) <= whole


@pytest.mark.parametrize("width", WIDTHS)
def test_trials_have_one_line_each_and_no_number_is_cut(study, width):
    trials = study.all_trials()
    lines = printed(render_trials(study, trials), width)
    found = rows(lines)
    assert len(found) == len(trials)
    for cells, trial in zip(found, trials, strict=True):
        assert cells[:3] == [str(trial.number), trial.state, f"{trial.value:.4g}"]
        assert all_parameters_are_whole(next(cell for cell in cells if "more" in cell), trial.params)
    shown = lines[1] + lines[-1]
    for column in ("epochs", "seconds", "configuration", "reason"):
        assert column in shown, "a column is there, or named below the table"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_best_trials_have_one_line_each_and_no_number_is_cut(study, width):
    found = rows(printed(render_best(best_summary(study, top=2)), width))
    assert [cells[:2] for cells in found] == [["3", "0.4234"], ["0", "0.1234"]]
    assert all(all_parameters_are_whole(cells[-1], study.trial(int(cells[0])).params) for cells in found)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_live_table_shows_number_state_epoch_and_value_at_any_width(study, width):
    tuned = [name for name, parameter in study.spec.space.items() if parameter.type != "fixed"]
    objective = Objective(metric="val_macro_f1")
    table = LiveTable(Console(file=io.StringIO()))
    table.on_sweep_start(Plan("aries", objective, n_trials=20, workers=2, epochs=100, best=None, tuned=tuple(tuned)))
    params = [trial.params for trial in study.all_trials()]
    for number, told in enumerate(params):
        trial = Trial(number, "running", told, 0, value=0.3333, epochs=7)
        table.on_trial_start(trial)
        table.on_trial_result(trial)
    table.on_trial_complete(Trial(0, "complete", params[0], 0, value=0.4567, epochs=100))
    table.on_trial_complete(Trial(1, "failed", params[1], 0, epochs=3, reason=REASON))
    found = rows(printed(table._draw(), width))
    assert [cells[:4] for cells in found] == [
        ["0", "complete", "100/100", "0.4567 best"],
        ["1", "failed", "3/100", "-"],
        ["2", "running", "7/100", "0.3333"],
        ["3", "running", "7/100", "0.3333"],
    ]
    if width >= 120:
        assert found[1][4].startswith("ResourceExhaustedError: out of memory")
        assert all(all_parameters_are_whole(found[i][4], params[i]) for i in (0, 2, 3))


def test_parameters_that_differ_come_first():
    same = {"optimizer": "adam", "batch_size": 32}
    plan = Plan("lab", Objective(metric="score"), n_trials=2, workers=1, epochs=1, best=None, tuned=(*same, "rate"))
    table = LiveTable(Console(file=io.StringIO()))
    table.on_sweep_start(plan)
    for number in range(2):
        table.on_trial_start(Trial(number, "running", {**same, "rate": 0.25 + number}, 0))
    assert [cells[-1] for cells in rows(printed(table._draw(), 76))] == [
        "rate=0.25  optimizer=adam  +1 more",
        "rate=1.25  optimizer=adam  +1 more",
    ]


def test_before_the_first_result_it_says_what_it_waits_for():
    table = LiveTable(Console(file=io.StringIO()))
    table.on_sweep_start(Plan("lab", Objective(metric="score"), 4, workers=2, epochs=8, best=None, tuned=("rate",)))
    told = [printed(table._draw(), 100)[-1]]
    trial = Trial(0, "running", {"rate": 0.5}, 0)
    for event in (table.on_trial_start, table.on_trial_result):
        event(trial)
        told.append(printed(table._draw(), 100)[-1])
    assert [line.partition("waiting for ")[2].strip() for line in told] == [
        "a worker to start",
        "the first epoch (loading data, compiling)",
        "the first trial to end",
    ]
