"""The content of a report: its sections in the order in which they are read."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from aifs_tune.report.blocks import Block, Bullets, Figure, Paragraph, Report, Section
from aifs_tune.report.citations import works_in
from aifs_tune.report.confirmed import confirmation_section
from aifs_tune.report.course import course_section
from aifs_tune.report.gathering import Material, gather, n_finished
from aifs_tune.report.methods import methods_section
from aifs_tune.report.parameters_part import parameters_section
from aifs_tune.report.tested_part import tested_section
from aifs_tune.report.trials_part import failures_section, suggestions_section, trials_section
from aifs_tune.report.verdict import best_section, verdict_section
from aifs_tune.report.words import count, cut
from aifs_tune.study import Study


def report_of(study: Study, *, tell: Callable[[str], None] | None = None) -> Report:
    """What there is to read of ``study``; the same study gives the same report. ``tell`` hears what is being done.

    Raises
    ------
    RequestError
        If the study evaluates configurations of another one, or matplotlib is not installed; NotFoundError while no
        trial is complete.
    """
    material = gather(study, tell=tell)
    if tell is not None:
        tell("drawing")
    sections = [
        verdict_section(material),
        best_section(material),
        confirmation_section(material),
        tested_section(material),
        course_section(material),
        parameters_section(material),
        suggestions_section(material),
        failures_section(material),
        trials_section(material),
        methods_section(material),
    ]
    kept = tuple(section for section in sections if section is not None)
    works = works_in(text for section in kept for block in section.blocks for text in _texts(block))
    cited = Section("References", (Bullets(works),))
    return Report(
        title=f"Study {cut(study.name, 120)}",
        subtitle=_subtitle(material),
        sections=(*kept, cited) if works else kept,
        foot=f"Made by aifs_tune {_version()} from the study alone: aifs-tune report {cut(study.name, 120)}",
    )


def _version() -> str:
    try:
        return version("aifs-tune")
    except PackageNotFoundError:  # run from its source
        return "(not installed)"


def _subtitle(material: Material) -> str:
    spec = material.study.spec
    said = cut(spec.description, 300)
    what = f"trainer {spec.trainer.name}" if spec.trainer is not None else "an instrument"
    goal = " against ".join(f"{each.metric} ({each.mode})" for each in spec.objectives)
    text = f"{cut(goal, 120)}, {what}, {count(n_finished(material), 'finished trial')}."
    return f"{said} {text}" if said else text


def _texts(block: Block) -> tuple[str, ...]:
    if isinstance(block, Paragraph):
        return (block.text,)
    return (block.caption,) if isinstance(block, Figure) else ()
