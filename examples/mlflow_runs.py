"""The trials of a study as runs of MLflow, nested under one run of the study: of one that was measured without a sweep.

    python examples/mlflow_runs.py crystals             # of sqlite:///aifs_tune.db, or $AIFS_TUNE_STORAGE
    mlflow ui --backend-store-uri sqlite:///mlflow.db   # to look at them: pip install mlflow

With AIFS_TUNE_URL the study is the service's. Run it again while the study goes on: each trial is logged once. A sweep
does this itself with `trackers: [mlflow]` in its file.
"""

import os
import sys

from aifs_tune import Client, load_study
from aifs_tune.execution.trackers import MlflowTracker

if __name__ == "__main__":
    url, name = os.environ.get("AIFS_TUNE_URL"), sys.argv[1]
    study = Client(url, os.environ.get("AIFS_TUNE_TOKEN")).study(name) if url else load_study(name)
    print(f"{MlflowTracker().log_study(study)} trials logged")
