"""Every example runs as it stands, against a real service, and leaves what it promises."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from services import Service, storage_in

from aifs_tune.client.client import Client
from aifs_tune.study.open import open_study

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
WORKFLOWS = Path(sys.prefix) / "workflows" / "bin"
A_PAGE = 72
"""Lines."""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(storage_in(tmp_path_factory.mktemp("service"))) as running:
        yield running


@pytest.fixture
def client(service):
    with Client(service.url) as opened:
        yield opened


def ran(*words: object, service: Service, folder: Path, **variables: str) -> str:
    """What a command printed that was given the service's address."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "AIFS_TUNE_URL": service.url, **variables},
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def workflow_engine(name: str) -> Path:
    """A program of the environment that ``make test`` makes from examples/workflows.txt."""
    program = WORKFLOWS / name
    if not program.exists():
        pytest.skip(f"there is no {program}: make {WORKFLOWS.parent.parent.name}/.installed-workflows")
    return program


def test_a_shell_script_goes_on_where_it_was(service, client, tmp_path):
    need("curl", "jq")
    script = EXAMPLES / "shell_loop.sh"
    ran("sh", script, "crystals", 3, service=service, folder=tmp_path)
    before = client.study("crystals").all_trials()
    assert '"temperature"' in ran("sh", script, "crystals", 5, service=service, folder=tmp_path)
    after = client.study("crystals").all_trials()
    assert (len(before), len(after), after[:3]) == (3, 5, before)
    assert {trial.state for trial in after} <= {"complete", "failed"}
    refused = subprocess.run(
        ["sh", str(script), "x y"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "AIFS_TUNE_URL": service.url},
    )
    assert (refused.returncode, '"status":422' in refused.stderr) == (1, True)


@pytest.mark.soak
def test_a_pipeline_of_snakemake_finds_its_settings_and_goes_on(service, client, tmp_path):
    need("curl", "jq")
    words = [workflow_engine("snakemake"), "--snakefile", EXAMPLES / "snakemake" / "Snakefile", "--cores", "2"]
    ran(*words, "--config", "trials=5", service=service, folder=tmp_path)
    study = client.study("peak-finding")
    assert (study.counts()["complete"], study.counts()["running"]) == (5, 0)
    (tmp_path / "trials" / "2" / "asked.json").unlink()  # as if stopped there
    ran(*words, "--config", "trials=5", service=service, folder=tmp_path)
    assert (study.counts()["complete"], study.counts()["running"]) == (5, 0)
    assert f'"trial": {study.best.number}' in (tmp_path / "best.json").read_text()


@pytest.mark.soak
def test_a_campaign_of_prefect_tells_what_failed(service, client, tmp_path):
    python = workflow_engine("python")
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    patient = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180", "PREFECT_HOME": str(tmp_path)}
    left = client.open_study(
        "buffers", space=_space_in(EXAMPLES / "prefect_flow.py"), metric="melting_point_rise"
    ).ask()
    ran(python, EXAMPLES / "prefect_flow.py", service=service, folder=tmp_path, **quiet, **patient)
    trials = client.study("buffers").all_trials()
    assert len(trials) == 9
    assert trials[left.number].is_finished
    for trial in trials:
        is_wrong = trial.params["buffer"] == "acetate" and trial.params["ph"] > 6.5
        assert (trial.state, "does not buffer" in (trial.reason or "")) == (
            "failed" if is_wrong else "complete",
            is_wrong,
        )


