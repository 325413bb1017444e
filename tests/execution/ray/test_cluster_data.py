"""Data in an object store, on a real Ray cluster whose nodes share no cache with the driver."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from clusters import Cluster

from aifs_tune.data.fetch import fetch
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study

SWEEP = """
name: far
trainer: boosting
data: {table: {target: target}}
objective: {metric: val_accuracy}
search: {trials: 2, epochs: 2, scheduler: none, sampler: random}
space: {learning_rate: {type: float, low: 0.01, high: 0.3, log: true}}
"""

DRIVER = """
import sys
from pathlib import Path
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
import aifs_tune
from aifs_tune.errors import WorkError
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.ray.nodes import ExcludedNodes

class OutOfSight(NullCallback):
    def on_sweep_start(self, plan):
        Path("driver").rename(f"gone-{study}")  # as for a node on another machine

    def on_status(self, text):
        print(text)

def add(excluded_nodes, node, reason):
    print("misplaced")
    if blocker is not None:
        ray.kill(blocker)
    return inner(excluded_nodes, node, reason)

class Blocker:
    def ready(self):
        return True

study, trials, address, is_head_busy = sys.argv[1:]
blocker, inner, ExcludedNodes.add = None, ExcludedNodes.add, add
if is_head_busy == "True":  # so that the other node is given a trial before the head has done them all
    ray.init(address=address, log_to_driver=False)
    head = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    blocker = ray.remote(Blocker).options(num_cpus=1, scheduling_strategy=head).remote()
    ray.get(blocker.ready.remote())
sweep = aifs_tune.load_sweep("far.yaml", data="s3://lab/far/table.csv")
try:
    sweep.run(study=study, trials=int(trials), storage="sqlite:///lab.db", address=address, callback=OutOfSight())
except WorkError as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.soak
def test_nodes_decode_for_themselves_and_those_with_other_data_cost_no_trial(s3, tmp_path, monkeypatch):
    (tmp_path / "far.yaml").write_text(SWEEP)
    numbers = range(400)
    table = pd.DataFrame({"x": [i % 17 for i in numbers], "y": [i % 5 for i in numbers]})
    table["target"] = [("a", "b")[int(x > 8)] for x in table["x"]]
    s3.put("far/table.csv", table.to_csv(index=False).encode())
    monkeypatch.setenv("AIFS_TUNE_CACHE", str(tmp_path / "other"))
    fetch("s3://lab/far/table.csv", with_folder=False, tell=str, progress=lambda *done: None)
    _exchange_data(tmp_path / "other")
    cluster = Cluster({**s3.environment, "AIFS_TUNE_CACHE": str(tmp_path / "node")})

    def driven(study: str, trials: int, *, is_head_busy: bool = False) -> str:
        known = {**cluster.environment, "AIFS_TUNE_CACHE": str(tmp_path / "driver")}
        words = [sys.executable, "-c", DRIVER, study, str(trials), f"127.0.0.1:{cluster.gcs}", str(is_head_busy)]
        driver = subprocess.run(words, cwd=tmp_path, env=known, capture_output=True, text=True, check=False)
        assert driver.returncode == 0, driver.stderr[-3000:]
        return driver.stdout

    try:
        cluster.join(AIFS_TUNE_CACHE=str(tmp_path / "other"))
        said = driven("one", 4, is_head_busy=True)
        assert _ended(tmp_path, "one") == [("complete", None)] * 4
        assert not (tmp_path / "driver").exists()
        names = _names(tmp_path / "node")
        assert sorted(name.partition("-")[0] for name in names) == ["examples", "fetched"]
        assert names == _names(tmp_path / "gone-one")
        assert said.count("gets no more trials: the data on ") == 1
        assert said.count("misplaced") <= 2, "no more than were placed before it was known"

        _exchange_data(tmp_path / "node")
        said = driven("two", 4)
        assert "WorkError: no node is left that can run a trial; the last one failed with: the data on " in said
        assert _ended(tmp_path, "two") == []
        counts = get_study(Storage(f"sqlite:///{tmp_path}/lab.db"), "two").counts()
        assert 1 <= counts["waiting"] <= 4
        assert counts["running"] == 0
    finally:
        cluster.close()


def _ended(lab: Path, study: str) -> list[tuple[str, str | None]]:
    trials = get_study(Storage(f"sqlite:///{lab}/lab.db"), study).all_trials()
    return [(trial.state, trial.reason) for trial in trials if trial.is_finished]


def _names(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.is_dir()}


def _exchange_data(cache: Path) -> None:
    """As if this machine had other data at the same place."""
    (file,) = cache.glob("fetched-*/table.csv")
    file.write_text(file.read_text().replace(",a", ",c"))
    for decoded in cache.glob("examples-*"):
        shutil.rmtree(decoded)
