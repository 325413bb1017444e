"""Sweeps on a real Ray against a real PostgreSQL that does not stay up."""

from __future__ import annotations

import json
import time

import pytest
from labs import command, ended, finished, wait_for


@pytest.mark.parametrize(
    ("n_trials", "n_restarts"), [(12, 2), pytest.param(240, 20, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_a_server_that_restarts_during_a_sweep_costs_nothing(postgres, postgres_url, lab, n_trials, n_restarts):
    sweep = ("run", "slow.yaml", "--trials", str(n_trials), "--set", "search.scheduler=none", "--json")
    driver = command(lab, *sweep, url=postgres_url)
    for restart in range(n_restarts):
        wait_for(lab, 1 + restart * n_trials // (n_restarts + 1), driver, postgres_url)
        postgres._stop()
        time.sleep(0.5)
        postgres.ensure_postgres_running()
    answer, talk = driver.communicate(timeout=120 + 2 * n_trials)
    assert driver.returncode == 0, talk
    assert json.loads(answer)["n_trials"]["complete"] == n_trials
    stored = finished(lab, postgres_url)
    assert sorted(stored) == list(range(n_trials))
    assert ended(lab) == {str(seed): 1 for _, _, seed, _ in stored.values()}, "nothing lost, nothing twice"
