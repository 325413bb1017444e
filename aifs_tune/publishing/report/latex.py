"""Tables of a report for a paper, as LaTeX (booktabs) or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

from aifs_tune._util.formatting import csv_cell
from aifs_tune.errors import NotFoundError
from aifs_tune.publishing.report.blocks import Table
from aifs_tune.publishing.report.confirmation import results_table
from aifs_tune.publishing.report.context import ReportContext, gather
from aifs_tune.publishing.report.methods import space_table
from aifs_tune.publishing.report.test_set import class_table
from aifs_tune.publishing.report.trials import top_table
from aifs_tune.study.record import record_of
from aifs_tune.study.study import Study

PaperTable: TypeAlias = Literal["results", "test", "space", "trials"]
PAPER_TABLES: tuple[PaperTable, ...] = get_args(PaperTable)
"""Names of the tables.

``results`` compares the configurations of the newest confirmation, or lists the best trials if there is none. ``test``
is the classification report on the test set, ``space`` the search space and ``trials`` the best trials."""

_GREEK = "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ"
_GREEK_NAMES = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
)
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
    **{letter: rf"$\{name}$" for letter, name in zip(_GREEK, _GREEK_NAMES.split(), strict=True)},
}
_MINUS = re.compile(r"(?<![\w}])\{-\}(?=\d)|(?<=\{\[\})\{-\}(?=\d)")
"""An escaped hyphen before a number."""


def paper_table(study: Study, name: PaperTable = "results") -> Table:
    """Make one table of the report of a study, for a paper.

    Parameters
    ----------
    study
        The study.
    name : {"results", "test", "space", "trials"}
        ``results`` compares the configurations of the newest confirmation, or lists the best trials if there is none;
        ``test`` is the classification report on the test set; ``space`` is the search space; ``trials`` lists the best
        trials. Default: ``results``.

    Returns
    -------
    Table
        Caption, header and rows as text; :func:`to_latex` renders it.

    Raises
    ------
    NotFoundError
        If no trial is complete, or for ``test`` if no classes of a test set were predicted.

    Examples
    --------
    >>> from aifs_tune.publishing.report import paper_table
    >>> study = aifs_tune.open_study("oven", space={"heat": {"type": "float", "low": 20, "high": 90, "unit": "K"}})
    >>> trial = study.tell(study.ask(), 0.5)
    >>> paper_table(study, "space").rows
    (('heat', 'float', '20 to 90', 'K', '–'),)
    """
    return _TABLES[name](gather(record_of(study), with_data=False))


def _results(context: ReportContext) -> Table:
    return _trials(context) if context.confirmation is None else results_table(context.confirmation)


def _trials(context: ReportContext) -> Table:
    return top_table(context, max_chars=200)


def _test(context: ReportContext) -> Table:
    found = context.test_set_classes
    if found is None:
        raise NotFoundError(
            f"study {context.study.name!r} has no predicted classes of a test set; evaluate the best configuration "
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
    r"""Render a table as LaTeX.

    Parameters
    ----------
    table
        A table, as :func:`paper_table` makes it.

    Returns
    -------
    str
        A ``table`` environment with a caption. It needs ``\usepackage{booktabs}`` and ``\usepackage[T1]{fontenc}``.

    Examples
    --------
    >>> from aifs_tune.publishing.report import paper_table, to_latex
    >>> study = aifs_tune.open_study("oven", space={"heat": {"type": "float", "low": 20, "high": 90, "unit": "K"}})
    >>> trial = study.tell(study.ask(), 0.5)
    >>> print(to_latex(paper_table(study, "space")))
    % needs \usepackage{booktabs} and \usepackage[T1]{fontenc}
    \begin{table}
    ...
    heat & float & 20 to 90 & K & -- \\
    ...
    """
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
    """Escape ``text`` for LaTeX."""
    plain = " ".join(text.split())
    return _MINUS.sub("$-$", "".join(_SPECIAL.get(letter, letter) for letter in plain))


def _latex_row(cells: tuple[str, ...]) -> str:
    return " & ".join(map(latex, cells)) + r" \\"


def to_csv(table: Table) -> str:
    """Render a table as CSV.

    A dash becomes an empty cell. An apostrophe precedes text that a spreadsheet would read as a formula.
    """
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow([_csv_cell(cell) for cell in table.header])
    rows.writerows([_csv_cell(cell) for cell in row] for row in table.rows)
    return written.getvalue()


def _csv_cell(cell: str) -> str:
    return "" if cell == "–" else csv_cell(cell)
