"""Artifacts: checkpoints, weights and data file lists, in folders or object stores.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.artifacts.trial_artifacts import kept_weights

__all__ = [
    "kept_weights",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "kept_weights": "trial_artifacts",
    },
)
