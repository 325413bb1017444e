"""Pictures of explanations: heat maps beside images, curves in colour, and bars of columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.analysis.explanation import Explanation, Explanations
from aifs_tune.publishing.report.figures import BLUE, GREY, MAX_LABEL_CHARS, ORANGE, label, png
from aifs_tune.publishing.report.formatting import cut

CAVEAT = "An attribution says what the model looked at; it is not a cause."
_COLOURS = "RdBu_r"
"""Red raised the answer, blue lowered it."""
_MOST_BARS = 15
_SMOOTHED = 64
"""The heat map is smoothed by a Gaussian of this part of its edge."""
_SHARE_SHOWN = 99.5
_FEW_STEPS = 300
"""The dots of a longer series touch: they are small and without an edge, and those near 0 let the curve through."""
_CHARS_PER_IN = 14.5
"""Characters of a caption that fit in an inch."""


def picture_of(found: Explanations, one: Explanation) -> bytes:
    """Picture of one explanation, as PNG."""
    if found.kind == "image":
        return _of_image(found, one)
    return _of_series(found, one) if found.kind == "series" else _of_row(found, one)


def importance_picture(found: Explanations) -> bytes:
    """Picture of the mean absolute contribution of each column, as PNG."""
    most = list(found.importance.items())[:_MOST_BARS]
    n = len(found.each)
    more = len(found.columns) - len(most)
    text = f"Mean absolute contribution over {n} rows" + (f"; {more} columns with less are not drawn" if more else "")

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        _bars(axes, [(label(name), value) for name, value in most], [BLUE] * len(most))
        axes.set_xlabel(_with_unit("mean absolute contribution", found.unit))
        _caption(figure, f"{text}. {CAVEAT}", 6.4)

    return png(draw, width_in=6.4, height_in=1.5 + 0.26 * len(most))


def _of_image(found: Explanations, one: Explanation) -> bytes:
    heat = smoothed(one.contributions.sum(axis=-1))
    end = _end(heat)
    height, width = heat.shape

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        left.imshow(_shown(one.inputs), cmap="gray", interpolation="nearest", vmin=0, vmax=1)
        figure.suptitle(label(Path(one.name).name))
        left.set_title("as the model saw it")
        map_ = right.imshow(heat, cmap=_COLOURS, vmin=-end, vmax=end, interpolation="nearest")
        right.set_title("red raised the answer, blue lowered it")
        for axes in (left, right):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
        bar = figure.colorbar(map_, ax=right, shrink=0.85)
        bar.set_label(_with_unit("contribution of a pixel", found.unit))
        bar.outline.set_visible(False)
        median = "a plain image of its median " + ("colour" if one.inputs.shape[-1] == 3 else "value")
        _caption(figure, f"{_answer(found, one)}. For {median} it is {one.reference:.4g}. {CAVEAT}", 8.0)

    return png(draw, width_in=8.0, height_in=min(6.5, max(3.4, 1.1 + 3.3 * height / width)))


def smoothed(heat: NDArray[np.float64]) -> NDArray[np.float64]:
    """A heat map with the noise of single pixels averaged out; its sum stays."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(heat, max(heat.shape) / _SMOOTHED), np.float64)


def _shown(image: NDArray[Any]) -> NDArray[Any]:
    """An image of 0 to 1, in colour if it has three bands, else grey: the mean of its bands."""
    shown = image if image.shape[-1] == 3 else image.mean(axis=-1)
    low, high = np.percentile(shown, [0, 100])
    if low >= 0 and high <= 1:
        return np.asarray(shown)
    low, high = np.percentile(shown, [100 - _SHARE_SHOWN, _SHARE_SHOWN])
    return np.asarray(np.clip((shown - low) / ((high - low) or 1.0), 0, 1))


