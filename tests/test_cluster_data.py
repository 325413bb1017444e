"""Data in an object store, on a real Ray cluster whose node shares no cache with the driver."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
from clusters import Cluster
from stores import s3_store

from aifs_tune.storage import Storage
from aifs_tune.studies import get_study

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
import aifs_tune
from aifs_tune.listener import Silent

class OutOfSight(Silent):
    def planned(self, plan):
        Path("driver").rename("gone")  # as for a node on another machine

data, address = sys.argv[1:]
aifs_tune.load_sweep("far.yaml", data=data).run(storage="sqlite:///lab.db", address=address, listener=OutOfSight())
"""


def test_a_node_that_shares_no_cache_fetches_and_decodes_for_itself(tmp_path):
    (tmp_path / "far.yaml").write_text(SWEEP)
    numbers = range(400)
    table = pd.DataFrame({"x": [i % 17 for i in numbers], "y": [i % 5 for i in numbers]})
    table["target"] = [("a", "b")[int(x > 8)] for x in table["x"]]
    with s3_store() as store:
        store.put("far/table.csv", table.to_csv(index=False).encode())
        cluster = Cluster({**store.environment, "AIFS_TUNE_CACHE": str(tmp_path / "node")})
        try:
            known = {**cluster.environment, "AIFS_TUNE_CACHE": str(tmp_path / "driver")}
            words = [sys.executable, "-c", DRIVER, "s3://lab/far/table.csv", f"127.0.0.1:{cluster.gcs}"]
            driver = subprocess.run(words, cwd=tmp_path, env=known, capture_output=True, text=True, check=False)
            assert driver.returncode == 0, driver.stderr[-3000:]
        finally:
            cluster.close()
    trials = get_study(Storage(f"sqlite:///{tmp_path}/lab.db"), "far").all_trials()
    assert [(trial.state, trial.reason) for trial in trials] == [("complete", None)] * 2
    assert not (tmp_path / "driver").exists()
    names = _names(tmp_path / "node")
    assert sorted(name.partition("-")[0] for name in names) == ["examples", "fetched"]
    assert names == _names(tmp_path / "gone")


def _names(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.is_dir()}
