"""Tests of photos and files of a trial over HTTP."""

from __future__ import annotations

import pytest
from services import SPACE, Service, storage_in, token

from aifs_tune import Client
from aifs_tune.artifacts.trial_files import MAX_FILE_BYTES

FILES = "/v1/studies/furnace/trials/0/files"
PHOTO = b"\xff\xd8\xff a crucible"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A service with a study of one trial; requests by a token that may measure, and by one that may read."""
    storage = storage_in(tmp_path_factory.mktemp("files"))
    tokens = {scope: token(storage, scope) for scope in ("manage", "read")}
    with Service(storage, "--require-token") as service:
        with Client(service.url, tokens["manage"]) as client:
            client.open_study("furnace", space=SPACE, sampler="random").ask()
        http = {
            scope: service.http(headers={"Authorization": f"Bearer {each}", "Content-Type": "application/octet-stream"})
            for scope, each in tokens.items()
        }
        yield http
        for each in http.values():
            each.close()


def test_a_photo_is_kept_once_and_downloaded_as_a_file(lab):
    keyed = {"Idempotency-Key": "photo-1"}
    once, again = (
        lab["manage"].post(FILES, params={"name": "crucible 1.JPG"}, content=PHOTO, headers=keyed) for _ in range(2)
    )
    assert once.status_code == 200
    assert once.json() == again.json()
    assert lab["manage"].post(FILES, params={"name": "crucible 1.JPG"}, content=PHOTO).json() == once.json()
    assert lab["read"].get(FILES).json() == {"trial": 0, "files": [once.json()]}
    found = lab["read"].get(f"{FILES}/{once.json()['id']}")
    assert (found.content, found.headers["Content-Type"]) == (PHOTO, "image/jpeg")
    assert found.headers["Content-Disposition"] == "attachment; filename*=utf-8''crucible%201.JPG"
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    other = lab["manage"].post(FILES, params={"name": "crucible 1.JPG"}, content=b"another", headers=keyed)
    assert (other.status_code, "used with another request" in other.text) == (422, True)
    entries = lab["manage"].get("/v1/audit").json()["entries"]
    added = [entry["trial"] for entry in entries if entry["route"].endswith("/files") and entry["status"] == 200]
    assert added == [0, 0]


@pytest.mark.parametrize("name", ["run.exe", "page.html", "icon.svg", "../a.png", "a\\b.png", "a\u202eb.png", "jpg"])
def test_other_names_are_refused_in_words(lab, name):
    refused = lab["manage"].post(FILES, params={"name": name}, content=PHOTO)
    assert (refused.status_code, "is not allowed; allowed: up to 100" in refused.text) == (422, True)


def test_what_is_too_large_empty_or_not_allowed_is_refused(lab):
    named = {"name": "a.png"}
    large = lab["manage"].post(FILES, params=named, content=bytes(MAX_FILE_BYTES + 1))
    assert (large.status_code, f"at most {MAX_FILE_BYTES} bytes" in large.text) == (413, True)
    assert lab["manage"].post(FILES, params=named).status_code == 422
    assert lab["read"].post(FILES, params=named, content=PHOTO).status_code == 403
    as_json = lab["manage"].post(FILES, params=named, content=b"{}", headers={"Content-Type": "application/json"})
    assert (as_json.status_code, "allowed: application/octet-stream" in as_json.text) == (415, True)
    tell = lab["manage"].post("/v1/studies/furnace/trials/0/tell", content=PHOTO)
    assert (tell.status_code, "allowed: application/json" in tell.text) == (415, True)
    assert lab["manage"].post(FILES.replace("/0/", "/7/"), params=named, content=PHOTO).status_code == 404
    assert lab["read"].get(f"{FILES}/{'0' * 24}").status_code == 404
