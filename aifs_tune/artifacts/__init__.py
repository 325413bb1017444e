"""Artifacts of a study: checkpoints, weights, logs and the table of its data files, in folders or object stores.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.artifacts.data_files import study_files
    from aifs_tune.artifacts.logs import read_log
    from aifs_tune.artifacts.trial_artifacts import kept_weights

__all__ = [
    "kept_weights",
    "read_log",
    "study_files",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "kept_weights": "trial_artifacts",
        "read_log": "logs",
        "study_files": "data_files",
    },
)
