"""A confirmation for a terminal."""

from __future__ import annotations

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aifs_tune.confirmation import Confirmation
from aifs_tune.progress import configuration, number


def confirmation_screen(found: Confirmation) -> RenderableType:
    """The contenders with their mean scores, and a verdict on each."""
    scores, objective = found.scores, found.study.spec.objective
    head = Text(
        f"{found.study.name}: {objective.metric} ({objective.mode}), {len(scores.splits)} divisions of the data"
    )
    table = Table("", f"mean {objective.metric}", "sd", "trainings", "configuration")
    tuned = [name for name, parameter in found.study.spec.space.items() if parameter.type != "fixed"]
    for each in found.contenders:
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
