"""Precision, recall and F1 of every class, and their averages, as the table that papers print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aifs_tune.analysis.scores import Array


@dataclass(frozen=True)
class ReportRow:
    """One class, or an average; ``support`` is the number of examples that are of it. What would divide by 0 is 0."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ClassReport:
    """A row a class in their order, then the averages: over all decisions (micro), over classes (macro), and over
    classes weighted by support.

    A class without an example here counts in no average over classes; an example taken for it counts against its own.
    """

    classes: tuple[ReportRow, ...]
    averages: tuple[ReportRow, ...]

    def to_text(self, digits: int = 3) -> str:
        """The table, laid out as scikit-learn's ``classification_report``."""
        width = max(len(row.name) for row in (*self.classes, *self.averages))
        heads = "".join(f" {head:>9}" for head in ("precision", "recall", "f1-score", "support"))
        blocks = [[_line(row, width, digits) for row in rows] for rows in (self.classes, self.averages)]
        return "\n".join([" " * width + " " + heads, "", *blocks[0], "", *blocks[1]])

    def to_frame(self) -> pd.DataFrame:
        """A row a class and a row an average, named by the index."""
        rows = [asdict(row) for row in (*self.classes, *self.averages)]
        return pd.DataFrame(rows).set_index("name")

    def to_dict(self) -> dict[str, Any]:
        return {
            "classes": [asdict(row) for row in self.classes],
            "averages": [asdict(row) for row in self.averages],
        }


def class_report(confusion: NDArray[np.int64], names: Sequence[str]) -> ClassReport:
    """From a confusion matrix (k, k), rows true and columns predicted."""
    precision, recall, f1 = scores_of(confusion.astype(np.float64))
    support = confusion.sum(axis=1)
    rows = tuple(
        ReportRow(name, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
        for i, name in enumerate(names)
    )
    n, present = int(support.sum()), support > 0
    right = float(np.trace(confusion)) / n
    averages = [ReportRow("micro avg", right, right, right, n)]
    for name, weights in (("macro avg", present.astype(np.float64)), ("weighted avg", support.astype(np.float64))):
        means = (float(np.average(column, weights=weights)) for column in (precision, recall, f1))
        averages.append(ReportRow(name, next(means), next(means), next(means), n))
    return ClassReport(rows, tuple(averages))


def scores_of(confusion: Array) -> tuple[Array, Array, Array]:
    """Precision, recall and F1 (k,) each, 0 where they are undefined; entries may be weights."""
    right = np.diag(confusion)
    predicted, true = confusion.sum(axis=0), confusion.sum(axis=1)
    return _part(right, predicted), _part(right, true), _part(2 * right, predicted + true)


def _part(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _line(row: ReportRow, width: int, digits: int) -> str:
    scores = "".join(f" {score:9.{digits}f}" for score in (row.precision, row.recall, row.f1))
    return f"{row.name:>{width}} {scores} {row.support:9d}"
