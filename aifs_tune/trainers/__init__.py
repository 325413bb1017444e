"""Trainers: networks, boosted trees and functions that train one trial epoch by epoch.

Names load on first use, so importing this package stays cheap.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.trainers.keras import KerasTrainer, ReportEpochs
    from aifs_tune.trainers.load import load_classifier
    from aifs_tune.trainers.optuna_objective import ObjectiveTrial, read_space
    from aifs_tune.trainers.running_trial import RunningTrial

__all__ = [
    "KerasTrainer",
    "ObjectiveTrial",
    "ReportEpochs",
    "RunningTrial",
    "load_classifier",
    "read_space",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "KerasTrainer": "keras",
        "ObjectiveTrial": "optuna_objective",
        "ReportEpochs": "keras",
        "RunningTrial": "running_trial",
        "load_classifier": "load",
        "read_space": "optuna_objective",
    },
)
