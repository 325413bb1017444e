"""Rendering of a report as Markdown, with its figures as separate SVG files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from aifs_tune.publishing.report.blocks import Bullets, Code, Figure, Paragraph, ReportBlock, ReportDocument, Table

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~!&$@])")


@dataclass(frozen=True)
class Markdown:
    """Markdown text, and the SVG files that it links to, by relative path."""

    text: str
    pictures: dict[str, str]


def to_markdown(report: ReportDocument, *, folder: str) -> Markdown:
    """Render ``report`` as Markdown; ``folder`` is the relative path of its figures."""
    pictures: dict[str, str] = {}
    lines = [f"# {escaped(report.title)}", "", escaped(report.subtitle), ""]
    n_tables = 0
    for section in report.sections:
        lines += [f"## {escaped(section.title)}", ""]
        for block in section.blocks:
            n_tables += isinstance(block, Table)
            if isinstance(block, Figure):
                name = f"{folder}/figure-{len(pictures) + 1}.svg"
                pictures[name] = f'<?xml version="1.0" encoding="utf-8"?>\n{block.svg}\n'
                lines += [f"![{escaped(block.alt)}](<{name}>)", ""]
                lines += [f"*Figure {len(pictures)}.* {escaped(block.caption)}", ""]
            else:
                lines += [*_lines(block, n_tables), ""]
    return Markdown("\n".join([*lines, "---", "", escaped(report.foot), ""]), pictures)


def escaped(text: str) -> str:
    """Text on one line, escaped so that Markdown shows it as it is."""
    plain = _MARKUP.sub(r"\\\1", " ".join(text.split()))
    plain = plain.replace("://", r"\://").replace("www.", r"www\.")
    return re.sub(r"^([-+=]+(?=\s|$)|\d+(?=[.)](?:\s|$)))", _guarded, plain)


def _guarded(match: re.Match[str]) -> str:
    """Escape what would begin a list or a heading: a backslash before a mark, or after a number."""
    return f"\\{match[1]}" if not match[1].isdigit() else f"{match[1]}\\"


def _lines(block: ReportBlock, n_tables: int) -> Iterator[str]:
    match block:
        case Paragraph(text, kind):
            yield f"**{escaped(text)}**" if kind == "verdict" else escaped(text)
        case Bullets(items):
            yield from (f"- {escaped(item)}" for item in items)
        case Code(text, language):
            longest = max(map(len, re.findall(r"`+", text)), default=0)
            fence = "`" * max(3, longest + 1)
            yield from (f"{fence}{language}", text, fence)
        case Table():
            yield f"*Table {n_tables}.* {escaped(block.caption)}"
            yield ""
            yield _row(block.header)
            yield _row(["---:" if align == "r" else "---" for align in block.align], is_rule=True)
            yield from (_row(row) for row in block.rows)


def _row(cells: tuple[str, ...] | list[str], *, is_rule: bool = False) -> str:
    return "| " + " | ".join(cell if is_rule else escaped(cell) for cell in cells) + " |"
