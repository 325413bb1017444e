"""Where the time went: stages one after another, workers together."""

from __future__ import annotations

import pytest

from aifs_tune.execution.timing import Profile, process_age_s


def test_what_no_worker_worked_is_waiting():
    profile = Profile(workers=2)
    profile.stages["trials"] = 10.0
    profile.add({"train": 6.0, "import": 3.0})
    profile.add({"train": 2.0, "evaluate": 1.0})
    told = profile.to_json()
    assert told["worker_s"]["train"] == 8.0
    assert told["worker_s"]["wait"] == pytest.approx(8.0)
    assert told["reports_per_s"] == 0.2


def test_a_sweep_without_trials_has_a_profile():
    assert Profile().to_json()["driver_share_of_a_core"] is None


def test_stages_add_up():
    profile = Profile()
    for _ in range(2):
        with profile.stage("decode"):
            pass
    assert set(profile.stages) == {"decode"}
    assert process_age_s() >= 0
