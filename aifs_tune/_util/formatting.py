"""Formatting of numbers, durations and configurations as short text."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from aifs_tune._util.scalars import Scalar, coded


def number(value: float | None) -> str:
    """Format a number with four significant digits, in plain notation from 0.0001 to 1e9; a dash for None."""
    if value is None:
        return "-"
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def share_of(n: int, total: int | None) -> str:
    """Return a count with its share of a total, such as ``12 (0.3 %)``; alone if it is 0 or there is no total."""
    return f"{n:,} ({100 * n / total:.2g} %)" if n and total else f"{n:,}"


def counted(n: int, word: str) -> str:
    """Return ``1 epoch``, ``2 epochs``."""
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def duration(seconds: float | None) -> str:
    """Format seconds: ``45 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def configuration(params: Mapping[str, Scalar], names: Container[str] | None = None) -> str:
    """Format parameters in one line, optionally only those in ``names``."""
    return "  ".join(assignments({name: x for name, x in params.items() if names is None or name in names}))


def assignments(params: Mapping[str, Scalar]) -> Iterator[str]:
    """Yield ``name=value`` for each parameter."""
    for name, value in params.items():
        yield f"{name}={_short(value)}"


def _short(value: Scalar) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return number(value) if isinstance(value, float) else str(coded(value))


def printable(text: str) -> str:
    """Return ``text`` with control characters written out as in Python (``\\x1b``), line feeds and tabs excepted."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def csv_cell(cell: str) -> str:
    """Return the text of a CSV cell; an apostrophe precedes one that a spreadsheet would read as a formula."""
    if not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell.split(" ")[0])
    except (ValueError, IndexError):
        return f"'{cell}"
    return cell
