"""Tests of the page beside an instrument in a real browser: results arrive once, however bad the network is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browsers import chromium
from services import Service, storage_in

from aifs_tune.client.client import Client
from aifs_tune.service import qr_code
from aifs_tune.service.tokens import TokenStore
from aifs_tune.storage.storage import Storage

SPACE = {
    "temperature": {"type": "float", "low": 600.0, "high": 1400.0, "unit": "K", "description": "of the middle zone"},
    "gas": {"type": "choice", "choices": ["argon", "air"]},
}
TARGETS = """() => [...document.querySelectorAll("button, input, select, summary, label:has(input)")]
  .filter((e) => e.checkVisibility() && !e.matches("[type=radio]"))
  .map((e) => [e.textContent, e.getBoundingClientRect()])
  .filter(([, r]) => Math.min(r.width, r.height) < 44).map(([text]) => text)"""


class Lab:
    """A service that needs tokens, with a study in it."""

    def __init__(self, service: Service, tokens: TokenStore, browser: Any) -> None:
        self.service, self.browser = service, browser
        self.measure, self.read = tokens.create("lab", "measure"), tokens.create("lab", "read")
        with Client(service.url, tokens.create("lab", "manage")) as client:
            client.open_study("furnace", space=SPACE, metric="yield", sampler="random", limits=["pressure <= 3"])
        self.study = Client(service.url, self.measure).study("furnace")
        self.opened: list[Any] = []

    def sign_in(self, scope: str = "measure", token: str | None = None) -> Any:
        """A page of a new browser that is signed in."""
        context = self.browser.new_context(viewport={"width": 390, "height": 844})
        context.set_default_timeout(15_000)
        self.opened.append(context)
        headers = {"Authorization": f"Bearer {token or self.measure}", "Origin": self.service.url}
        answer = context.request.put(f"{self.service.url}/v1/session?scope={scope}", headers=headers)
        assert answer.status == 204, answer.text()
        return context.new_page()

    def open(self, page: Any, trial: int | None = None) -> Any:
        page.goto(f"{self.service.url}/studies/furnace/measure{'' if trial is None else f'?trial={trial}'}")
        page.get_by_role("button", name="Get the next configuration").wait_for()
        if trial is not None:
            page.get_by_label("yield").wait_for()
        return page


@pytest.fixture(scope="module")
def _lab(tmp_path_factory) -> Iterator[Lab]:
    storage = storage_in(tmp_path_factory.mktemp("measure"))
    tokens = TokenStore(Storage(storage, create=True))
    tokens.create("lab", "read")
    with Service(storage, "--require-token") as service, chromium() as browser:
        yield Lab(service, tokens, browser)


@pytest.fixture
def lab(_lab) -> Iterator[Lab]:
    yield _lab
    while _lab.opened:
        _lab.opened.pop().close()


def enter(page: Any, value: str, note: str = "") -> None:
    page.get_by_label("yield").fill(value)
    page.get_by_label("pressure").fill("2")
    page.get_by_label("Note").fill(note)
    page.get_by_role("button", name="Save the result").click()
    page.get_by_role("button", name="Save", exact=True).click()


def losing(n_lost: int, keys: list[str]) -> Callable[[Any], None]:
    """Carries requests out; of the first ``n_lost`` the answer gets lost."""

    def handle(route: Any) -> None:
        keys.append(route.request.headers["idempotency-key"])
        answer = route.fetch()
        if len(keys) <= n_lost:
            route.abort()
        else:
            route.fulfill(response=answer)

    return handle


def test_the_next_configuration_is_measured_and_entered(lab):
    page = lab.open(lab.sign_in())
    page.get_by_label("Your name").fill("furnace-2")
    page.get_by_label("Label of the sample").fill("A-17")
    page.get_by_label("Reserved for you").select_option("3600")
    page.get_by_role("button", name="Get the next configuration").click()
    page.get_by_label("yield").wait_for()
    number = int(re.search(r"trial=(\d+)", page.url)[1])
    trial = lab.study.trial(number)
    assert (trial.lease.owner, trial.lease.label, trial.lease.lease_s) == ("furnace-2", "A-17", 3600)
    shown = page.locator("#current .settings").inner_text()
    assert str(trial.params["temperature"]) in shown
    assert "of the middle zone" in shown
    assert page.evaluate(TARGETS) == []
    page.get_by_role("button", name="1 week").click()
    page.locator("#lease-of-current").get_by_text("reserved for 167 h").wait_for()
    for text, said in (("", "yield is missing"), ("much", '"much" is not a number'), ("1,200", "read in two ways")):
        page.get_by_label("yield").fill(text)
        page.get_by_role("button", name="Save the result").click()
        page.get_by_role("alert").get_by_text(said).wait_for()
    enter(page, "0,71", "the lid was open")
    page.get_by_text(f"The result of trial {number} is stored.").wait_for()
    page.locator("#waiting").wait_for(state="hidden")
    told = lab.study.trial(number)
    assert (told.value, dict(told.metrics)) == (0.71, {"yield": 0.71, "pressure": 2.0})
    assert lab.study.trial_notes[number] == "the lid was open"


@pytest.mark.parametrize(("choice", "stored"), [("Failed", None), ("Infeasible", False)])
def test_a_trial_that_failed_or_is_infeasible_is_entered(choice, stored, lab):
    trial = lab.study.ask()
    page = lab.open(lab.sign_in(), trial.number)
    page.get_by_label(choice).check()
    if choice == "Failed":
        page.get_by_role("button", name="Save the result").click()
        page.get_by_role("alert").get_by_text("say why it failed").wait_for()
    page.get_by_label("Reason").fill("the crucible cracked")
    page.get_by_role("button", name="Save the result").click()
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text(f"The result of trial {trial.number} is stored.").wait_for()
    told = lab.study.trial(trial.number)
    assert (told.state, told.reason, told.feasible) == ("failed", "the crucible cracked", stored)


def test_a_result_waits_through_lost_answers_and_a_reload_and_counts_once(lab):
    trial, n_before = lab.study.ask(), lab.study.counts()["complete"]
    page, keys = lab.open(lab.sign_in(), trial.number), []
    page.route("**/tell", lambda route: route.abort())
    enter(page, "0.5")
    page.locator("#waiting").get_by_text("the service cannot be reached").wait_for()
    assert lab.study.trial(trial.number).state == "running"
    page.unroute("**/tell")
    page.route("**/tell", losing(2, keys))
    page.reload()
    page.get_by_text("The result of trial").get_by_text("is stored.").wait_for()
    page.locator("#waiting").wait_for(state="hidden")
    assert (len(keys), len(set(keys))) == (3, 1)
    assert lab.study.counts()["complete"] == n_before + 1
    assert page.evaluate("Object.keys(localStorage).filter((name) => name.includes('waiting'))") == []


def test_a_lost_answer_to_the_request_for_a_configuration_makes_no_second_trial(lab):
    n_before = len(lab.study.all_trials())
    page, keys = lab.open(lab.sign_in()), []
    page.route("**/ask", losing(1, keys))
    page.get_by_role("button", name="Get the next configuration").click()
    page.get_by_text(f"Trial {n_before} is yours.").wait_for()
    assert (len(keys), len(set(keys)), len(lab.study.all_trials())) == (2, 1, n_before + 1)


def test_offline_and_back(lab):
    trial = lab.study.ask()
    page = lab.open(lab.sign_in(), trial.number)
    page.context.set_offline(True)
    enter(page, "0.25")
    page.locator("#waiting").get_by_text("the service cannot be reached").wait_for()
    page.locator("#current").get_by_text("waits to be acknowledged").wait_for()
    page.context.set_offline(False)
    page.get_by_text(f"The result of trial {trial.number} is stored.").wait_for()
    assert lab.study.trial(trial.number).value == 0.25


def test_what_a_guest_network_answers_acknowledges_nothing(lab):
    trial = lab.study.ask()
    page = lab.open(lab.sign_in(), trial.number)
    page.route("**/tell", lambda route: route.fulfill(status=200, content_type="text/html", body="<h1>Log in</h1>"))
    enter(page, "0.25")
    page.locator("#waiting").get_by_text("something else than the service answered").wait_for()
    page.unroute("**/tell")
    page.get_by_text(f"The result of trial {trial.number} is stored.").wait_for()


def test_of_two_browsers_at_once_the_first_result_stands(lab):
    trial = lab.study.ask()
    first, second = (lab.open(lab.sign_in(), trial.number) for _ in range(2))
    for page in (first, second):
        page.route("**/tell", lambda route: route.abort())
    enter(first, "0.1")
    enter(second, "0.2")
    for page in (first, second):
        page.locator("#waiting").get_by_text("the service cannot be reached").wait_for()
    first.unroute("**/tell")
    first.get_by_text(f"The result of trial {trial.number} is stored.").wait_for()
    second.unroute("**/tell")
    second.locator("#waiting").get_by_text("the first result stands").wait_for()
    assert lab.study.trial(trial.number).value == 0.1
    second.reload()
    second.locator("#waiting").get_by_text("the first result stands").wait_for()
    second.get_by_role("button", name="Discard").click()
    second.locator("#waiting").wait_for(state="hidden")


def test_two_tabs_that_send_the_same_result_store_it_once(lab):
    trial, n_before = lab.study.ask(), lab.study.counts()["complete"]
    page, keys = lab.open(lab.sign_in(), trial.number), []
    page.context.route("**/tell", lambda route: route.abort())
    enter(page, "0.3")
    other = lab.open(page.context.new_page())
    other.locator("#waiting").get_by_text("the service cannot be reached").wait_for()
    page.context.unroute("**/tell")
    page.context.route("**/tell", losing(0, keys))
    for tab in (page, other):
        tab.evaluate("window.dispatchEvent(new Event('online'))")
    for tab in (page, other):
        tab.locator("#waiting").wait_for(state="hidden")
    page.context.unroute_all(behavior="wait")  # an answer that is still on its way would fail in the next test
    assert (len(set(keys)), lab.study.counts()["complete"]) == (1, n_before + 1)


def test_overdue_trials_come_first(lab):
    for trial in lab.study.all_trials():
        if trial.state == "running":
            lab.study.cancel(trial)
    later, overdue = lab.study.ask(label="later", lease_s=3600), lab.study.ask(label="overdue", lease_s=1)
    page = lab.sign_in()
    page.wait_for_timeout(1100)
    lab.open(page)
    page.locator("#running .overdue").wait_for()
    assert page.locator("#running button").all_inner_texts() == [
        f"Trial {overdue.number} · overdue",
        f"Trial {later.number} · later",
    ]
    page.get_by_role("heading", name=f"Trial {overdue.number} · overdue").wait_for()


def test_a_session_that_may_only_read_is_led_to_sign_in(lab):
    trial = lab.study.ask()
    page = lab.sign_in("read")
    page.goto(f"{lab.service.url}/studies/furnace/measure?trial={trial.number}")
    page.get_by_role("link", name="Sign in to enter results").click()
    page.get_by_label("Token").fill(lab.read)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").get_by_text("this token may read; needed: measure").wait_for()
    page.get_by_label("Token").fill(lab.measure)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("yield").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_page(scheme, lab):
    from axe_playwright_python.sync_playwright import Axe

    trial = lab.study.ask(label="a sample with a long name of many letters", lease_s=3600)
    page = lab.open(lab.sign_in(), trial.number)
    page.emulate_media(color_scheme=scheme)
    page.locator("#current summary").click()
    page.locator("img.qr").evaluate("image => image.decode()")  # resolves once it is drawn
    page.get_by_label("Failed").check()
    page.route("**/tell", lambda route: route.abort())
    page.get_by_label("Reason").fill("it broke")
    page.get_by_role("button", name="Save the result").click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator("#waiting").get_by_text("the service cannot be reached").wait_for()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    for width in (360, 2560):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_discarded_result_can_be_entered_again(lab):
    trial = lab.study.ask()
    page = lab.open(lab.sign_in(), trial.number)
    problem = {"status": 403, "content_type": "application/problem+json", "body": '{"detail": "not today"}'}
    page.route("**/tell", lambda route: route.fulfill(**problem))
    enter(page, "0.4")
    page.locator("#waiting").get_by_text("Refused: not today").wait_for()
    page.unroute("**/tell")
    page.get_by_role("button", name="Discard").click()
    enter(page, "0.45")
    page.get_by_text(f"The result of trial {trial.number} is stored.").wait_for()
    assert lab.study.trial(trial.number).value == 0.45


def test_the_qr_code_has_the_address_of_the_form(lab):
    trial = lab.study.ask()
    path = f"/v1/studies/furnace/trials/{trial.number}/qr"
    with lab.service.http(headers={"Authorization": f"Bearer {lab.read}"}) as http:
        for scheme in ("http", "https"):
            told = http.get(path, params={"scheme": scheme})
            address = f"{lab.service.url.replace('http:', f'{scheme}:')}/studies/furnace/measure"
            assert told.content == qr_code.svg(f"{address}?trial={trial.number}&project=lab")
            assert told.headers["content-type"] == "image/svg+xml"
        assert http.get(path, params={"scheme": "ftp"}).status_code == 422
        assert http.get("/v1/studies/furnace/trials/9999/qr").status_code == 404
