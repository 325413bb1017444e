"""A report as a PDF, typeset by Typst on this machine, without a network."""

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
"""Characters that stand beside each other in a table of ordinary size."""
_SIZE_PT, _SMALLEST_PT = 8.3, 6.0
_WRAP_CHARS = 30
"""Characters of a cell from which on its column wraps."""
_LONG_WORD = re.compile(r"(\S{16}|\S{6,15}_)(?=\S{4})")
_MAX_UNBROKEN_ROWS = 14
"""Rows of a table that is not divided between pages."""
_FIGURE_SCALE = 0.92
"""Of its own width is that of a picture on the page."""


def to_pdf(report: ReportDocument) -> bytes:
    """The document; the same report gives the same bytes, where the same fonts are.

    Raises
    ------
    RequestError
        If Typst is not installed; WorkError if it fails.
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
            raise WorkError(f"typst could not set the report: {error}") from error
    if not isinstance(written, bytes):
        raise WorkError(f"typst gave {type(written).__name__}, no PDF")
    return written


def _content(report: ReportDocument, folder: Path) -> dict[str, Any]:
    """All text as JSON; pictures as files in ``folder``."""
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
    """With a size at which it fits the page; columns of many words share what the others leave, and wrap."""
    rows = (table.header, *table.rows)
    longest = [max(len(row[i]) for row in rows) for i in range(len(table.align))]
    needed = sum(min(width, _WRAP_CHARS) + 2 for width in longest)
    return {
        "caption": table.caption,
        "header": [_breakable(cell) for cell in table.header],
        "rows": [[_breakable(cell) for cell in row] for row in table.rows],
        "align": list(table.align),
        "widths": [width > _WRAP_CHARS for width in longest],
        "size": max(_SMALLEST_PT, min(_SIZE_PT, _SIZE_PT * _FULL_SIZE_CHARS / needed)),
        "breaks": len(table.rows) > _MAX_UNBROKEN_ROWS,
    }


def _breakable(cell: str) -> str:
    """Long words may go on in the next line: after them stands a space of no width."""
    return _LONG_WORD.sub("\\1\u200b", cell)
