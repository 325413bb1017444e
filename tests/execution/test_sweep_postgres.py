"""Sweeps on a real Ray against a real PostgreSQL that does not stay up."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import sqlalchemy
from labs import command, ended, finished, wait_for
from servers import crash, revive, stop


def ray_folder() -> str:
    """Where a Ray that was started without a word about it writes."""
    return os.path.join(os.environ.get("RAY_TMPDIR", "/tmp"), "ray")


@pytest.mark.parametrize(
    ("n_trials", "n_restarts"), [(6, 1), pytest.param(240, 20, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_a_server_that_restarts_during_a_sweep_costs_nothing(postgres, postgres_url, lab, n_trials, n_restarts):
    sweep = ("run", "slow.yaml", "--trials", str(n_trials), "--set", "search.scheduler=none", "--json")
    driver = command(lab, *sweep, url=postgres_url)
    for restart in range(n_restarts):
        wait_for(lab, 1 + restart * n_trials // (n_restarts + 1), driver, postgres_url)
        (crash if restart % 2 else stop)(postgres)
        time.sleep(0.5)
        revive(postgres)
    answer, talk = driver.communicate(timeout=120 + 2 * n_trials)
    assert driver.returncode == 0, talk
    assert json.loads(answer)["n_trials"]["complete"] == n_trials
    stored = finished(lab, postgres_url)
    assert sorted(stored) == list(range(n_trials))
    assert ended(lab) == {str(seed): 1 for _, _, seed, _ in stored.values()}, "nothing lost, nothing twice"


@pytest.mark.soak
def test_a_password_is_in_nothing_that_a_sweep_leaves(postgres_url, lab):
    secret = postgres_url.replace("postgres:", "postgres:geheim42")
    said = ""
    for words in (
        ("run", "slow.yaml", "--trials", "3", "--profile"),
        ("status", "slow"),
        ("studies",),
        ("best", "slow", "--yaml"),
        ("trials", "slow", "--format", "json"),
        ("run", "slow.yaml", "--study", "no/name"),
        ("best", "absent"),
    ):
        asked = command(lab, *words, url=secret)
        said += "".join(asked.communicate(timeout=120))
    assert "best score" in said
    assert "no study 'absent'" in said
    assert "geheim42" not in said
    ray_logs = Path(ray_folder(), "session_latest", "logs")
    files = [file for folder in (lab, ray_logs) for file in folder.rglob("*") if file.is_file()]
    assert any("raylet" in file.name for file in files)
    assert [file.name for file in files if b"geheim42" in file.read_bytes()] == []
    with sqlalchemy.create_engine(postgres_url).connect() as connection:
        for table in sqlalchemy.inspect(connection).get_table_names():
            rows = connection.exec_driver_sql(f"SELECT * FROM {table}").all()
            assert "geheim42" not in str(rows)
