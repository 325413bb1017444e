"""The verdict on a study over HTTP: the same that its report says, before and after a confirmation."""

from __future__ import annotations

import httpx
import pytest
from reported import add_noise, confirm, sky_study
from services import Service, storage_in

from aifs_tune import Client
from aifs_tune.analysis.confirmation import read_confirmation
from aifs_tune.publishing.report.verdict import confirmed_text
from aifs_tune.storage.storage import Storage


@pytest.fixture
def lab(tmp_path):
    """A service with the study ``sky``, and its record."""
    url = storage_in(tmp_path)
    study = sky_study(Storage(url, create=True))
    with Service(url) as service, httpx.Client(base_url=f"{service.url}/v1") as http:
        yield http, study, service


def test_a_study_is_not_confirmed_until_it_was_trained_again(lab):
    http, study, _ = lab
    before = http.get("/studies/sky/verdict").json()
    assert before["outcome"] == "not confirmed yet"
    assert (before["confirmation"], before["score"], before["comparisons"]) == (None, None, [])
    assert before["command"] == "aifs-tune confirm sky"
    add_noise(study)
    made = confirm(study)
    answer = http.get("/studies/sky/verdict")
    after = answer.json()
    assert after["outcome"] == "confirmed"
    assert after["text"] == confirmed_text(read_confirmation(study.storage, made.name))
    assert after["confirmation"] == "sky-confirm"
    best = next(each for each in after["comparisons"] if each["verdict"] == "better")
    assert best["interval"][0] < best["difference"] < best["interval"][1]
    assert best["difference"] == pytest.approx(0.1, abs=0.02)
    assert after["score"]["configuration"] == best["name"] == f"trial {study.best.number}"
    assert after["noise"]["source"] == "8 training runs of the default configuration"
    assert after["next_step"]
    headers = {"If-None-Match": answer.headers["ETag"]}
    assert http.get("/studies/sky/verdict", headers=headers).status_code == 304


def test_a_confirmation_without_an_improvement_says_so(lab):
    http, study, _ = lab
    confirm(study, gains=(0.001, -0.1))
    found = http.get("/studies/sky/verdict").json()
    assert found["outcome"] == "not confirmed"
    assert {each["verdict"] for each in found["comparisons"]} == {"not distinguishable", "worse"}
    assert http.get("/studies/sky-confirm/verdict").json()["outcome"] == "not confirmed"


def test_studies_without_trials_or_of_an_instrument_have_one(lab):
    http, _, service = lab
    with Client(service.url) as client:
        furnace = client.open_study(
            "furnace", space={"heat": {"type": "float", "low": 0.0, "high": 1.0}}, metric="yield"
        )
        assert http.get("/studies/furnace/verdict").json()["text"] == "Not confirmed yet. No trial is complete."
        furnace.attach({"heat": 0.5}, {"yield": 1.0})
        found = http.get("/studies/furnace/verdict").json()
        assert found["text"].startswith("Not confirmed yet. Only one trial is complete")
        assert "again" in found["next_step"]
    assert http.get("/studies/nothing/verdict").status_code == 404
