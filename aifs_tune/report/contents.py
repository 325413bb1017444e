"""The content of a report: its sections in the order in which they are read."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from aifs_tune.report.blocks import Bullets, Figure, Paragraph, ReportBlock, ReportDocument, ReportSection
from aifs_tune.report.citations import references_in
from aifs_tune.report.confirmed import confirmation_section
from aifs_tune.report.course import history_section
from aifs_tune.report.gathering import ReportContext, gather, n_finished
from aifs_tune.report.methods import methods_section
from aifs_tune.report.parameters_part import parameters_section
from aifs_tune.report.tested_part import test_set_section
from aifs_tune.report.trials_part import failures_section, suggestions_section, trials_section
from aifs_tune.report.verdict import best_section, verdict_section
from aifs_tune.report.words import count, cut
from aifs_tune.study import Study


def report_of(study: Study, *, tell: Callable[[str], None] | None = None) -> ReportDocument:
    """What there is to read of ``study``; the same study gives the same report. ``tell`` hears what is being done.

    Raises
    ------
    RequestError
        If the study evaluates configurations of another one, or matplotlib is not installed; NotFoundError while no
        trial is complete.
    """
    context = gather(study, tell=tell)
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
