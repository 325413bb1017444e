"""Importance section of a report: importance, slices, contour of two parameters, and parallel coordinates."""

from __future__ import annotations

from typing import Any

from aifs_tune._util.scalars import is_same
from aifs_tune.analysis.importance import MIN_EXPLAINED
from aifs_tune.errors import RequestError
from aifs_tune.publishing.report.blocks import Figure, Paragraph, ReportBlock, ReportSection
from aifs_tune.publishing.report.context import ReportContext
from aifs_tune.publishing.report.figures import BLUE, GREY, INK, ORANGE, label, picture, robust_limits, to_log
from aifs_tune.publishing.report.formatting import count, cut, listed, shown, subsample
from aifs_tune.publishing.report.history import MAX_POINTS
from aifs_tune.space.parameters import FloatParameter, IntParameter

_N_SLICES = 4
_N_AXES = 8
_N_LINES = 200
_MAX_NAMED_CHOICES = 12
"""Largest number of choices that an axis names; with more it shows their indices."""


def parameters_section(context: ReportContext) -> ReportSection:
    """Figures of the parameters, the most important first."""
    table = _importance(context)
    order = [str(name) for name in table["parameter"]]
    if not order:
        why = table.attrs.get("remark", "too few trials are complete")
        return ReportSection("Parameter importance", (Paragraph(f"Importance is unknown: {why}.", "note"),))
    blocks: list[ReportBlock] = []
    blocks += [_importance_figure(context, table)]
    interactions = _interactions_text(context)
    if interactions:
        blocks.append(Paragraph(interactions))
    slices = _slices_figure(context, order[:_N_SLICES])
    if slices is not None:
        blocks.append(slices)
    contour = _contour_figure(context, order)
    if contour is not None:
        blocks.append(contour)
    if len(order) > 2:
        blocks += [figure for figure in [_parallel_figure(context, order[:_N_AXES])] if figure is not None]
    return ReportSection("Parameter importance", tuple(blocks))


def _importance(context: ReportContext) -> Any:
    """The searched parameters, the most important for the first objective first; empty if importance is unknown."""
    try:
        table: Any = context.analysis.importance()
    except RequestError:
        import pandas as pd

        return pd.DataFrame({"parameter": [], "importance": []})
    kept = table[(table["objective"] == context.metric) & table["importance"].notna()]
    return kept.sort_values("importance", ascending=False, kind="stable")


def _importance_figure(context: ReportContext, table: Any) -> Figure:
    table = table.head(12)
    names, shares = [str(name) for name in table["parameter"]], [float(each) for each in table["importance"]]
    ends = [(low, high) for low, high in zip(table["low"], table["high"], strict=True)]
    bars = [
        (max(share - float(low), 0.0), max(float(high) - share, 0.0)) if low == low and high == high else (0.0, 0.0)
        for share, (low, high) in zip(shares, ends, strict=True)
    ]

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        positions = range(len(names))
        axes.barh(positions, shares, color=BLUE, height=0.6)
        axes.errorbar(
            shares, list(positions), xerr=list(zip(*bars, strict=True)), fmt="none", ecolor=INK, capsize=3, lw=1
        )
        axes.set_yticks(list(positions), [label(name) for name in names])
        axes.set(xlabel="relative importance", xlim=(0, max(1.0, *shares)))
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)

    evaluator, n = str(table["evaluator"].iloc[0]), int(table["n_trials"].iloc[0])
    method = {"pedanova": "PED-ANOVA [watanabe2023]", "fanova": "fANOVA [hutter2014]"}.get(evaluator, cut(evaluator))
    return picture(
        draw,
        caption=f"Importance for {cut(context.metric)} by {method}, with 95 % intervals. n = "
        f"{count(n, 'complete trial')}.{_explained_text(context)}",
        alt=f"Importance of {count(len(names), 'parameter')}; the largest is {cut(names[0])} with {shares[0]:.2f}.",
        height_in=0.9 + 0.3 * len(names),
    )


def _explained_text(context: ReportContext) -> str:
    """How well the model behind the importance predicts unseen trials."""
    table: Any = context.analysis.explained()
    table = table[(table["objective"] == context.metric) & table["explained"].notna()]
    if table.empty:
        return ""
    share = float(table["explained"].iloc[0])
    weak = " This is low: read this figure and the next ones with caution." if share < MIN_EXPLAINED else ""
    return f" The model explains {max(share, 0.0):.2f} of the variance of unseen trials.{weak}"


