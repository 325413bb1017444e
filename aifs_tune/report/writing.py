"""A report as files: which format, and where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from aifs_tune.durable import write_file
from aifs_tune.errors import RequestError, StorageError
from aifs_tune.report.contents import report_of
from aifs_tune.report.html import to_html
from aifs_tune.report.markdown import to_markdown
from aifs_tune.report.paper import PaperTable, paper_table, to_csv, to_latex
from aifs_tune.report.typeset import to_pdf
from aifs_tune.study import Study

ReportFormat: TypeAlias = Literal["html", "pdf", "md", "latex", "csv"]
FORMATS: tuple[ReportFormat, ...] = get_args(ReportFormat)
ENDINGS: dict[str, ReportFormat] = {
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
    ".md": "md",
    ".markdown": "md",
    ".tex": "latex",
    ".csv": "csv",
}


def format_of(path: Path, given: ReportFormat | None = None) -> ReportFormat:
    """``given``, else what the ending of ``path`` says.

    Raises
    ------
    RequestError
        If it says nothing.
    """
    found = given or ENDINGS.get(path.suffix.lower())
    if found is None:
        raise RequestError(
            f"{path}: no format of a report ends so; allowed: {', '.join(ENDINGS)}, or --format {'|'.join(FORMATS)}"
        )
    return found


def write_report(
    study: Study,
    path: str | Path,
    *,
    format: ReportFormat | None = None,
    table: PaperTable = "results",
    tell: Callable[[str], None] | None = None,
) -> tuple[Path, ...]:
    """Write the report of ``study`` to ``path``, or one ``table`` of it if the format is latex or csv; the files that
    were written. Pictures of Markdown lie beside it, in the folder ``NAME_figures``.

    ``format`` is that of the ending of ``path`` if absent. ``tell`` hears what is being done.

    Raises
    ------
    RequestError
        If there is no such format, or the study evaluates another one; NotFoundError while no trial is complete;
        StorageError if a file cannot be written.
    """
    path = Path(path)
    wanted = format_of(path, format)
    if not path.parent.is_dir():
        raise RequestError(f"{path}: no folder {path.parent}; allowed: a file in a folder that is there")
    if path.is_dir():
        raise RequestError(f"{path} is a folder; allowed: a file")
    if wanted in ("latex", "csv"):
        files = {path: table_text(study, wanted, table).encode()}
    else:
        files = _files(study, path, wanted, tell)
    try:
        for file, content in files.items():
            write_file(file, content)
            file.chmod(0o644)  # to be read by others
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error
    return tuple(files)


def table_text(study: Study, wanted: ReportFormat, table: PaperTable = "results") -> str:
    """One table for a paper, as latex or csv."""
    found = paper_table(study, table)
    return to_latex(found) if wanted == "latex" else to_csv(found)


def _files(study: Study, path: Path, wanted: ReportFormat, tell: Callable[[str], None] | None) -> dict[Path, bytes]:
    report = report_of(study, tell=tell)
    if wanted == "html":
        return {path: to_html(report).encode()}
    if wanted == "pdf":
        if tell is not None:
            tell("typesetting")
        return {path: to_pdf(report)}
    found = to_markdown(report, folder=f"{path.stem}_figures")
    return {path: found.text.encode()} | {path.parent / name: svg.encode() for name, svg in found.pictures.items()}
