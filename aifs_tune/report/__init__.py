"""A study as something to read: one HTML page, a PDF, Markdown, and tables for a paper.

    from aifs_tune.report import write_report
    write_report(study, "report.html")

:func:`report_of` gives the same as values (:mod:`aifs_tune.report.blocks`). Names are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aifs_tune.report.contents import report_of
    from aifs_tune.report.paper import PAPER_TABLES, paper_table, to_csv, to_latex
    from aifs_tune.report.writing import FORMATS, format_of, write_report

_HOME = {
    "FORMATS": "writing",
    "PAPER_TABLES": "paper",
    "format_of": "writing",
    "paper_table": "paper",
    "report_of": "contents",
    "to_csv": "paper",
    "to_latex": "paper",
    "write_report": "writing",
}

__all__ = ["FORMATS", "PAPER_TABLES", "format_of", "paper_table", "report_of", "to_csv", "to_latex", "write_report"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"aifs_tune.report.{_HOME[name]}"), name)
    raise AttributeError(f"module 'aifs_tune.report' has no attribute {name!r}")
