"""A report as files: which format, and where."""

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
from aifs_tune.publishing.report.formatting import count, cut
from aifs_tune.publishing.report.history import history_section
from aifs_tune.publishing.report.html import to_html
from aifs_tune.publishing.report.latex import PaperTable, paper_table, to_csv, to_latex
from aifs_tune.publishing.report.markdown import to_markdown
from aifs_tune.publishing.report.methods import methods_section
from aifs_tune.publishing.report.parameters import parameters_section
from aifs_tune.publishing.report.pdf import to_pdf
from aifs_tune.publishing.report.test_part import test_set_section
from aifs_tune.publishing.report.trials import failures_section, suggestions_section, trials_section
from aifs_tune.publishing.report.verdict import best_section, verdict_section
from aifs_tune.study.record import record_of
from aifs_tune.study.study import Study


def report_of(study: Study, *, tell: Callable[[str], None] | None = None) -> ReportDocument:
    """What there is to read of ``study``; the same study gives the same report. ``tell`` hears what is being done.

    Raises
    ------
    RequestError
        If the study evaluates configurations of another one, or matplotlib is not installed; NotFoundError while no
        trial is complete.
    """
    context = gather(record_of(study), tell=tell)
    if tell is not None:
        tell("drawing")
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
        foot=f"Made by aifs_tune {_version()} from the study alone: aifs-tune report {cut(study.name, 120)}",
    )


def _version() -> str:
    try:
        return version("aifs-tune")
    except PackageNotFoundError:  # run from its source
        return "(not installed)"


def _subtitle(context: ReportContext) -> str:
    spec = context.study.spec
    said = cut(spec.description, 300)
    what = f"trainer {spec.trainer.name}" if spec.trainer is not None else "an instrument"
    goal = " against ".join(f"{each.metric} ({each.mode})" for each in spec.objectives)
    text = f"{cut(goal, 120)}, {what}, {count(n_finished(context), 'finished trial')}."
    return f"{said} {text}" if said else text


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
