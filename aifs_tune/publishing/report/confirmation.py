"""Confirmation section of a report: paired scores on each fresh split, and differences from the baseline."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from aifs_tune.analysis.candidates import BASELINE
from aifs_tune.analysis.confirmation import Confirmation
from aifs_tune.analysis.paired import Comparison
from aifs_tune.publishing.report.blocks import Bullets, Figure, Paragraph, ReportBlock, ReportSection, Table
from aifs_tune.publishing.report.context import ReportContext
from aifs_tune.publishing.report.figures import BLUE, GREY, INK, ORANGE, PALE, label, picture
from aifs_tune.publishing.report.formatting import DASH, count, cut, shown, with_interval


def confirmation_section(context: ReportContext) -> ReportSection:
    """All confirmations of the study, the newest first."""
    if not context.confirmations:
        none = "Not confirmed yet. The best value above is from the search, so it is partly due to chance."
        return ReportSection("Confirmation", (Paragraph(none, "note"),))
    blocks: list[ReportBlock] = []
    for found in reversed(context.confirmations):
        if len(context.confirmations) > 1:
            blocks.append(Paragraph(f"Confirmation {cut(found.study.name)}:"))
        blocks.append(Bullets(tuple(comparison.text for comparison in found.comparisons)))
        blocks.append(results_table(found))
        blocks.append(_pairs_figure(found))
        if any(comparison.interval is not None for comparison in found.comparisons):
            blocks.append(_differences_figure(found))
    return ReportSection("Confirmation", tuple(blocks))


def results_table(found: Confirmation) -> Table:
    """One row for each configuration: mean, and difference from the baseline with interval, p and effect size."""
    by_name = {comparison.name: comparison for comparison in found.comparisons}
    rows = []
    for each in found.candidates:
        values = found.scores.of(each.name)
        kept = values[np.isfinite(values)]
        mean = f"{kept.mean():.4f}" if len(kept) else DASH
        spread = f"{kept.std(ddof=1):.4f}" if len(kept) > 1 else DASH
        summary = (cut(each.name), mean, spread, f"{len(kept)} of {len(values)}")
        rows.append((*summary, *_compared(by_name.get(each.name))))
    n = len(found.scores.splits)
    return Table(
        f"{cut(found.scores.metric)} ({found.scores.mode}) on {count(n, 'fresh split')} of the data. The difference is "
        "from the baseline; positive is better. p is adjusted by Holm's procedure. d is the effect size.",
        ("configuration", "mean", "sd", "runs", "difference", "p", "d", "Wilcoxon p"),
        tuple(rows),
        "lrrrrrrr",
    )


def _compared(comparison: Comparison | None) -> tuple[str, str, str, str]:
    if comparison is None or comparison.difference is None:
        return (DASH, DASH, DASH, DASH)
    if comparison.interval is None:
        return (shown(comparison.difference), DASH, DASH, DASH)
    low, high = comparison.interval
    digits = max(3, 1 - math.floor(math.log10(high - low))) if high > low else 3
    ends = comparison.effect_interval or (None, None)
    effect = with_interval(comparison.effect or 0.0, ends[0], ends[1], digits=2)
    return (
        with_interval(comparison.difference, low, high, digits),
        _p(comparison.p_adjusted),
        effect,
        _p(comparison.signed_rank_p),
    )


def _baseline_text(comparison: Comparison) -> str:
    return "the baseline" if comparison.baseline == BASELINE else label(comparison.baseline)


def _p(value: float | None) -> str:
    if value is None or value != value:
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _pairs_figure(found: Confirmation) -> Figure:
    names = [each.name for each in found.candidates]
    scores = np.array([found.scores.of(name) for name in names])

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        positions = np.arange(len(names))
        for i, column in enumerate(scores.T):
            known = "one split" if i == 0 else None
            axes.plot(positions, column, "-o", color=PALE, mec=GREY, mfc="white", ms=4, lw=0.9, label=known)
        for position, values in zip(positions, scores, strict=True):
            kept = values[np.isfinite(values)]
            if len(kept):
                known = "mean" if position == 0 else None
                axes.plot([position - 0.12, position + 0.12], [kept.mean()] * 2, color=ORANGE, lw=2.5, label=known)
        axes.set_xticks(positions, [label(name) for name in names])
        axes.set(ylabel=label(found.scores.metric), xlim=(-0.4, len(names) - 0.6))
        axes.grid(axis="x", visible=False)
        canvas.legend(loc="outside upper left", ncols=2)

    n = len(found.scores.splits)
    return picture(
        draw,
        caption="Scores on each split. A line joins the scores of one split: compare configurations along a line. "
        f"n = {count(n, 'split')}.",
        alt=f"{cut(found.scores.metric)} of {count(len(names), 'configuration')} on {count(n, 'split')}.",
    )


def _differences_figure(found: Confirmation) -> Figure:
    tested = [each for each in found.comparisons if each.interval is not None and each.difference is not None]

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.axvline(0, color=INK, lw=0.8)
        for position, each in enumerate(tested):
            low, high = each.interval or (0.0, 0.0)
            middle = each.difference or 0.0
            colour = BLUE if each.verdict == "better" else ORANGE if each.verdict == "worse" else GREY
            bars = [[middle - low], [high - middle]]
            axes.errorbar([middle], [position], xerr=bars, fmt="o", color=colour, capsize=4, lw=1.6)
        axes.set_yticks(range(len(tested)), [f"{label(each.name)}\n{each.verdict}" for each in tested])
        axes.set(
            xlabel=f"difference from {_baseline_text(tested[0])} in {label(found.scores.metric)} (right is better)"
        )
        axes.set_ylim(len(tested) - 0.5, -0.5)

    return picture(
        draw,
        caption=f"Differences from {_baseline_text(tested[0])}, with intervals. The intervals are corrected for "
        f"multiple comparisons, as the verdicts are. n = {count(tested[0].n_pairs, 'pair')}.",
        alt="; ".join(each.text for each in tested),
        height_in=0.9 + 0.55 * len(tested),
    )
