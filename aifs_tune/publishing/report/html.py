"""Rendering of a report as one HTML page, without scripts and without anything to load."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from aifs_tune.publishing.report.blocks import (
    Bullets,
    Code,
    Figure,
    Paragraph,
    ReportBlock,
    ReportDocument,
    ReportSection,
    Table,
)

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_MAX_UNWRAPPED_CHARS = 34
"""Longest cell of a column that does not wrap."""


def to_html(report: ReportDocument) -> str:
    """Render ``report`` as an HTML page."""
    numbers = _Numbers()
    sections = [_section(section, numbers) for section in report.sections]
    links = "".join(
        f'<li><a href="#{_anchor(section)}">{escape(section.title)}</a></li>' for section in report.sections
    )
    style = (Path(__file__).parent / "page.css").read_text()
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(report.title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(report.title)}</h1>
<p class="subtitle">{escape(report.subtitle)}</p>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main>
{"".join(sections)}</main>
<footer><p>{escape(report.foot)}</p></footer>
</body>
</html>
"""


class _Numbers:
    """Counters of figures and tables."""

    def __init__(self) -> None:
        self._n = {"Figure": 0, "Table": 0}

    def next(self, kind: str) -> str:
        self._n[kind] += 1
        return f"{kind} {self._n[kind]}."


def _anchor(section: ReportSection) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in section.title.lower())


def _section(section: ReportSection, numbers: _Numbers) -> str:
    name = _anchor(section)
    body = "".join(_block(block, numbers) for block in section.blocks)
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(section.title)}</h2>\n{body}</section>\n'


def _block(block: ReportBlock, numbers: _Numbers) -> str:
    match block:
        case Paragraph(text, kind):
            mark = "" if kind == "plain" else f' class="{kind}"'
            return f"<p{mark}>{escape(text)}</p>\n"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>\n"
        case Code(text):
            return f'<pre tabindex="0"><code>{escape(text)}</code></pre>\n'
        case Table():
            return "".join(_table(block, numbers.next("Table")))
        case Figure():
            return _figure(block, numbers.next("Figure"))


def _table(table: Table, number: str) -> Iterator[str]:
    marks = []
    for i, align in enumerate(table.align):
        longest = max((len(row[i]) for row in table.rows), default=0)
        classes = [*(["r"] if align == "r" else []), *(["words"] if longest > _MAX_UNWRAPPED_CHARS else [])]
        marks.append(f' class="{" ".join(classes)}"' if classes else "")
    name = number.rstrip(".").lower().replace(" ", "-")
    yield f'<p class="caption" id="{name}"><b class="n">{number}</b> {escape(table.caption)}</p>\n'
    yield f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{name}">\n'
    yield f'<table aria-labelledby="{name}">\n<thead><tr>'
    yield from (
        f'<th scope="col"{mark}>{escape(cell)}</th>' if cell else f"<td{mark}></td>"
        for mark, cell in zip(marks, table.header, strict=True)
    )
    yield "</tr></thead>\n<tbody>\n"
    for row in table.rows:
        first, *others = (f"{mark}>{escape(cell)}" for mark, cell in zip(marks, row, strict=True))
        cells = "".join(f"<td{cell}</td>" for cell in others)
        yield f'<tr><th scope="row"{first}</th>{cells}</tr>\n'
    yield "</tbody>\n</table>\n</div>\n"


def _figure(figure: Figure, number: str) -> str:
    role = f'role="img" aria-label="{escape(figure.alt)}" '
    svg = figure.svg.replace("<svg ", f"<svg {role}", 1)
    return f'<figure>\n{svg}\n<figcaption><b class="n">{number}</b> {escape(figure.caption)}</figcaption>\n</figure>\n'
