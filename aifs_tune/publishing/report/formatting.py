"""Formatting of numbers, names and lists for the text of a report."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from aifs_tune._util.formatting import duration, number
from aifs_tune._util.scalars import Scalar

DASH = "–"
MAX_CELL_CHARS = 60
"""Longest text of a cell; longer text is cut."""


def shown(value: Scalar | None) -> str:
    """The value of a parameter or metric as text."""
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
    """Text with a capital letter and a full stop."""
    text = text.strip()
    return text if not text else text[0].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def format_duration(seconds: float | None) -> str:
    """A duration; below 10 s with one decimal."""
    if seconds is None or seconds >= 10:
        return DASH if seconds is None else duration(seconds)
    return f"{seconds:.1f} s"


def cut(text: str, max_chars: int = MAX_CELL_CHARS) -> str:
    """Text on one line, without invisible characters, cut to ``max_chars`` characters."""
    visible = "".join(" " if unicodedata.category(c).startswith("C") or c.isspace() else c for c in text)
    whole = " ".join(visible.split())
    return whole if len(whole) <= max_chars else whole[: max_chars - 1].rstrip() + "…"


def with_interval(value: float, low: float | None, high: float | None, digits: int = 3) -> str:
    """A value with its interval, such as ``0.742 [0.701, 0.780]``; the value alone without one."""
    if low is None or high is None or low != low or high != high:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def subsample(items: Sequence[int], max_items: int) -> list[int]:
    """At most ``max_items`` items, evenly spaced, with the first and the last."""
    if len(items) <= max_items:
        return list(items)
    step = (len(items) - 1) / max(max_items - 1, 1)
    return [items[round(i * step)] for i in range(max_items)]
