"""Writing of reports: their sections, formats and files."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from aifs_tune._util.atomic_files import write_file
from aifs_tune.errors import RequestError, StorageError
from aifs_tune.publishing.report.blocks import Bullets, Figure, Paragraph, ReportBlock, ReportDocument, ReportSection
from aifs_tune.publishing.report.citations import references_in
from aifs_tune.publishing.report.confirmation import confirmation_section
from aifs_tune.publishing.report.context import ReportContext, gather, n_finished
from aifs_tune.publishing.report.formatting import count, cut, sentence
from aifs_tune.publishing.report.history import history_section
from aifs_tune.publishing.report.html import to_html
from aifs_tune.publishing.report.latex import PaperTable, paper_table, to_csv, to_latex
from aifs_tune.publishing.report.markdown import to_markdown
from aifs_tune.publishing.report.methods import methods_section
from aifs_tune.publishing.report.parameters import parameters_section
from aifs_tune.publishing.report.pdf import to_pdf
from aifs_tune.publishing.report.test_set import test_set_section
from aifs_tune.publishing.report.trials import failures_section, suggestions_section, trials_section
from aifs_tune.publishing.report.verdict import best_section, verdict_section
from aifs_tune.study.record import record_of
from aifs_tune.study.study import Study


def report_of(study: Study, *, tell: Callable[[str], None] | None = None) -> ReportDocument:
    """Make the report of a study as a document, independent of its format.

    The same study gives the same report.

    Parameters
    ----------
    study
        The study.
    tell : callable, optional
        Called with a line of text at each step.

    Returns
    -------
    ReportDocument
        Title, subtitle and sections, whose blocks are paragraphs, lists, code, tables and figures.

    Raises
    ------
    NotFoundError
        If no trial is complete.
    RequestError
        If the study evaluates configurations of another study, or if matplotlib is not installed.

    Examples
    --------
    >>> from aifs_tune.publishing.report import report_of
    >>> study = aifs_tune.open_study("oven", space={"heat": {"type": "float", "low": 20, "high": 90, "unit": "K"}})
    >>> trial = study.tell(study.ask(), 0.5)
    >>> report = report_of(study)
    >>> report.subtitle
    'value (max), an instrument, 1 finished trial.'
    >>> [section.title for section in report.sections][:3]
    ['Verdict', 'Best configuration', 'Confirmation']
    """
    context = gather(record_of(study), tell=tell)
    if tell is not None:
        tell("drawing the figures")
    sections = [
        verdict_section(context),
        best_section(context),
        confirmation_section(context),
        test_set_section(context),
        history_section(context),
        parameters_section(context),
        suggestions_section(context),
        failures_section(context),
        trials_section(context),
        methods_section(context),
    ]
    kept = tuple(section for section in sections if section is not None)
    works = references_in(text for section in kept for block in section.blocks for text in _texts(block))
    cited = ReportSection("References", (Bullets(works),))
    return ReportDocument(
        title=f"Study {cut(study.name, 120)}",
        subtitle=_subtitle(context),
        sections=(*kept, cited) if works else kept,
        foot=f"Made by aifs_tune {_version()} with: aifs-tune report {cut(study.name, 120)}",
    )


def _version() -> str:
    try:
        return version("aifs-tune")
    except PackageNotFoundError:  # run from source
        return "(not installed)"


def _subtitle(context: ReportContext) -> str:
    spec = context.study.spec
    description = sentence(cut(spec.description, 300))
    what = f"trainer {spec.trainer.name}" if spec.trainer is not None else "an instrument"
    goal = " and ".join(f"{each.metric} ({each.mode})" for each in spec.objectives)
    text = f"{cut(goal, 120)}, {what}, {count(n_finished(context), 'finished trial')}."
    return f"{description} {text}" if description else text


def _texts(block: ReportBlock) -> tuple[str, ...]:
    if isinstance(block, Paragraph):
        return (block.text,)
    return (block.caption,) if isinstance(block, Figure) else ()


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
    """The format of a report at ``path``: ``given``, or the one that the file ending names.

    Raises
    ------
    RequestError
        If the ending names no format.
    """
    found = given or ENDINGS.get(path.suffix.lower())
    if found is None:
        raise RequestError(
            f"{path}: unknown file ending of a report; allowed: {', '.join(ENDINGS)}, or --format {'|'.join(FORMATS)}"
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
    """Write the report of a study, or one of its tables, to a file.

    Parameters
    ----------
    study
        The study.
    path
        The file to write. Its folder must exist. The figures of a Markdown report are written to the folder
        ``NAME_figures`` next to it.
    format : {"html", "pdf", "md", "latex", "csv"}, optional
        Format of the file. ``latex`` and ``csv`` write one table. Default: the format that the file ending names.
    table : {"results", "test", "space", "trials"}
        The table for ``latex`` and ``csv``, see :func:`paper_table`. Default: ``results``.
    tell : callable, optional
        Called with a line of text at each step.

    Returns
    -------
    tuple of Path
        The written files, the report first.

    Raises
    ------
    NotFoundError
        If no trial is complete.
    RequestError
        If the format is unknown, or if the study evaluates configurations of another study.
    StorageError
        If a file cannot be written.

    Examples
    --------
    >>> from aifs_tune.publishing.report import write_report
    >>> study = aifs_tune.open_study("oven", space={"heat": {"type": "float", "low": 20, "high": 90, "unit": "K"}})
    >>> trial = study.tell(study.ask(), 0.5)
    >>> [file.name for file in write_report(study, "oven.html")]
    ['oven.html']
    """
    path = Path(path)
    wanted = format_of(path, format)
    if not path.parent.is_dir():
        raise RequestError(f"{path}: the folder {path.parent} does not exist; allowed: a file in an existing folder")
    if path.is_dir():
        raise RequestError(f"{path} is a folder; allowed: a file")
    if wanted in ("latex", "csv"):
        files = {path: table_text(study, wanted, table).encode()}
    else:
        files = _files(study, path, wanted, tell)
    try:
        for file, content in files.items():
            write_file(file, content)
            file.chmod(0o644)  # so that others can read it
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error
    return tuple(files)


def table_text(study: Study, wanted: ReportFormat, table: PaperTable = "results") -> str:
    """One table for a paper, as LaTeX or CSV."""
    found = paper_table(study, table)
    return to_latex(found) if wanted == "latex" else to_csv(found)


def _files(study: Study, path: Path, wanted: ReportFormat, tell: Callable[[str], None] | None) -> dict[Path, bytes]:
    report = report_of(study, tell=tell)
    if wanted == "html":
        return {path: to_html(report).encode()}
    if wanted == "pdf":
        if tell is not None:
            tell("typesetting the PDF")
        return {path: to_pdf(report)}
    found = to_markdown(report, folder=f"{path.stem}_figures")
    return {path: found.text.encode()} | {path.parent / name: svg.encode() for name, svg in found.pictures.items()}
