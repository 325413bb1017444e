"""Test of sweeps that a service starts as jobs of a real Ray cluster, with a token and PostgreSQL."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from clusters import Cluster
from labs import ended, make_lab
from services import Service

from aifs_tune.client.client import Client


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_sweeps_are_jobs_of_a_cluster_by_project(tmp_path, postgres_url, monkeypatch):
    lab = make_lab(tmp_path)
    cluster = Cluster({"LEDGER": str(lab / "ledger.txt")})
    try:
        for name, value in {**cluster.secrets, "AIFS_TUNE_ARTIFACTS": str(lab / "artifacts")}.items():
            monkeypatch.setenv(name, value)
        words = ("--sweeps", str(lab), "--address", cluster.address, "--sweeps-at-once", "2")
        with Service(postgres_url, *words) as service, Client(service.url, project="biology") as client:
            short = client.start_sweep("slow", study="short", trials=2, epochs=1)
            assert short.wait(240) == "succeeded", short.log + cluster.logs()
            assert "best: trial" in short.log
            long = client.start_sweep("slow", study="long", trials=500)
            while "long" not in client.studies():
                assert long.state in ("pending", "running"), long.log + cluster.logs()
                time.sleep(0.2)
            long.stop()
            assert long.wait(240) == "stopped", long.log + cluster.logs()
            assert client.study("long").counts()["running"] == 0
            assert client.study("short").counts()["complete"] == 2
        said = "".join(file.read_text() for file in (lab / "artifacts" / "sweeps").glob("*/log"))
        assert "job biology:short-1" in said
        commands = [file.read_text() for file in (lab / "artifacts" / "sweeps").glob("*/command.json")]
        assert (len(commands), any("postgresql" in text for text in commands)) == (2, False)
    finally:
        cluster.close()
    assert Counter(ended(lab).values())[1] >= 2
