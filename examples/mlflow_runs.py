"""The trials of a study as runs of MLflow, nested under one run of the sweep.

    aifs-tune run quick_sky
    python examples/mlflow_runs.py quick-sky            # of sqlite:///aifs_tune.db, or $AIFS_TUNE_STORAGE
    mlflow ui --backend-store-uri sqlite:///mlflow.db   # to look at them: pip install mlflow

With AIFS_TUNE_URL the study is the service's. Run it again, while the sweep runs or later: each trial is logged
once.
"""

import os
import sys

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from aifs_tune import Client, load_study

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


def log_study(study, mlflow):
    """Log the finished trials that are not logged yet; how many that were."""
    experiment = mlflow.get_experiment_by_name(study.name)
    where = experiment.experiment_id if experiment else mlflow.create_experiment(study.name)
    runs = mlflow.search_runs([where], max_results=50_000)
    logged = {run.data.tags["trial"] for run in runs if run.info.status != "RUNNING" and "trial" in run.data.tags}
    sweeps = [run for run in runs if MLFLOW_PARENT_RUN_ID not in run.data.tags]
    sweep = sweeps[0] if sweeps else mlflow.create_run(where, tags={MLFLOW_RUN_NAME: study.name})
    new = [trial for trial in study.all_trials() if trial.is_finished and str(trial.number) not in logged]
    for trial in new:
        log_trial(study, trial, mlflow, where, sweep.info.run_id)
    if study.counts()["complete"]:
        mlflow.log_metric(sweep.info.run_id, "best", study.best.value)
        mlflow.set_tag(sweep.info.run_id, "best_trial", str(study.best.number))
    mlflow.set_terminated(sweep.info.run_id)
    return len(new)


def log_trial(study, trial, mlflow, where, sweep_id):
    tags = {MLFLOW_PARENT_RUN_ID: sweep_id, MLFLOW_RUN_NAME: f"trial {trial.number}", "trial": str(trial.number)}
    tags |= {"seed": str(trial.seed), "state": trial.state, "reason": trial.reason or ""}
    began, ended = (moment and int(moment.timestamp() * 1000) for moment in (trial.started_at, trial.finished_at))
    run_id = mlflow.create_run(where, start_time=began, tags=tags).info.run_id
    measured = [(m.epoch, m.metrics) for m in study.curve(trial)] or [(0, trial.metrics)]
    metrics = [
        Metric(name, value, ended, epoch)
        for epoch, values in measured
        for name, value in values.items()
        if value is not None
    ]
    mlflow.log_batch(run_id, metrics, [Param(name, str(value)) for name, value in trial.params.items()])
    mlflow.set_terminated(run_id, STATUS[trial.state], end_time=ended)


if __name__ == "__main__":
    url, name = os.environ.get("AIFS_TUNE_URL"), sys.argv[1]
    study = Client(url, os.environ.get("AIFS_TUNE_TOKEN")).study(name) if url else load_study(name)
    mlflow = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"))
    print(f"{log_study(study, mlflow)} trials logged")
