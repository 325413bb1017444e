"""Drawing of figures as SVG or PNG with matplotlib, reproducible to the byte.

No other module imports matplotlib to draw. Text in a figure stays text, so a page shows any script and can be searched.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aifs_tune.errors import RequestError
from aifs_tune.publishing.report.blocks import Figure
from aifs_tune.publishing.report.formatting import cut

WIDTH_IN = 5.6
"""Width of a figure in inches; text of 9 points is then readable on a phone too."""

BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW = "#0072B2", "#D55E00", "#007A59", "#A64D83", "#3A8FBF", "#B07A00"
"""Colours that colour-blind readers can tell apart (after Okabe and Ito), and that are dark enough on white."""
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY, PALE, INK = "#6b6b6b", "#c4c4c4", "#1a1a1a"
MAX_LABEL_CHARS = 26
"""Longest label in a figure."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "aifs_tune",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "text.parse_math": False,
    "text.usetex": False,
    "path.simplify": True,
    "figure.facecolor": "white",
}
_DOTS_PER_IN = 150
_FONTS = "'DejaVu Sans', Verdana, sans-serif"


def picture(
    draw: Callable[[Any], None], *, caption: str, alt: str, height_in: float = 3.0, width_in: float = WIDTH_IN
) -> Figure:
    """Draw a figure: ``draw`` is called with an empty matplotlib figure.

    Raises
    ------
    RequestError
        If matplotlib is not installed.
    """
    written = io.BytesIO()
    with _styled() as make:
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        _drawn(make, draw, (width_in, height_in)).savefig(written, format="svg", metadata=nothing)
    return Figure(_small(written.getvalue().decode(), alt), caption, alt, 72 * width_in, 72 * height_in)


def png(draw: Callable[[Any], None], *, width_in: float, height_in: float) -> bytes:
    """Draw a figure as PNG: ``draw`` is called with an empty matplotlib figure.

    Raises
    ------
    RequestError
        If matplotlib is not installed.
    """
    written = io.BytesIO()
    with _styled() as make:
        _drawn(make, draw, (width_in, height_in)).savefig(
            written, format="png", dpi=_DOTS_PER_IN, metadata={"Software": None}
        )
    return written.getvalue()


def _drawn(make: Any, draw: Callable[[Any], None], size_in: tuple[float, float]) -> Any:
    canvas = make(figsize=size_in, layout="constrained")
    draw(canvas)
    return canvas


@contextmanager
def _styled() -> Iterator[Any]:
    """The class of matplotlib's figures, in the style of all figures."""
    try:
        import matplotlib
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        raise RequestError(
            "figures need matplotlib, which is not installed; install it with: pip install 'aifs-tune[report]'"
        ) from None
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # readers have other fonts
        yield Canvas


def _small(svg: str, alt: str) -> str:
    """The SVG element alone, without metadata and comments, and with ids that are unique on a page."""
    body = svg[svg.index("<svg") :]
    body = re.sub(
        r"<metadata>.*?</metadata>|<!--.*?-->|<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL
    )
    prefix = "p" + hashlib.sha256(f"{alt}\n{body}".encode()).hexdigest()[:8]
    used = set(re.findall(r"#([\w-]+)", body))
    body = re.sub(r' id="([^"]*)"', lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", body)
    body = body.replace("'DejaVu Sans'", _FONTS).replace("<g>\n", "<g>")
    style = 'style="stroke-linejoin:round;stroke-linecap:butt" '
    return re.sub(r">\s*\n\s*<", ">\n<", body.replace("<svg ", f"<svg {style}", 1)).strip()


def label(text: object) -> str:
    """A name as a label, cut to :data:`MAX_LABEL_CHARS`."""
    return cut(str(text), MAX_LABEL_CHARS)


_LARGEST = 1e290
"""Largest value that an axis reaches; beyond it, lengths on the axis have no number."""


def robust_limits(values: Sequence[float], mode: str) -> tuple[float, float, int]:
    """Limits of an axis that leave out a few far worse values, and the number of values outside."""
    import numpy as np

    known = np.sort(np.clip(np.asarray(values, dtype=float), -_LARGEST, _LARGEST))
    if mode == "max":
        known = -known[::-1]
    best, middle, worst = known[0], float(np.median(known)), known[-1]
    edge = middle + 4 * (float(np.quantile(known, 0.75)) - best)
    if len(known) < 8 or worst <= edge or edge <= best:
        edge = worst
    room = 0.06 * (edge - best) or 0.06 * abs(best) or 0.5
    ends = (best - room, edge + room)
    n_outside = int((known > ends[1]).sum())
    return (ends[0], ends[1], n_outside) if mode == "min" else (-ends[1], -ends[0], n_outside)


def to_log(axis: Any) -> None:
    """Give a matplotlib axis a logarithmic scale with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis._set_axes_scale("log")
    axis.set_major_locator(LogLocator(subs=(1.0,), numticks=6))
    axis.set_major_formatter(FuncFormatter(lambda x, _position: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())
