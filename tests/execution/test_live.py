"""What a sweep shows in a notebook and in a terminal, without either."""

from __future__ import annotations

import io

import pytest

import aifs_tune
from aifs_tune._util.html import chart, table, text
from aifs_tune.config.sweep import Objective
from aifs_tune.errors import InterruptedSweepError
from aifs_tune.execution.callbacks import Plan, PrintingCallback
from aifs_tune.execution.live import NotebookView, TerminalLine, is_notebook, live_view
from aifs_tune.study.trial import Trial

PLAN = Plan("lab", Objective(metric="<score>"), n_trials=2, workers=1, epochs=8, best=None, tuned=("x",))
BAD = '<script>alert("x")</script>'
X = {"x": {"type": "float", "low": 0, "high": 1}, "kind": {"type": "choice", "choices": [BAD, "b"]}}


def trial(n, state, value=None, **more):
    return Trial(n, state, {"x": 0.123456789, "kind": BAD}, 0, value=value, epochs=3, **more)


def tell(view):
    view.on_progress("decoding", 1, 2)
    view.on_sweep_start(PLAN)
    view.on_trial_start(trial(0, "running"))
    view.on_trial_result(trial(0, "running", 0.5))
    view.on_trial_complete(trial(0, "complete", 0.5))
    view.on_status(f"trial 1 failed:\n{BAD}")
    view.on_trial_complete(trial(1, "failed", reason=BAD))


class Drawn(NotebookView):
    def __init__(self):
        super().__init__()
        self.pages = []

    def _draw(self):
        self.pages.append(self.html())


def test_the_view_of_a_notebook_has_progress_trials_and_problems_and_escapes_all():
    view = Drawn()
    tell(view)
    view.close()
    assert "decoding: 1 of 2" in view.pages[0]
    last = view.pages[-1]
    assert "2/2 trials   best &lt;score&gt; 0.5 (trial 0)" in last
    assert "<svg" in last
    assert "<td" in last
    assert "0.1235" in last
    assert "trial 1 failed" in last
    assert "<script" not in last
    assert len(view.pages) < 7  # events that follow each other at once are drawn together


def test_one_line_of_a_terminal_follows_the_sweep_and_problems_stand_above_it(capsys):
    stream = io.StringIO()
    view = TerminalLine(stream)
    tell(view)
    view.close()
    lines = stream.getvalue().split("\r\x1b[K")
    assert lines[1] == "decoding: 1 of 2"
    assert lines[-1].startswith("2/2 trials   best <score> 0.5")
    assert lines[-1].endswith("\n")
    assert capsys.readouterr().err == f"trial 1 failed:\n{BAD}\n"


def test_without_a_terminal_and_a_notebook_only_problems_are_printed(monkeypatch):
    otherwise = PrintingCallback()
    assert not is_notebook()
    with live_view(otherwise) as view:
        assert view is otherwise
    monkeypatch.setattr("sys.stderr", type("Terminal", (io.StringIO,), {"isatty": lambda self: True})())
    with live_view(otherwise) as view:
        assert isinstance(view, TerminalLine)
    monkeypatch.setattr("aifs_tune.execution.live.is_notebook", lambda: True)
    monkeypatch.setattr(NotebookView, "_draw", lambda self: None)
    with live_view(otherwise) as view:
        assert isinstance(view, NotebookView)


def test_studies_trials_and_results_are_pages_that_escape_all(url):
    result = aifs_tune.tune(lambda x, kind: {"value": x, "note": BAD}, X, trials=12, storage=url)
    for shown in (result, result.study, result.best):
        page = shown._repr_html_()
        assert "<script" not in page
        assert "&lt;script&gt;" in page
    assert "study lambda: value (max)" in result._repr_html_()
    assert "12 complete" in result._repr_html_()
    assert "took " in result._repr_html_()
    assert result.study._repr_html_().count("<tr>") == 11  # the head and the ten best
    assert "note" in result.best._repr_html_()


def test_pages_of_studies_without_results_limits_and_several_objectives(url):
    empty = aifs_tune.open_study("empty", space=X, storage=url)
    assert "no trials" in empty._repr_html_()
    empty.tell(empty.ask(), state="failed", reason=BAD)
    assert "1 failed" in empty._repr_html_()
    assert "&lt;script&gt;" in empty.trial(0)._repr_html_()
    limited = aifs_tune.open_study("limited", space=X, limits=["heat <= 5"], storage=url)
    limited.tell(limited.ask(), {"value": 1.0, "heat": 9.0})
    assert "1 complete" in limited._repr_html_()
    several = aifs_tune.open_study("several", space=X, trade_off={"cost": "min"}, storage=url)
    several.tell(several.ask(), {"value": 1.0, "cost": 2.0})
    assert "value (max), cost (min)" in several._repr_html_()


def test_charts_and_cells():
    assert chart([], []) == ""
    assert chart([(0, float("nan"))], []) == ""
    assert chart([(0, 1.0)], [(0, 1.0)]).count("<circle") == 1
    assert text("\x1b[31m<") == "\\x1b[31m&lt;"
    assert (text(True), text(None), text(1 / 3)) == ("true", "None", "0.3333")
    assert table([], [["a"]]).count("<tr>") == 1


def test_an_interrupt_says_how_to_go_on_and_has_no_traceback_in_a_notebook(url):
    def stopped(x, kind):
        raise KeyboardInterrupt

    with pytest.raises(InterruptedSweepError) as caught:
        aifs_tune.tune(stopped, X, trials=2, storage=url)
    assert "stored in study stopped. Finish it with the same call and name='stopped', finish=True" in str(caught.value)
    assert "aifs_tune.resume('stopped', trainer=stopped, in_process=True)" in str(caught.value)
    assert caught.value._render_traceback_() == [f"InterruptedSweepError: {caught.value}"]
