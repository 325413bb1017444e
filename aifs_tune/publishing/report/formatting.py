"""Numbers and lists as a sentence has them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from aifs_tune._util.formatting import duration, number
from aifs_tune._util.scalars import Scalar

DASH = "–"
MAX_CELL_CHARS = 60
"""Characters of a cell or label; what is longer is cut."""


def shown(value: Scalar | None) -> str:
    """A value of a parameter or metric."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return str(value).lower()
    return number(value) if isinstance(value, float) else str(value)


def count(n: int, noun: str, plural: str | None = None) -> str:
    """``1 trial``, ``2,000 trials``."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def times(n: int) -> str:
    """``once``, ``twice``, ``3 times``."""
    return {1: "once", 2: "twice"}.get(n, f"{n:,} times")


def listed(words: Iterable[str]) -> str:
    """``a, b and c``."""
    *others, last = list(words) or ["nothing"]
    return f"{', '.join(others)} and {last}" if others else last


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    text = text.strip()
    return text if not text else text[0].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def format_duration(seconds: float | None) -> str:
    """A duration, with a decimal where it is short."""
    if seconds is None or seconds >= 10:
        return DASH if seconds is None else duration(seconds)
    return f"{seconds:.1f} s"


def cut(text: str, longest: int = MAX_CELL_CHARS) -> str:
    """Text on one line, without characters that cannot be seen, of at most ``longest`` characters."""
    visible = "".join(" " if unicodedata.category(c).startswith("C") or c.isspace() else c for c in text)
    whole = " ".join(visible.split())
    return whole if len(whole) <= longest else whole[: longest - 1].rstrip() + "…"


def with_interval(value: float, low: float | None, high: float | None, digits: int = 3) -> str:
    """``0.742 [0.701, 0.780]``; the value alone where there is no interval."""
    if low is None or high is None or low != low or high != high:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def subsample(items: Sequence[int], most: int) -> list[int]:
    """At most ``most`` of them, evenly spaced, with the first and the last."""
    if len(items) <= most:
        return list(items)
    step = (len(items) - 1) / max(most - 1, 1)
    return [items[round(i * step)] for i in range(most)]
