"""Tests of the comparison of studies: its route, and its page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from browsers import chromium
from reported import genes_studies, retrain
from services import Service, storage_in

from aifs_tune import Client
from aifs_tune.publishing.study_comparison import compare_studies
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study

HOSTILE = "<img src=x onerror=window.hacked=1>"
SPACE = {"heat": {"type": "float", "low": 600.0, "high": 1400.0, "unit": HOSTILE}}


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> str:
    return storage_in(tmp_path_factory.mktemp("compare"))


@pytest.fixture(scope="module")
def url(storage) -> Iterator[str]:
    studies = genes_studies(Storage(storage, create=True))
    for study in studies:
        study.match_data("a" * 40)
    retrain(studies[0], ["genes-tpe"], [0.6, 0.7])
    with Service(storage) as service, Client(service.url) as client:
        for name in ("furnace", "empty"):
            made = client.open_study(name, space=SPACE, metric="yield", sampler="random")
            if name == "furnace":
                made.attach({"heat": 900.0}, 0.5)
        yield service.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(15_000)
    errors: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Security" in message.text else None)
    yield page
    assert errors == []
    context.close()


def test_the_route_compares_in_the_order_of_the_request(url, storage):
    with httpx.Client(base_url=f"{url}/v1", timeout=60) as http:
        answer = http.get("/comparison?studies=genes-tpe&studies=genes")
        found = answer.json()
        assert [each["study"] for each in found["studies"]] == ["genes-tpe", "genes"]
        assert [each["best"]["params"]["dropout"] for each in found["studies"]] == [0.6, 0.3]
        assert found["studies"][0]["fingerprint"] == "a" * 40
        studies = [get_study(Storage(storage), name) for name in ("genes-tpe", "genes")]
        assert compare_studies(studies) == {key: found[key] for key in found if key != "studies"}
        again = http.get(
            "/comparison?studies=genes-tpe&studies=genes", headers={"If-None-Match": answer.headers["ETag"]}
        )
        assert again.status_code == 304


def test_the_route_refuses_what_it_cannot_compare(url):
    with httpx.Client(base_url=f"{url}/v1", timeout=60) as http:
        for query, status, text in (
            ("studies=genes", 422, "studies"),
            ("studies=genes&studies=genes", 422, "'genes' is named twice"),
            ("studies=genes&studies=..", 422, "studies"),
            ("&".join(f"studies=s{i}" for i in range(7)), 422, "studies"),
            ("studies=genes&studies=nosuch", 404, "no study 'nosuch' in this project"),
        ):
            refused = http.get(f"/comparison?{query}")
            assert (refused.status_code, text in refused.text) == (status, True), refused.text


def test_studies_are_ticked_and_compared_with_the_keyboard(page, url):
    page.goto(url)
    page.get_by_text("Tick two or more studies to compare them.").wait_for()
    page.get_by_label("Compare genes", exact=True).focus()
    page.keyboard.press("Space")
    page.get_by_text("Tick one more study to compare.").wait_for()
    page.get_by_label("Compare genes-tpe").focus()
    page.keyboard.press("Space")
    page.reload()  # the address keeps the choice
    page.get_by_role("link", name="Compare 2 studies").focus()
    page.keyboard.press("Enter")
    page.get_by_text("2 studies: genes, genes-tpe").wait_for()
    assert page.url.endswith("/compare?studies=genes&studies=genes-tpe")
    page.get_by_role("link", name="Choose studies").click()
    page.get_by_role("button", name="Choose none").click()
    page.get_by_text("Tick two or more studies to compare them.").wait_for()
    assert page.locator("#studies input:checked").count() == 0


def test_two_studies_are_shown_side_by_side(page, url):
    page.goto(f"{url}/compare?studies=genes&studies=genes-tpe")
    page.locator("#verdict").get_by_text("genes-tpe trial 1: better than genes trial 2 by 0.1").wait_for()
    assert page.locator("#history path.line").count() == 4  # two histories and the key
    assert "genes-tpe 1.1 (2 trials), genes 0.8 (3 trials)" in page.locator("#history figcaption").inner_text()
    rows = [row.locator("th, td").all_inner_texts() for row in page.locator("#best tbody tr").all()]
    assert rows == [
        ["Trial", "2", "1", ""],
        ["val_macro_f1", "0.8", "1.1", ""],
        ["dropout", "0.3", "0.6", "no"],
        ["width", "16", "16", "yes"],
    ]
    assert page.locator("#best .differs").all_inner_texts() == ["0.3", "0.6"]
    rows = [row.locator("th, td").all_inner_texts() for row in page.locator("#spaces tbody tr").all()]
    assert rows == [
        ["width", "int, 8 to 32", "int, 8 to 64"],
        ["search.sampler", "random", "tpe"],
    ]
    assert page.locator("#data .lead").inner_text().startswith("Equal: content, labels and split are the same")
    with page.expect_download() as saved:
        page.get_by_role("button", name="save as SVG").click()
    assert "stroke-dasharray" in saved.value.path().read_text()


def test_other_objectives_and_studies_without_results_are_told_apart(page, url):
    page.goto(f"{url}/compare?studies=genes&studies=furnace&studies=empty")
    page.get_by_text("The studies have different objectives").wait_for()
    assert page.locator("#history figure").count() == 2
    assert "No trial is complete in empty." in page.locator("#history figcaption").last.inner_text()
    assert "cannot be trained again and compared" in page.locator("#verdict").inner_text()
    assert HOSTILE in page.locator("#spaces").inner_text()
    assert page.evaluate("window.hacked") is None
    page.goto(f"{url}/compare?studies=genes&studies=nosuch")
    page.get_by_role("alert").get_by_text("no study 'nosuch' in this project").wait_for()
    page.goto(f"{url}/compare")
    page.get_by_text("Choose two or more studies in the list of studies first.").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_page(scheme, page, url):
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=scheme)
    for path in ("/compare?studies=genes&studies=genes-tpe", "/?studies=genes"):
        page.goto(url + path)
        page.wait_for_selector("table")
        for details in page.locator("summary").all():
            details.click()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        for width in (360, 2560):
            page.set_viewport_size({"width": width, "height": 800})
            page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
