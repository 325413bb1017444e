"""The output of trials, through the service and on the page."""

from __future__ import annotations

import pytest
from browsers import chromium
from services import Service, storage_in

import aifs_tune
from aifs_tune.client.client import Client
from aifs_tune.errors import NotFoundError

pytestmark = pytest.mark.server

SPACE = {"case": {"type": "choice", "choices": [False, True]}}


def noisy(case):
    if case:
        print("<b>the lamp is on</b>")  # noqa: T201
        raise RuntimeError("the lamp broke")
    return 0.5


def test_what_a_failed_trial_printed_is_read_and_shown_as_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = storage_in(tmp_path)
    study = aifs_tune.tune(noisy, SPACE, trials=2, sampler="grid", storage=storage, name="lamp").study
    failed = next(t.number for t in study.all_trials() if t.state == "failed")
    with Service(storage) as service, Client(service.url) as client:
        remote = client.study("lamp")
        assert remote.log(failed).startswith("<b>the lamp is on</b>\nTraceback")
        with pytest.raises(NotFoundError, match=f"trial {1 - failed} left no output"):
            remote.log(1 - failed)
        with chromium() as browser:
            page = browser.new_page()
            page.goto(f"{service.url}/studies/lamp")
            page.get_by_text(f"Output of trial {failed}").click()
            shown = page.get_by_label(f"Output of trial {failed}")
            shown.filter(has_text="the lamp broke").wait_for()  # a function to wait for would be eval, which is blocked
            assert shown.inner_text().startswith("<b>the lamp is on</b>")
