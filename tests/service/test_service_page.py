"""Tests of the pages in a real browser: content, keyboard, accessibility and safety."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from browsers import chromium
from services import Service, storage_in

from aifs_tune.client.client import Client
from aifs_tune.service.tokens import TokenStore
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study

SCRIPT = "<script>window.hacked=1</script>"
IMAGE = '"><img src=x onerror=window.hacked=1>'
HOSTILE = f"{IMAGE}{SCRIPT}<svg onload=window.hacked=1>"
SPACE = {
    "temperature": {"type": "float", "low": 600.0, "high": 1400.0, "unit": "K"},
    "rate": {"type": "float", "low": 0.01, "high": 10.0, "log": True},
    "gas": {"type": "choice", "choices": ["argon", "air", "yes"]},
    "holds": {"type": "int", "low": 1, "high": 8, "when": {"gas": ["argon", "air"]}},
}
SECTIONS = [
    "Verdict",
    "Progress",
    "Best value so far",
    "Best configurations",
    "Learning curves",
    "Parameter importance",
]
SECTIONS += ["Slices", "Contours", "Parallel coordinates", "Workers", "Reports and bundles"]
WAIT_MS = 30_000
TEXTS = "section => section.textContent + [...section.querySelectorAll('[aria-label]')].map(e => e.ariaLabel).join()"


@dataclass
class Lab:
    """A service with the study of a furnace and a hostile study, a token, and a token to be revoked."""

    service: Service
    storage: str
    token: str
    short: str

    def client(self) -> Client:
        return Client(self.service.url, self.token)


@dataclass
class Visit:
    """A page with the URLs that it requested and the errors in its console."""

    page: Any
    requested: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    storage = storage_in(tmp_path_factory.mktemp("page"))
    token_store = TokenStore(Storage(storage, create=True))
    made, short = token_store.create("default", "manage"), token_store.create("default", "read")
    with Service(storage, "--require-token") as service:
        lab = Lab(service, storage, made, short)
        with lab.client() as client:
            furnace = client.open_study("furnace", space=SPACE, metric="yield", sampler="random")
            for i, trial in enumerate(furnace.ask_batch(14)):
                for epoch in (1, 2, 3):
                    furnace.report(trial, epoch, {"yield": i * epoch / 42}, worker=f"oven {i % 2}")
                if i < 12:
                    furnace.tell(trial, state="pruned" if i == 5 else "complete")
            furnace.tell(12, state="failed", reason="the crucible cracked")
            space = {"x": SPACE["temperature"], "gas": {"type": "choice", "choices": [HOSTILE, "air"]}}
            space["x"] = space["x"] | {"unit": "<b>K</b>", "description": HOSTILE}
            hostile = client.open_study("hostile", space=space, metric=IMAGE, sampler="random")
            for i in range(8):
                hostile.attach({"x": 700.0 + i, "gas": HOSTILE}, {IMAGE: float(i)})
            trial = hostile.ask()
            hostile.report(trial, 1, {IMAGE: 1.0}, worker=HOSTILE)
            hostile.tell(hostile.ask(), state="failed", reason=HOSTILE)
        yield lab


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser, lab) -> Iterator[Visit]:
    """A new browser without cookies."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(WAIT_MS)
    made = Visit(context.new_page())
    context.on("request", lambda request: made.requested.append(request.url))
    made.page.on("pageerror", lambda error: made.errors.append(str(error)))
    made.page.on("console", lambda message: made.errors.append(message.text) if message.type == "error" else None)
    yield made
    assert [url for url in made.requested if not url.startswith((lab.service.url, "data:", "blob:"))] == []
    context.close()


@pytest.fixture
def inside(visit, lab) -> Visit:
    """A browser that is signed in."""
    headers = {"Authorization": f"Bearer {lab.token}", "Origin": lab.service.url}
    assert visit.page.request.put(f"{lab.service.url}/v1/session", headers=headers).status == 204
    return visit


def opened(visit: Visit, lab: Lab, study: str) -> Any:
    visit.page.goto(f"{lab.service.url}/studies/{study}")
    visit.page.wait_for_selector("#workers figure")
    return visit.page


