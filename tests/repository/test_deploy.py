"""The files under deploy/ are what the systems they are for expect."""

from __future__ import annotations

import copy
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from typer.main import get_command

from aifs_tune.cli.main import app

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def test_the_cluster_is_one_for_rays_launcher():
    cluster = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())
    validate_config(prepare_config(copy.deepcopy(cluster)))
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(cluster | {"head_start_commands": []}))
    starts = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    assert [("RAY_AUTH_MODE=token" in line) for line in starts if "ray start" in line] == [True, True]


def test_the_job_runs_a_command_that_exists_in_a_cluster_with_a_token():
    job = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())
    name, command, *words = shlex.split(job["spec"]["entrypoint"])
    parsed = get_command(app).commands[command].make_context(command, words)
    assert (name, parsed.params["study"], parsed.params["address"]) == ("aifs-tune", "celestial-cnn", "auto")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in pods):
        known = {entry["name"] for entry in pod["containers"][0]["env"]}
        assert known == {"AIFS_TUNE_ARTIFACTS", "AIFS_TUNE_CACHE", "PGPASSWORD"}
        assert pod["containers"][0]["volumeMounts"][0]["name"] == pod["volumes"][0]["name"]


def test_the_batch_script_is_one(tmp_path):
    """With stand-ins for Slurm and Ray: what it starts, and that the sweep hears of the time limit."""
    script = DEPLOY / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    stand_ins = {
        "scontrol": "printf 'n1\\nn2\\n'",
        "srun": 'echo "srun $*" >> calls; sleep 60',
        "ray": "exit 0",
        "python": "echo secret",
        "aifs-tune": "trap 'echo stopped >> calls; exit 1' TERM; echo \"aifs-tune $*\" >> calls; sleep 60 & wait",
    }
    for name, text in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    text = script.read_text().replace("source /shared/venv/bin/activate", f"export PATH={tmp_path}:$PATH")
    allocation = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_ID": "77", "SLURM_JOB_NUM_NODES": "2"}
    driver = subprocess.Popen(
        ["bash", "-c", text, "slurm.sh", "resume", "lab"],
        cwd=tmp_path,
        start_new_session=True,
        env={"PATH": "/usr/bin:/bin", "SLURM_CPUS_PER_TASK": "8", **allocation},
    )
    calls = tmp_path / "calls"
    while not calls.exists() or "aifs-tune" not in calls.read_text() or calls.read_text().count("srun") < 2:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.send_signal(signal.SIGTERM)
    driver.wait(timeout=30)
    os.killpg(driver.pid, signal.SIGKILL)
    told = calls.read_text()
    assert "aifs-tune resume lab --address n1:20077" in told
    assert "--nodelist=n1 ray start --block --disable-usage-stats --num-cpus=8 --head --port=20077" in told
    assert "--exclude=n1 ray start --block --disable-usage-stats --num-cpus=8 --address=n1:20077" in told
    assert "stopped" in told
