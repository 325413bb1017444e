"""Pictures of selected columns: their importance as bars, and their graph on a circle."""

from __future__ import annotations

from typing import Any

import numpy as np

from aifs_tune.analysis.column_selection import ColumnGroup, SelectedColumns
from aifs_tune.publishing.report.figures import BLUE, GREY, ORANGE, label, png
from aifs_tune.publishing.report.formatting import cut

_MOST_BARS = 30
_WIDEST_LINE = 4.0
"""Width in points of an edge with the partial correlation 1."""
_RIM = 1.06
"""Distance of the labels from the centre of the circle, whose radius is 1."""
_LABEL_CHARS = 16


def importance_picture(found: SelectedColumns) -> bytes:
    """Importance of each chosen group, with its standard deviation over the training sets, as PNG."""
    groups = sorted(found.chosen, key=lambda group: -group.importance)[:_MOST_BARS]
    places = np.arange(len(groups))[::-1]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.barh(places, [group.importance for group in groups], color=BLUE, height=0.7)
        axes.errorbar(
            [group.importance for group in groups],
            places,
            xerr=[np.nan_to_num(group.importance_sd) for group in groups],
            fmt="none",
            ecolor=GREY,
        )
        axes.set_yticks(places, [name_of(group) for group in groups])
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("growth of the squared error if permuted\n(grey: standard deviation over training sets)")

    return png(draw, width_in=6.4, height_in=1.2 + 0.26 * len(groups))


def name_of(group: ColumnGroup) -> str:
    """The most frequent column of a group, and how many others are in it."""
    more = len(group.columns) - 1
    return label(group.columns[0]) if more == 0 else f"{cut(group.columns[0], _LABEL_CHARS)} and {more} more"


def graph_picture(found: SelectedColumns) -> bytes:
    """Columns on a circle, joined where enough training sets join them, as PNG.

    Columns of a group stand beside each other. Orange lines are positive partial correlations, blue ones negative; the
    width is their size.
    """
    there = set(found.graph.columns)
    columns = [name for group in found.chosen for name in group.columns if name in there]
    angles = dict(zip(columns, 2 * np.pi * np.arange(len(columns)) / max(1, len(columns)), strict=True))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set_aspect("equal")
        for edge in found.graph.edges:
            if edge.frequency < found.min_frequency:
                continue
            ends = np.array([angles[edge.first], angles[edge.second]])
            axes.plot(
                np.cos(ends),
                np.sin(ends),
                color=ORANGE if edge.partial_correlation > 0 else BLUE,
                linewidth=_WIDEST_LINE * abs(edge.partial_correlation),
                zorder=1,
            )
        for name, angle in angles.items():
            axes.plot(np.cos(angle), np.sin(angle), "o", color=GREY, markersize=4, zorder=2)
            is_left = np.cos(angle) < 0
            axes.text(
                _RIM * np.cos(angle),
                _RIM * np.sin(angle),
                cut(name, _LABEL_CHARS),
                rotation=np.degrees(angle) + (180 if is_left else 0),
                rotation_mode="anchor",
                ha="right" if is_left else "left",
                va="center",
            )
        axes.set_xlim(-1.6, 1.6)
        axes.set_ylim(-1.6, 1.6)

    return png(draw, width_in=7.0, height_in=7.0)
