"""Sections of a report about trials: suggestions, failures by reason, and the best trials."""

from __future__ import annotations

from typing import Any

from aifs_tune._util.formatting import printable
from aifs_tune.artifacts.logs import read_log
from aifs_tune.errors import NotFoundError, StorageError
from aifs_tune.publishing.report.blocks import Bullets, Code, Paragraph, ReportBlock, ReportSection, Table
from aifs_tune.publishing.report.context import ReportContext
from aifs_tune.publishing.report.formatting import count, cut, format_duration, sentence, shown

TOP = 20
"""Number of best trials that a report lists."""
_MAX_COLUMNS = 8
_MAX_REASONS = 12
_MAX_LOGS = 3
"""Number of reasons with the output of a trial."""
_MAX_LINES = 25


def suggestions_section(context: ReportContext) -> ReportSection | None:
    """Suggested changes for the next search; None without any."""
    table: Any = context.analysis.suggestions()
    if table.empty:
        return None
    items = tuple(
        sentence(str(row.text))
        + (f" ({cut(str(row.evidence), 200)})" if row.evidence and row.evidence == row.evidence else "")
        for row in table.itertuples()
    )
    return ReportSection("Suggestions", (Bullets(items),))


def failures_section(context: ReportContext) -> ReportSection | None:
    """Failed trials by reason; None if no trial failed."""
    n_failed = context.counts["failed"]
    if not n_failed:
        return None
    table: Any = context.analysis.failures()
    rows = tuple(
        (cut(str(row.reason), 120), f"{int(row.n):,}", _numbers(row.trials), cut(str(row.example), 160))
        for row in table.head(_MAX_REASONS).itertuples()
    )
    rest = f", the first {_MAX_REASONS} of {len(table)} reasons" if len(table) > _MAX_REASONS else ""
    caption = f"{count(n_failed, 'failed trial')} of {len(context.trials):,}, by reason{rest}."
    blocks: list[ReportBlock] = [Table(caption, ("reason", "n", "trials", "example"), rows, "lrll")]
    for row in table.head(_MAX_LOGS).itertuples():
        first = int(str(row.trials).split()[0])
        end = _end_of_log(context, first)
        if end:
            blocks += [Paragraph(f"The end of the output of trial {first}:", "note"), Code(end, "text")]
    return ReportSection("Failures", tuple(blocks))


def _end_of_log(context: ReportContext, trial: int) -> str:
    """The last lines that a trial printed; empty if it left none, or they cannot be read."""
    try:
        lines = read_log(context.study, trial).splitlines()
    except (NotFoundError, StorageError):
        return ""
    return "\n".join(printable(cut(line, 200)) for line in lines[-_MAX_LINES:])


def _numbers(trials: object) -> str:
    numbers = str(trials).split()
    return ", ".join(numbers[:6]) + (", …" if len(numbers) > 6 else "")


def trials_section(context: ReportContext) -> ReportSection:
    """The best trials with their configurations, and the command that lists all."""
    blocks: list[ReportBlock] = [top_table(context)]
    n = len(context.trials)
    if n > TOP:
        blocks += [
            Paragraph(f"This command lists all {n:,} trials:", "note"),
            Code(f"aifs-tune trials {context.study.name} --format csv", "text"),
        ]
    return ReportSection("Best trials", tuple(blocks))


def top_table(context: ReportContext, *, max_chars: int = 20) -> Table:
    """The best complete trials, at most :data:`TOP`; values of parameters are cut to ``max_chars`` characters."""
    study, tuned = context.study, context.tuned[:_MAX_COLUMNS]
    others = study.spec.trade_off
    has_epochs = any(trial.epochs for trial in context.trials)
    best = study.best_trials(TOP)
    rows = []
    for trial in best:
        row = [str(trial.number), shown(trial.value), *(shown(trial.values.get(each.metric)) for each in others)]
        row += [f"{trial.epoch} of {trial.epochs}"] if has_epochs else []
        row += [format_duration(trial.seconds)] if has_epochs else []
        rows.append((*row, *(cut(shown(trial.coded_params.get(name)), max_chars) for name in tuned)))
    header = ["trial", context.metric, *(each.metric for each in others)]
    header += ["epoch", "time"] if has_epochs else []
    header += [cut(_titled(context, name), max_chars + 4) for name in tuned]
    n = context.counts["complete"]
    caption = f"The best {len(best)} of {count(n, 'complete trial')}, by {cut(context.metric)}."
    left_out = len(context.tuned) - len(tuned)
    if left_out:
        caption += f" {count(left_out, 'more parameter')} {'is' if left_out == 1 else 'are'} not shown."
    align = "r" * (len(header) - len(tuned)) + "".join("l" if _is_text(context, name) else "r" for name in tuned)
    return Table(caption, tuple(cut(each, max_chars + 40) for each in header), tuple(rows), align)


def _is_text(context: ReportContext, name: str) -> bool:
    return any(isinstance(value, str) for value in context.study.spec.space[name].extremes)


def _titled(context: ReportContext, name: str) -> str:
    unit = context.study.spec.space[name].unit
    return f"{name} ({unit})" if unit else name