def soon(page: Any, selector: str) -> Any:
    """Playwright's expectation for a part of the page, which waits until it holds."""
    from playwright.sync_api import expect

    return expect(page.locator(selector))


def test_signing_in_and_out(visit, lab):
    page = visit.page
    page.goto(f"{lab.service.url}/studies/furnace")
    page.wait_for_url("**/sign-in?next=*")
    field = page.get_by_label("Token")
    field.fill("aifs_nonsense")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("not valid").wait_for()
    field.fill(lab.token)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="furnace").wait_for()
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert lab.token not in str(cookie)
    assert page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 0]
    # a signed-in browser is redirected, but only within the service
    page.goto(f"{lab.service.url}/sign-in?next=https://evil.example/")
    page.get_by_role("link", name="furnace").click()
    page.wait_for_selector("#workers figure")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    page.goto(f"{lab.service.url}/")
    page.wait_for_url("**/sign-in?next=*")


def test_revoking_the_token_signs_the_page_out(visit, lab):
    headers = {"Authorization": f"Bearer {lab.short}", "Origin": lab.service.url}
    assert visit.page.request.put(f"{lab.service.url}/v1/session", headers=headers).status == 204
    page = opened(visit, lab, "furnace")
    TokenStore(Storage(lab.storage)).revoke(lab.short.split("_")[1])
    page.wait_for_url("**/sign-in?next=*")


def test_a_study_is_drawn(inside, lab):
    page = opened(inside, lab, "furnace")
    assert page.locator("h2").filter(visible=True).all_inner_texts() == SECTIONS
    assert "13 trials finished, 1 running" in page.locator("#progress .lead").inner_text()
    assert page.locator("#progress").get_by_text("the crucible cracked").count() == 1
    assert page.locator("#history circle").count() == 12
    assert page.locator("#curves path.line").count() == 14
    assert page.locator("#curves path.line.best").count() == 1
    assert page.locator("#parallel path.line").count() == 11
    assert page.locator("#workers rect").count() == 14
    assert page.locator("#slices figure").count() == 4
    assert page.locator("#slices figure").first.locator("circle").count() == 12
    page.get_by_label("hide the pruned").check()
    soon(page, "#history circle").to_have_count(11)
    page.get_by_label("hide the pruned").uncheck()
    page.get_by_label("logarithmic").check()
    soon(page, "#history figcaption").to_contain_text("some values are not positive")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Best value so far: save as SVG").click()
    assert "<circle" in saved.value.path().read_text()
    rate = page.locator("#slices svg").nth(1).locator(".axis-x .tick")
    assert [text for text in rate.all_text_contents() if text] == ["0.01", "0.1", "1", "10"]
    assert rate.count() == 28  # with those between the decades
    assert page.locator("#importance tbody tr").count() >= 3
    best = page.locator("#best tbody tr").first.locator("th, td").all_inner_texts()
    assert best[:2] == ["11", "0.7857"]
    page.get_by_label("time").check()
    assert "time since the first trial finished" in page.locator("#history svg").text_content()
    assert inside.errors == []
    page.set_viewport_size({"width": 360, "height": 800})
    soon(page, "#history svg").to_have_attribute("width", re.compile(r"^[23]\d\d$"), timeout=WAIT_MS)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    edges = "captions => captions.map(caption => caption.getBoundingClientRect().right)"
    assert max(page.locator("caption").evaluate_all(edges)) <= 360


def test_the_trials_of_the_pareto_front_are_told_apart(inside, lab):
    with lab.client() as client:
        two = client.open_study("two", space=SPACE, metric="yield", trade_off={"cost": "min"}, sampler="random")
        for gain, cost in ((1.0, 5.0), (0.5, 1.0), (0.4, 2.0)):
            two.tell(two.ask(), {"yield": gain, "cost": cost})
    page = opened(inside, lab, "two")
    assert page.locator("#front circle").count() == 3
    assert page.locator("#front circle.best").count() == 2
    soon(page, "#front figcaption").to_contain_text("3 complete trials, 2 of them on the Pareto front")
    assert inside.errors == []


