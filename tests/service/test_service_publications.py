"""Reports and bundles over HTTP and on the page of a study: made, listed and downloaded."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browsers import chromium
from services import SPACE, Service, storage_in

from aifs_tune.analysis.confirmation import CANDIDATES
from aifs_tune.client.client import Client
from aifs_tune.service.tokens import TokenStore
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study

UNKNOWN = "20260101T000000Z-00000000"
WAIT_S = 180.0
_BASELINE = {"name": "baseline", "trial": None, "params": {"x": 0.5}}


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> str:
    return storage_in(tmp_path_factory.mktemp("publications"))


@pytest.fixture(scope="module")
def tokens(storage) -> dict[str, str]:
    token_store = TokenStore(Storage(storage, create=True))
    made = {scope: token_store.create("default", scope) for scope in ("read", "measure", "manage")}
    return made | {"other": token_store.create("physics", "manage")}


@pytest.fixture(scope="module")
def service(storage, tokens) -> Iterator[Service]:
    with Service(storage, "--require-token") as running:
        with Client(running.url, tokens["manage"]) as client:
            for name in ("furnace", "kiln", "copy", "gone"):
                study = client.open_study(name, space=SPACE, sampler="random")
                for value in (1.0, 3.0, 2.0):
                    study.tell(study.ask(), value)
            client.open_study("empty", space=SPACE)
        get_study(Storage(storage), "copy").record_fact(CANDIDATES, [_BASELINE])
        yield running


@pytest.fixture
def http(service, tokens) -> Iterator[httpx.Client]:
    with service.http(headers={"Authorization": f"Bearer {tokens['manage']}"}) as client:
        yield client


def address(study: str, publication: str = "") -> str:
    return f"/v1/studies/{study}/publications{publication and '/'}{publication}"


def ended(http: httpx.Client, study: str) -> dict[str, Any]:
    """The list once nothing is being made."""
    until = time.monotonic() + WAIT_S
    while True:
        found = http.get(address(study)).json()
        if found["job"]["state"] != "running":
            return found
        assert time.monotonic() < until, found
        time.sleep(0.1)


def test_a_report_is_made_once_listed_and_downloaded(http, tokens):
    body, key = {"format": "html"}, {"Idempotency-Key": "report-1"}
    first, again = (http.post(address("furnace"), json=body, headers=key) for _ in range(2))
    assert (first.status_code, first.json()["state"]) == (202, "running")
    assert (again.status_code, again.text) == (202, first.text)
    busy = http.post(address("furnace"), json={"format": "zip"})
    assert (busy.status_code, "'furnace': html is being made since" in busy.json()["detail"]) == (409, True)
    other = http.post(address("kiln"), json=body)
    assert (other.status_code, "furnace" in other.text, "retry-after" in other.headers) == (503, False, True)
    assert http.get("/v1/studies").status_code == 200, "the service answers meanwhile"
    listed = ended(http, "furnace")
    assert (listed["job"]["state"], listed["job"]["id"]) == ("succeeded", first.json()["id"])
    (made,) = listed["publications"]
    assert (made["id"], made["format"], made["trial"]) == (first.json()["id"], "html", 1)
    for who in ("read", "measure", "manage"):
        headers = {"Authorization": f"Bearer {tokens[who]}"}
        file = http.get(address("furnace", made["id"]), headers=headers)
        assert (file.status_code, file.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert file.headers["content-disposition"] == 'attachment; filename="furnace-report.html"'
        assert file.headers["x-content-type-options"] == "nosniff"
        assert hashlib.sha256(file.content).hexdigest() == made["sha256"]
        assert len(file.content) == made["n_bytes"]
    assert "Study furnace" in file.text
    headers = {"If-None-Match": file.headers["ETag"]}
    assert http.get(address("furnace", made["id"]), headers=headers).status_code == 304
    assert http.head(address("furnace", made["id"])).headers["content-length"] == str(made["n_bytes"])


def test_callers_without_the_scope_and_names_that_do_not_exist_get_nothing(http, tokens):
    for who, status in (("read", 403), ("measure", 403), ("other", 404)):
        headers = {"Authorization": f"Bearer {tokens[who]}"}
        assert http.post(address("furnace"), json={"format": "html"}, headers=headers).status_code == status, who
    for headers, study in (({"Authorization": f"Bearer {tokens['other']}"}, "furnace"), ({}, "nosuch")):
        assert http.get(address(study), headers=headers).status_code == 404
        assert http.get(address(study, UNKNOWN), headers=headers).status_code == 404
    for odd in ("%2e%2e", "..%2f..%2flab.db", "%2fetc%2fpasswd", "x", f"{UNKNOWN}%00"):
        assert http.get(address("furnace", odd)).status_code in (404, 422), odd
        assert http.get(f"/v1/studies/{odd}/publications").status_code in (404, 422), odd
    assert http.get(address("furnace", UNKNOWN)).json()["detail"].endswith(f"has no publication {UNKNOWN}")


def test_what_cannot_be_made_says_why(http):
    refused = http.post(address("empty"), json={"format": "html"})
    assert (refused.status_code, "complete" in refused.json()["detail"]) == (404, True)
    assert http.post(address("furnace"), json={"format": "docx"}).status_code == 422
    assert http.get(address("empty")).json() == {"study": "empty", "publications": [], "job": None}
    begun = http.post(address("copy"), json={"format": "html"})
    assert begun.status_code == 202, begun.text
    job = ended(http, "copy")["job"]
    assert job["state"] == "failed"
    assert "evaluates configurations of another study" in job["problem"]


def test_a_study_that_is_deleted_meanwhile_leaves_nothing(http, storage):
    files = Path(get_study(Storage(storage), "gone").artifacts)
    assert http.post(address("gone"), json={"format": "html"}).status_code == 202
    assert http.post("/v1/studies/gone/delete", json={"study": "gone"}).status_code == 200
    assert http.get(address("gone")).status_code == 404
    until = time.monotonic() + WAIT_S
    while http.post(address("kiln"), json={"format": "zip"}).status_code == 503:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert not files.exists()
    assert ended(http, "kiln")["publications"][0]["file"] == "kiln-bundle.zip"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


def opened(browser: Any, service: Service, token: str, scope: str) -> Any:
    """The page of a study in a new browser whose session may ``scope``."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(1000 * WAIT_S)
    page = context.new_page()
    headers = {"Authorization": f"Bearer {token}", "Origin": service.url}
    assert page.request.put(f"{service.url}/v1/session?scope={scope}", headers=headers).status == 204
    page.goto(f"{service.url}/studies/kiln")
    return page


