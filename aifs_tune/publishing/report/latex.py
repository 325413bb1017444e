"""Single tables of a report, as LaTeX (booktabs) and as CSV, for a paper."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

from aifs_tune.errors import NotFoundError
from aifs_tune.publishing.report.blocks import Table
from aifs_tune.publishing.report.confirmation import results_table
from aifs_tune.publishing.report.context import ReportContext, gather
from aifs_tune.publishing.report.methods import space_table
from aifs_tune.publishing.report.test_part import class_table
from aifs_tune.publishing.report.trials import top_table
from aifs_tune.study.record import record_of
from aifs_tune.study.study import Study

PaperTable: TypeAlias = Literal["results", "test", "space", "trials"]
PAPER_TABLES: tuple[PaperTable, ...] = get_args(PaperTable)
"""Configurations compared, or the best trials where nothing is confirmed; the classes of the test part; what was
searched; the best trials."""

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": "'",
    "-": "{-}",
    "–": "--",
    "±": r"$\pm$",
    "²": r"$^2$",
    "→": r"$\rightarrow$",
    "…": r"\ldots{}",
    "[": "{[}",
    "]": "{]}",
}
_MINUS = re.compile(r"(?<![\w}])\{-\}(?=\d)|(?<=\{\[\})\{-\}(?=\d)")
"""A hyphen before a number, as it has been escaped."""


def paper_table(study: Study, name: PaperTable = "results") -> Table:
    """One table of the report of ``study``; see :data:`PAPER_TABLES`.

    Raises
    ------
    NotFoundError
        While no trial is complete, or for ``test`` if no classes of a test part were answered.
    """
    return _TABLES[name](gather(record_of(study), with_data=False))


def _results(context: ReportContext) -> Table:
    return _trials(context) if context.confirmation is None else results_table(context.confirmation)


def _trials(context: ReportContext) -> Table:
    return top_table(context, longest=200)


def _test(context: ReportContext) -> Table:
    found = context.test_set_classes
    if found is None:
        raise NotFoundError(
            f"study {context.study.name!r}: no classes of a test part were answered; let the best configuration do it "
            f"with: aifs-tune confirm {context.study.name} --test"
        )
    return class_table(found)


_TABLES: dict[PaperTable, Callable[[ReportContext], Table]] = {
    "results": _results,
    "test": _test,
    "space": space_table,
    "trials": _trials,
}


def to_latex(table: Table) -> str:
    r"""A ``table`` with ``\caption``; it needs ``\usepackage{booktabs}``."""
    lines = [
        "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(table.caption)}}}",
        rf"\begin{{tabular}}{{{table.align}}}",
        r"\toprule",
        _latex_row(table.header),
        r"\midrule",
        *map(_latex_row, table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex(text: str) -> str:
    """Text without meaning to LaTeX."""
    plain = " ".join(text.split())
    return _MINUS.sub("$-$", "".join(_SPECIAL.get(letter, letter) for letter in plain))


def _latex_row(cells: tuple[str, ...]) -> str:
    return " & ".join(map(latex, cells)) + r" \\"


def to_csv(table: Table) -> str:
    """Header and rows; a dash is an empty cell. What a spreadsheet would take for a formula begins with an
    apostrophe."""
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow([_escape_csv(cell) for cell in table.header])
    rows.writerows([_escape_csv(cell) for cell in row] for row in table.rows)
    return written.getvalue()


def _escape_csv(cell: str) -> str:
    if cell == "–":
        return ""
    if cell[:1] not in ("=", "+", "-", "@"):
        return cell
    try:
        float(cell.split(" ")[0])
    except ValueError:
        return f"'{cell}"
    return cell