def test_a_page_is_updated_while_results_arrive(inside, lab):
    with lab.client() as client:
        study = client.open_study("live", space=SPACE, metric="yield", sampler="random")
        page = inside.page
        page.goto(f"{lab.service.url}/")
        page.get_by_role("link", name="live").click()
        page.locator("#best").get_by_text("No trial is complete yet.").wait_for()
        for i in range(1, 4):
            study.tell(study.ask(), {"yield": i / 2})
            page.locator("#progress .lead").get_by_text(
                f"{i} trial{'s' if i > 1 else ''} finished, best yield {i / 2:g} in"
            ).wait_for()
        soon(page, "#history circle").to_have_count(3, timeout=WAIT_MS)
        assert "3 trials finished" in page.get_by_role("status").first.inner_text()
        study.attach({"temperature": 900.0, "rate": 1.0, "gas": "argon", "holds": 2}, 9.0)
        page.locator("#best tbody tr").first.get_by_text("9", exact=True).wait_for()
    assert inside.errors == []


def test_the_keyboard_is_enough_and_a_configuration_can_be_copied(inside, lab):
    page = opened(inside, lab, "furnace")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the study"
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Trial 11 as YAML").focus()
    page.keyboard.press("Enter")
    text = page.get_by_label("For a sweep file").input_value()
    told = get_study(Storage(lab.storage), "furnace").trial(11)
    assert yaml.safe_load(text) == {"space": dict(told.params)}
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == text
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Trial 11 as YAML"
    page.locator("#curves summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#curves table").is_visible()
    assert page.locator("#curves tbody tr").count() == 14
    with lab.client() as client:  # open details and focus are kept when the page is redrawn
        client.study("furnace").report(13, 4, {"yield": 0.5})
    page.locator("#progress tbody").get_by_text("4", exact=True).first.wait_for()
    soon(page, "#curves").to_contain_text("running4", timeout=WAIT_MS)
    assert page.locator("#curves table").is_visible()
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_nothing_in_a_study_becomes_a_script(inside, lab):
    page = opened(inside, lab, "hostile")
    page.locator("#progress").get_by_text(HOSTILE).first.wait_for()
    for section in ("best", "history", "curves", "parallel", "importance", "workers"):
        shown = page.locator(f"#{section}").evaluate(TEXTS)
        assert IMAGE in shown, section
    page.get_by_role("button", name=re.compile("as YAML")).first.click()
    assert yaml.safe_load(page.get_by_label("For a sweep file").input_value())["space"]["gas"] == HOSTILE
    assert page.locator("main img, main script, main svg[onload], dialog img").count() == 0
    assert page.evaluate("window.hacked") is None
    assert inside.errors == []
    page.keyboard.press("Escape")
    page.locator("#details").click()  # Optuna's dashboard with the same study
    page.get_by_text("Best Trial").first.wait_for()
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(scheme, inside, lab):
    from axe_playwright_python.sync_playwright import Axe

    page = inside.page
    page.emulate_media(color_scheme=scheme)
    for path, there in (("/studies/furnace", "#workers figure"), ("/", "#studies table")):
        page.goto(f"{lab.service.url}{path}")
        page.wait_for_selector(there)
        for details in page.locator("summary").all():
            details.click()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        for button in page.get_by_role("button", name="as YAML").all()[:1]:
            button.click()
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
    inside.page.context.clear_cookies()
    page.goto(f"{lab.service.url}/sign-in")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_an_unknown_study_and_an_unreachable_service_are_reported(inside, lab, tmp_path):
    page = inside.page
    page.goto(f"{lab.service.url}/studies/nosuch")
    page.get_by_role("alert").get_by_text("no study 'nosuch' in this project").wait_for()
    page = opened(inside, lab, "furnace")
    page.context.set_offline(True)
    page.get_by_role("alert").get_by_text("This page may be out of date").wait_for()
    page.context.set_offline(False)
    page.wait_for_selector("#error", state="hidden")
    assert page.locator("#history circle").count() == 12
