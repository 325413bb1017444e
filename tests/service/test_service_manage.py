"""Tests of putting studies aside and deleting them over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from services import SPACE, Service, storage_in

from aifs_tune import Client
from aifs_tune.study.open import load_study

DELETE = {"study": "furnace"}


@pytest.fixture
def lab(tmp_path):
    storage = storage_in(tmp_path)
    with Service(storage) as running, Client(running.url) as client, running.http() as http:
        study = client.open_study("furnace", space=SPACE, sampler="random")
        study.tell(study.ask(), 0.5)
        client.open_study("other", space=SPACE, sampler="random")
        yield http, client, storage


def listed(http) -> dict[str, bool]:
    return {line["study"]: line["is_archived"] for line in http.get("/v1/studies").json()["studies"]}


def test_a_study_is_put_aside_and_taken_back(lab):
    http, client, storage = lab
    assert http.post("/v1/studies/furnace/archive", json={}).json()["is_archived"] is True
    assert listed(http) == {"furnace": True, "other": False}
    client.study("furnace").tell(client.study("furnace").ask(), 0.7)  # it works as before
    assert load_study("furnace", storage).best.value == 0.7
    assert http.post("/v1/studies/furnace/archive", json={"is_archived": False}).json()["is_archived"] is False
    assert listed(http) == {"furnace": False, "other": False}
    line = http.get("/v1/studies").json()["studies"][0]
    assert line["last_result_at"] == http.get("/v1/studies/furnace/trials/1").json()["finished_at"]
    assert http.post("/v1/studies/nosuch/archive", json={}).status_code == 404


def test_a_study_is_deleted_with_its_files_once(lab):
    http, client, storage = lab
    files = Path(load_study("furnace", storage).artifacts)
    files.mkdir(parents=True, exist_ok=True)
    (files / "log.txt").write_text("measured")
    refused = http.post("/v1/studies/furnace/delete", json={"study": "furnance"})
    assert (refused.status_code, "'furnance' is not the study to delete" in refused.text) == (422, True)
    assert http.post("/v1/studies/furnace/delete", json={}).status_code == 422
    assert files.exists()
    once, again = (
        http.post("/v1/studies/furnace/delete", json=DELETE, headers={"Idempotency-Key": "delete-1"}) for _ in range(2)
    )
    assert (once.status_code, once.json()) == (200, {"study": "furnace", "n_trials": 1})
    assert (again.status_code, again.json()) == (200, once.json())
    assert not files.exists()
    assert listed(http) == {"other": False}
    assert http.get("/v1/studies/furnace").status_code == 404
    assert http.post("/v1/studies/furnace/ask", json={}).status_code == 404
    assert http.post("/v1/studies/furnace/delete", json=DELETE).status_code == 404
    assert client.open_study("furnace", space=SPACE).all_trials() == []  # the name is free
    assert client.study("other").ask().number == 0
