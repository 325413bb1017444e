"""Hyperparameter tuning for science: sweeps of trainers on Ray, and studies of instruments by ask and tell.

    result = aifs_tune.load_sweep("celestial_cnn", data="survey/").run(trials=64)
    result.best.params

    study = aifs_tune.open_study("crystal-growth", space={...})
    trial = study.ask()
    study.tell(trial, furnace.run(**trial.params))

Names load on first use: importing this package loads no Ray, TensorFlow or Optuna.
"""

from typing import TYPE_CHECKING

from aifs_tune._util.lazy import lazy_names

if TYPE_CHECKING:
    from aifs_tune.analysis import analyse
    from aifs_tune.client import Client
    from aifs_tune.errors import AifsTuneError
    from aifs_tune.execution import Sweep, SweepResult, load_sweep, resume
    from aifs_tune.execution.design import design
    from aifs_tune.execution.finalize import finalize
    from aifs_tune.execution.tune import tune
    from aifs_tune.publishing.bundle.export import export
    from aifs_tune.publishing.bundle.load import import_study
    from aifs_tune.publishing.bundle.model import load_model
    from aifs_tune.publishing.bundle.reproduce import reproduce
    from aifs_tune.publishing.columns.write import select_columns
    from aifs_tune.publishing.explanation.write import explain
    from aifs_tune.publishing.report import write_report
    from aifs_tune.storage import Storage
    from aifs_tune.study import Study, Trial, load_study, open_study
    from aifs_tune.study.doctor import check_storage
    from aifs_tune.study.manage import copy_study, delete_study, rename_study
    from aifs_tune.study.optuna_import import import_optuna
    from aifs_tune.study.ray_tune_import import import_ray_tune

__version__ = "0.1.0"

__all__ = [
    "AifsTuneError",
    "Client",
    "Storage",
    "Study",
    "Sweep",
    "SweepResult",
    "Trial",
    "analyse",
    "check_storage",
    "copy_study",
    "delete_study",
    "design",
    "explain",
    "export",
    "finalize",
    "import_optuna",
    "import_ray_tune",
    "import_study",
    "load_model",
    "load_study",
    "load_sweep",
    "open_study",
    "rename_study",
    "reproduce",
    "resume",
    "select_columns",
    "tune",
    "write_report",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "AifsTuneError": "errors",
        "Client": "client",
        "Storage": "storage",
        "Study": "study",
        "Sweep": "execution",
        "SweepResult": "execution",
        "Trial": "study",
        "analyse": "analysis",
        "check_storage": "study.doctor",
        "copy_study": "study.manage",
        "delete_study": "study.manage",
        "design": "execution.design",
        "explain": "publishing.explanation.write",
        "export": "publishing.bundle.export",
        "finalize": "execution.finalize",
        "import_optuna": "study.optuna_import",
        "import_ray_tune": "study.ray_tune_import",
        "import_study": "publishing.bundle.load",
        "load_model": "publishing.bundle.model",
        "load_study": "study",
        "load_sweep": "execution",
        "open_study": "study",
        "rename_study": "study.manage",
        "reproduce": "publishing.bundle.reproduce",
        "resume": "execution",
        "select_columns": "publishing.columns.write",
        "tune": "execution.tune",
        "write_report": "publishing.report",
    },
)
