"""Tests of the list of studies: results of confirmations, and finding the best of many in a real browser."""

from __future__ import annotations

import pytest
from browsers import chromium
from reported import confirm, sky_spec
from services import Service, storage_in

from aifs_tune.service.study_cache import StudyCache
from aifs_tune.service.study_list import StudyList
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.open import start_study

GAINS = {"weak": (0.05, 0.0), "strong": (0.2, 0.0), "chance": (0.0005, -0.1)}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a storage with three confirmed studies of ten, one of them without an improvement."""
    url = storage_in(tmp_path_factory.mktemp("list"))
    storage = Storage(url, create=True)

    def fill() -> None:
        for name in GAINS:
            study = start_study(storage, sky_spec(), name)
            for value in (0.6, 0.7, 0.9):
                trial = study.ask()
                study.report(trial, 1, {"val_macro_f1": value})
                study.tell(trial)
        for n in range(7):
            start_study(storage, sky_spec(), f"tried-{n}")

    storage.transact(fill)
    for name, gains in GAINS.items():
        confirm(get_study(storage, name), gains, f"{name}-confirm")
    return url


def by_name(studies: StudyList) -> dict[str, dict]:
    return {line["study"]: line for line in studies.page("default", after="", limit=100)["studies"]}


def test_the_list_tells_the_result_of_the_newest_confirmation(lab):
    with Service(lab) as service, service.http() as http:
        listed = {line["study"]: line for line in http.get("/v1/studies?limit=100").json()["studies"]}
        for name in GAINS:
            verdict, line = http.get(f"/v1/studies/{name}/verdict").json(), listed[name]["confirmation"]
            assert (line["outcome"], line["mean"]) == (verdict["outcome"], verdict["score"]["mean"])
    assert listed["strong"]["confirmation"]["difference"] == pytest.approx(0.2, abs=0.02)
    assert listed["chance"]["confirmation"]["outcome"] == "not confirmed"
    assert listed["tried-0"]["confirmation"] is listed["strong-confirm"]["confirmation"] is None


def test_the_list_reads_again_only_what_has_changed(lab, monkeypatch):
    storage = Storage(lab)
    cache, read = StudyCache(storage), []
    monkeypatch.setattr(
        cache, "study", lambda project, name: read.append(name) or StudyCache.study(cache, project, name)
    )
    studies = StudyList(storage, cache)
    first = by_name(studies)
    assert (len(read), len(first)) == (13, 13)
    read.clear()
    assert by_name(studies) == first
    assert read == []
    study = get_study(storage, "tried-3")
    study.tell(study.ask(), 0.995)
    assert by_name(studies)["tried-3"]["value"] == 0.995
    get_study(storage, "weak-confirm").set_archived(True)
    after = by_name(studies)
    assert sorted(read) == ["tried-3", "weak", "weak-confirm"]
    get_study(storage, "tried-6").delete_record()
    assert after.keys() - by_name(studies).keys() == {"tried-6"}


def test_the_best_confirmed_result_of_all_studies_is_found_and_leads_to_its_bundle(lab):
    with Service(lab) as service, chromium() as browser:
        for width in (390, 1280):
            page = browser.new_page(viewport={"width": width, "height": 800})
            page.goto(service.url)
            page.get_by_label("State").select_option("confirmed")
            page.get_by_role("button", name="Confirmed result").click()
            rows = page.locator("#studies tbody tr")
            assert [row.get_by_role("link").inner_text() for row in rows.all()] == ["strong", "weak"]
            assert "[" in rows.first.inner_text()
            rows.first.get_by_role("link").click()
            page.get_by_role("button", name="Make a bundle (ZIP)").wait_for()
            page.get_by_text("Confirmed in").first.wait_for()
            page.close()