def _interactions_text(context: ReportContext) -> str:
    try:
        table: Any = context.analysis.interactions()
    except RequestError:
        return ""
    table = table[(table["objective"] == context.metric) & table["share"].notna()]
    top = table.sort_values("share", ascending=False, kind="stable").head(3)
    if top.empty:
        return ""
    pairs = [
        f"{cut(str(row.first))} with {cut(str(row.second))} {row.share:.2f}"
        + (f" [{row.low:.2f}, {row.high:.2f}]" if row.low == row.low and row.high == row.high else "")
        for row in top.itertuples()
    ]
    return f"Interactions (share of the variance that only two parameters together explain): {listed(pairs)}."


class _Axis:
    """Values of one parameter on an axis: numbers as they are, choices by their index."""

    def __init__(self, context: ReportContext, name: str) -> None:
        self.name = name
        parameter = context.study.spec.space[name]
        self.unit = parameter.unit
        self.is_log = isinstance(parameter, FloatParameter | IntParameter) and parameter.log
        self.choices = None if isinstance(parameter, FloatParameter | IntParameter) else list(parameter.extremes)

    def position(self, value: Any) -> float:
        """Coordinate of a value; NaN if the parameter was inactive."""
        if value is None or value != value:
            return float("nan")
        if self.choices is None:
            return float(value)
        found = (float(position) for position, one in enumerate(self.choices) if is_same(one, value))
        return next(found, float("nan"))

    @property
    def title(self) -> str:
        """Name and unit of the parameter."""
        return label(self.name) + (f" ({label(self.unit)})" if self.unit else "")

    def format_axis(self, axis: Any, *, tilt: bool = False) -> None:
        """Set the scale and the ticks of a matplotlib axis."""
        if self.is_log:
            to_log(axis)
        if self.choices is not None and len(self.choices) <= _MAX_NAMED_CHOICES:
            names = [cut(shown(one), 14) for one in self.choices]
            turned = {"rotation": 30, "ha": "right"} if tilt and max(map(len, names)) > 5 else {}
            axis.set_ticks(range(len(names)), names, **turned)


