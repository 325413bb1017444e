"""Reports: a study as one HTML page, a PDF, Markdown, or tables for a paper.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.publishing.report.latex import paper_table, to_latex
    from aifs_tune.publishing.report.write import report_of, write_report

__all__ = [
    "paper_table",
    "report_of",
    "to_latex",
    "write_report",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "paper_table": "latex",
        "report_of": "write",
        "to_latex": "latex",
        "write_report": "write",
    },
)
