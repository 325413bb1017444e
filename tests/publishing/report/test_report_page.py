"""The HTML page in a real browser: it runs and loads nothing, fits a phone, and is accessible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browsers import chromium
from reported import hostile_study

from aifs_tune.publishing.report import write_report


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (file,) = write_report(hostile_study(f"sqlite:///{folder}/lab.db"), folder / "report.html")
    return file


@pytest.fixture(scope="module")
def browser() -> Any:
    with chromium() as opened:
        yield opened


def visit(browser: Any, file: Path, width: int) -> tuple[Any, list[str]]:
    """The page in a window, with its requests and its error messages."""
    messages: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: messages.append(request.url))
    page.goto(file.as_uri())
    return page, messages


@pytest.mark.parametrize("width", [1280, 420])
def test_it_fits_the_window_and_asks_for_nothing(browser, page_file, width):
    page, messages = visit(browser, page_file, width)
    assert messages == [page_file.as_uri()]
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.scripts.length") == 0
    wide = "[...document.querySelectorAll('figure')].filter(f => f.getBoundingClientRect().right > innerWidth).length"
    assert page.evaluate(wide) == 0
    # No letter of a picture lies outside of it.
    clipped = """[...document.querySelectorAll('figure svg')].flatMap(svg => {
        const edge = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].filter(text => {
            const box = text.getBoundingClientRect();
            return box.right > edge.right + 4 || box.left < edge.left - 4 || box.bottom > edge.bottom + 4;
        }).map(text => text.textContent)})"""
    assert page.evaluate(clipped) == []
    page.close()


def test_it_is_accessible(browser, page_file):
    from axe_playwright_python.sync_playwright import Axe

    page, _ = visit(browser, page_file, 1280)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    names = page.evaluate("[...document.querySelectorAll('figure svg')].map(svg => svg.getAttribute('aria-label'))")
    assert names
    assert all(names)
    page.close()


def test_printed_it_has_no_navigation_and_nothing_is_cut(browser, page_file):
    page, _ = visit(browser, page_file, 700)
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    cut = "[...document.querySelectorAll('.scroll, pre')].filter(e => e.scrollWidth > e.clientWidth + 2).length"
    assert page.evaluate(cut) == 0
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF-")
    page.close()
