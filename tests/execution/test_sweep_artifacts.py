"""A sweep on a real Ray whose checkpoints and weights are in an object store, and whose driver is killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import yaml
from labs import command

from aifs_tune._util.hashing import hashes_of
from aifs_tune.artifacts.trial_artifacts import kept_weights
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study

SWEEP = {
    "name": "far",
    "trainer": {"name": "mlp", "checkpoint_s": 0, "patience": 99, "folds": 2},
    "data": {"table": {"bundled": "breast_cancer"}},
    "objective": {"metric": "val_macro_f1"},
    "search": {"trials": 2, "epochs": 15, "workers": 1, "scheduler": "none", "sampler": "random"},
    "space": {"units": {"type": "choice", "choices": [8, 16]}},
}


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_sweep_goes_on_from_what_an_object_store_has(postgres_url, s3, tmp_path, monkeypatch):
    (tmp_path / "far.yaml").write_text(yaml.safe_dump(SWEEP))
    prefix = f"{tmp_path.parent.name}/{tmp_path.name}"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim42")
    monkeypatch.setenv("AIFS_TUNE_ARTIFACTS", f"s3://lab/{prefix}")

    def keys() -> list[str]:
        found = s3.client.list_objects_v2(Bucket="lab", Prefix=prefix).get("Contents", [])
        return [entry["Key"].removeprefix(f"{prefix}/") for entry in found]

    driver = command(tmp_path, "run", "far.yaml", url=postgres_url)
    deadline = time.monotonic() + 300
    while not any("trial-000000/checkpoint-" in key for key in keys()):
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    said = "".join(driver.communicate())
    study = get_study(Storage(postgres_url), "far")
    assert not study.trial(0).is_finished

    resumed = command(tmp_path, "resume", "far", url=postgres_url)
    said += "".join(resumed.communicate(timeout=400))
    assert resumed.returncode == 0, said
    trials = study.all_trials()
    assert [(trial.state, trial.epochs, trial.reason) for trial in trials] == [("complete", 15, None)] * 2
    assert sorted({key.rpartition("/")[0] for key in keys() if key.endswith(".json") and key.count("/") == 2}) == [
        f"study-{study.id}/data",
        f"study-{study.id}/trial-{study.best.number:06d}",
    ], "the files of the data and the best trial's weights are there and nothing else"
    folder = kept_weights(study, study.best)
    assert hashes_of(folder) == study.best.weights
    assert not list(tmp_path.glob("**/trial-*"))
    assert "geheim42" not in said
    logs = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "session_latest", "logs")
    assert [file for file in logs.rglob("*") if file.is_file() and b"geheim42" in file.read_bytes()] == []
