"""Data in an object store, on a real Ray cluster whose nodes share no cache."""

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
        Path("driver").rename("gone")  # nodes on another machine do not see it, either

data, address = sys.argv[1:]
aifs_tune.load_sweep("far.yaml", data=data).run(storage="sqlite:///lab.db", address=address, listener=OutOfSight())
"""


def test_nodes_that_share_nothing_fetch_and_decode_once_each(tmp_path):
    (tmp_path / "far.yaml").write_text(SWEEP)
    numbers = range(400)
    table = pd.DataFrame({"x": [i % 17 for i in numbers], "y": [i % 5 for i in numbers]})
    table["target"] = [("a", "b")[int(x > 8)] for x in table["x"]]
    with s3_store() as store:
        store.put("far/table.csv", table.to_csv(index=False).encode())
        caches = [tmp_path / name for name in ("driver", "one", "two")]
        cluster = Cluster({**store.environment, "AIFS_TUNE_CACHE": str(caches[1])})
        try:
            cluster.join({"AIFS_TUNE_CACHE": str(caches[2])})
            known = {**cluster.environment, "AIFS_TUNE_CACHE": str(caches[0])}
            words = [sys.executable, "-c", DRIVER, "s3://lab/far/table.csv", f"127.0.0.1:{cluster.gcs}"]
            ran = subprocess.run(
                words, cwd=tmp_path, env=known, capture_output=True, text=True, timeout=200, check=False
            )
            assert ran.returncode == 0, ran.stderr[-3000:]
        finally:
            cluster.close()
    study = get_study(Storage(f"sqlite:///{tmp_path}/lab.db"), "far")
    trials = study.all_trials()
    assert [(trial.state, trial.reason) for trial in trials] == [("complete", None)] * 2
    assert len({trial.worker for trial in trials}) == 2, "one on each node"
    assert not caches[0].exists()
    for cache in caches[1:]:
        assert [len(list(cache.glob(f"{kind}-*/"))) for kind in ("fetched", "examples")] == [1, 1], cache
        assert _names(cache) == _names(tmp_path / "gone")


def _names(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.is_dir()}
