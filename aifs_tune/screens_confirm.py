"""A confirmation for a terminal."""

from __future__ import annotations

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aifs_tune.analysis.held_out import HeldOutClasses
from aifs_tune.confirmation import Confirmation
from aifs_tune.confirming import HeldOutEvaluation
from aifs_tune.progress import configuration, number

_SHOWN = 10


def render_confirmation(found: Confirmation) -> RenderableType:
    """The candidates with their mean scores, and a verdict on each."""
    scores, objective = found.scores, found.study.spec.objective
    head = Text(
        f"{found.study.name}: {objective.metric} ({objective.mode}), {len(scores.splits)} divisions of the data"
    )
    table = Table("", f"mean {objective.metric}", "sd", "trainings", "configuration")
    tuned = [name for name, parameter in found.study.spec.space.items() if parameter.type != "fixed"]
    for each in found.candidates:
        values = scores.of(each.name)
        kept = values[np.isfinite(values)]
        table.add_row(
            each.name,
            number(float(kept.mean())) if len(kept) else "-",
            number(float(kept.std(ddof=1))) if len(kept) > 1 else "-",
            f"{len(kept)} of {len(values)}",
            Text(configuration(each.params, tuned)),
        )
    return Group(head, table, *(Text(comparison.text, style="bold") for comparison in found.comparisons))


def render_test_results(found: HeldOutEvaluation) -> RenderableType:
    """What the answers for the test part are worth: scores with intervals, and the report and confusion of classes."""
    n = len(found.predictions.rows)
    head = Text(f"test part: {n} examples that no trial saw, answered by {found.candidate}", style="bold")
    parts: list[RenderableType] = [head]
    classes = found.classes
    if classes is not None:
        table = Table("score", "value [95 %]")
        for name, estimate in classes.scores.items():
            table.add_row(name, str(estimate))
        confusion = Table("true, as", *classes.classes)
        for name, row in zip(classes.classes, classes.confusion.tolist(), strict=True):
            confusion.add_row(name, *map(str, row))
        parts += [table, Text(classes.report.to_text()), confusion]
        parts += [_worst_classes(found, classes)] if classes.worst and found.files else []
    for target in found.values:
        table = Table("score", "value [95 %]", title=target.name, title_justify="left")
        for name, estimate in target.scores.items():
            table.add_row(f"{name} in {target.unit}" if target.unit and name != "r2" else name, str(estimate))
        parts.append(table)
        if found.files:
            worst = Table("most wrong", "true", "answered", title=target.name, title_justify="left")
            for miss in target.worst[:_SHOWN]:
                worst.add_row(Text(found.files[miss.index]), number(miss.truth), number(miss.predicted))
            parts.append(worst)
    if found.groups is not None:
        parts.append(Text(f"intervals draw whole groups, of {len(set(found.groups))}"))
    return Group(*parts)


def _worst_classes(found: HeldOutEvaluation, classes: HeldOutClasses) -> Table:
    table = Table("most wrong", "true", "taken for", "probability", "of the truth")
    for one in classes.worst[:_SHOWN]:
        row = one.truth, one.predicted, f"{one.probability:.3f}", f"{one.probability_of_truth:.3f}"
        table.add_row(Text(found.files[one.index]), *row)
    return table
