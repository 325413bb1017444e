"""Rendering of a report as a PDF with Typst, without a network."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from aifs_tune.errors import RequestError, WorkError
from aifs_tune.publishing.report.blocks import Bullets, Code, Figure, Paragraph, ReportBlock, ReportDocument, Table

_TEMPLATE = Path(__file__).parent / "report.typ"
_FULL_SIZE_CHARS = 108
"""Characters of one line of a table in full size."""
_SIZE_PT, _MIN_SIZE_PT = 8.3, 6.0
_WRAP_CHARS = 30
"""Longest cell of a column that does not wrap."""
_LONG_WORD = re.compile(r"(\S{16}|\S{6,15}_)(?=\S{4})")
_MAX_UNBROKEN_ROWS = 14
"""Largest number of rows of a table that stays on one page."""
_FIGURE_SCALE = 0.92
"""Width of a figure on the page, relative to its own width."""


def to_pdf(report: ReportDocument) -> bytes:
    """Render ``report`` as a PDF; the same report and fonts give the same bytes.

    Raises
    ------
    RequestError
        If Typst is not installed.
    WorkError
        If Typst fails.
    """
    try:
        import matplotlib
        import typst
    except ImportError:
        raise RequestError(
            "a PDF needs typst, which is not installed; install it with: pip install 'aifs-tune[report]'"
        ) from None
    with tempfile.TemporaryDirectory(prefix="aifs_tune_report_") as scratch:
        folder = Path(scratch)
        content = _content(report, folder)
        (folder / "report.json").write_text(json.dumps(content, ensure_ascii=False))
        (folder / "report.typ").write_text(_TEMPLATE.read_text())
        fonts = [Path(matplotlib.get_data_path()) / "fonts" / "ttf"]
        try:
            written = typst.compile(folder / "report.typ", root=folder, font_paths=fonts, format="pdf", timestamp=0)
        except RuntimeError as error:
            raise WorkError(f"typst could not typeset the report: {error}") from error
    if not isinstance(written, bytes):
        raise WorkError(f"typst returned {type(written).__name__} instead of a PDF")
    return written


def _content(report: ReportDocument, folder: Path) -> dict[str, Any]:
    """The text of ``report`` for the template; figures are written to ``folder``."""
    names = {id(figure): f"figure-{i}.svg" for i, figure in enumerate(report.figures, start=1)}
    for figure in report.figures:
        (folder / names[id(figure)]).write_text(figure.svg)
    return {
        "title": report.title,
        "subtitle": report.subtitle,
        "foot": report.foot,
        "sections": [
            {"title": section.title, "blocks": [_block(block, names) for block in section.blocks]}
            for section in report.sections
        ],
    }


def _block(block: ReportBlock, names: dict[int, str]) -> dict[str, Any]:
    match block:
        case Paragraph(text, kind):
            return {"kind": "paragraph" if kind == "plain" else kind, "text": text}
        case Bullets(items):
            return {"kind": "bullets", "items": list(items)}
        case Code(text):
            return {"kind": "code", "text": text}
        case Table():
            return {"kind": "table", **_table(block)}
        case Figure():
            return {
                "kind": "figure",
                "file": names[id(block)],
                "caption": block.caption,
                "alt": block.alt,
                "width": _FIGURE_SCALE * block.width,
            }


def _table(table: Table) -> dict[str, Any]:
    """A table with a text size that fits the page; columns of long text share the remaining width and wrap."""
    rows = (table.header, *table.rows)
    longest = [max(len(row[i]) for row in rows) for i in range(len(table.align))]
    needed = sum(min(width, _WRAP_CHARS) + 2 for width in longest)
    return {
        "caption": table.caption,
        "header": [_breakable(cell) for cell in table.header],
        "rows": [[_breakable(cell) for cell in row] for row in table.rows],
        "align": list(table.align),
        "widths": [width > _WRAP_CHARS for width in longest],
        "size": max(_MIN_SIZE_PT, min(_SIZE_PT, _SIZE_PT * _FULL_SIZE_CHARS / needed)),
        "breaks": len(table.rows) > _MAX_UNBROKEN_ROWS,
    }


def _breakable(cell: str) -> str:
    """Allow line breaks in long words, by zero-width spaces."""
    return _LONG_WORD.sub("\\1\u200b", cell)
