"""What a report is made of: frozen values that know nothing of HTML, PDF or Markdown.

All text is plain: each format escapes it, so that a name which looks like markup stays a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True)
class Paragraph:
    """Some sentences; a ``verdict`` is what a reader should take away, a ``note`` what is worth less ink."""

    text: str
    kind: Literal["plain", "verdict", "note"] = "plain"


@dataclass(frozen=True)
class Bullets:
    """A few lines that belong together."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Lines to type or to paste."""

    text: str
    language: str


@dataclass(frozen=True)
class Table:
    """Cells as text; ``align`` has one letter a column, l for words and r for numbers."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str

    def __post_init__(self) -> None:
        widths = {len(self.header), len(self.align), *map(len, self.rows)}
        if len(widths) > 1:
            raise ValueError(f"table {self.caption!r}: rows of {sorted(widths)} cells; allowed: all alike")


@dataclass(frozen=True)
class Figure:
    """A picture ``svg``, of ``width`` and ``height`` in points; ``alt`` says in words what it shows."""

    svg: str
    caption: str
    alt: str
    width: float
    height: float


ReportBlock: TypeAlias = Paragraph | Bullets | Code | Table | Figure


@dataclass(frozen=True)
class ReportSection:
    """A titled part of a report."""

    title: str
    blocks: tuple[ReportBlock, ...]


@dataclass(frozen=True)
class ReportDocument:
    """All that is to be read of a study, in any format."""

    title: str
    subtitle: str
    sections: tuple[ReportSection, ...]
    foot: str

    @property
    def figures(self) -> tuple[Figure, ...]:
        """In the order in which they are read."""
        return tuple(block for section in self.sections for block in section.blocks if isinstance(block, Figure))
