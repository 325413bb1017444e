"""Reports: a study as one HTML page, a PDF, Markdown, or tables for a paper.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.publishing.report.latex import PAPER_TABLES, paper_table, to_csv, to_latex
    from aifs_tune.publishing.report.write import FORMATS, format_of, report_of, write_report

__all__ = [
    "FORMATS",
    "PAPER_TABLES",
    "format_of",
    "paper_table",
    "report_of",
    "to_csv",
    "to_latex",
    "write_report",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "FORMATS": "write",
        "PAPER_TABLES": "latex",
        "format_of": "write",
        "paper_table": "latex",
        "report_of": "write",
        "to_csv": "latex",
        "to_latex": "latex",
        "write_report": "write",
    },
)
