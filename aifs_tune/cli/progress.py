"""Progress display of a sweep: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from aifs_tune._util.formatting import configuration, counted, number
from aifs_tune.cli.plain_text import Text
from aifs_tune.cli.trial_rows import Column, TrialRows
from aifs_tune.execution.callbacks import Plan
from aifs_tune.execution.progress import ProgressTracker
from aifs_tune.study.trial import Trial

_STYLE = {"running": "cyan", "complete": "green", "pruned": "yellow", "failed": "red", "waiting": "dim"}
_ROWS = 12


class PlainLines:
    """Progress display that prints one line for each event, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tracker: ProgressTracker | None = None
        self._phase = ""

    def on_status(self, text: str) -> None:
        self._print(text)

    def on_progress(self, phase: str, done: int, total: int) -> None:
        if phase != self._phase:
            self._print(f"{phase}: {total}")
        self._phase = phase

    def on_sweep_start(self, plan: Plan) -> None:
        self._tracker = ProgressTracker(plan)
        trials = f"{plan.n_trials} trials" + ("" if plan.epochs is None else f" of up to {plan.epochs} epochs")
        self._print(f"study {plan.study}: {trials}, {plan.workers} at a time")

    def on_trial_start(self, trial: Trial) -> None:
        tuned = self._tracker.plan.tuned if self._tracker else None
        self._print(f"trial {trial.number} started  {configuration(trial.params, tuned)}")

    def on_trial_result(self, trial: Trial) -> None: ...

    def on_trial_complete(self, trial: Trial) -> None:
        if self._tracker is None:
            return
        self._tracker.ended(trial)
        reason = f"  ({trial.reason})" if trial.reason else ""
        value = f"{self._tracker.plan.objective.metric} {number(trial.value)} after {counted(trial.epochs, 'epoch')}"
        self._print(f"trial {trial.number} {trial.state}  {value}{reason}")
        self._print(self._tracker.line())

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True, highlight=False)


class LiveTable:
    """Progress display that redraws a table of the newest trials in a terminal; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tracker: ProgressTracker | None = None
        self._trials: dict[int, Trial] = {}
        self._bar: tuple[str, int, int] | None = None
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4, transient=False)

    def __enter__(self) -> LiveTable:
        self._live.__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._bar = None
        self._live.__exit__(*problem)

    def on_status(self, text: str) -> None:
        self._bar = None
        self._live.console.print(Text(text))

    def on_progress(self, phase: str, done: int, total: int) -> None:
        self._bar = (phase, done, total)

    def on_sweep_start(self, plan: Plan) -> None:
        self._bar = None
        self._tracker = ProgressTracker(plan)

    def on_trial_start(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        if self._tracker is not None:
            self._tracker.n_started += 1

    def on_trial_result(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        if self._tracker is not None:
            self._tracker.measured()

    def on_trial_complete(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        if self._tracker is not None:
            self._tracker.ended(trial)

    def _draw(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self._bar is not None:
            phase, done, total = self._bar
            row = Table.grid(padding=(0, 1))
            row.add_row(phase, ProgressBar(total=max(total, 1), completed=done, width=40), f"{done}/{total}")
            parts.append(row)
        if self._tracker is not None:
            parts += [self._table(self._tracker), Text(self._tracker.line(), style="bold")]
        return Group(*parts)

    def _table(self, tracker: ProgressTracker) -> TrialRows:
        shown = sorted(self._trials.values(), key=lambda t: (t.state == "running", t.number))[-_ROWS:]
        best = None if tracker.best is None else tracker.best.number
        of_all = "" if tracker.plan.epochs is None else f"/{tracker.plan.epochs}"
        marks = [" best" if trial.number == best else "" for trial in shown]
        columns = [
            Column("trial", [Text(str(trial.number)) for trial in shown]),
            Column("state", [Text(trial.state, style=_STYLE[trial.state]) for trial in shown]),
            Column("epoch", [Text(f"{trial.epochs}{of_all}") for trial in shown]),
            Column(
                tracker.plan.objective.metric,
                [
                    Text(number(trial.value) + mark, style="bold" if mark else "")
                    for trial, mark in zip(shown, marks, strict=True)
                ],
            ),
        ]
        reasons = {i: trial.reason for i, trial in enumerate(shown) if trial.state == "failed" and trial.reason}
        params = [trial.params for trial in shown]
        return TrialRows(columns, params, tuned=tracker.plan.tuned, instead=reasons, title=tracker.plan.study)
