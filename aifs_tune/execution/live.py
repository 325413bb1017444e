"""What a sweep shows while it runs where a person called it in Python: in a notebook, or in a terminal."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TextIO

from aifs_tune._util.formatting import printable
from aifs_tune._util.html import paragraph, preformatted
from aifs_tune.execution.callbacks import NullCallback, Plan, PrintingCallback, SweepCallback
from aifs_tune.execution.progress import ProgressTracker
from aifs_tune.study.html import progress_chart, trials_table
from aifs_tune.study.trial import Trial

_EVERY_S = 0.25
"""Seconds between two drawings."""
_MOST_TEXTS, _MOST_ROWS = 5, 8


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def live_view(otherwise: SweepCallback) -> Iterator[SweepCallback]:
    """Yield the callback that suits where this process runs, and draw it a last time at the end.

    In a notebook that is one display that follows the sweep; in a terminal one line; else ``otherwise``.
    """
    if is_notebook():
        view: _View = NotebookView()
    elif sys.stderr is not None and sys.stderr.isatty():
        view = TerminalLine(sys.stderr)
    else:
        yield otherwise
        return
    try:
        yield view
    finally:
        view.close()


class _View(NullCallback, ABC):
    """Callback that draws the state of a sweep again when something has changed, but not too often."""

    def __init__(self) -> None:
        self._tracker: ProgressTracker | None = None
        self._trials: dict[int, Trial] = {}
        self._texts: list[str] = []
        self._drawn_s = float("-inf")

    def on_status(self, text: str) -> None:
        self._texts = [*self._texts, text][-_MOST_TEXTS:]
        self._changed()

    def on_progress(self, phase: str, done: int, total: int) -> None:
        self._phase = f"{phase}: {done} of {total}"
        self._changed()

    def on_sweep_start(self, plan: Plan) -> None:
        self._phase = ""
        self._tracker = ProgressTracker(plan)
        self._changed()

    def on_trial_start(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        if self._tracker is not None:
            self._tracker.n_started += 1
        self._changed()

    def on_trial_result(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        if self._tracker is not None:
            self._tracker.measured()
        self._changed()

    def on_trial_complete(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        if self._tracker is not None:
            self._tracker.ended(trial)
        self._changed()

    def close(self) -> None:
        """Draw the last state."""
        self._draw()

    _phase = ""

    def _changed(self) -> None:
        now = time.monotonic()
        if now - self._drawn_s >= _EVERY_S:
            self._drawn_s = now
            self._draw()

    @abstractmethod
    def _draw(self) -> None:
        """Draw the current state."""


class NotebookView(_View):
    """One display of a notebook: progress, the values by trial, the newest trials, and what needs attention."""

    def __init__(self) -> None:
        super().__init__()
        self._display: Any = None

    def html(self) -> str:
        """The state of the sweep."""
        parts = [paragraph(self._phase)] if self._phase else []
        if self._tracker is not None:
            plan, trials = self._tracker.plan, list(self._trials.values())
            ended = sorted((t for t in trials if t.is_finished), key=lambda t: t.number)
            newest = sorted(trials, key=lambda t: (t.state == "running", t.number), reverse=True)[:_MOST_ROWS]
            parts += [
                paragraph(f"study {plan.study}", bold=True),
                paragraph(self._tracker.line()),
                progress_chart(ended, plan.objective),
                trials_table(newest, plan.objective),
            ]
        parts += [preformatted(text) for text in self._texts]
        return f"<div>{''.join(parts)}</div>"

    def _draw(self) -> None:
        ipython: Any = import_module("IPython.display")
        shown = ipython.HTML(self.html())
        if self._display is None:
            self._display = ipython.display(shown, display_id=True)
        else:
            self._display.update(shown)


class TerminalLine(_View):
    """One line of a terminal that follows the sweep; what needs attention is printed above it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._printer = PrintingCallback()

    def on_status(self, text: str) -> None:
        self._write("\r\x1b[K")
        self._printer.on_status(printable(text))
        self._changed()

    def close(self) -> None:
        """Draw the last state, and end the line."""
        self._draw()
        if self._tracker is not None or self._phase:
            self._write("\n")

    def _draw(self) -> None:
        line = self._phase or ("" if self._tracker is None else self._tracker.line())
        if line:
            self._write(f"\r\x1b[K{printable(line)}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
