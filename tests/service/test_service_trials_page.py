"""Tests of the pages with all studies, all trials and one trial, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from browsers import chromium
from services import Service, storage_in

from aifs_tune.client.client import Client

SPACE = {
    "heat": {"type": "float", "low": 600.0, "high": 1400.0, "unit": "K"},
    "gas": {"type": "choice", "choices": ["argon", "air"]},
}

WAIT_MS = 60_000
"""Milliseconds to wait for all parts of the page of a study."""


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    with Service(storage_in(tmp_path_factory.mktemp("trials"))) as service, Client(service.url) as client:
        study = client.open_study("furnace", space=SPACE, metric="yield", sampler="random")
        for i in range(60):
            study.attach({"heat": 600.0 + i, "gas": "argon" if i % 2 else "air"}, (i % 10) / 10)
        study.attach({"heat": 609.0, "gas": "argon"}, 0.95)
        study.tell(study.ask(), state="failed", reason="<b>the crucible</b> cracked")
        for epoch in (1, 2):
            study.report(study.ask(label="A-17", lease_s=3600) if epoch == 1 else 62, epoch, {"yield": epoch / 10})
        study.set_note("the lid was open", 9)
        client.open_study("empty", space=SPACE, metric="yield")
        yield f"{service.url}/studies"


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


def numbers(page: Any) -> list[int]:
    return [int(text) for text in page.locator("#table tbody th").all_inner_texts()]


def test_all_trials_are_sorted_filtered_and_paged_by_the_service(page, url):
    page.goto(f"{url}/furnace/trials")
    page.get_by_text("63 trials, 1 to 50 shown").wait_for()
    page.get_by_role("button", name="Next").click()
    page.get_by_text("63 trials, 51 to 63 shown").wait_for()
    assert numbers(page) == list(range(50, 63))
    page.get_by_role("button", name="yield").click()  # the best first
    page.get_by_text("63 trials, 1 to 50 shown").wait_for()
    assert numbers(page)[:2] == [60, 9]
    page.locator("th[aria-sort=descending]").get_by_text("yield").wait_for()
    page.get_by_label("Conditions").fill("params.heat >= 605, value > 0.8")
    page.get_by_label("Text").fill("argon")
    page.keyboard.press("Enter")
    page.get_by_text("7 trials that match, 1 to 7 shown").wait_for()
    assert numbers(page) == [60, 9, 19, 29, 39, 49, 59]
    page.reload()  # the address keeps the choice
    page.get_by_text("7 trials that match").wait_for()
    assert numbers(page) == [60, 9, 19, 29, 39, 49, 59]
    page.get_by_label("Conditions").fill("heat > 5")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("'heat' is not a column; allowed").wait_for()


def test_columns_keys_yaml_and_a_file(page, url):
    page.goto(f"{url}/furnace/trials?state=running")
    page.get_by_text("1 trial that match").wait_for()
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("Label").check()
    page.locator("td").get_by_text("A-17").wait_for()
    page.get_by_label("State", exact=True).last.uncheck()
    page.locator("th").get_by_text("State").wait_for(state="detached")
    page.goto(f"{url}/furnace/trials")
    page.locator("#table tbody th a").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent") == "2"
    page.get_by_role("button", name="Trial 3 as YAML").click()
    assert "heat: 603" in page.get_by_label("For a sweep file").input_value()
    page.keyboard.press("Escape")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download all as CSV").click()
    assert len(saved.value.path().read_text().splitlines()) == 64
    page.locator("#table tbody th a").nth(9).focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Trial 9 of furnace").wait_for()


def test_a_trial_is_shown_beside_the_best(page, url):
    page.goto(f"{url}/furnace/trials/9")
    page.get_by_text("complete, yield 0.9").wait_for()
    row = page.locator("#params tbody tr").first.locator("th, td").all_inner_texts()
    assert row == ["heat (K)", "609", "609", "same"]
    assert page.locator("#result").get_by_text("the lid was open").count() == 1
    assert page.locator("#repeats tbody th").all_inner_texts() == ["60"]
    page.goto(f"{url}/furnace/trials/61")
    page.locator("#result").get_by_text("<b>the crucible</b> cracked").wait_for()
    page.goto(f"{url}/furnace/trials/62")
    page.locator("#curve path.line").wait_for()
    page.get_by_role("link", name="Enter the result").click()
    page.get_by_role("heading", name="Trial 62 · A-17").wait_for()
    page.goto(f"{url}/furnace/trials/99")
    page.get_by_role("alert").get_by_text("no trial 99").wait_for()


def test_ranges_along_the_axes_of_a_chart_choose_the_trials_of_the_list(page, url):
    page.goto(f"{url}/furnace")
    axis = page.locator("#parallel rect.brush[data-column=value]")
    axis.scroll_into_view_if_needed(timeout=WAIT_MS)
    box = axis.bounding_box()
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + 1)
    page.mouse.down()
    page.mouse.move(x, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    told = page.locator("#chosen span").inner_text()
    assert re.fullmatch(r"31 of 61 trials drawn: value >= 0\.4\d*", told), told  # 0.5 to 0.9 and 0.95
    assert page.locator("#parallel path.line:not(.outside)").count() == 31
    page.get_by_text("Choose trials by ranges").click()
    page.get_by_label("gas", exact=True).select_option("argon")
    page.get_by_label("heat (K), at most").fill("619")
    page.keyboard.press("Tab")
    page.locator("#chosen").get_by_text("7 of 61 trials drawn").wait_for()
    page.get_by_role("link", name="List them").focus()
    page.keyboard.press("Enter")
    page.get_by_text("7 trials that match, 1 to 7 shown").wait_for()
    assert numbers(page) == [5, 7, 9, 15, 17, 19, 60]
    page.go_back()
    page.locator("#parallel path.line").first.wait_for(timeout=WAIT_MS)
    assert page.locator("#parallel path.line.outside").count() == 0


def test_contours_are_drawn_of_two_chosen_parameters(page, url):
    page.goto(f"{url}/furnace")
    page.locator("#contours figure").wait_for(timeout=WAIT_MS)
    assert page.locator("#contours circle").count() == 61
    areas = page.locator("#contours path.level").evaluate_all("found => found.map(path => path.getAttribute('d'))")
    assert len([area for area in areas if area]) >= 2  # of the levels between which the values lie
    assert all("NaN" not in area for area in areas)
    assert page.locator("#contours circle.best title").text_content() == "trial 60: heat 609, gas argon, yield 0.95"
    page.locator("#contour-x").select_option("gas")
    page.get_by_text("Choose two different parameters.").wait_for()
    page.locator("#contour-y").select_option("heat")
    page.locator("#contours figcaption").get_by_text("yield by gas and heat: 61 complete trials.").wait_for()
    page.locator("#contours summary").click()
    assert page.locator("#contours tbody tr").first.locator("th, td").all_inner_texts() == [
        "60",
        "argon",
        "609",
        "0.95",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_page(scheme, page, url):
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=scheme)
    for path, there in (
        ("furnace", "#contours figure"),
        ("furnace/trials", "#table table"),
        ("furnace/trials/62", "#curve figure"),
        ("empty/trials", "#columns"),
    ):
        page.goto(f"{url}/{path}")
        page.wait_for_selector(there, timeout=WAIT_MS)
        for details in page.locator("summary").all():
            details.click()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        for width in (360, 2560):
            page.set_viewport_size({"width": width, "height": 800})
            page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    page.get_by_text("There are no trials yet. Get one with aifs-tune ask empty").wait_for()


def test_studies_are_searched_sorted_put_aside_and_deleted(page, url):
    with Client(url.removesuffix("/studies")) as client:
        for name, mode in (("glass-1.2", "max"), ("glass-1.3", "min")):
            client.open_study(name, space=SPACE, metric="haze", mode=mode)
        client.study("glass-1.3").attach({"heat": 609.0, "gas": "argon"}, 0.95)
    page.goto(url.removesuffix("studies"))
    page.get_by_text("4 studies, 1 trial running").wait_for()
    names = page.locator("#studies tbody th")
    assert names.all_inner_texts() == ["empty", "furnace", "glass-1.2", "glass-1.3"]
    page.get_by_role("button", name="Finished trials").click()
    page.get_by_role("button", name="Finished trials").click()
    assert names.all_inner_texts()[:2] == ["furnace", "glass-1.3"]
    page.get_by_label("Name or metric").fill("haze")
    page.get_by_text("2 studies").wait_for()
    page.get_by_label("Objective").select_option("minimize haze")
    assert names.all_inner_texts() == ["glass-1.3"]
    page.get_by_label("Objective").select_option("")
    page.get_by_role("button", name="Archive: glass-1.3").click()
    page.get_by_text("1 study, 0 trials running, 1 archived").wait_for()
    page.get_by_role("button", name="Delete: glass-1.2").click()
    page.get_by_text("glass-1.2 and its 0 trials").wait_for()
    page.get_by_label("Its name").fill("glass-1x2")
    page.get_by_role("button", name="Delete for good").click()
    assert page.locator("dialog#delete").is_visible(), "another name deletes nothing"
    page.get_by_label("Its name").fill("glass-1.2")
    page.get_by_role("button", name="Delete for good").click()
    page.get_by_text("No study matches").wait_for()
    page.get_by_label("State").select_option("archived")
    page.get_by_role("button", name="Take back: glass-1.3").click()
    page.get_by_text("No study matches").wait_for()
    page.goto(url.removesuffix("studies"))
    page.get_by_text("3 studies, 1 trial running").wait_for()
    assert names.all_inner_texts() == ["empty", "furnace", "glass-1.3"]


def test_a_photo_is_added_to_a_trial_though_the_network_failed_once(page, url):
    page.goto(f"{url}/furnace/trials/9")
    files = page.locator("#files")
    files.get_by_text("The trial has no photos or files.").wait_for()
    photo = {"name": "crucible 9.png", "mimeType": "image/png", "buffer": b"\x89PNG the lid"}
    files.get_by_label("Photo or file, up to 8 MB").set_input_files(photo)
    page.context.set_offline(True)
    files.get_by_role("button", name="Add").click()
    files.get_by_text("is not stored: the service cannot be reached. It is still chosen").wait_for()
    page.context.set_offline(False)
    files.get_by_role("button", name="Add").click()
    files.get_by_text("crucible 9.png is stored.").wait_for()
    with page.expect_download() as saved:
        files.get_by_role("button", name="Download crucible 9.png").click()
    assert saved.value.suggested_filename == "crucible 9.png"
    assert saved.value.path().read_bytes() == photo["buffer"]
    page.goto(f"{url}/furnace/trials/10")
    files.get_by_label("Photo or file").set_input_files({**photo, "name": "crucible.exe"})
    files.get_by_role("button", name="Add").click()
    files.get_by_text("'crucible.exe' is not allowed; allowed: up to 100").wait_for()