def test_a_report_is_made_and_downloaded_on_the_page(browser, service, tokens, http):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(browser, service, tokens["manage"], "manage")
    section = page.locator("#publications")
    section.get_by_role("button", name="Make a report (HTML)").click()
    section.get_by_text("A report (HTML) is being made since").wait_for()
    assert section.get_by_role("button", name="Make a bundle (ZIP)").is_disabled()
    section.get_by_text("The report (HTML) is complete.").wait_for()
    (made,) = (each for each in http.get(address("kiln")).json()["publications"] if each["format"] == "html")
    row = section.locator("tbody tr").first
    assert row.locator("td").all_inner_texts()[1] == "1"
    with page.expect_download() as saved:
        row.get_by_role("button", name="report (HTML) of").click()
    assert saved.value.suggested_filename == made["file"] == "kiln-report.html"
    assert saved.value.path().read_bytes() == http.get(address("kiln", made["id"])).content
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.set_viewport_size({"width": 360, "height": 800})
    page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.context.close()


def test_a_reader_sees_them_and_errors_are_told_in_words(browser, service, tokens):
    page = opened(browser, service, tokens["read"], "read")
    page.locator("#publications").get_by_text("with a token of scope manage").wait_for()
    assert page.locator("#publications").get_by_role("button", name="Make").count() == 0
    page.context.close()
    page = opened(browser, service, tokens["manage"], "manage")
    button = page.locator("#publications").get_by_role("button", name="Make a report (HTML)")
    button.wait_for()
    page.route("**/publications", lambda route: route.abort())
    button.click()
    page.locator("#publications").get_by_role("alert").get_by_text("cannot be reached").wait_for()
    page.context.close()


def test_a_configuration_is_saved_as_a_file(browser, service, tokens):
    page = opened(browser, service, tokens["read"], "read")
    page.get_by_role("button", name="Trial 1 as YAML").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as a file").click()
    assert saved.value.suggested_filename == "kiln-trial-1.yaml"
    assert saved.value.path().read_text() == page.get_by_label("For a sweep file").input_value()
    page.context.close()
