"""Studies and trials as HTML, as notebooks show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from aifs_tune._util.formatting import counted, duration
from aifs_tune._util.html import chart, pairs, paragraph, table
from aifs_tune.config.sweep import Objective
from aifs_tune.study.trial import STATES, Trial

if TYPE_CHECKING:
    from aifs_tune.study.study import Study

MOST_ROWS = 10


def trial_html(trial: Trial) -> str:
    """A trial with its parameters, metrics and notes."""
    took = "" if trial.seconds is None else f", {duration(trial.seconds)}"
    epochs = f", {counted(trial.epochs, 'epoch')}" if trial.epochs else ""
    parts = [paragraph(f"trial {trial.number}: {trial.state}{epochs}{took}", bold=True)]
    if trial.reason or trial.problem:
        parts.append(paragraph(trial.reason or trial.problem))
    for what, values in (("parameters", trial.params), ("metrics", trial.metrics), ("notes", trial.notes)):
        if values:
            parts += [paragraph(what), pairs({str(name): value for name, value in values.items()})]
    return f"<div>{''.join(parts)}</div>"


def trials_table(trials: Sequence[Trial], objective: Objective) -> str:
    """Trials below each other, with the parameters that any of them has."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    rows = [
        [t.number, t.state, "-" if t.value is None else t.value, *(t.params.get(name, "") for name in names)]
        for t in trials
    ]
    return table(["trial", "state", objective.metric, *names], rows)


def progress_chart(trials: Iterable[Trial], objective: Objective) -> str:
    """The values of complete trials by number, and the best so far."""
    points = [(float(t.number), t.value) for t in trials if t.state == "complete" and t.value is not None]
    best: list[tuple[float, float]] = []
    for at, value in points:
        is_better = not best or (value > best[-1][1] if objective.mode == "max" else value < best[-1][1])
        best.append((at, value if is_better else best[-1][1]))
    return chart(points, best)


def study_html(study: Study) -> str:
    """A study: its objective, counts, curve and best trials."""
    trials, objective = study.all_trials(), study.spec.objective
    counts = {state: sum(t.state == state for t in trials) for state in STATES}
    listed = ", ".join(f"{n} {state}" for state, n in counts.items() if n) or "no trials"
    goal = ", ".join(f"{each.metric} ({each.mode})" for each in study.spec.objectives)
    parts = [paragraph(f"study {study.name}: {goal}", bold=True), paragraph(listed)]
    done = [t for t in trials if t.state == "complete" and t.problem is None and t.value is not None]
    if done:
        best = study.front if study.spec.trade_off else study.best_trials(MOST_ROWS) if _has_best(done) else []
        parts += [progress_chart(done, objective), trials_table(best[:MOST_ROWS], objective)]
    return f"<div>{''.join(parts)}</div>"


def _has_best(done: Sequence[Trial]) -> bool:
    """Whether a trial is within the limits, where there are some."""
    return any(trial.feasible is not False for trial in done)
