"""Search history section of a report: best value by trial, learning curves, savings of early stopping, and cost."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from aifs_tune.publishing.report.blocks import Figure, Paragraph, ReportBlock, ReportSection, Table
from aifs_tune.publishing.report.context import ReportContext
from aifs_tune.publishing.report.figures import BLUE, GREEN, GREY, ORANGE, PALE, label, picture, robust_limits, to_log
from aifs_tune.publishing.report.formatting import DASH, count, cut, format_duration, sentence, shown, subsample

MAX_POINTS = 600
"""Largest number of points in one figure; its caption says how many are drawn."""
MAX_CURVES = 60
"""Largest number of learning curves in one figure."""


def history_section(context: ReportContext) -> ReportSection:
    """Figures of the trials in their order."""
    blocks: list[ReportBlock] = []
    if len(context.of_state("complete", "pruned")) < 2:
        blocks.append(Paragraph("Only one trial has a result, so there is no history to draw.", "note"))
    else:
        blocks.append(history_figure(context))
    if any(trial.epochs > 1 for trial in context.trials):
        blocks += [figure for figure in [_curves_figure(context)] if figure is not None]
    blocks += _saved_blocks(context)
    cost = _cost_figure(context)
    if cost is not None:
        blocks.append(cost)
    if context.study.spec.trade_off:
        blocks.append(_front_figure(context))
    return ReportSection("Search history", tuple(blocks))


def history_figure(context: ReportContext) -> Figure:
    """The value of each trial and the best so far, with the noise as an error bar."""
    complete, pruned = context.of_state("complete"), context.of_state("pruned")
    values = [float(trial.value or 0.0) for trial in (*complete, *pruned)]
    low, high, n_outside = robust_limits(values, context.objective.mode)
    numbers, best = _best_so_far(context)
    sd = None if context.measured_noise is None else context.measured_noise[0]
    if sd is not None:
        low, high = min(low, best[-1] - 1.3 * sd), max(high, best[-1] + 1.3 * sd)

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for trials, marker, colour, name in ((pruned, "x", GREY, "stopped early"), (complete, "o", BLUE, "complete")):
            some = _some(trials)
            if some:
                y = [trial.value for trial in some]
                axes.plot([trial.number for trial in some], y, marker, color=colour, ms=4, label=name)
        last = context.trials[-1].number
        axes.step([*numbers, last], [*best, best[-1]], where="post", color=ORANGE, lw=1.6, label="best so far")
        if sd is not None:
            at = last + max(1.0, 0.03 * last)
            axes.errorbar(
                [at], [best[-1]], [sd], fmt="o", color=ORANGE, ms=3, capsize=4, lw=1.6, label="noise (± 1 sd)"
            )
        axes.set(xlabel="trial", ylabel=label(context.metric), ylim=(low, high))
        axes.xaxis.get_major_locator().set_params(integer=True)
        canvas.legend(loc="outside upper left", ncols=4)

    notes = f" n = {count(len(complete), 'complete trial')}"
    notes += f", {len(pruned):,} stopped early." if pruned else "."
    if len(complete) + len(pruned) > MAX_POINTS:
        notes += f" About {MAX_POINTS:,} trials are drawn, evenly spaced."
    if n_outside:
        notes += f" {count(n_outside, 'far worse value lies', 'far worse values lie')} outside the axis."
    if context.measured_noise is not None:
        notes += f" The error bar is the noise of one measurement, from {context.measured_noise[1]}."
    return picture(
        draw,
        caption=f"{cut(context.metric)} of each trial, and the best so far.{notes}",
        alt=f"The best {cut(context.metric)} went from {shown(best[0])} to {shown(best[-1])} over "
        f"{count(len(context.trials), 'trial')}.",
    )


def _best_so_far(context: ReportContext) -> tuple[list[int], list[float]]:
    """Trials that improved the best complete value, and the new best values."""
    sign = 1 if context.is_better_high else -1
    numbers: list[int] = []
    best: list[float] = []
    for trial in context.of_state("complete"):
        value = float(trial.value or 0.0)
        if trial.feasible is not False and (not best or sign * value > sign * best[-1]):
            numbers.append(trial.number)
            best.append(value)
    return numbers, best


def _some(trials: list[Any]) -> list[Any]:
    return [trials[i] for i in subsample(range(len(trials)), MAX_POINTS // 2)]


def _curves_figure(context: ReportContext) -> Figure | None:
    """Learning curves of the best trial and of other trials, evenly chosen."""
    table: Any = context.analysis.curves()
    table = table[table["value"].notna()]
    lines = {int(number): rows for number, rows in table.groupby("trial") if len(rows) > 1}
    if not lines:
        return None
    others = subsample([number for number in lines if number != context.best.number], MAX_CURVES)
    every = [float(value) for number in others for value in lines[number]["value"]]
    own = lines.get(context.best.number)
    every += [] if own is None else [float(value) for value in own["value"]]
    low, high, n_outside = robust_limits(every, context.objective.mode)
    states = {number: str(lines[number]["state"].iloc[0]) for number in others}

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        seen = set[str]()
        for number in others:
            is_whole = states[number] == "complete"
            name = "complete" if is_whole else "stopped early or failed"
            known = None if name in seen else name
            seen.add(name)
            style, colour = ("-", BLUE) if is_whole else ("--", GREY)
            rows = lines[number]
            axes.plot(rows["epoch"], rows["value"], style, color=colour, lw=0.8, alpha=0.55, label=known)
        if own is not None:
            axes.plot(own["epoch"], own["value"], color=ORANGE, lw=2, label=f"best (trial {context.best.number})")
        axes.set(xlabel="epoch", ylabel=label(context.metric), ylim=(low, high))
        axes.xaxis.get_major_locator().set_params(integer=True)
        canvas.legend(loc="outside upper left", ncols=3)

    n_drawn = len(others) + (own is not None)
    notes = f" n = {count(len(lines), 'trial')}" + (f", {n_drawn} of them are drawn." if n_drawn < len(lines) else ".")
    if n_short := sum(1 for trial in context.trials if trial.is_finished and trial.epochs == 1):
        notes += f" {count(n_short, 'trial')} of one epoch {'has' if n_short == 1 else 'have'} no curve."
    if n_outside:
        notes += f" {count(n_outside, 'far worse value lies', 'far worse values lie')} outside the axis."
    return picture(
        draw,
        caption=f"Learning curves.{notes}",
        alt=f"{cut(context.metric)} by epoch of {count(n_drawn, 'trial')}; the thick line is the best trial.",
    )


def _saved_blocks(context: ReportContext) -> list[ReportBlock]:
    """Epochs and time that early stopping saved, by state; empty if no trial was stopped."""
    table: Any = context.analysis.saved()
    if table.empty or not context.counts["pruned"] or context.study.spec.trainer is None:
        return []
    rows = tuple(
        (
            {"pruned": "stopped early", "all": "total"}.get(row.state, row.state),
            f"{row.n_trials:,}",
            f"{row.epochs:,} of {row.epochs_full:,}",
            DASH if pd.isna(row.seconds) else f"{format_duration(row.seconds)} of {format_duration(row.seconds_full)}",
            DASH if pd.isna(row.share_saved) else f"{100 * row.share_saved:.0f} %",
        )
        for row in table.itertuples()
    )
    how = str(table.attrs.get("remark", ""))
    caption = f"Epochs and time saved by early stopping. {sentence(how)}".strip()
    return [Table(caption, ("trials", "n", "epochs", "training time", "saved"), rows, "lrrrr")]


def _cost_figure(context: ReportContext) -> Figure | None:
    table: Any = context.analysis.pareto()
    table = table[table["value"].notna() & table["seconds"].notna() & (table["seconds"] > 0)]
    if len(table) < 3 or table["seconds"].nunique() < 2:
        return None
    front = table[table["on_front"].astype(bool)].sort_values("seconds")
    rows = table.iloc[subsample(range(len(table)), MAX_POINTS)]
    low, high, n_outside = robust_limits([float(value) for value in table["value"]], context.objective.mode)
    spread = float(table["seconds"].max()) / float(table["seconds"].min())

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.plot(rows["seconds"], rows["value"], "o", color=PALE, mec=GREY, ms=4, label="trial")
        axes.step(
            front["seconds"],
            front["value"],
            where="post",
            color=GREEN,
            lw=1.4,
            marker="s",
            ms=4,
            label="best for its cost",
        )
        axes.set(xlabel="trial time (s)", ylabel=label(context.metric), ylim=(low, high))
        if spread > 20 and math.isfinite(spread):
            to_log(axes.xaxis)
        canvas.legend(loc="outside upper left", ncols=2)

    notes = f" n = {count(len(table), 'trial')}."
    if n_outside:
        notes += f" {count(n_outside, 'far worse value lies', 'far worse values lie')} outside the axis."
    return picture(
        draw,
        caption=f"Cost against quality. No trial is both better and cheaper than a trial on the line.{notes}",
        alt=f"{cut(context.metric)} against seconds of {count(len(table), 'trial')}; "
        f"{len(front)} are best for their cost.",
    )


def _front_figure(context: ReportContext) -> Figure:
    first, second, *others = context.study.spec.objectives
    on_front = {trial.number for trial in context.study.front}
    both = [
        trial
        for trial in context.of_state("complete")
        if first.metric in trial.values and second.metric in trial.values
    ]
    some = [trial for trial in _some(both) if trial.number not in on_front]
    front = sorted((t for t in both if t.number in on_front), key=lambda trial: trial.values[first.metric])

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for trials, marker, colour, name in ((some, "o", PALE, "others"), (front, "s", GREEN, "Pareto front")):
            x, y = ([trial.values[each.metric] for trial in trials] for each in (first, second))
            axes.plot(x, y, marker, color=colour, mec=GREY, ms=4.5, label=name)
        axes.set(xlabel=f"{label(first.metric)} ({first.mode})", ylabel=f"{label(second.metric)} ({second.mode})")
        canvas.legend(loc="outside upper left", ncols=2)

    also = f" Further objectives ({', '.join(each.metric for each in others)}) are not drawn." if others else ""
    return picture(
        draw,
        caption=f"Pareto front of the objectives. n = {count(len(both), 'trial')}, {len(front)} on the front.{also}",
        alt=f"{cut(first.metric)} against {cut(second.metric)}; {count(len(front), 'trial')} on the Pareto front.",
    )