def _slices_figure(context: ReportContext, names: list[str]) -> Figure | None:
    table: Any = context.analysis.slices()
    table = table[(table["metric"] == context.metric) & table["metric_value"].notna()]
    drawn = [(name, table[table["parameter"] == name]) for name in names]
    drawn = [(name, rows) for name, rows in drawn if len(rows)]
    if not drawn:
        return None
    low, high, n_outside = robust_limits(
        [float(each) for _, rows in drawn for each in rows["metric_value"]], context.objective.mode
    )
    height = 2.5 * ((len(drawn) + 1) // 2)

    def draw(canvas: Any) -> None:
        grid = canvas.subplots((len(drawn) + 1) // 2, 2 if len(drawn) > 1 else 1, sharey=True, squeeze=False)
        for axes in list(grid.flat)[len(drawn) :]:
            axes.set_visible(False)
        for axes, (name, rows) in zip(grid.flat, drawn, strict=False):
            axis = _Axis(context, name)
            some = rows.iloc[subsample(range(len(rows)), MAX_POINTS // len(drawn))]
            for state, marker, colour in (("pruned", "x", GREY), ("complete", "o", BLUE)):
                own = some[some["state"] == state]
                axes.plot(
                    [axis.position(each) for each in own["value"]], own["metric_value"], marker, color=colour, ms=3.5
                )
            best = context.best.coded_params.get(name)
            if best is not None:
                axes.plot([axis.position(best)], [context.best.value], "D", color=ORANGE, ms=6, mfc="none", mew=1.6)
            axes.set(xlabel=axis.title, ylim=(low, high))
            axis.format_axis(axes.xaxis, tilt=True)
        for row in grid:
            row[0].set_ylabel(label(context.metric))

    n = len(set(table["trial"]))
    outside = (
        f" {count(n_outside, 'far worse point lies', 'far worse points lie')} outside the axis." if n_outside else ""
    )
    return picture(
        draw,
        caption="Slices: each trial at its value of a parameter. Dots are complete trials, crosses were stopped early, "
        f"the diamond is the best trial. n = {count(n, 'trial')}.{outside}",
        alt=f"{cut(context.metric)} against {listed(cut(name) for name, _ in drawn)}.",
        height_in=height,
    )


def _contour_figure(context: ReportContext, order: list[str]) -> Figure | None:
    if len(order) < 2:
        return None
    first, second = order[:2]
    try:
        table: Any = context.analysis.contour(first, second)
    except RequestError:
        return None
    if table.empty or table["predicted"].isna().all():
        return None
    across, up = _Axis(context, first), _Axis(context, second)
    grid = table.assign(x=[across.position(v) for v in table[first]], y=[up.position(v) for v in table[second]])
    shape = grid.pivot_table(index="y", columns="x", values="predicted")
    trials = [t for t in context.of_state("complete") if first in t.params and second in t.params]
    some = [trials[i] for i in subsample(range(len(trials)), 200)]

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        mesh = axes.pcolormesh(shape.columns, shape.index, shape.to_numpy(), cmap="cividis", shading="nearest")
        mesh.set_rasterized(True)
        positions = [[axis.position(trial.params[axis.name]) for trial in some] for axis in (across, up)]
        axes.plot(*positions, "o", color="white", mec=INK, ms=4)
        best = context.best.params
        if first in best and second in best:
            axes.plot([across.position(best[first])], [up.position(best[second])], "D", color=ORANGE, mec="white", ms=8)
        axes.set(xlabel=across.title, ylabel=up.title)
        across.format_axis(axes.xaxis, tilt=True)
        up.format_axis(axes.yaxis)
        axes.grid(visible=False)
        canvas.colorbar(mesh, ax=axes, label=f"predicted {label(context.metric)}")

    return picture(
        draw,
        caption="The two most important parameters together. Colours show the value that a model predicts, dots are "
        f"trials, the diamond is the best trial. n = {count(len(trials), 'complete trial')}.",
        alt=f"Predicted {cut(context.metric)} over {cut(first)} and {cut(second)}.",
        height_in=3.5,
    )


def _parallel_figure(context: ReportContext, names: list[str]) -> Figure | None:
    """Parallel coordinates: one line for each complete trial, coloured by its value."""
    trials = [t for t in context.of_state("complete") if all(name in t.params for name in names)]
    if len(trials) < 3:
        return None
    sign = 1 if context.is_better_high else -1
    ranked = sorted(trials, key=lambda trial: sign * float(trial.value or 0.0))
    some = [ranked[i] for i in subsample(range(len(ranked)), _N_LINES)]
    axes_of = [_Axis(context, name) for name in names]
    low, high, _ = robust_limits([float(t.value or 0.0) for t in trials], context.objective.mode)

    def draw(canvas: Any) -> None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        axes = canvas.subplots()
        shade: Any = ScalarMappable(Normalize(low, high), "cividis" if sign > 0 else "cividis_r")
        for trial in some:
            positions = [_share(context, axis, trial.params[axis.name]) for axis in axes_of]
            is_best = trial.number == context.best.number
            colour = ORANGE if is_best else shade.to_rgba(float(trial.value or 0.0))
            axes.plot(positions, color=colour, lw=2.2 if is_best else 0.9, alpha=1 if is_best else 0.7)
        turned = {"rotation": 20, "ha": "right"} if sum(len(label(name)) for name in names) > 55 else {}
        axes.set_xticks(range(len(names)), [label(name) for name in names], **turned)
        axes.set_yticks([0, 1], ["low end", "high end"])
        axes.set(ylim=(-0.04, 1.04))
        canvas.colorbar(shade, ax=axes, label=label(context.metric))

    drawn = f", {len(some)} of them are drawn" if len(some) < len(trials) else ""
    return picture(
        draw,
        caption="Parallel coordinates. A line is a complete trial. Each axis goes from the low to the high end of a "
        "parameter's range (choices in their order). The thick line is the best trial. n = "
        f"{count(len(trials), 'trial')}{drawn}.",
        alt=f"Parallel coordinates of {listed(cut(name) for name in names)}.",
        height_in=2.9,
    )


def _share(context: ReportContext, axis: _Axis, value: Any) -> float:
    """Position of a value in its range, from 0 to 1."""
    import math

    ends = [axis.position(end) for end in context.study.spec.space[axis.name].extremes]
    low, high, at = min(ends), max(ends), axis.position(value)
    if axis.is_log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low) if high > low else 0.5
