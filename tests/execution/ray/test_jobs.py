"""Jobs of a cluster that is not quite there yet; a real one is in test_cluster.py."""

from __future__ import annotations

from typing import Any

import pytest

from aifs_tune.execution.ray import jobs


class Client:
    """A cluster that has no agent for the first jobs."""

    def __init__(self, refused: int, reason: str) -> None:
        self.refused, self.reason, self.sent = refused, reason, 0

    def submit_job(self, **job: Any) -> None:
        self.sent += 1
        if self.sent <= self.refused:
            raise RuntimeError(f"Request failed with status code 500: {self.reason}")


@pytest.mark.parametrize(
    ("reason", "sent"), [("No available agent to submit job, please try again later..", 3), ("disk full", 1)]
)
def test_a_job_is_sent_again_until_an_agent_is_there(reason: str, sent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: None)
    opened = jobs.RayJobs.__new__(jobs.RayJobs)
    opened._client = client = Client(2, reason)
    if sent == 1:
        with pytest.raises(RuntimeError, match=reason):
            opened._send(entrypoint="true")
    else:
        opened._send(entrypoint="true")
    assert client.sent == sent