def _of_series(found: Explanations, one: Explanation) -> bytes:
    end, steps = _end(one.contributions), np.arange(1, len(one.inputs) + 1)
    n = len(found.columns)
    is_short = len(steps) <= _FEW_STEPS

    def draw(figure: Any) -> None:
        panels = figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0]
        for axes, name, values, given in zip(panels, found.columns, one.inputs.T, one.contributions.T, strict=True):
            axes.plot(steps, values, color=GREY, linewidth=0.8, zorder=1)
            dots = axes.scatter(
                steps,
                values,
                c=given,
                cmap=_COLOURS,
                vmin=-end,
                vmax=end,
                s=16 if is_short else 5,
                zorder=2,
                edgecolors=GREY,
                linewidths=0.3 if is_short else 0,
                alpha=None if is_short else np.minimum(np.abs(given) / end, 1),
            )
            axes.set_ylabel(label(name))
        panels[0].set_title(label(Path(one.name).name))
        panels[-1].set_xlabel("step")
        bar = figure.colorbar(dots, ax=list(panels))
        bar.set_label(_with_unit("contribution of a step", found.unit))
        bar.outline.set_visible(False)
        text = f"{_answer(found, one)}. Red steps raised it, blue ones lowered it, from the {one.reference:.4g} of a "
        _caption(figure, f"{text}flat series. {CAVEAT}", 7.5)

    return png(draw, width_in=7.5, height_in=1.6 + 1.5 * n)


def _of_row(found: Explanations, one: Explanation) -> bytes:
    order = np.argsort(-np.abs(one.contributions), kind="stable")
    bars = [(named(found.columns[i], one.inputs[i]), float(one.contributions[i])) for i in order[:_MOST_BARS]]
    if len(order) > _MOST_BARS:
        bars.append((f"{len(order) - _MOST_BARS} other columns", float(one.contributions[order[_MOST_BARS:]].sum())))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.set_title(label(Path(one.name).name))
        _bars(axes, bars, [ORANGE if value > 0 else BLUE for _, value in bars])
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set_xlabel(_with_unit("contribution", found.unit))
        text = (
            f"{_answer(found, one)}. Orange columns raised it, blue ones lowered it, from the {one.reference:.4g} of "
        )
        _caption(figure, f"{text}a typical row. {CAVEAT}", 6.4)

    return png(draw, width_in=6.4, height_in=1.6 + 0.26 * len(bars))


def named(column: str, entry: object) -> str:
    """A column and its entry. A long name is cut, so that the entry can be read."""
    given = cut(f"{entry:.6g}" if isinstance(entry, float) else str(entry), MAX_LABEL_CHARS // 2)
    return f"{cut(column, MAX_LABEL_CHARS - len(given))} = {given}"


def _bars(axes: Any, bars: Sequence[tuple[str, float]], colours: Sequence[str]) -> None:
    """Horizontal bars with these labels and lengths, the first one at the top."""
    places = np.arange(len(bars))[::-1]
    axes.barh(places, [length for _, length in bars], color=list(colours), height=0.7)
    axes.set_yticks(places, [text for text, _ in bars])
    axes.grid(visible=False, axis="y")


def _end(values: NDArray[np.float64]) -> float:
    """End of the scale of colours, which a few extreme values do not stretch."""
    return float(np.percentile(np.abs(values), _SHARE_SHOWN)) or float(np.abs(values).max()) or 1.0


def _answer(found: Explanations, one: Explanation) -> str:
    if found.unit == "probability":
        return f"Probability of {label(one.of)}: {one.answer:.4g}"
    return f"Predicted {label(one.of)}: {one.answer:.4g}" + (f" {found.unit}" if found.unit else "")


def _with_unit(text: str, unit: str) -> str:
    return f"{text} [{unit}]" if unit else text


def _caption(figure: Any, text: str, width_in: float) -> None:
    figure.supxlabel("\n".join(textwrap.wrap(text, int(width_in * _CHARS_PER_IN))), fontsize=8.5, x=0.02, ha="left")
