"""A campaign as a Prefect flow: batches of trials measured side by side, each a task that is retried and shown.

    aifs-tune serve &
    python examples/prefect_flow.py

Prefect starts a server of its own for the run where none is configured. A campaign that is run again goes on with what
was asked for and not told.
"""

import os

from prefect import flow, get_run_logger, task
from prefect.futures import wait

from aifs_tune import Client

SPACE = {
    "ph": {"type": "float", "low": 4.0, "high": 9.0},
    "salt": {"type": "float", "low": 10, "high": 1000, "log": True, "unit": "mM"},
    "buffer": {"type": "choice", "choices": ["tris", "hepes", "acetate"]},
}


@task(task_run_name="trial {number}", retries=2, retry_delay_seconds=1)
def measure(number, params):
    """The instrument, here simulated: degrees by which a protein's melting point rises."""
    if params["buffer"] == "acetate" and params["ph"] > 6.5:
        raise ValueError(f"acetate does not buffer at pH {params['ph']:.1f}")
    buffer = {"tris": 1.0, "hepes": 2.0, "acetate": 0.0}[params["buffer"]]
    return 8.0 + buffer - 2 * (params["ph"] - 7.4) ** 2 - abs(params["salt"] - 150) / 200


@flow(name="buffer screen")
def campaign(study_name="buffers", batches=3, size=4):
    client = Client(os.environ.get("AIFS_TUNE_URL", "http://127.0.0.1:8000"), os.environ.get("AIFS_TUNE_TOKEN"))
    study = client.open_study(study_name, space=SPACE, metric="melting_point_rise", mode="max")
    left = [trial for trial in study.all_trials() if trial.state == "running"]
    for _ in range(batches):
        batch, left = left or study.ask_batch(size), []
        measured = {trial.number: measure.submit(trial.number, dict(trial.params)) for trial in batch}
        wait(list(measured.values()))
        for number, future in measured.items():
            if future.state.is_completed():
                study.tell(number, future.result())
            else:
                study.tell(number, state="failed", reason=future.state.message)
    best = study.best
    get_run_logger().info("best: trial %s, %.2f K with %s", best.number, best.value, dict(best.params))
    return best.value


if __name__ == "__main__":
    campaign()
