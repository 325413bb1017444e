"""Artifacts of a study: checkpoints, weights and the table of its data files, in folders or object stores.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.artifacts.data_files import study_files
    from aifs_tune.artifacts.trial_artifacts import kept_weights

__all__ = [
    "kept_weights",
    "study_files",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "kept_weights": "trial_artifacts",
        "study_files": "data_files",
    },
)
