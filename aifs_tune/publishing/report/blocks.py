"""Building blocks of a report, as frozen values that are independent of HTML, PDF and Markdown.

All text is plain. Each format escapes it, so a name that looks like markup stays a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of text; a ``verdict`` is the main result, a ``note`` is less important."""

    text: str
    kind: Literal["plain", "verdict", "note"] = "plain"


@dataclass(frozen=True)
class Bullets:
    """A list of short items."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Lines to type or paste."""

    text: str
    language: str


@dataclass(frozen=True)
class Table:
    """A table of text cells; ``align`` has one letter for each column, ``l`` for text and ``r`` for numbers."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str

    def __post_init__(self) -> None:
        widths = {len(self.header), len(self.align), *map(len, self.rows)}
        if len(widths) > 1:
            raise ValueError(
                f"table {self.caption!r}: the numbers of cells differ ({sorted(widths)}); allowed: the same in each row"
            )


@dataclass(frozen=True)
class Figure:
    """An SVG picture; ``width`` and ``height`` are in points, ``alt`` describes the picture in words."""

    svg: str
    caption: str
    alt: str
    width: float
    height: float


ReportBlock: TypeAlias = Paragraph | Bullets | Code | Table | Figure


@dataclass(frozen=True)
class ReportSection:
    """A section of a report."""

    title: str
    blocks: tuple[ReportBlock, ...]


@dataclass(frozen=True)
class ReportDocument:
    """The content of a report, independent of its format."""

    title: str
    subtitle: str
    sections: tuple[ReportSection, ...]
    foot: str

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All figures, in reading order."""
        return tuple(block for section in self.sections for block in section.blocks if isinstance(block, Figure))