def test_trials_are_runs_of_mlflow_once(tmp_path):
    from mlflow import MlflowClient

    storage = storage_in(tmp_path)
    study = open_study("sky", space={"x": {"type": "float", "low": 0, "high": 1}}, storage=storage, sampler="random")
    for value in (0.5, 0.7, 0.6):
        trial = study.ask()
        study.report(trial, 1, {"value": value / 2, "loss": 1.0})
        study.report(trial, 2, {"value": value, "loss": 0.5})
        study.tell(trial)
    study.tell(study.ask(), state="failed", reason="the lamp broke")
    study.ask()

    def logged() -> list:
        found = mlflow.search_runs([mlflow.get_experiment_by_name("sky").experiment_id])
        return sorted(found, key=lambda run: int(run.data.tags.get("trial", -1)))

    environment = {**os.environ, "AIFS_TUNE_STORAGE": storage}
    environment.pop("AIFS_TUNE_URL", None)
    words = [sys.executable, str(EXAMPLES / "mlflow_runs.py"), "sky"]
    subprocess.run(words, cwd=tmp_path, check=True, env=environment, timeout=240)
    mlflow = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    sweep, *trials = logged()
    assert [run.data.tags["mlflow.parentRunId"] for run in trials] == [sweep.info.run_id] * 4
    assert [run.info.status for run in trials] == ["FINISHED"] * 3 + ["FAILED"]
    assert (sweep.data.metrics["best"], sweep.data.tags["best_trial"]) == (0.7, "1")
    assert (trials[3].data.tags["reason"], trials[3].data.metrics) == ("the lamp broke", {})
    assert float(trials[1].data.params["x"]) == study.trial(1).params["x"]
    curve = mlflow.get_metric_history(trials[1].info.run_id, "value")
    assert [(point.step, point.value) for point in curve] == [(1, 0.35), (2, 0.7)]
    assert trials[0].info.start_time == int(study.trial(0).started_at.timestamp() * 1000)
    study.tell(4, 0.9)
    done = subprocess.run(words, cwd=tmp_path, check=True, env=environment, timeout=240, capture_output=True, text=True)
    assert done.stdout.strip() == "1 trials logged"
    again = logged()
    assert [run.info.run_id for run in again[:5]] == [sweep.info.run_id, *(run.info.run_id for run in trials)]
    assert (len(again), again[0].data.metrics["best"]) == (6, 0.9)


def test_a_plan_of_bluesky_ends_at_the_best(service, client, tmp_path):
    told = ran(sys.executable, EXAMPLES / "bluesky_loop.py", "--n", "12", service=service, folder=tmp_path)
    study = client.study("mirror")
    assert study.counts()["complete"] == 12
    best = {name: round(value, 3) for name, value in study.best.params.items()}
    assert told.strip() == f"{best} {study.best.value}"


def test_the_bar_of_the_notebook_follows_the_study(service, client, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    for name, value in {"AIFS_TUNE_URL": service.url, "N_TRIALS": "6", "STUDY": "hard"}.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(EXAMPLES / "live_progress.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    widgets = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    shown = {widget["model_name"]: widget["state"] for widget in widgets.values()}
    bar = shown["IntProgressModel"]
    assert (bar["description"], bar["value"], bar["max"], bar["bar_style"]) == ("hard", 6, 6, "success")
    study = client.study("hard")
    assert study.counts()["complete"] == 6
    assert f"{study.best.value:.4g}" in shown["LabelModel"]["value"]


def test_the_table_has_every_example_and_each_is_a_page():
    text = (EXAMPLES / "README.md").read_text()
    linked = set(re.findall(r"^\| \[.*?\]\(([^)]+)\)", text, re.MULTILINE))
    assert {target for target in linked if not (EXAMPLES / target).exists()} == set()
    for target in linked:
        file = EXAMPLES / target
        if file.suffix == ".ipynb":
            import nbformat

            lines = "\n".join(cell.source for cell in nbformat.read(file, as_version=4).cells).splitlines()
        else:
            lines = file.read_text().splitlines()
        assert len(lines) <= A_PAGE, target
    kinds = (".py", ".sh", ".ipynb")
    here = {
        str(file.relative_to(EXAMPLES))
        for file in EXAMPLES.rglob("*")
        if (file.suffix in kinds or file.name == "Snakefile") and file.parent.name != "migrations"
    }
    assert here - linked == set()


def _space_in(script: Path) -> dict:
    """The space of a script whose imports are not here."""
    space = re.search(r"^SPACE = (\{.*?^\})", script.read_text(), re.MULTILINE | re.DOTALL)
    assert space
    return ast.literal_eval(space[1])
