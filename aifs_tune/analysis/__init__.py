"""Statistics of a study: comparisons, importance of parameters, suggestions, and scores on a test set."""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.analysis.bootstrap import Resampling
    from aifs_tune.analysis.classification import HeldOutClasses, evaluate_classes
    from aifs_tune.analysis.column_graph import ColumnEdge, ColumnGraph
    from aifs_tune.analysis.column_selection import ColumnGroup, SelectedColumns
    from aifs_tune.analysis.event_forecasts import HeldOutEvents, evaluate_events, evaluate_warnings
    from aifs_tune.analysis.explanation import Explanation, Explanations
    from aifs_tune.analysis.paired import Comparison, compare_all
    from aifs_tune.analysis.regression import HeldOutTarget, evaluate_values
    from aifs_tune.analysis.scores import Scores, Split
    from aifs_tune.analysis.study_tables import Analysis, analyse

__all__ = [
    "Analysis",
    "ColumnEdge",
    "ColumnGraph",
    "ColumnGroup",
    "Comparison",
    "Explanation",
    "Explanations",
    "HeldOutClasses",
    "HeldOutEvents",
    "HeldOutTarget",
    "Resampling",
    "Scores",
    "SelectedColumns",
    "Split",
    "analyse",
    "compare_all",
    "evaluate_classes",
    "evaluate_events",
    "evaluate_values",
    "evaluate_warnings",
]

# Names load on first use, so importing this package stays cheap.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Analysis": "study_tables",
        "ColumnEdge": "column_graph",
        "ColumnGraph": "column_graph",
        "ColumnGroup": "column_selection",
        "Comparison": "paired",
        "Explanation": "explanation",
        "Explanations": "explanation",
        "HeldOutClasses": "classification",
        "HeldOutEvents": "event_forecasts",
        "HeldOutTarget": "regression",
        "Resampling": "bootstrap",
        "Scores": "scores",
        "SelectedColumns": "column_selection",
        "Split": "scores",
        "analyse": "study_tables",
        "compare_all": "paired",
        "evaluate_classes": "classification",
        "evaluate_events": "event_forecasts",
        "evaluate_values": "regression",
        "evaluate_warnings": "event_forecasts",
    },
)
