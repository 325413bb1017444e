"""Statistics of a study: comparisons, importance, suggestions and scores of a test set.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.analysis.classification import evaluate_classes
    from aifs_tune.analysis.paired import compare_all
    from aifs_tune.analysis.scores import Scores, Split
    from aifs_tune.analysis.study_tables import analyse

__all__ = [
    "Scores",
    "Split",
    "analyse",
    "compare_all",
    "evaluate_classes",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Scores": "scores",
        "Split": "scores",
        "analyse": "study_tables",
        "compare_all": "paired",
        "evaluate_classes": "classification",
    },
)
