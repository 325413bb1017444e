"""Automated experiment design for science.

    sweep = aifs_tune.load_sweep("search_spaces/celestial_cnn.yaml", data="survey/")
    result = sweep.run(trials=64)
    result.best.params

    study = aifs_tune.open_study("crystal-growth", space={...})
    trial = study.ask()
    study.tell(trial, furnace.run(**trial.params))

Names are loaded on first use: importing this package loads no Ray, TensorFlow or Optuna.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aifs_tune.analysis.of_study import analyse
    from aifs_tune.bundle.exporting import export
    from aifs_tune.bundle.importing import import_study
    from aifs_tune.bundle.reproducing import reproduce
    from aifs_tune.client import Client
    from aifs_tune.errors import AifsTuneError
    from aifs_tune.storage import Storage
    from aifs_tune.studies import open_study
    from aifs_tune.study import Study
    from aifs_tune.sweep import Sweep, SweepResult, load_sweep, resume
    from aifs_tune.trial import Trial

__version__ = "0.1.0"

_HOME = {
    "AifsTuneError": "errors",
    "Client": "client",
    "Storage": "storage",
    "Study": "study",
    "open_study": "studies",
    "Sweep": "sweep",
    "SweepResult": "sweep",
    "load_sweep": "sweep",
    "resume": "sweep",
    "Trial": "trial",
    "analyse": "analysis.of_study",
    "export": "bundle.exporting",
    "import_study": "bundle.importing",
    "reproduce": "bundle.reproducing",
}

__all__ = [
    "AifsTuneError",
    "Client",
    "Storage",
    "Study",
    "Sweep",
    "SweepResult",
    "Trial",
    "analyse",
    "export",
    "import_study",
    "load_sweep",
    "open_study",
    "reproduce",
    "resume",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"aifs_tune.{_HOME[name]}"), name)
    raise AttributeError(f"module 'aifs_tune' has no attribute {name!r}")
