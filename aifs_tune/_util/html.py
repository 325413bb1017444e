"""Short pieces of HTML for notebooks. All text is escaped; there are no scripts and nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite

from aifs_tune._util.formatting import number, printable

_CELL = "text-align:left;padding:1px 8px;vertical-align:top"
_WIDTH, _HEIGHT, _EDGE = 420, 120, 6


def text(content: object) -> str:
    """Text as HTML: floats are shortened, control characters are written out."""
    if isinstance(content, bool):
        content = str(content).lower()
    return escape(printable(number(content) if isinstance(content, float) else str(content)))


def paragraph(content: object, *, bold: bool = False) -> str:
    """One line."""
    weight = "bold" if bold else "normal"
    return f'<div style="font-weight:{weight}">{text(content)}</div>'


def preformatted(content: str) -> str:
    """Several lines with their breaks, such as a traceback."""
    return f'<pre style="white-space:pre-wrap;margin:2px 0">{text(content)}</pre>'


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table; ``head`` may be empty."""
    first = f"<thead>{_row('th', head)}</thead>" if head else ""
    return f"<table>{first}<tbody>{''.join(_row('td', row) for row in rows)}</tbody></table>"


def _row(tag: str, cells: Sequence[object]) -> str:
    inside = "".join(f'<{tag} style="{_CELL}">{text(cell)}</{tag}>' for cell in cells)
    return f"<tr>{inside}</tr>"


def pairs(values: Mapping[str, object]) -> str:
    """Names and values below each other."""
    return table((), list(values.items()))


def chart(points: Sequence[tuple[float, float]], best: Sequence[tuple[float, float]]) -> str:
    """Points, and a line through ``best``, as an SVG image with the range of the values; empty without a point."""
    shown = [(x, y) for x, y in points if isfinite(y)]
    if not shown:
        return ""
    xs, ys = [x for x, _ in shown], [y for _, y in shown]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)

    def position(x: float, y: float) -> tuple[float, float]:
        across = (x - left) / (right - left) if right > left else 0.5
        up = (y - low) / (high - low) if high > low else 0.5
        return _EDGE + across * (_WIDTH - 2 * _EDGE), _HEIGHT - _EDGE - up * (_HEIGHT - 2 * _EDGE)

    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="#888"/>' for x, y in (position(*point) for point in shown)
    )
    corners: list[str] = []
    for x, y in (position(*point) for point in best if isfinite(point[1])):
        if corners:
            corners.append(f"{x:.1f},{corners[-1].split(',')[1]}")
        corners.append(f"{x:.1f},{y:.1f}")
    line = f'<polyline points="{" ".join(corners)}" fill="none" stroke="#0a7" stroke-width="2"/>'
    image = f'<svg width="{_WIDTH}" height="{_HEIGHT}" style="border:1px solid #8884">{dots}{line}</svg>'
    return f"<div>{image}<div><small>{text(number(low))} to {text(number(high))}</small></div></div>"
